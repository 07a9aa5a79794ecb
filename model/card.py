"""The model card: what a bundle is, how it was made and what it did on test, in Markdown."""

from __future__ import annotations

from typing import Any

from model.settings import ModelSettings

MODEL_NAMES = {
    "model": "fine-tuned network",
    "tfidf": "TF-IDF + logistic regression",
    "majority": "majority class",
}
_COLUMNS = {"auc": "AUC", "average_precision": "average precision", "f1": "F1", "ece": "ECE", "brier": "Brier", "log_loss": "log-loss"}


def comparison_table(figures: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, one per model, from {model: metrics}; what is not defined is a dash."""
    names = [MODEL_NAMES[model] for model in figures]
    width = max(map(len, names))
    lines = [
        "| " + " | ".join([f"{'model':<{width}}", *(f"{title:>6}" for title in _COLUMNS.values())]) + " |",
        "|" + "|".join(["-" * (width + 2), *("-" * (max(6, len(title)) + 1) + ":" for title in _COLUMNS.values())]) + "|",
    ]
    for name, values in zip(names, figures.values(), strict=True):
        cells = [f"{'–' if values[key] is None else format(values[key], '.4f'):>{max(6, len(title))}}" for key, title in _COLUMNS.items()]
        lines.append("| " + " | ".join([f"{name:<{width}}", *cells]) + " |")
    return lines


def model_card(manifest: dict[str, Any], settings: ModelSettings, metrics: dict[str, Any], thresholds: list[dict[str, Any]]) -> str:
    """The whole README.md of a bundle. It quotes no review."""
    parts = [
        _head(manifest),
        _data(manifest, metrics["rows"]),
        _recipe(manifest, settings, metrics),
        _results(metrics),
        _decision(metrics, thresholds),
        _limits(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _head(manifest: dict[str, Any]) -> str:
    return f"""# {manifest["model_version"]}

Tells from a review's headline and body how likely its author is critically dissatisfied: a low-rank adapter and a head on
`{manifest["backbone"]["name"]}`, with a calibrator and a decision threshold. Made {manifest["created_at"]}.

The probability means **1–2 stars were given, given that it was not 3**: reviews of 3 stars had no part in training, calibration
or the figures below, though they get a score like any other text."""


def _data(manifest: dict[str, Any], rows: dict[str, int]) -> str:
    return f"""## Data

Splits follow the review's date; rows are reviews of 1, 2, 4 or 5 stars. Data version `{manifest["data_version"]}`.

| rows | |
|---|--:|
| training split | {rows["train_split"]:,} |
| … dropped, as their exact text stands in validation or test too | {rows["train_duplicates_dropped"]:,} |
| … trained on | {rows["train"]:,} |
| validation, earlier part: early stopping | {rows["validation_stopping"]:,} |
| validation, middle part: fitting calibrators | {rows["validation_fitting"]:,} |
| validation, last part: choosing calibrator and threshold | {rows["validation_choosing"]:,} |
| test | {rows["test"]:,} |
| … whose exact text stands in the training split as stored | {rows["test_in_train_split"]:,} |"""


def _recipe(manifest: dict[str, Any], settings: ModelSettings, metrics: dict[str, Any]) -> str:
    lora, training, parameters, run = settings.lora, settings.training, metrics["parameters"], metrics["training"]
    backbone = manifest["backbone"]
    share = parameters["trainable"] / parameters["distinct"]
    return f"""## Recipe

- Backbone `{backbone["name"]}`, revision `{backbone["revision"]}`, {backbone["pooling"]} pooling, at most {backbone["max_length"]} tokens.
- LoRA of rank {lora.rank}, alpha {lora.effective_alpha:g}, dropout {lora.dropout:g}, on {", ".join(lora.targets)}.
- {parameters["trainable"]:,} of {parameters["distinct"]:,} distinct parameters were trained ({share:.2%}): {parameters["lora"]:,} of the adapter and
  {parameters["head"]:,} of the head. (peft counts {parameters["total_as_peft_counts"]:,}, with the frozen copy that it keeps of the head.)
- AdamW, learning rate {training.learning_rate:g}, weight decay {training.weight_decay:g}, batches of {training.batch_size}, gradients clipped at norm 1,
  class weights: {training.class_weighting}, seed {training.seed}; {run["precision"]} on {run["device"]}.
- {len(run["history"])} of at most {training.epochs} epochs were run; epoch {run["best_epoch"]} had the best validation average precision and was kept
  (curves.png)."""


def _results(metrics: dict[str, Any]) -> str:
    rows = metrics["test"]["model"]
    fewer = metrics["test_without_train_texts"]["model"]
    return "\n".join(
        [
            f"## Results on test: {rows['rows']:,} rows, {rows['positives']:,} of them dissatisfied",
            "",
            *comparison_table(metrics["test"]),
            "",
            f"Without the test texts that stand in the training split: {fewer['rows']:,} rows, {fewer['positives']:,} of them dissatisfied",
            "",
            *comparison_table(metrics["test_without_train_texts"]),
            "",
            "All models had the same rows. AUC and average precision rank by the uncalibrated probability; the rest is of the calibrated one.",
            "Since duplicates of test texts were dropped from training, no model was trained on a test text in either table; the second",
            "leaves out the short standard texts (such as a default headline alone) that keep coming back and are easy.",
        ]
    )


def _decision(metrics: dict[str, Any], thresholds: list[dict[str, Any]]) -> str:
    calibration = metrics["calibration"]["model"]
    losses = calibration["choosing_log_loss"]
    lines = [
        "## Calibration and threshold",
        "",
        f"Calibrator: {calibration['method']}. Log-loss on the last part of validation: {losses['none']:.4f} without, {losses['isotonic']:.4f} with "
        "isotonic regression fitted on the middle part (reliability.png shows test).",
        "",
        "| threshold | flagged at or above | precision | recall | F1 | flagged share |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in thresholds:
        cells = ["–" if row[name] is None else f"{row[name]:.4f}" for name in ("threshold", "precision", "recall", "f1", "flagged_share")]
        lines.append(f"| {row['threshold_name']}{' (default)' if row['is_default'] else ''} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "Chosen on the last part of validation; the figures are of test."])


def _limits(manifest: dict[str, Any]) -> str:
    return f"""## Limits

- It reads at most {manifest["backbone"]["max_length"]} tokens of a review; `is_truncated` marks longer ones.
- It learned from the reviews of one corpus and period: another category, shop, language or time needs its own check, calibration first of all.
- Stars stand for dissatisfaction here; a rating that does not fit its text is an error that no model can see.
- It is no statement about a person or a product, and single scores near the threshold decide little."""

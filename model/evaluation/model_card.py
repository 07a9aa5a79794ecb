"""The model card: what a bundle is, how it was made and what it did on test, in Markdown."""

from __future__ import annotations

from typing import Any

from model.evaluation.markdown import number, table
from model.evaluation.results import results, slice_lines, threshold_table
from model.settings import ModelSettings


def model_card(
    manifest: dict[str, Any], settings: ModelSettings, metrics: dict[str, Any], thresholds: list[dict[str, Any]]
) -> str:
    """The whole README.md of a bundle. It quotes no review."""
    parts = [
        _head(manifest),
        _data(manifest, settings, metrics["rows"]),
        _recipe(manifest, settings, metrics),
        results("Results on test", metrics["test"], settings),
        "\n".join(
            ["## Slices of the test rows", "", *slice_lines(metrics["slices"]["by"], metrics["slices"]["worst"])]
        ),
        _errors(metrics),
        _calibration(metrics),
        _thresholds(metrics, thresholds),
        _limits(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _head(manifest: dict[str, Any]) -> str:
    return f"""# {manifest["model_version"]}

Tells from a review's headline and body how likely its author is critically dissatisfied: a low-rank adapter and a head
on `{manifest["backbone"]["name"]}`, with a calibrator and a decision threshold. Made {manifest["created_at"]}.

The probability means **1–2 stars were given, given that it was not 3**: reviews of 3 stars had no part in training,
calibration or the figures below, though they get a score like any other text."""


def _data(manifest: dict[str, Any], settings: ModelSettings, rows: dict[str, int]) -> str:
    return f"""## Data

{only_in_words(settings)}Splits follow the review's date; rows are reviews of 1, 2, 4 or 5 stars.
Data version `{manifest["data_version"]}`.

| rows | |
|---|--:|
| training split | {rows["train_split"]:,} |
| … dropped, as their exact text stands in validation or test too | {rows["train_duplicates_dropped"]:,} |
| … trained on | {rows["train"]:,} |
| validation, early-stopping slice | {rows["validation_stopping"]:,} |
| validation, calibration slice | {rows["validation_calibration"]:,} |
| test | {rows["test"]:,} |
| … whose exact text stands in the training split as stored | {rows["test_in_train_split"]:,} |
| … whose text nearly stands there | {rows["test_near_train_split"]:,} |
| … of products without a review there | {rows["test_of_new_products"]:,} |

Calibrator and thresholds are fitted on the calibration slice."""


def only_in_words(settings: ModelSettings) -> str:
    """Which reviews the model is of, as a paragraph and the line after it; empty where it is of all."""
    if settings.rows.only is None:
        return ""
    return (
        f"**Only reviews with {settings.rows.only}** were read, in training, validation and test alike: thresholds,"
        " calibration and every figure are\nof these. Of any other review the model knows nothing; let it decide by a"
        " route, not as the champion.\n\n"
    )


def only_line(settings: ModelSettings) -> list[str]:
    """The item of a page's list that says which reviews it is of; nothing where it is of all."""
    return [f"* Training, validation and test: only reviews with {settings.rows.only}."] if settings.rows.only else []


def _recipe(manifest: dict[str, Any], settings: ModelSettings, metrics: dict[str, Any]) -> str:
    lora, training, parameters, run = settings.lora, settings.training, metrics["parameters"], metrics["training"]
    backbone = manifest["backbone"]
    share = parameters["trainable"] / parameters["distinct"]
    encoder_dropout = "as it came" if training.encoder_dropout is None else f"{training.encoder_dropout:g}"
    return f"""## Recipe

- Backbone `{backbone["name"]}`, revision `{backbone["revision"]}`, {backbone["pooling"]} pooling,
  at most {backbone["max_length"]} tokens.
- LoRA of rank {lora.rank}, alpha {lora.effective_alpha:g}, dropout {lora.dropout:g}, on {", ".join(lora.targets)}.
- {parameters["trainable"]:,} of {parameters["distinct"]:,} distinct parameters were trained ({share:.2%}):
  {parameters["lora"]:,} of the adapter and {parameters["head"]:,} of the head.
  (peft counts {parameters["total_as_peft_counts"]:,}, with the frozen copy that it keeps of the head.)
- AdamW, learning rate {training.learning_rate:g}, weight decay {training.weight_decay:g},
  batches of {training.batch_size}, gradients clipped at norm 1,
  class weights: {training.class_weighting}, seed {training.seed}; {run["precision"]} on {run["device"]}.
- Dropout {training.head_dropout:g} in the head and {encoder_dropout} in the encoder.
- {len(run["history"])} of at most {training.epochs} epochs were run;
  epoch {run["best_epoch"]} had the best validation average precision and was kept
  (curves.png)."""


def _errors(metrics: dict[str, Any]) -> str:
    """The first of each list, by id."""
    wrong, suspect = metrics["errors"]["confident_errors"], metrics["errors"]["likely_wrong_labels"]
    return "\n".join(
        [
            "## Errors, by review id",
            "",
            f"- The surest wrong decisions: {_by_id(wrong)}.",
            (
                "- Stars that the network and TF-IDF both contradict (probability below 0.05 of being right):"
                f" {_by_id(suspect)}."
            ),
            "",
            (
                "metrics.json has up to 20 of each. Look them up before changing the model: some are labels that do not"
                " fit their text."
            ),
        ]
    )


def _by_id(rows: list[dict[str, Any]]) -> str:
    shown = [
        f"`{row['review_id']}` ({'1-2' if row['label'] else '4-5'} stars, probability {row['probability']:.3f})"
        for row in rows[:5]
    ]
    return ", ".join(shown) or "none"


def _calibration(metrics: dict[str, Any]) -> str:
    found = metrics["calibration"]["model"]
    columns = ("out_of_fold_log_loss", "standard_error", "test_log_loss", "test_brier", "test_ece", "test_ece_debiased")
    rows = [
        [f"{method}{' (chosen)' if method == found['method'] else ''}", *(number(values[column]) for column in columns)]
        for method, values in found["rungs"].items()
    ]
    return "\n".join(
        [
            "## Calibration",
            "",
            (
                f"Calibrator: `{found['method']}`. Class weighting shifts the log-odds by {found['prior_shift']:+.3f},"
                " which every method but `none` takes back."
            ),
            *_choice_in_words(found["folds"]),
            "",
            *table(
                [
                    "method",
                    "log-loss, out of fold",
                    "±",
                    "log-loss, test",
                    "Brier, test",
                    "ECE, test",
                    "ECE debiased, test",
                ],
                rows,
            ),
        ]
    )


def _choice_in_words(folds: int) -> list[str]:
    of_test = "The figures on test are of each method fitted on the whole slice, and played no part in the choice."
    if folds == 1:
        return [
            "The calibration slice has too few products to be cut into folds: then nothing tells methods apart.",
            of_test,
        ]
    return [
        f"The calibration slice is cut into {folds} folds of whole products in order of time, and each is judged by",
        "calibrators that were fitted on the others; ± is the standard error of the difference to the chosen method.",
        "Thresholds are fitted on the chosen method's probabilities out of fold.",
        f"{of_test} reliability.png shows test.",
    ]


def _thresholds(metrics: dict[str, Any], thresholds: list[dict[str, Any]]) -> str:
    missing = [
        f"- `{name}` could not be set: {reason}."
        for name, reason in metrics["calibration"]["model"]["thresholds_not_set"].items()
    ]
    lines = ["## Thresholds", "", *threshold_table(thresholds), "", *missing, *([""] if missing else [])]
    if any(row["threshold_name"] == "review_low" for row in thresholds):
        lines += [
            (
                "Reviews of at least `review_low` and below `review_high` are the uncertain ones, which people are to"
                " read."
            ),
            "",
        ]
    return "\n".join(
        [
            *lines,
            (
                "All are fitted on validation, and a guarantee is for reviews like those; the figures are of test,"
                " which is later."
            ),
        ]
    )


def _limits(manifest: dict[str, Any]) -> str:
    return f"""## Limits

- It reads at most {manifest["backbone"]["max_length"]} tokens of a review; `is_truncated` marks longer ones.
- It learned from the reviews of one corpus and period: another category, shop, language or time needs its own check,
  calibration first of all.
- Stars stand for dissatisfaction here; a rating that does not fit its text is an error that no model can see.
- It is no statement about a person or a product, and single scores near the threshold decide little."""

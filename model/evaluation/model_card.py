"""The model card: what a bundle is, how it was made and what it did on test, in Markdown."""

from __future__ import annotations

from typing import Any

from model.settings import ModelSettings

MODEL_NAMES = {
    "model": "fine-tuned network",
    "tfidf": "TF-IDF + logistic regression",
    "majority": "majority class",
}
VIEW_NAMES = {
    "as_is": "as is",
    "without_headline": "without headline",
    "ratings_masked": "rating phrases masked",
    "no_default_headline": "rows without a default headline",
    "without_train_texts": "rows whose text is not in train",
    "unseen_products": "rows of products not in train",
}
_COLUMNS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "ece": "ECE",
    "brier": "Brier",
    "log_loss": "log-loss",
}
_VIEW_COLUMNS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "ece": "ECE",
    "brier": "Brier",
}
_FIGURE_NAMES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "precision": "precision",
    "recall": "recall",
    "brier": "Brier",
    "brier_calibration": "… its calibration part",
    "brier_refinement": "… its refinement part",
    "log_loss": "log-loss (nats)",
    "ece": "ECE, bins of equal width",
    "ece_equal_mass": "ECE, bins of equal mass",
    "ece_debiased": "… debiased",
    "ece_noise_floor": "… of a perfect model",
}
_READ = {
    "keep": "headline and body",
    "mask_ratings": "both without phrases that state the rating",
    "drop": "the body alone",
}


def comparison(test: dict[str, dict[str, Any]]) -> list[str]:
    """Lines to print after a training run: the three models on test, and what the network gains over TF-IDF in each
    view of it.
    """
    as_is = test["as_is"]
    lines = [f"On test, {as_is['rows']:,} rows, {as_is['positives']:,} of them dissatisfied:"]
    lines += table(
        ["model", *_COLUMNS.values()],
        [[name, *(interval(as_is[model][key]) for key in _COLUMNS)] for model, name in MODEL_NAMES.items()],
    )
    return [
        *lines,
        "F1 in each view of the test rows, with intervals:",
        *view_table(test, "f1"),
        gain_in_words(as_is["gain"]["f1"]),
    ]


def gain_in_words(gain: dict[str, float | None]) -> str:
    """Whether the network's F1 is above that of TF-IDF beyond chance, in a sentence."""
    if gain["low"] is None or gain["high"] is None:
        return "Whether the network beats TF-IDF cannot be said: the test rows are too few."
    if gain["low"] > 0:
        return f"The network beats TF-IDF: F1 {signed(gain)}."
    if gain["high"] < 0:
        return f"TF-IDF beats the network: F1 {signed(gain)}."
    return f"The network's gain over TF-IDF is not significant: F1 {signed(gain)}."


def view_table(test: dict[str, dict[str, Any]], figure: str) -> list[str]:
    """Lines of a Markdown table: one figure of the network, of TF-IDF and their difference, one row per view."""
    rows = []
    for view, found in test.items():
        cells = [interval(found["model"][figure]), interval(found["tfidf"][figure]), signed(found["gain"][figure])]
        rows.append([VIEW_NAMES[view], f"{found['rows']:,}", f"{found['positives']:,}", *cells])
    return table(["test rows", "rows", "dissatisfied", MODEL_NAMES["model"], MODEL_NAMES["tfidf"], "difference"], rows)


def table(head: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines of a Markdown table, padded so that it reads as plain text too; all columns but the first `left` are set to
    the right.
    """
    widths = [max(len(line[place]) for line in [head, *rows]) for place in range(len(head))]

    def joined(cells: list[str]) -> str:
        return (
            "| "
            + " | ".join(f"{cell:{'<' if place < left else '>'}{widths[place]}}" for place, cell in enumerate(cells))
            + " |"
        )

    return [
        joined(head),
        "|" + "|".join("-" * (width + 1) + ("-" if place < left else ":") for place, width in enumerate(widths)) + "|",
        *map(joined, rows),
    ]


def number(value: float | None) -> str:
    """Four digits; a dash for what is not defined."""
    return "–" if value is None else f"{value:.4f}"


def interval(estimate: dict[str, float | None], form: str = ".3f") -> str:
    """A figure with its interval, such as 0.912 [0.895, 0.928]; a dash for what is not defined."""
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:{form}}"
    return f"{estimate['value']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def signed(estimate: dict[str, float | None]) -> str:
    """A difference with its interval, such as +0.041 [+0.022, +0.060]."""
    return interval(estimate, "+.3f")


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
| validation, calibration slice: every calibrator is fitted on it | {rows["validation_fitting"]:,} |
| validation, selection slice: one calibrator is chosen on it | {rows["validation_choosing"]:,} |
| test | {rows["test"]:,} |
| … whose exact text stands in the training split as stored | {rows["test_in_train_split"]:,} |
| … whose text nearly stands there | {rows["test_near_train_split"]:,} |
| … of products without a review there | {rows["test_of_new_products"]:,} |

The chosen calibrator and the thresholds are fitted on the calibration and selection slices together."""


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


def results(title: str, test: dict[str, dict[str, Any]], settings: ModelSettings) -> str:
    """A section with every figure of the three models in `views.audit`, and the network's in each view."""
    as_is = test["as_is"]
    figures = [
        [name, *(_figure(key, as_is[model][key]) for model in MODEL_NAMES)] for key, name in _FIGURE_NAMES.items()
    ]
    by_view = [
        [VIEW_NAMES[view], *(interval(found["model"][key]) for key in _VIEW_COLUMNS)] for view, found in test.items()
    ]
    return "\n".join(
        [
            f"## {title}: {as_is['rows']:,} rows, {as_is['positives']:,} of them dissatisfied",
            "",
            f"**{gain_in_words(as_is['gain']['f1'])}**",
            "",
            (
                f"Intervals are of {100 * settings.thresholds.confidence:g}%, by a bootstrap that draws whole products."
                " All models had the same training and"
            ),
            (
                "test rows. AUC and average precision rank by the log-odds; the rest is of the calibrated probability,"
                " cut at the default threshold."
            ),
            "",
            *table(["figure", *MODEL_NAMES.values()], figures),
            "",
            (
                "ECE is the mean distance between probability and observed share. Even a perfect model shows some of it"
                " on so few rows (last line);"
            ),
            (
                "debiasing takes a part of that off. The parts add up to the Brier score: refinement is what the best"
                " rising recalibration of these rows"
            ),
            (
                "would leave (isotonic regression), calibration what it takes off. As that fit knows the labels, a"
                " perfect model has a calibration part, too."
            ),
            "",
            "F1 in each view of the test rows; the difference is a paired bootstrap's:",
            "",
            *view_table(test, "f1"),
            "",
            "AUC likewise:",
            "",
            *view_table(test, "auc"),
            "",
            "The network in each view:",
            "",
            *table(["test rows", *_VIEW_COLUMNS.values()], by_view),
            "",
            _headline_worth(test, settings),
        ]
    )


def _figure(name: str, estimate: dict[str, float | None]) -> str:
    # no estimate, but a yardstick
    return interval({**estimate, "low": None}) if name == "ece_noise_floor" else interval(estimate)


def _headline_worth(test: dict[str, dict[str, Any]], settings: ModelSettings) -> str:
    """What the headline is worth to the network, in words."""
    kept, dropped, masked = (
        test[view]["model"]["f1"]["value"] for view in ("as_is", "without_headline", "ratings_masked")
    )
    if None in (kept, dropped, masked):
        return "What the headline is worth cannot be said: F1 is not defined on these rows."
    return (
        f"**What the headline is worth**: F1 is {kept:.3f} as is, {dropped:.3f} from the body alone, and {masked:.3f}"
        " where phrases that state the rating\nare masked in headline and body. The network was trained to read"
        f" {_READ[settings.text.headline]}; what differs from that is new to it."
    )


def slice_lines(found: dict[str, list[dict[str, Any]]], worst: dict[str, Any] | None) -> list[str]:
    """The worst slice in words, and the table of those found (see `views.slices`)."""
    rows = [
        [
            f"{dimension}: {row['slice']}",
            f"{row['rows']:,}",
            f"{row['positives']:,}",
            interval(row["f1"]),
            interval(row["auc"]),
            interval(row["ece_debiased"]),
        ]
        for dimension, part in found.items()
        for row in part
    ]
    named = "No slice has enough rows of both classes to be ranked."
    if worst:
        named = (
            f"Worst by F1, of the slices with enough rows of both classes: **{worst['dimension']}: {worst['slice']}**,"
            f" {interval(worst['f1'])}."
        )
    return [named, "", *table(["slice", "rows", "dissatisfied", "F1", "AUC", "ECE, debiased"], rows)]


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
    columns = ("choosing_log_loss", "test_log_loss", "test_brier", "test_ece", "test_ece_debiased")
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
            (
                "`auto` takes the method of least log-loss on the selection slice when fitted on the calibration slice"
                " (first column), and fits it again"
            ),
            (
                "on both. The figures on test are of each method fitted on both, and played no part in the choice"
                " (reliability.png shows test)."
            ),
            "",
            *table(
                ["method", "log-loss, selection", "log-loss, test", "Brier, test", "ECE, test", "ECE debiased, test"],
                rows,
            ),
        ]
    )


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


def threshold_table(thresholds: list[dict[str, Any]]) -> list[str]:
    """The rows of `views.threshold_rows` as a table."""
    head = ["threshold", "for", "flagged at or above", "precision", "recall", "flagged share"]
    rows = [
        [
            f"{row['threshold_name']}{' (default)' if row['is_default'] else ''}",
            row["purpose"],
            number(row["threshold"]),
            *_row_intervals(row),
        ]
        for row in thresholds
    ]
    return table(head, rows, left=2)


def _row_intervals(row: dict[str, Any]) -> list[str]:
    names = ("precision", "recall", "flagged_share")
    return [interval({"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}) for name in names]


def _limits(manifest: dict[str, Any]) -> str:
    return f"""## Limits

- It reads at most {manifest["backbone"]["max_length"]} tokens of a review; `is_truncated` marks longer ones.
- It learned from the reviews of one corpus and period: another category, shop, language or time needs its own check,
  calibration first of all.
- Stars stand for dissatisfaction here; a rating that does not fit its text is an error that no model can see.
- It is no statement about a person or a product, and single scores near the threshold decide little."""

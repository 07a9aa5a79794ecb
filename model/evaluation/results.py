"""What the models did on test, in words and Markdown tables: figures by view, slices and thresholds."""

from __future__ import annotations

from typing import Any

from model.evaluation.markdown import interval, number, signed, table
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

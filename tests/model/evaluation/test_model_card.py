"""The model card as its reader sees it: tables that line up, sentences that say what the figures do."""

from __future__ import annotations

from typing import Any

import pytest

from model.evaluation.markdown import interval, number, signed, table
from model.evaluation.metrics import FIGURES
from model.evaluation.model_card import model_card
from model.evaluation.results import comparison, gain_in_words, view_table
from model.evaluation.views import VIEWS
from model.settings import LoraSettings, ModelSettings, TextSettings, ThresholdSettings, TrainingSettings
from tests import ROOT

Estimated = dict[str, float | None]


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimated:
    return {"value": value, "low": low, "high": high}


def figures(value: float) -> dict[str, Estimated]:
    return {name: estimate(value, value - 0.05, value + 0.05) for name in FIGURES}


def view(f1: float = 0.9) -> dict[str, Any]:
    return {
        "rows": 1200,
        "positives": 300,
        "model": {**figures(0.7), "f1": estimate(f1, f1 - 0.01, f1 + 0.01)},
        "tfidf": figures(0.6),
        "majority": {**figures(0.2), "precision": estimate(None)},
        "gain": {**figures(0.1), "f1": estimate(0.1, 0.05, 0.15)},
    }


def slice_of(name: str) -> dict[str, Any]:
    return {
        "slice": name,
        "rows": 1000,
        "positives": 100,
        **{key: estimate(0.8, 0.7, 0.9) for key in ("f1", "auc", "ece_debiased")},
    }


def all_metrics() -> dict[str, Any]:
    method = {
        "out_of_fold_log_loss": 0.2,
        "standard_error": 0.003,
        "test_log_loss": 0.21,
        "test_brier": 0.05,
        "test_ece": 0.02,
        "test_ece_debiased": 0.01,
    }
    names = (
        "train_split",
        "train_duplicates_dropped",
        "train",
        "validation_stopping",
        "validation_calibration",
        "test",
    )
    names += ("test_in_train_split", "test_near_train_split", "test_of_new_products")
    return {
        "rows": {name: 1001 + place for place, name in enumerate(names)},
        "parameters": {"lora": 100, "head": 20, "trainable": 120, "total_as_peft_counts": 2140, "distinct": 2000},
        "training": {"precision": "float32", "device": "cpu", "history": [{}, {}], "best_epoch": 2},
        "test": {name: view(0.9 - 0.1 * place) for place, name in enumerate(VIEWS)},
        "slices": {
            "by": {"month": [slice_of("2015-05"), slice_of("2015-06")]},
            "worst": {"dimension": "month", **slice_of("2015-06")},
        },
        "errors": {
            "confident_errors": [
                {"review_id": f"R{number}", "label": number % 2, "probability": 0.999} for number in range(7)
            ],
            "likely_wrong_labels": [],
        },
        "calibration": {
            "model": {
                "method": "beta",
                "prior_shift": 1.5,
                "folds": 10,
                "rungs": {"none": method, "beta": method},
                "thresholds_not_set": {"precision_99": "no cut proves it"},
            }
        },
    }


def threshold(name: str, is_default: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "threshold_name": name,
        "threshold": 0.25,
        "purpose": f"what {name} is for",
        "is_default": is_default,
    }
    return row | {
        f"{figure}{end}": 0.5 for figure in ("precision", "recall", "flagged_share") for end in ("", "_low", "_high")
    }


def card(
    metrics: dict[str, Any] | None = None, settings: ModelSettings | None = None, names: tuple[str, ...] = ("f1_max",)
) -> str:
    manifest = {
        "model_version": "minilm-0123",
        "data_version": "feed",
        "created_at": "2026-01-01T00:00:00+00:00",
        "backbone": {"name": "bundled:minilm", "revision": "sha256:12", "pooling": "mean", "max_length": 256},
    }
    resolved = settings or ModelSettings(lora=LoraSettings(dropout=0.0), training=TrainingSettings(weight_decay=0.01))
    return model_card(
        manifest, resolved, metrics or all_metrics(), [threshold(name, name == "f1_max") for name in names]
    )


# ---- tables


def test_a_table_lines_up_as_plain_text_and_is_markdown() -> None:
    assert table(["model", "F1"], [["network", "0.9"], ["tf", "0.85"]]) == [
        "| model   |   F1 |",
        "|---------|-----:|",
        "| network |  0.9 |",
        "| tf      | 0.85 |",
    ]
    assert table(["a", "for", "F1"], [["x", "y", "0.9"]], left=2)[1:] == ["|---|-----|----:|", "| x | y   | 0.9 |"]


def test_what_is_not_defined_is_a_dash_and_a_missing_interval_is_left_out() -> None:
    assert number(None) == interval(estimate(None)) == signed(estimate(None)) == "–"
    assert number(0.87654) == "0.8765"
    assert interval(estimate(0.5)) == "0.500"
    assert interval(estimate(0.9123, 0.8951, 0.9277)) == "0.912 [0.895, 0.928]"
    assert signed(estimate(0.0412, -0.0026, 0.085)) == "+0.041 [-0.003, +0.085]"


def test_each_view_has_a_row_with_both_models_and_their_difference() -> None:
    lines = view_table({"as_is": view(), "unseen_products": view()}, "f1")
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["as is", "rows of products not in train"]
    cells = ["1,200", "300", "0.900 [0.890, 0.910]", "0.600 [0.550, 0.650]", "+0.100 [+0.050, +0.150]"]
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == cells


def test_the_comparison_after_training_has_one_line_per_model_and_per_view() -> None:
    lines = comparison(all_metrics()["test"])
    assert lines[0] == "On test, 1,200 rows, 300 of them dissatisfied:"
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")] == [
        *("model", "fine-tuned network", "TF-IDF + logistic regression", "majority class"),
        *("test rows", "as is", "without headline", "rating phrases masked", "rows without a default headline"),
        *("rows whose text is not in train", "rows of products not in train"),
    ]
    assert lines[-1] == "The network beats TF-IDF: F1 +0.100 [+0.050, +0.150]."
    [network] = [line for line in lines if line.startswith("| fine-tuned network")]
    assert network.count("[") == 6, "every figure has its interval"


def test_the_networks_figures_have_intervals_in_every_view() -> None:
    lines = card().splitlines()
    start = lines.index("The network in each view:")
    rows = [line for line in lines[start : start + 10] if line.startswith("| ")][1:]
    assert len(rows) == 6 and all(line.count("[") == 6 for line in rows)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (estimate(0.1, 0.01, 0.2), "The network beats TF-IDF: F1 +0.100 [+0.010, +0.200]."),
        (estimate(0.1, -0.01, 0.2), "The network's gain over TF-IDF is not significant: F1 +0.100 [-0.010, +0.200]."),
        (estimate(0.0, 0.0, 0.0), "The network's gain over TF-IDF is not significant: F1 +0.000 [+0.000, +0.000]."),
        (estimate(-0.1, -0.2, -0.01), "TF-IDF beats the network: F1 -0.100 [-0.200, -0.010]."),
        (estimate(0.1), "Whether the network beats TF-IDF cannot be said: the test rows are too few."),
    ],
)
def test_the_gain_is_said_in_words(gain: Estimated, words: str) -> None:
    assert gain_in_words(gain) == words


# ---- the whole card


def test_every_section_is_there_and_every_table_is_whole() -> None:
    text = card()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        *(
            "# minilm-0123",
            "## Data",
            "## Recipe",
            "## Results on test: 1,200 rows, 300 of them dissatisfied",
            "## Slices of the test rows",
        ),
        *("## Errors, by review id", "## Calibration", "## Thresholds", "## Limits"),
    ]
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert widths.count(3) == 11 and min(widths) == 3
    assert "None" not in text and "nan" not in text and "{" not in text
    assert all(f" {1001 + place:,} |" in text for place in range(9))


def test_intervals_are_named_by_the_confidence_that_was_set() -> None:
    assert "Intervals are of 95%, by a bootstrap that draws whole products." in card()
    settings = ModelSettings(
        lora=LoraSettings(dropout=0.0),
        training=TrainingSettings(weight_decay=0.01),
        thresholds=ThresholdSettings(confidence=0.9),
    )
    assert "Intervals are of 90%" in card(settings=settings)


def test_the_noise_floor_stands_below_the_error_that_it_is_for_without_an_interval() -> None:
    lines = card().splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith("| … of a perfect model")]
    assert "[" not in lines[place]
    assert lines[place - 1].startswith("| … debiased") and "0.700 [0.650, 0.750]" in lines[place - 1]
    assert lines[place - 2].startswith("| ECE, bins of equal mass")


@pytest.mark.parametrize(
    ("mode", "read"),
    [
        ("keep", "headline and body"),
        ("mask_ratings", "both without phrases that state the rating"),
        ("drop", "the body alone"),
    ],
)
def test_it_says_what_the_headline_is_worth_to_a_network_that_was_trained_so(mode: Any, read: str) -> None:
    settings = ModelSettings(
        text=TextSettings(headline=mode), lora=LoraSettings(dropout=0.0), training=TrainingSettings(weight_decay=0.01)
    )
    text = card(settings=settings)
    assert (
        "**What the headline is worth**: F1 is 0.900 as is, 0.800 from the body alone, and 0.700 where phrases" in text
    )
    assert f"The network was trained to read {read}; what differs from that is new to it." in text
    unknown = all_metrics()
    unknown["test"]["ratings_masked"]["model"]["f1"] = estimate(None)
    assert "What the headline is worth cannot be said" in card(unknown)


def test_the_worst_slice_is_named_or_said_to_be_none() -> None:
    assert "**month: 2015-06**, 0.800 [0.700, 0.900]." in card()
    unranked = all_metrics()
    unranked["slices"]["worst"] = None
    assert "No slice has enough rows of both classes to be ranked." in card(unranked)


def test_errors_are_shown_by_id_five_of_them() -> None:
    text = card()
    assert (
        "- The surest wrong decisions: `R0` (4-5 stars, probability 0.999), `R1` (1-2 stars, probability 0.999),"
        in text
    )
    assert "`R4`" in text and "`R5`" not in text
    assert "of being right): none." in text


def test_the_chosen_method_the_default_threshold_and_what_could_not_be_set_are_marked() -> None:
    text = card(names=("f1_max", "cost_5_1"))
    assert "| beta (chosen) |" in text and "| none          |" in text
    assert (
        "| f1_max (default) | what f1_max is for   |" in text and "| cost_5_1         | what cost_5_1 is for |" in text
    )
    assert "- `precision_99` could not be set: no cut proves it." in text
    assert "by +1.500" in text
    assert "cut into 10 folds of whole products in order of time" in text
    assert "| beta (chosen) |                0.2000 | 0.0030 |" in text
    assert "`review_low`" not in text
    assert "at least `review_low` and below `review_high`" in card(names=("f1_max", "review_low", "review_high"))


def test_too_few_products_for_folds_are_said() -> None:
    metrics = all_metrics()
    unknown = {"out_of_fold_log_loss": None, "standard_error": None}
    found = metrics["calibration"]["model"]
    found |= {"method": "prior_shift", "folds": 1, "rungs": {"prior_shift": found["rungs"]["beta"] | unknown}}
    text = card(metrics)
    assert "The calibration slice has too few products to be cut into folds" in text
    assert "| prior_shift (chosen) |                     – | – |" in text
    assert "out of fold." not in text


# ---- the results of docs/


def test_the_tables_of_the_results_are_those_of_the_model_card() -> None:
    docs = ROOT / "docs"
    own = (docs / "results.md").read_text(encoding="utf-8").split("### Test split")[1].split("### What was tried")[0]
    card = (docs / "results" / "generated" / "model-card.md").read_text(encoding="utf-8")
    known = {" ".join(line.split()) for line in card.splitlines()}
    rows = [" ".join(line.split()) for line in own.splitlines() if line.startswith("| ")]
    assert len(rows) > 60 and [row for row in rows if row not in known] == []

"""Regularisation that follows the data's size, and a sentence for each setting that often goes wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from model.settings import LoraSettings, ModelSettings, TrainingSettings
from model.training.defaults import class_warnings, rank_limit, regularisation, resolve, rule_of_thumb, setting_warnings
from tests import ROOT

SQUARE = {"layer.*.query": (384, 384)}


@pytest.mark.parametrize(
    ("rows", "dropout", "weight_decay"),
    [
        (100, 0.2, 0.1),
        (999, 0.2, 0.1),
        (1_000, 0.1, 0.05),
        (9_999, 0.1, 0.05),
        (10_000, 0.05, 0.01),
        (100_000, 0.05, 0.01),
        (100_001, 0, 0.01),
        (500_000, 0, 0.01),
    ],
)
def test_the_fewer_rows_the_stronger_the_regularisation(rows: int, dropout: float, weight_decay: float) -> None:
    found = regularisation(rows)
    assert (found.dropout, found.weight_decay) == (dropout, weight_decay)
    assert found.reason.startswith(f"{rows:,} training rows (")


def test_unset_values_are_resolved_by_the_rows_and_said_with_their_reason() -> None:
    resolved, lines = resolve(ModelSettings(), 3_780)
    assert (resolved.lora.dropout, resolved.training.weight_decay) == (0.1, 0.05)
    assert lines == [
        "LoRA dropout 0.1 and weight decay 0.05 for 3,780 training rows (1,000 to 9,999): an adapter can still learn"
        " these by heart within a few epochs"
    ]
    assert resolve(resolved, 3_780)[0] == resolved


def test_values_that_are_set_stay_and_zero_is_set() -> None:
    settings = ModelSettings(lora=LoraSettings(dropout=0.0), training=TrainingSettings(epochs=7))
    resolved, lines = resolve(settings, 200_000)
    assert resolved == settings.model_copy(update={"training": TrainingSettings(epochs=7, weight_decay=0.01)})
    assert [line.split(" for ")[0] for line in lines] == [
        "weight decay 0.01",
        "LoRA dropout 0 as set; by the data's size it would be 0",
    ]


def said(rows: int = 20_000, learning_rate: float = 2e-4, shapes: Any = SQUARE, **lora: Any) -> list[str]:
    settings = ModelSettings(lora=LoraSettings(**lora), training=TrainingSettings(learning_rate=learning_rate))
    return setting_warnings(settings, rows, shapes)


def test_usual_settings_get_no_warning() -> None:
    assert said() == []
    assert said(rank=8, alpha=8) == said(rank=8, alpha=64) == []
    assert said(rank=16, alpha=32, rank_stabilised=True) == said(rank=16, alpha=4, rank_stabilised=True) == []
    assert said(learning_rate=5.1e-5) == said(learning_rate=4.9e-4) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 16, "alpha": 15}, r"alpha / rank is 0.938, outside 1 to 8: the adapter hardly reaches"),
        ({"rank": 16, "alpha": 129}, r"alpha / rank is 8.06, outside 1 to 8: each step moves the weights far"),
        (
            {"rank": 64, "alpha": 128, "rank_stabilised": True},
            "alpha with model.lora.rank_stabilised is 128, outside 4 to 32: each step moves the weights far",
        ),
        (
            {"rank": 64, "alpha": 3.9, "rank_stabilised": True},
            "alpha with model.lora.rank_stabilised is 3.9, outside 4 to 32: the adapter hardly reaches",
        ),
        ({"rank": 16, "rows": 999}, "lora.rank 16 is high for 999 training rows: set 8 or less"),
        ({"rank": 17, "rows": 9_999}, "lora.rank 17 is high for 9,999 training rows: set 16 or less"),
        ({"rank": 65}, "lora.rank 65 is high for 20,000 training rows: set 64 or less"),
        (
            {"rank": 32, "shapes": {"layer.*.narrow": (64, 64), "layer.*.wide": (64, 256)}},
            "gives layer.*.narrow as many parameters as the layer itself",
        ),
        ({"learning_rate": 5e-5}, "learning_rate 5e-05 is low for LoRA"),
        ({"learning_rate": 5e-4}, "learning_rate 0.0005 is high for LoRA (5e-4 and more): halve it if"),
    ],
)
def test_each_risky_setting_is_named_alone(settings: dict[str, Any], words: str) -> None:
    (warning,) = said(**settings)
    assert words in warning or warning.startswith(words)


@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 8, 16, 17, 32, 64])
def test_the_alpha_that_a_warning_advises_and_the_default_one_silence_it(rank: int, rank_stabilised: bool) -> None:
    for alpha in (0.1, 1000.0):
        (warning,) = said(rank=rank, alpha=alpha, rank_stabilised=rank_stabilised)
        (advised,) = re.findall(r"set model\.lora\.alpha to ([^\s,]+),", warning)
        assert said(rank=rank, alpha=float(advised), rank_stabilised=rank_stabilised) == []
    assert said(rank=rank, rank_stabilised=rank_stabilised) == []


def test_the_rule_quotes_what_compare_measured() -> None:
    page, small = (
        (ROOT / "docs" / "results" / "generated" / name).read_text(encoding="utf-8")
        for name in ("all-rows.md", "comparison.md")
    )
    curve, rule = page.split("### Learning curve")[1].split("### Minimal pairs")[0], page.split("### LoRA or not")[1]
    as_is, masked, shifted, few_rows, full = re.findall(
        r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\]", " ".join(rule_of_thumb())
    )
    for place, figure in (
        ("test, as is", as_is),
        ("rating phrases masked", masked),
        ("shifted population", shifted),
        ("Full fine-tuning", full),
    ):
        assert any(place in line and figure in line for line in rule.splitlines()), place
    (of_few,) = (line for line in curve.splitlines() if line.startswith("| 1,271 "))
    assert few_rows == of_few.split("|")[4].strip()
    (worse_up_to,) = re.findall(r"with (\d+) or fewer TF-IDF was better", " ".join(rule_of_thumb()))
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in small.split("### Learning curve")[1].split("### Minimal pairs")[0].splitlines()
    ]
    surely_worse = [
        row[1]
        for row in rows
        if len(row) > 4 and (limits := re.findall(r", (-\d\.\d{3})\]", row[4])) and float(limits[0]) < 0
    ]
    assert surely_worse == ["125", worse_up_to]


def test_rank_limit_rises_with_the_rows() -> None:
    assert [rank_limit(rows) for rows in (500, 5_000, 50_000, 500_000)] == [8, 16, 64, 64]


def test_class_with_few_rows_is_named_with_its_part() -> None:
    warnings = class_warnings({"training": (500, 50), "test": (49, 12)})
    assert [warning.split(",")[0] for warning in warnings] == [
        "test has 49 satisfied rows",
        "test has 12 dissatisfied rows",
    ]


def test_rule_names_the_cheaper_and_the_dearer_rivals() -> None:
    text = " ".join(rule_of_thumb())
    assert all(words in text for words in ("TF-IDF", "frozen encoder", "full fine-tuning"))

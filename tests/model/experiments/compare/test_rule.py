"""What follows from the figures, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.experiments.cells import Outcome
from model.experiments.compare.inputs import POPULATIONS, Cell, Inputs
from model.experiments.compare.rule import Comparison, is_significant, lora_or_not, training_seconds, verdict
from model.experiments.methods import METHODS
from model.settings import ModelSettings
from tests.support.comparisons import made


def test_a_gain_is_the_difference_of_the_two_cells_on_the_same_rows(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    comparison = made(figures, inputs, settings)
    for population in POPULATIONS:
        gain = comparison.gain(figures["tfidf"], figures["full"], population)
        assert gain is not None
        one, other = (figures[name]["populations"][population]["figures"]["f1"]["value"] for name in ("tfidf", "full"))
        assert gain["f1"]["value"] == pytest.approx(one - other)
    assert is_significant(comparison.gain(figures["tfidf"], figures["full"], "as_is"))
    assert not is_significant(comparison.gain(figures["tfidf"], figures["tfidf"], "as_is"))


def test_the_rule_follows_the_figures(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    worse = "\n".join(lora_or_not(made(figures, inputs, settings)))
    assert (
        "test, as is: TF-IDF is enough" in worse
        and "Frozen encoder: a frozen encoder with a linear head is enough" in worse
    )
    assert worse.startswith(f"Validation's choice: {METHODS['tfidf'].title}, average precision 1.000")
    swapped = {
        **figures,
        "lora_all": {**figures["tfidf"], "method": "lora_all"},
        "tfidf": {**figures["lora_all"], "method": "tfidf"},
    }
    better = "\n".join(lora_or_not(made(swapped, inputs, settings)))
    assert "test, as is: LoRA gains" in better and "shifted population: LoRA gains" in better
    assert "Full fine-tuning: LoRA is enough" in better
    nothing = {name: found for name, found in figures.items() if name != "lora_all"}
    assert lora_or_not(made(nothing, inputs, settings))[1].startswith("TF-IDF or LoRA: not known yet")


def test_a_gain_that_is_not_shown_is_not_called_none(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    good, bad = figures["tfidf"], figures["full"]
    odd = np.arange(len(inputs.data.test)) % 2 == 1

    def mixed(rows: np.ndarray) -> dict[str, Any]:
        """Right on these test rows, as TF-IDF is."""
        logits = {"as_is": np.where(rows, 20.0, 1.0) * (2 * np.where(rows, inputs.data.test.labels, 0) - 1)}
        return {
            **bad,
            "calibrator": good["calibrator"],
            "threshold": 0.5,
            "logits": {**bad["logits"], **{name: values.tolist() for name, values in logits.items()}},
        }

    alike = {**figures, "lora_all": {**mixed(odd), "method": "lora_all"}, "full": mixed(~odd)}
    [line] = [line for line in lora_or_not(made(alike, inputs, settings)) if line.startswith("Full fine-tuning")]
    assert "no gain shown, up to +0." in line and "LoRA is enough" not in line
    for method in ("lora_8bit", "qlora"):
        quantised = {**figures, "lora_all": figures["tfidf"], method: figures["full"]}
        [line] = [line for line in lora_or_not(made(quantised, inputs, settings)) if "accuracy tax" in line]
        loss = (
            figures["full"]["populations"]["as_is"]["figures"]["f1"]["value"]
            - figures["tfidf"]["populations"]["as_is"]["figures"]["f1"]["value"]
        )
        assert line.startswith(METHODS[method].title) and f"{loss:.3f} [" in line


def test_the_rule_says_from_which_size_on_lora_gains(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    good, bad = figures["tfidf"], figures["full"]

    def rule(*gains: bool) -> str:
        outcomes = []
        for size, is_better in zip((50, 100, 200), gains, strict=True):
            outcomes += [
                Outcome(Cell("lora_all", size), "done", good if is_better else bad),
                Outcome(Cell("tfidf", size), "done", bad if is_better else good),
            ]
        return "\n".join(lora_or_not(Comparison(outcomes, inputs, settings, 200)))

    assert "LoRA gains over TF-IDF at every size tried from 100 training rows on; no sure gain with 50." in rule(
        False, True, True
    )
    assert "from 200 training rows on; no sure gain with 100." in rule(True, False, True)
    assert "from the smallest size tried on, 50 training rows" in rule(True, True, True)
    assert "no gain of LoRA over TF-IDF is shown at the largest size tried, 200 training rows" in rule(
        True, True, False
    )


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.2, "won"),
        (0.0, 0.2, "no gain shown, up to +0.200 is possible"),
        (-0.1, 0.001, "no gain shown, up to +0.001 is possible"),
        (-0.1, 0.0, "lost"),
        (-0.2, -0.1, "lost"),
        (None, None, "no gain shown"),
    ],
)
def test_an_interval_that_touches_zero_is_no_gain(low: float | None, high: float | None, said: str) -> None:
    gain = {"f1": {"value": 0.0, "low": low, "high": high}}
    assert verdict(gain, "won", "lost") == said
    assert is_significant(gain) == (said == "won")
    assert not is_significant(None)


def test_the_training_lasts_as_long_as_its_epochs_at_its_speed() -> None:
    assert training_seconds({"rows": 100, "training": {"epochs": 3, "rows_per_second": 50.0}}) == 6.0
    assert training_seconds({"rows": 100, "training": {"epochs": 3, "rows_per_second": None}}) is None
    assert training_seconds({"rows": 100, "training": None}) is None


def test_the_fullest_size_is_beyond_the_common_one_and_has_run_for_both(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    def fullest(*cells: tuple[str, int]) -> int | None:
        outcomes = [Outcome(Cell(method, rows), "done", figures[method]) for method, rows in cells]
        return Comparison(outcomes, inputs, settings, 200).fullest

    both = [(method, rows) for rows in (100, 200) for method in ("tfidf", "lora_all")]
    assert fullest(*both) is None
    assert fullest(*both, ("tfidf", 400)) is None, "one of the two alone compares nothing"
    assert fullest(*both, ("tfidf", 400), ("lora_all", 400)) == 400


def test_two_methods_are_enough_to_choose_by_validation_and_two_sizes_to_say_from_which_on(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    def rule(*cells: tuple[str, int, str]) -> list[str]:
        outcomes = [Outcome(Cell(method, rows), "done", figures[whose]) for method, rows, whose in cells]
        return lora_or_not(Comparison(outcomes, inputs, settings, 200))

    assert rule(("tfidf", 200, "tfidf")) == []
    one_size = rule(("tfidf", 200, "full"), ("lora_all", 200, "tfidf"))
    assert one_size[0].startswith("Validation's choice: LoRA, all linear layers")
    assert one_size[0].endswith("; all others are worse by more than chance.")
    assert not any(line.startswith("By size") for line in one_size)
    two_sizes = rule(
        ("tfidf", 200, "full"), ("lora_all", 200, "tfidf"), ("tfidf", 100, "full"), ("lora_all", 100, "tfidf")
    )
    assert "By size: LoRA gains significantly from the smallest size tried on, 100 training rows." in two_sizes

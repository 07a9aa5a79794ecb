"""Cells of a comparison held against each other, row by row, and the rule that follows from their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.calibrators import Calibrator
from model.evaluation.markdown import interval
from model.evaluation.metrics import Groups, Scored, difference_intervals
from model.experiments.cells import Figures, Outcome
from model.experiments.compare.inputs import Cell, Inputs, scored_rows
from model.experiments.methods import METHODS
from model.settings import ModelSettings

BASELINE, ADAPTER, FULL, FROZEN = "tfidf", "lora_all", "full", "linear_head"
EIGHT_BIT, FOUR_BIT = "lora_8bit", "qlora"
TITLES = {
    "validation": "validation",
    "as_is": "test, as is",
    "without_headline": "test, without headline",
    "ratings_masked": "test, rating phrases masked",
    "no_default_headline": "test, rows without a default headline",
    "without_train_texts": "test, rows whose text is not in train",
    "unseen_products": "test, rows of products not in train",
    "shifted": "shifted population",
}
_RULED = ("as_is", "ratings_masked", "shifted")


@dataclass(frozen=True)
class Comparison:
    """The outcomes with what their figures are of. The gains are computed here, from the cells' logits: any cell can be
    held against any other, row by row.
    """

    outcomes: Sequence[Outcome[Cell]]
    inputs: Inputs
    settings: ModelSettings
    rows: int

    @property
    def main(self) -> dict[str, Outcome[Cell]]:
        """Per method its outcome at the most rows that every method was trained on."""
        return {outcome.cell.method: outcome for outcome in self.outcomes if outcome.cell.rows == self.rows}

    @property
    def fullest(self) -> int | None:
        """The learning curve's greatest number of rows, where more than `rows` and run for both its methods."""
        sizes = [outcome.cell.rows for outcome in self.outcomes if outcome.cell.rows > self.rows and outcome.figures]
        return max(
            (size for size in sizes if self.figures(BASELINE, size) and self.figures(ADAPTER, size)), default=None
        )

    def figures(self, method: str, rows: int | None = None) -> Figures | None:
        """The cell's figures; None where it has not run."""
        found = [
            outcome.figures
            for outcome in self.outcomes
            if outcome.cell.method == method and outcome.cell.rows == (rows or self.rows)
        ]
        return found[0] if found else None

    def gain(
        self, first: Figures | None, second: Figures | None, population: str
    ) -> dict[str, dict[str, float | None]] | None:
        """first - second in average precision and F1 on a population, with paired intervals; None where either is
        missing.
        """
        if first is None or second is None or population not in first["populations"]:
            return None
        (one, groups), (other, _) = (self._scored(figures, population) for figures in (first, second))
        settings = self.settings
        options = (settings.calibration.bins, groups, settings.thresholds.confidence, settings.training.seed)
        return difference_intervals(one, other, *options, names=("average_precision", "f1"))

    def _scored(self, figures: Figures, population: str) -> tuple[Scored, Groups]:
        logits = {name: np.asarray(values) for name, values in figures["logits"].items()}
        return scored_rows(
            population, logits, Calibrator.from_json(figures["calibrator"]), figures["threshold"], self.inputs
        )


def lora_or_not(comparison: Comparison) -> list[str]:
    """The rule in words that follows from the cells: what validation would choose, and what test then says of TF-IDF, a
    frozen encoder, LoRA and full fine-tuning.
    """
    return [
        *_by_validation(comparison),
        *_against_tfidf(comparison),
        *_by_size(comparison),
        *_against_rivals(comparison),
    ]


def is_significant(gain: dict[str, dict[str, float | None]] | None, figure: str = "f1") -> bool:
    """Whether the gain's interval lies above zero."""
    low = gain[figure]["low"] if gain is not None else None
    return low is not None and low > 0


def verdict(gain: Figures, won: str, lost: str) -> str:
    """What the interval of a gain in F1 says: won, lost, or neither shown."""
    if is_significant(gain):
        return won
    high = gain["f1"]["high"]
    if high is not None and high <= 0:
        return lost
    return f"no gain shown, up to {high:+.3f} is possible" if high is not None else "no gain shown"


def training_seconds(found: Figures) -> float | None:
    """Seconds of the whole training, at the speed of the epochs that this run did."""
    training = found["training"]
    if training is None or not training["rows_per_second"]:
        return None
    return float(training["epochs"] * found["rows"] / training["rows_per_second"])


def _by_validation(comparison: Comparison) -> list[str]:
    """The method of greatest average precision on validation, and those that are not surely worse."""
    finished = {method: outcome.figures for method, outcome in comparison.main.items() if outcome.figures}
    if len(finished) < 2:
        return []
    precision = {
        method: figures["populations"]["validation"]["figures"]["average_precision"]
        for method, figures in finished.items()
    }
    best = max(finished, key=lambda method: float(precision[method]["value"]))
    near = []
    for method, figures in finished.items():
        gain = comparison.gain(finished[best], figures, "validation")
        if method != best and not is_significant(gain, "average_precision"):
            near.append(METHODS[method].title)
    beside = f"; not surely worse: {', '.join(near)}" if near else "; all others are worse by more than chance"
    return [f"Validation's choice: {METHODS[best].title}, average precision {interval(precision[best])}{beside}."]


def _against_tfidf(comparison: Comparison) -> list[str]:
    lora, tfidf = comparison.figures(ADAPTER), comparison.figures(BASELINE)
    if ADAPTER not in comparison.main:
        return []
    if lora is None or tfidf is None:
        return ["TF-IDF or LoRA: not known yet, one of the two cells has not run."]
    lines = []
    for population in _RULED:
        gain = comparison.gain(lora, tfidf, population)
        if gain is not None:
            said = verdict(gain, "LoRA gains", "TF-IDF is enough")
            lines.append(
                f"{TITLES[population]}: {said}; LoRA's F1 less TF-IDF's is {interval(gain['f1'])} with"
                f" {comparison.rows:,} training rows."
            )
    seconds = [training_seconds(found) for found in (lora, tfidf)]
    scoring = [found["cost"]["merged" if "merged" in found["cost"] else "unmerged"] for found in (lora, tfidf)]
    if all(value is not None for value in seconds):
        training = f"{seconds[0]:,.0f} s of training instead of {seconds[1]:,.1f}"
        lines.append(
            f"The price: {training}, and {scoring[0]:.2f} s per 1,000 rows scored instead of {scoring[1]:.2f}."
        )
    return lines


def _by_size(comparison: Comparison) -> list[str]:
    """From how many training rows on LoRA gains significantly."""
    found = []
    tried = {each.cell.rows for each in comparison.outcomes if each.cell.method == ADAPTER and each.figures}
    for size in sorted(tried):
        gain = comparison.gain(comparison.figures(ADAPTER, size), comparison.figures(BASELINE, size), "as_is")
        if gain is not None:
            found.append((size, is_significant(gain)))
    if len(found) < 2:
        return []
    enough = [size for place, (size, _) in enumerate(found) if all(later for _, later in found[place:])]
    if not enough:
        return [
            f"By size: no gain of LoRA over TF-IDF is shown at the largest size tried, {found[-1][0]:,} training rows."
        ]
    if enough[0] == found[0][0]:
        return [f"By size: LoRA gains significantly from the smallest size tried on, {enough[0]:,} training rows."]
    without = ", ".join(f"{size:,}" for size, gains in found if size < enough[0] and not gains)
    return [
        f"By size: LoRA gains over TF-IDF at every size tried from {enough[0]:,} training rows on; no sure gain with"
        f" {without}."
    ]


def _against_rivals(comparison: Comparison) -> list[str]:
    """LoRA against what is cheaper to train and what trains everything."""
    lora, lines = comparison.figures(ADAPTER), []
    frozen, full = comparison.figures(FROZEN), comparison.figures(FULL)
    gain = comparison.gain(lora, frozen, "as_is")
    if gain is not None:
        said = verdict(gain, "adapting the encoder is worth it", "a frozen encoder with a linear head is enough")
        lines.append(f"Frozen encoder: {said}; LoRA's F1 less the frozen encoder's is {interval(gain['f1'])}.")
    gain = comparison.gain(full, lora, "as_is")
    if gain is not None:
        said = verdict(gain, "take it where every point counts", "LoRA is enough")
        lines.append(f"Full fine-tuning: {said}; its F1 less LoRA's is {interval(gain['f1'])}.")
    for method in (EIGHT_BIT, FOUR_BIT):
        gain = comparison.gain(comparison.figures(method), lora, "as_is")
        if gain is not None:
            lines.append(
                f"{METHODS[method].title}: its F1 less that of LoRA on full-precision weights, its accuracy tax, is"
                f" {interval(gain['f1'])}."
            )
    return lines

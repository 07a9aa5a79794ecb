"""What holding two models against each other gave, by period, and how it reads in a terminal."""

from __future__ import annotations

from dataclasses import dataclass

# Figures whose loss speaks against a challenger.
DECISIVE = ("auc", "f1")
# All that are shown, with their titles; of the last two less is better.
FIGURES = {"auc": "AUC", "average_precision": "average precision", "f1": "F1", "ece": "ECE", "brier": "Brier"}
LESS_IS_BETTER = ("ece", "brier")
PERIODS = {"old": "the corpus's test split", "new": "reviews since then (live)"}


@dataclass(frozen=True)
class PeriodComparison:
    """Both models on the test rows of one period: each of FIGURES with its interval, and challenger less champion by a
    paired bootstrap.

    `left_out` counts the rows that both have a score of, but that the champion may have learned from.
    """

    period: str
    rows: int
    positives: int
    champion: dict[str, dict[str, float | None]]
    challenger: dict[str, dict[str, float | None]]
    gain: dict[str, dict[str, float | None]]
    left_out: int = 0

    @property
    def losses(self) -> list[str]:
        """The figures on which the challenger is worse by more than chance: the gain's whole interval lies below 0."""
        return [name for name in DECISIVE if (high := self.gain[name]["high"]) is not None and high < 0]

    @property
    def undecided(self) -> list[str]:
        """The decisive figures whose gain has no interval, as of rows of one class or of one product: they speak
        neither for nor against.
        """
        return [name for name in DECISIVE if self.gain[name]["high"] is None]


@dataclass(frozen=True)
class Challenge:
    """What holding a challenger against the champion gave: a comparison of each period that can be compared, the reason
    for each other one.
    """

    comparisons: list[PeriodComparison]
    not_compared: dict[str, str]

    @property
    def losses(self) -> list[str]:
        """Where the challenger is worse by more than chance, such as "f1 of the new period"."""
        return [f"{figure} of the {one.period} period" for one in self.comparisons for figure in one.losses]

    def lines(self) -> list[str]:
        """The comparisons, and what could not be compared, as lines for a terminal."""
        return [*_comparison_lines(self.comparisons), *(f"  not compared on the {line}" for line in self.missing())]

    def missing(self) -> list[str]:
        """What could not be compared and why, one text a reason."""
        reasons = dict.fromkeys(self.not_compared.values())
        periods = {reason: [period for period, why in self.not_compared.items() if why == reason] for reason in reasons}
        return [
            f"{' and '.join(f'{period} period ({PERIODS[period]})' for period in named)}: {reason}"
            for reason, named in periods.items()
        ]


def _comparison_lines(comparisons: list[PeriodComparison]) -> list[str]:
    """The comparisons as lines for a terminal."""
    lines = []
    for one in comparisons:
        left_out = (
            f"; {one.left_out:,} earlier ones are left out, as they may be among the champion's training rows"
            if one.left_out
            else ""
        )
        lines.append(
            f"  {one.period} period ({PERIODS[one.period]}): {one.rows:,} rows, {one.positives:,}"
            f" dissatisfied{left_out}"
        )
        for name, title in FIGURES.items():
            marks = "  SIGNIFICANTLY WORSE" if name in one.losses else ""
            shown = (_with_interval(estimates[name]) for estimates in (one.champion, one.challenger))
            gain = "change (less is better)" if name in LESS_IS_BETTER else "gain"
            lines.append(
                f"    {title:<17} champion {next(shown)}, challenger {next(shown)}, {gain}"
                f" {_with_interval(one.gain[name])}{marks}"
            )
    return lines


def _with_interval(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    limits = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{limits}"

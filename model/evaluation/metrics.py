"""Figures of a model's scores against labels, with bootstrap intervals that are clustered by product."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibration_error import (
    BinnedRows,
    Bins,
    PooledRows,
    bin_numbers,
    calibration_error,
    debiased_calibration_error,
    noise_floor,
)
from model.evaluation.calibrators import FloatArray, LabelArray, probability_losses

DRAWS = 1000
_NUMBERS_AT_ONCE = 5_000_000  # resamples x rows held in memory together, 8 bytes each, a few times over
Groups = NDArray[Any]
Intervals = dict[str, dict[str, float | None]]  # {figure: {value, low, high}}


@dataclass(frozen=True)
class Scored:
    """One model's scores of some rows: the logit ranks (a calibrator may tie rows that it tells apart), the rest is of
    the probability.
    """

    logit: FloatArray
    probability: FloatArray
    label: LabelArray
    threshold: float

    def take(self, rows: NDArray[Any]) -> Scored:
        """The rows at these positions, or where a mask is true."""
        return Scored(self.logit[rows], self.probability[rows], self.label[rows], self.threshold)


@dataclass(frozen=True)
class Estimate:
    """A figure of all rows, and the limits of its interval; None where it is not defined (AUC of one class, anything of
    no rows).
    """

    value: float | None
    low: float | None
    high: float | None


# Figures that chance moves one way, brier_refinement down and the others up: a resample adds chance to chance, so its
# figure sits farther off still, and intervals are moved back by that.
_BIASED = ("ece", "ece_equal_mass", "ece_debiased", "brier_calibration", "brier_refinement")


def metrics(scored: Scored, bins: int) -> dict[str, Any]:
    """rows, positives and every figure of `figures` on one set of rows; what is not defined is None. Positive is
    dissatisfied.
    """
    return {
        "rows": len(scored.label),
        "positives": int(scored.label.sum()),
        **_point(FigureRows(scored, bins), len(scored.label), FIGURES),
    }


FIGURES = (
    "auc",
    "average_precision",
    "f1",
    "macro_f1",
    "precision",
    "recall",
    "flagged_share",
    "ece",
    "ece_equal_mass",
    "ece_debiased",
    "ece_noise_floor",
    "brier",
    "brier_calibration",
    "brier_refinement",
    "log_loss",
)


def figures(scored: Scored, bins: int, weights: FloatArray) -> dict[str, FloatArray]:
    """Each of FIGURES for each resample, NaN where not defined; `weights` (resamples, rows) says how often a row is in
    a resample.

    ece: `bins` bins of equal width; ece_equal_mass, ece_debiased and ece_noise_floor: as many bins of equal mass, which
    all resamples share: they are cut once, on the rows as given. brier_calibration and brier_refinement: see
    `calibration_error.brier_parts`; each resample has a fit of its own. macro_f1: mean of the two classes' F1. log_loss
    in nats.
    """
    return FigureRows(scored, bins).figures(weights)


class FigureRows:
    """One model's rows, sorted and put into bins once, for the figures of any number of resamples of them."""

    def __init__(self, scored: Scored, bins: int) -> None:
        self._scored, self._bins = scored, bins

    def figures(self, weights: FloatArray, names: Collection[str] = FIGURES) -> dict[str, FloatArray]:
        """The named figures, of which `figures` says more; what is not named costs nothing."""
        values: dict[str, FloatArray] = {}
        for part, compute in _PARTS.items():
            if not set(part).isdisjoint(names):
                values |= zip(part, compute(self, weights), strict=True)
        return {name: values[name] for name in FIGURES if name in names}

    @cached_property
    def _ranked(self) -> RankedRows:
        return RankedRows.of(self._scored.logit, self._scored.label)

    @cached_property
    def _of_equal_width(self) -> BinnedRows:
        return self._binned("width")

    @cached_property
    def _of_equal_mass(self) -> BinnedRows:
        return self._binned("mass")

    @cached_property
    def _pooled(self) -> PooledRows:
        return PooledRows.of(self._scored.probability, self._scored.label)

    @cached_property
    def _losses(self) -> FloatArray:
        return probability_losses(self._scored.probability, self._scored.label)

    def _binned(self, kind: Bins) -> BinnedRows:
        probability = self._scored.probability
        return BinnedRows.of(probability, self._scored.label, bin_numbers(probability, self._bins, kind))

    def ranking(self, weights: FloatArray) -> Sequence[FloatArray]:
        """auc and average_precision."""
        return self._ranked.ranking(weights)

    def decisions(self, weights: FloatArray) -> Sequence[FloatArray]:
        """f1, macro_f1, precision, recall and flagged_share."""
        return _decisions(self._scored, weights)

    def width_errors(self, weights: FloatArray) -> Sequence[FloatArray]:
        """ece."""
        return [calibration_error(self._of_equal_width.count(weights))]

    def mass_errors(self, weights: FloatArray) -> Sequence[FloatArray]:
        """ece_equal_mass, ece_debiased and ece_noise_floor."""
        counts = self._of_equal_mass.count(weights)
        return calibration_error(counts), debiased_calibration_error(counts), noise_floor(counts)

    def scores(self, weights: FloatArray) -> Sequence[FloatArray]:
        """brier and log_loss."""
        return self._pooled.brier(weights), weights @ self._losses / weights.sum(axis=1)

    def brier_parts(self, weights: FloatArray) -> Sequence[FloatArray]:
        """brier_calibration and brier_refinement."""
        return self._pooled.brier_parts(weights)


_PARTS: dict[tuple[str, ...], Callable[[FigureRows, FloatArray], Sequence[FloatArray]]] = {
    ("auc", "average_precision"): FigureRows.ranking,
    ("f1", "macro_f1", "precision", "recall", "flagged_share"): FigureRows.decisions,
    ("ece",): FigureRows.width_errors,
    ("ece_equal_mass", "ece_debiased", "ece_noise_floor"): FigureRows.mass_errors,
    ("brier", "log_loss"): FigureRows.scores,
    ("brier_calibration", "brier_refinement"): FigureRows.brier_parts,
}


@dataclass(frozen=True)
class Bootstrap:
    """One model's figures: of the rows as they are, and of each resample."""

    point: dict[str, float | None]
    samples: dict[str, FloatArray]

    def intervals(self, confidence: float) -> Intervals:
        """Each figure with the resamples' percentiles."""
        return {
            name: asdict(_interval(self.point[name], values, confidence, name in _BIASED, least=0.0))
            for name, values in self.samples.items()
        }

    def less(self, other: Bootstrap, confidence: float) -> Intervals:
        """This model's figures less another's of the same resamples, with intervals."""
        found = {}
        for name, values in self.samples.items():
            one, two = self.point[name], other.point[name]
            value = None if one is None or two is None else one - two
            is_biased = name in _BIASED
            found[name] = asdict(_interval(value, values - other.samples[name], confidence, is_biased, least=-math.inf))
        return found


def bootstrap(
    models: Sequence[Scored],
    bins: int,
    groups: Groups,
    seed: int,
    draws: int = DRAWS,
    names: Collection[str] = FIGURES,
) -> list[Bootstrap]:
    """Each model's named figures over the same resamples, which draw whole groups with replacement.

    It holds some 320 MB for each model and million rows where all figures are asked for with 10 bins.
    """
    every = [FigureRows(model, bins) for model in models]
    parts: list[list[dict[str, FloatArray]]] = [[] for _ in models]
    for weights in resamples(groups, draws, seed):
        for rows, part in zip(every, parts, strict=True):
            part.append(rows.figures(weights, names))
    return [
        Bootstrap(
            _point(rows, len(groups), names),
            {
                name: np.concatenate([found[name] for found in part] or [np.empty(0)])
                for name in FIGURES
                if name in names
            },
        )
        for rows, part in zip(every, parts, strict=True)
    ]


def intervals(
    scored: Scored,
    bins: int,
    groups: Groups,
    confidence: float,
    seed: int,
    draws: int = DRAWS,
    names: Collection[str] = FIGURES,
) -> Intervals:
    """The named ones of FIGURES with intervals, as {figure: {value, low, high}}: percentiles of a bootstrap that draws
    whole groups.

    `groups` names each row's product: reviews of one product resemble each other, so drawing single rows would make
    intervals too narrow (Field and Welsh 2007). Rows of a single product have no intervals. Those of calibration errors
    and of the Brier parts are moved back by the bootstrap's own bias, to 0 at least: that of ece_debiased then holds
    the true error, the others what so many rows show of it, chance included.
    """
    return bootstrap([scored], bins, groups, seed, draws, names)[0].intervals(confidence)


def difference_intervals(
    first: Scored,
    second: Scored,
    bins: int,
    groups: Groups,
    confidence: float,
    seed: int,
    draws: int = DRAWS,
    names: Collection[str] = FIGURES,
) -> Intervals:
    """first - second of the named ones of FIGURES, with intervals of a paired bootstrap: both models meet the same
    resamples of groups.
    """
    one, other = bootstrap([first, second], bins, groups, seed, draws, names)
    return one.less(other, confidence)


def resamples(groups: Groups, draws: int, seed: int) -> Iterator[FloatArray]:
    """How often each row is in each resample, in portions of shape (draws, rows) that fit into memory; none where there
    is a single group.

    A resample draws as many groups as there are, with replacement.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) < 2:  # of one group every resample is the same
        return
    generator, shares = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    at_once = max(1, _NUMBERS_AT_ONCE // len(groups))
    for start in range(0, draws, at_once):
        counts = generator.multinomial(len(names), shares, size=min(at_once, draws - start))
        yield np.asarray(counts[:, member], dtype=np.float64)


def _interval(value: float | None, samples: FloatArray, confidence: float, is_biased: bool, least: float) -> Estimate:
    """`value` with the samples' central percentiles, at least `least`; no limits where more than a tenth of the
    resamples has no value.
    """
    defined = samples[~np.isnan(samples)]
    if value is None or len(defined) < 0.9 * max(len(samples), 1):
        return Estimate(value, None, None)
    tail = (1 - confidence) / 2
    low, high = (float(limit) for limit in np.quantile(defined, [tail, 1 - tail]))
    bias = float(defined.mean()) - value if is_biased else 0.0
    return Estimate(value, max(least, low - bias), high - bias)


def _point(rows: FigureRows, number: int, names: Collection[str]) -> dict[str, float | None]:
    """The named figures of the rows as they are; None where not defined."""
    if not number:
        return {name: None for name in FIGURES if name in names}
    values = rows.figures(np.ones((1, number)), names)
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}


@dataclass(frozen=True)
class RankedRows:
    """Rows in falling order of the logit, sorted once for any number of resamples; rows of one logit are one step."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    label: LabelArray  # in falling order

    @classmethod
    def of(cls, logit: FloatArray, label: LabelArray) -> RankedRows:
        """These rows, ranked."""
        order = np.argsort(-logit, kind="stable")
        return cls(order, np.flatnonzero(np.r_[True, np.diff(logit[order]) != 0]), label[order])

    def ranking(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(AUC, average precision) of each row of `weights` (resamples, rows), NaN where a class is missing."""
        ordered = np.take(weights, self.order, axis=1)
        positive, every = self._by_step(ordered * self.label), self._by_step(ordered)
        negative = every - positive
        hits, flagged = positive.cumsum(axis=1), every.cumsum(axis=1)
        positives, negatives = hits[:, -1], (flagged - hits)[:, -1]
        with np.errstate(invalid="ignore"):
            # a positive beats the negatives below it, and half of those beside it
            pairs = (positive * (negatives[:, None] - (flagged - hits) + negative / 2)).sum(axis=1)
            auc = pairs / (positives * negatives)  # 0 / 0 where a class is missing
            precision = hits / np.where(flagged > 0, flagged, 1)
            average_precision = (positive * precision).sum(axis=1) / positives
        return auc, np.where(np.isnan(auc), np.nan, average_precision)

    def _by_step(self, values: FloatArray) -> FloatArray:
        """Sums over the rows of each step; the values themselves where each row is one."""
        return values if len(self.starts) == len(self.order) else np.add.reduceat(values, self.starts, axis=1)


def _decisions(scored: Scored, weights: FloatArray) -> list[FloatArray]:
    """f1, macro_f1, precision, recall and flagged_share per resample."""
    flagged = scored.probability >= scored.threshold
    positive = scored.label == 1
    hits, alarms, positives, total = (
        weights @ (flagged & positive),
        weights @ flagged,
        weights @ positive,
        weights.sum(axis=1),
    )
    right_passes = total - alarms - positives + hits
    with np.errstate(invalid="ignore"):
        f1 = np.where(positives > 0, 2 * hits / (alarms + positives), np.nan)
        f1_satisfied = np.where(total > positives, 2 * right_passes / (2 * total - alarms - positives), np.nan)
        return [f1, (f1 + f1_satisfied) / 2, hits / alarms, hits / positives, alarms / total]

"""How far probabilities are from the shares observed: reliability tables, calibration errors and the parts of the Brier
score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtr

from model.evaluation.calibrators import FloatArray, LabelArray

Bins = Literal["width", "mass"]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class BinCounts:
    """Per bin, in the last axis: sum of row weights, of weighted probabilities and of weighted labels. Any leading axes
    are resamples.
    """

    weight: FloatArray
    probability: FloatArray
    label: FloatArray

    @property
    def gap(self) -> FloatArray:
        """Mean probability less observed share; 0 in an empty bin."""
        return _divide(self.probability - self.label, self.weight)

    @property
    def share(self) -> FloatArray:
        """Share of all rows."""
        return _divide(self.weight, self.weight.sum(axis=-1, keepdims=True))


def bin_numbers(probability: FloatArray, bins: int, kind: Bins) -> IntArray:
    """The bin of each row, 0 to bins - 1: of equal width on [0, 1], or of equal numbers of rows (equal probabilities
    share a bin).
    """
    if kind == "width":
        return np.minimum((probability * bins).astype(np.int64), bins - 1)  # a probability of 1 belongs to the last bin
    edges = np.quantile(probability, np.arange(1, bins) / bins)
    return np.asarray(np.searchsorted(np.unique(edges), probability, side="right"), dtype=np.int64)


@dataclass(frozen=True)
class BinnedRows:
    """Rows in bins, made once and counted for any number of resamples: whether a row is in each bin, shape (rows,
    bins), and its probability there.
    """

    label: LabelArray
    member: FloatArray
    probability: FloatArray

    @classmethod
    def of(cls, probability: FloatArray, label: LabelArray, number: IntArray) -> BinnedRows:
        """The rows in the bins of these numbers."""
        member = np.zeros((len(label), int(number.max(initial=0)) + 1))
        member[np.arange(len(label)), number] = 1.0
        return cls(label, member, member * probability[:, None])

    def count(self, weights: FloatArray) -> BinCounts:
        """The bins' sums for each row of `weights` (resamples, rows)."""
        return BinCounts(weights @ self.member, weights @ self.probability, (weights * self.label) @ self.member)


def count_bins(
    probability: FloatArray, label: LabelArray, number: IntArray, weights: FloatArray | None = None
) -> BinCounts:
    """The bins' sums for each row of `weights` (resamples, rows); without weights each row counts once."""
    return BinnedRows.of(probability, label, number).count(np.ones((1, len(label))) if weights is None else weights)


def calibration_error(counts: BinCounts) -> FloatArray:
    """ECE (Naeini et al. 2015), one per resample: the bins' mean |gap|, each bin weighing its share of rows. Chance
    makes it too large.
    """
    return np.asarray((counts.share * np.abs(counts.gap)).sum(axis=-1))


def ten_bin_error(probability: FloatArray, label: LabelArray) -> float:
    """ECE in ten bins of equal width: for two ways to score the same rows, held against each other."""
    return float(calibration_error(count_bins(probability, label, bin_numbers(probability, 10, "width")))[0])


def debiased_calibration_error(counts: BinCounts) -> FloatArray:
    """ECE less an estimate of what chance adds to it, at least 0; one per resample.

    Where a bin's true gap is g, its observed one is about normal around g with variance q (1 - q) / n (q: observed
    share, n: rows), and the mean of |normal| is greater than |g|. That excess, taken at the observed gap, is subtracted
    bin by bin (the plug-in correction of Kumar et al. 2019, arXiv 1909.10155, section 5, with the folded normal's mean
    in place of a simulation). Gaps of the noise's size and more come out right within a tenth; of a perfect model 2 -
    sqrt(2), that is 59%, of the noise floor is left.
    """
    observed = _divide(counts.label, counts.weight)
    error = np.sqrt(_divide(observed * (1 - observed), counts.weight))
    size = np.abs(counts.gap)
    excess = _folded_normal_mean(size, error) - size
    return np.asarray(np.maximum((counts.share * (size - excess)).sum(axis=-1), 0.0))


def noise_floor(counts: BinCounts) -> FloatArray:
    """The ECE that a perfectly calibrated model of these probabilities would show on so many rows, on average; one per
    resample.

    It takes a bin's labels to vary by p (1 - p) / n with p the bin's mean, a little too much where probabilities differ
    inside the bin.
    """
    mean = _divide(counts.probability, counts.weight)
    error = np.sqrt(_divide(mean * (1 - mean), counts.weight))
    return np.asarray((counts.share * _folded_normal_mean(np.zeros_like(error), error)).sum(axis=-1))


@dataclass(frozen=True)
class PooledRows:
    """Rows in rising order of probability, and where in it each pool starts: made once for any number of resamples.

    A pool is what an isotonic fit ties, however often a row is counted: rows of one probability, and neighbours of
    which the lower is all 1 or the upper all 0, as the fit must not fall. This leaves few pools of many rows.
    """

    squares: FloatArray  # of the errors, in the order given
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    label: LabelArray  # in rising order

    @classmethod
    def of(cls, probability: FloatArray, label: LabelArray) -> PooledRows:
        """The pools of these rows."""
        order = np.argsort(probability, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(probability[order]) != 0])
        has_0, has_1 = np.minimum.reduceat(label[order], starts) == 0, np.maximum.reduceat(label[order], starts) == 1
        return cls((probability - label) ** 2, order, starts[np.r_[True, has_0[:-1] & has_1[1:]]], label[order])

    def brier(self, weights: FloatArray) -> FloatArray:
        """The Brier score of each row of `weights` (resamples, rows)."""
        return np.asarray(weights @ self.squares / weights.sum(axis=1))

    def brier_parts(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See the function of this name."""
        total, brier = weights.sum(axis=1), self.brier(weights)
        ordered = np.take(weights, self.order, axis=1)
        rows = np.add.reduceat(ordered, self.starts, axis=1)
        positives = np.add.reduceat(ordered * self.label, self.starts, axis=1)
        squares = np.array([_isotonic_squares(*pools) for pools in zip(rows, positives, strict=True)])
        refinement = np.minimum(squares / total, brier)
        return brier - refinement, refinement


def brier_parts(
    probability: FloatArray, label: LabelArray, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """(calibration, refinement) of the Brier score, one of each per row of `weights` (resamples, rows); they are at
    least 0 and add up to it.

    refinement: the Brier score of the best recalibration that never falls, the isotonic fit to these rows; calibration:
    what that fit takes off (the CORP decomposition, Dimitriadis, Gneiting and Jordan 2021, doi 10.1073/pnas.2016191118,
    where they are UNC - DSC and MCB). Rows of one probability stay tied. The fit knows the labels it is judged on, so
    refinement is a little too low and calibration too high by as much: a perfect model's is above 0.
    """
    return PooledRows.of(probability, label).brier_parts(np.ones((1, len(label))) if weights is None else weights)


def reliability_table(probability: FloatArray, label: LabelArray, bins: int) -> list[dict[str, Any]]:
    """One row per equal-width bin of the probability: lower, upper, rows, mean_probability, observed_share (None where
    no rows).
    """
    number = bin_numbers(probability, bins, "width")
    table = []
    for index in range(bins):
        inside = number == index
        rows = int(inside.sum())
        table.append(
            {
                "lower": index / bins,
                "upper": (index + 1) / bins,
                "rows": rows,
                "mean_probability": float(probability[inside].mean()) if rows else None,
                "observed_share": float(label[inside].mean()) if rows else None,
            }
        )
    return table


def _folded_normal_mean(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """E|X| of a normal X (Leone et al. 1961); |mean| where the deviation is 0."""
    safe = np.where(deviation > 0, deviation, 1.0)
    ratio = mean / safe
    value = safe * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * ndtr(-ratio))
    return np.where(deviation > 0, value, np.abs(mean))


def _isotonic_squares(rows: FloatArray, positives: FloatArray) -> float:
    """Sum of squared errors of the rising fit to the shares of positives; `rows` and `positives` of each pool, lowest
    probability first.
    """
    there = rows > 0
    fit = isotonic_regression(positives[there] / rows[there], weights=rows[there])
    share = fit.x[fit.blocks[:-1]]
    return float((fit.weights * share * (1 - share)).sum())


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(
        numerator,
        denominator,
        out=np.zeros(numerator.shape),
        where=denominator > 0,
    )

"""Figures of a model's scores against labels, with bootstrap intervals that are clustered by product."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibration_error import (
    bin_numbers,
    brier_parts,
    calibration_error,
    count_bins,
    debiased_calibration_error,
    noise_floor,
)
from model.evaluation.calibrators import FloatArray, LabelArray

DRAWS = 1000
_NUMBERS_AT_ONCE = 5_000_000  # resamples x rows held in memory together, 8 bytes each, a few times over
Groups = NDArray[Any]


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
    rows = len(scored.label)
    values = figures(scored, bins, np.ones((1, rows))) if rows else {}
    described = {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}
    return {"rows": rows, "positives": int(scored.label.sum()), **(described or dict.fromkeys(FIGURES))}


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
    `reliability.brier_parts`; each resample has a fit of its own. macro_f1: mean of the two classes' F1. log_loss in
    nats.
    """
    auc, average_precision = ranking(scored.logit, scored.label, weights)
    decided = _decisions(scored, weights)
    width = count_bins(scored.probability, scored.label, bin_numbers(scored.probability, bins, "width"), weights)
    mass = count_bins(scored.probability, scored.label, bin_numbers(scored.probability, bins, "mass"), weights)
    total = weights.sum(axis=1)
    calibration, refinement = brier_parts(scored.probability, scored.label, weights)
    kept = np.clip(scored.probability, 1e-15, 1 - 1e-15)
    loss = -np.where(scored.label == 1, np.log(kept), np.log1p(-kept))
    values = {
        "auc": auc,
        "average_precision": average_precision,
        **decided,
        "ece": calibration_error(width),
        "ece_equal_mass": calibration_error(mass),
        "ece_debiased": debiased_calibration_error(mass),
        "ece_noise_floor": noise_floor(mass),
        "brier": weights @ (scored.probability - scored.label) ** 2 / total,
        "brier_calibration": calibration,
        "brier_refinement": refinement,
        "log_loss": weights @ loss / total,
    }
    return {name: values[name] for name in FIGURES}


def intervals(
    scored: Scored, bins: int, groups: Groups, confidence: float, seed: int, draws: int = DRAWS
) -> dict[str, dict[str, float | None]]:
    """Each of FIGURES with its interval, as {figure: {value, low, high}}: percentiles of a bootstrap that draws whole
    groups.

    `groups` names each row's product: reviews of one product resemble each other, so drawing single rows would make
    intervals too narrow (Field and Welsh 2007). Rows of a single product have no intervals. Those of calibration errors
    and of the Brier parts are moved back by the bootstrap's own bias, to 0 at least: that of ece_debiased then holds
    the true error, the others what so many rows show of it, chance included.
    """
    point = metrics(scored, bins)
    samples = _resampled([scored], bins, groups, seed, draws)[0]
    return {
        name: asdict(_interval(point[name], samples[name], confidence, name in _BIASED, least=0.0)) for name in FIGURES
    }


def difference_intervals(
    first: Scored, second: Scored, bins: int, groups: Groups, confidence: float, seed: int, draws: int = DRAWS
) -> dict[str, dict[str, float | None]]:
    """first - second of each of FIGURES, with intervals of a paired bootstrap: both models meet the same resamples of
    groups.
    """
    points = metrics(first, bins), metrics(second, bins)
    samples = _resampled([first, second], bins, groups, seed, draws)
    found = {}
    for name in FIGURES:
        one, other = points[0][name], points[1][name]
        value = None if one is None or other is None else one - other
        found[name] = asdict(
            _interval(value, samples[0][name] - samples[1][name], confidence, name in _BIASED, least=-math.inf)
        )
    return found


def cluster_weights(groups: Groups, draws: int, generator: np.random.Generator) -> FloatArray:
    """Shape (draws, rows): how often each row is in each resample, where as many groups are drawn with replacement as
    there are.
    """
    _, member = np.unique(groups, return_inverse=True)
    clusters = int(member.max()) + 1
    counts = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    return np.asarray(counts[:, member], dtype=np.float64)


def resamples(groups: Groups, draws: int, seed: int) -> Iterator[FloatArray]:
    """The weights of `cluster_weights` for so many draws, in portions that fit into memory; none where there is a
    single group.
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, len(groups)))
    # of one group every resample is the same
    for start in range(0, draws if len(np.unique(groups)) > 1 else 0, at_once):
        yield cluster_weights(groups, min(at_once, draws - start), generator)


def _resampled(models: list[Scored], bins: int, groups: Groups, seed: int, draws: int) -> list[dict[str, FloatArray]]:
    """Per model each figure's values over the same resamples."""
    parts: list[list[dict[str, FloatArray]]] = [[] for _ in models]
    for weights in resamples(groups, draws, seed):
        for model, part in zip(models, parts, strict=True):
            part.append(figures(model, bins, weights))
    return [
        {name: np.concatenate([found[name] for found in part] or [np.empty(0)]) for name in FIGURES} for part in parts
    ]


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


def ranking(logit: FloatArray, label: LabelArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(AUC, average precision) per resample; rows of one logit are one step of both curves."""
    order = np.argsort(-logit, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(logit[order]) != 0])
    positive = np.add.reduceat(weights[:, order] * label[order], starts, axis=1)
    every = np.add.reduceat(weights[:, order], starts, axis=1)
    negative = every - positive
    hits, flagged = positive.cumsum(axis=1), every.cumsum(axis=1)
    positives, negatives = hits[:, -1], (flagged - hits)[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # a positive beats the negatives below it, and half of those beside it
        auc = (positive * (negatives[:, None] - (flagged - hits) + negative / 2)).sum(axis=1) / (positives * negatives)
        precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
        average_precision = (positive * precision).sum(axis=1) / positives
    undefined = (positives == 0) | (negatives == 0)
    return np.where(undefined, np.nan, auc), np.where(undefined, np.nan, average_precision)


def _decisions(scored: Scored, weights: FloatArray) -> dict[str, FloatArray]:
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
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(positives > 0, 2 * hits / (alarms + positives), np.nan)
        f1_satisfied = np.where(total > positives, 2 * right_passes / (2 * total - alarms - positives), np.nan)
        return {
            "f1": f1,
            "macro_f1": (f1 + f1_satisfied) / 2,
            "precision": hits / alarms,
            "recall": hits / positives,
            "flagged_share": alarms / total,
        }

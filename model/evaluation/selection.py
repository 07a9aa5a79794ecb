"""What a chosen model is worth: its figure on the rows that chose it is too good, and this says by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.evaluation.calibrators import FloatArray, LabelArray
from model.evaluation.metrics import DRAWS, Groups, RankedRows, resamples

_LEAST_DEFINED = 0.9  # share of the resamples that must have a figure, as for `metrics.intervals`
Limits = dict[str, float | None]


@dataclass(frozen=True)
class Choice:
    """The finalist with the greatest average precision, and what that is worth once the choosing is allowed for.

    `winner` is its position, `observed` its figure on all rows. `corrected` is the expected figure of whichever
    finalist such rows choose, on rows that had no say in it, and `gain` that finalist's figure less the reference's on
    the same rows (None without a reference); both as {value, low, high}. `shares` says how often each finalist was
    chosen in a resample.
    """

    winner: int
    observed: float
    corrected: Limits
    gain: Limits | None
    shares: list[float]

    @property
    def optimism(self) -> float | None:
        """By how much the observed figure is too good."""
        return None if self.corrected["value"] is None else self.observed - self.corrected["value"]


def choose(
    logits: Sequence[FloatArray],
    label: LabelArray,
    groups: Groups,
    reference: int | None,
    confidence: float,
    seed: int,
    draws: int = DRAWS,
) -> Choice:
    """The best of several models by average precision, corrected for having been chosen on the very rows that measure
    it.

    `logits` has each model's log-odds of the same rows. The bootstrap bias correction of Tsamardinos, Greasidou and
    Borboudakis 2018 (Machine Learning 107, BBC-CV), which resamples the rows' predictions and trains nothing: each
    resample draws whole groups with replacement, chooses the best model on what it drew, and takes that model's figure
    on the groups that it left out (about 37%); the mean of these is the corrected figure, their percentiles its
    interval. Average precision is by chance greater on fewer rows, so each model's figures on what was left out are
    first moved until their mean is its figure on all rows: of one model alone nothing is corrected. As a third of the
    rows measures each, the interval is on the wide side. Of equal models the first is chosen. No value where more than
    a tenth of the resamples lacks a class on either side.
    """
    models = [RankedRows.of(logit, label) for logit in logits]
    points = np.array([model.ranking(np.ones((1, len(label))))[1][0] for model in models])
    winner = int(points.argmax())
    inside, outside = _in_and_out(models, groups, draws, seed)
    defined = ~np.isnan(inside[0]) & ~np.isnan(outside[0])  # labels alone decide it, so it is the same for all
    enough = bool(defined.sum() >= max(1, _LEAST_DEFINED * len(defined)))
    inside, outside = inside[:, defined], outside[:, defined]
    if enough:
        outside += (points - outside.mean(axis=1))[:, None]
    chosen = inside.argmax(axis=0)
    picked = outside[chosen, np.arange(len(chosen))]
    return Choice(
        winner=winner,
        observed=float(points[winner]),
        corrected=_limits(picked, confidence, enough),
        gain=None if reference is None else _limits(picked - outside[reference], confidence, enough),
        shares=(np.bincount(chosen, minlength=len(logits)) / max(1, len(chosen))).tolist(),
    )


def _in_and_out(models: Sequence[RankedRows], groups: Groups, draws: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Average precision of each model in each resample and on the rows left out of it, both of shape (models,
    resamples).
    """
    inside: list[list[FloatArray]] = [[] for _ in models]
    outside: list[list[FloatArray]] = [[] for _ in models]
    for weights in resamples(groups, draws, seed):
        left_out = (weights == 0).astype(np.float64)
        for place, model in enumerate(models):
            inside[place].append(model.ranking(weights)[1])
            outside[place].append(model.ranking(left_out)[1])
    empty = [np.empty(0)]
    in_samples, out_of_samples = (
        np.stack([np.concatenate(found or empty) for found in side]) for side in (inside, outside)
    )
    return in_samples, out_of_samples


def _limits(samples: FloatArray, confidence: float, is_defined: bool) -> Limits:
    """Their mean and central percentiles."""
    if not is_defined:
        return {"value": None, "low": None, "high": None}
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return {"value": float(samples.mean()), "low": float(low), "high": float(high)}

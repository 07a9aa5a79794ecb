"""Decision thresholds on the calibrated probability, and what each does on labelled rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve

from model.calibration import FloatArray, LabelArray
from model.errors import ReviewriskError


@dataclass(frozen=True)
class ThresholdFigures:
    """A threshold and its figures on labelled rows; precision is None where none is flagged."""

    threshold_name: str
    threshold: float
    precision: float | None
    recall: float
    f1: float
    flagged_share: float


def f1_max_threshold(probability: FloatArray, label: LabelArray) -> float:
    """The threshold with the greatest F1 of the dissatisfied class, where a row is flagged at or above it.

    It lies midway between the lowest probability that is flagged and the next lower one, as all thresholds between them
    flag the same rows: rounding (another batch, another machine) then flips no decision, and it is not drawn to one row's value.
    Of equal F1 the highest threshold is taken, which flags fewest. Raises ReviewriskError where no row is dissatisfied.
    """
    if not label.any():
        raise ReviewriskError("No threshold can be chosen: none of the rows is dissatisfied (1-2 stars).")
    precision, recall, attained = precision_recall_curve(label, probability)
    precision, recall = precision[:-1], recall[:-1]  # the last point is a convention and has no threshold
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(np.flatnonzero(f1 == f1.max())[-1])
    below = float(attained[best - 1]) if best else 0.0
    return (below + float(attained[best])) / 2


def threshold_figures(name: str, threshold: float, probability: FloatArray, label: LabelArray) -> ThresholdFigures:
    """The threshold's figures on these rows."""
    flagged = probability >= threshold
    hits, dissatisfied = int((flagged & (label == 1)).sum()), int(label.sum())
    return ThresholdFigures(
        threshold_name=name,
        threshold=threshold,
        precision=hits / int(flagged.sum()) if flagged.any() else None,
        recall=hits / dissatisfied if dissatisfied else 0.0,
        f1=2 * hits / (int(flagged.sum()) + dissatisfied) if flagged.any() or dissatisfied else 0.0,
        flagged_share=float(flagged.mean()),
    )

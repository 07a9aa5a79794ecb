"""Figures of a probability against labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from model.calibration import FloatArray, LabelArray, expected_calibration_error, probability_log_loss
from model.thresholds import threshold_figures


def metrics(probability: FloatArray, label: LabelArray, threshold: float, bins: int, ranking: FloatArray | None = None) -> dict[str, Any]:
    """auc, average_precision, f1, precision, recall, flagged_share, ece, brier, log_loss (nats), rows, positives of one set of rows.

    Positive is dissatisfied. AUC and average precision rank by `ranking` where given: the raw probability, since isotonic
    calibration ties rows that the logit tells apart. What is not defined (AUC of one class, anything of no row) is None.
    """
    rows, positives = len(label), int(label.sum())
    figures: dict[str, Any] = {"rows": rows, "positives": positives}
    names = ("auc", "average_precision", "f1", "precision", "recall", "flagged_share", "ece", "brier", "log_loss")
    figures.update(dict.fromkeys(names))
    if rows == 0:
        return figures
    decided = threshold_figures("", threshold, probability, label)
    figures.update(
        precision=decided.precision,
        flagged_share=decided.flagged_share,
        ece=expected_calibration_error(probability, label, bins),
        brier=float(np.mean((probability - label) ** 2)),
        log_loss=probability_log_loss(probability, label),
    )
    if positives:
        figures.update(f1=decided.f1, recall=decided.recall)
    if 0 < positives < rows:
        score = probability if ranking is None else ranking
        figures.update(auc=float(roc_auc_score(label, score)), average_precision=float(average_precision_score(label, score)))
    return figures


def metrics_by_overlap(
    probability: FloatArray, label: LabelArray, threshold: float, bins: int, ranking: FloatArray, in_train: NDArray[np.bool_]
) -> dict[str, dict[str, Any]]:
    """`as_is`: the figures on all rows; `without_train_texts`: on the rows whose text does not stand in the training split."""
    new = ~in_train
    return {
        "as_is": metrics(probability, label, threshold, bins, ranking),
        "without_train_texts": metrics(probability[new], label[new], threshold, bins, ranking[new]),
    }

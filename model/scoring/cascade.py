"""The cascade: reviews that the TF-IDF baseline finds surely satisfied skip the network. Its cut, and what it costs.

A skipped review is flagged at no threshold, so a decision can only change where the network would have flagged it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.bundle.bundle import BASELINE, BaselineFiles
from model.errors import ReviewriskError
from model.evaluation.baseline import StoredBaseline
from model.evaluation.calibration_error import ten_bin_error
from model.evaluation.calibrators import Calibrator, FloatArray, LabelArray


@dataclass(frozen=True)
class CalibratedBaseline:
    """The baseline of a bundle or serving folder, and the calibrator that puts its log-odds on the network's scale."""

    model: StoredBaseline
    calibrator: Calibrator

    @classmethod
    def load(cls, folder: Path) -> CalibratedBaseline:
        """Raises ReviewriskError where the folder's bundle was made before bundles kept the baseline."""
        if not has_baseline(folder):
            raise ReviewriskError(
                f"{folder} keeps no baseline, as an earlier version of the code made its model: train again, or set"
                " score.cascade.max_flipped_share to null."
            )
        files = BaselineFiles.read(folder / BASELINE)
        return cls(StoredBaseline.from_arrays(files.arrays), Calibrator.from_json(files.calibrator))


def has_baseline(folder: Path) -> bool:
    """Whether a bundle or serving folder keeps its baseline: those of earlier versions of the code do not."""
    return (folder / BASELINE).is_dir()


@dataclass(frozen=True)
class BothModels:
    """Labelled reviews as both models see them: log-odds and probability of the baseline, probability of the network,
    and labels (1: dissatisfied).
    """

    logit: FloatArray
    baseline: FloatArray
    network: FloatArray
    label: LabelArray

    @classmethod
    def of(cls, predictions: pa.Table, baseline: Calibrator, network: Calibrator) -> BothModels:
        """Those of a bundle's predictions.parquet, or of a part of it."""
        logit = predictions["tfidf_logit"].to_numpy()
        probability = network.apply(predictions["model_logit"].to_numpy())
        return cls(logit, baseline.apply(logit), probability, predictions["label"].to_numpy())


@dataclass(frozen=True)
class Cut:
    """Reviews skip the network up to this log-odds of the baseline, and what that does on test reviews: how many of
    them skip it, how many of those it would have flagged at each threshold, and by how much the expected calibration
    error changes.

    `cut` is None where no review may skip it, as where validation has fewer than `needs` reviews.
    """

    max_flipped_share: float
    cut: float | None
    validation_rows: int
    rows: int
    skipped: int
    flipped: dict[str, int]
    ece_change: float

    @property
    def needs(self) -> int:
        """How many validation reviews the share needs before any review may skip the network."""
        return int(np.ceil(1 / self.max_flipped_share - 1e-9)) - 1


def fit_cut(
    predictions: pa.Table,
    baseline: Calibrator,
    network: Calibrator,
    thresholds: Mapping[str, float],
    max_flipped_share: float,
) -> Cut:
    """The greatest cut that keeps to the share, fitted on the validation reviews of predictions.parquet and judged on
    its test reviews, which are later and had no part in it.
    """
    is_test = pc.equal(predictions["part"], "test")
    validation = BothModels.of(predictions.filter(pc.invert(is_test)), baseline, network)
    test = BothModels.of(predictions.filter(is_test), baseline, network)
    cut = greatest_cut(validation, min(thresholds.values()), max_flipped_share)
    skips = test.logit <= (-np.inf if cut is None else cut)
    mixed = np.where(skips, test.baseline, test.network)
    return Cut(
        max_flipped_share=max_flipped_share,
        cut=cut,
        validation_rows=len(validation.logit),
        rows=len(skips),
        skipped=int(skips.sum()),
        flipped={name: int((skips & (test.network >= limit)).sum()) for name, limit in thresholds.items()},
        ece_change=ten_bin_error(mixed, test.label) - ten_bin_error(test.network, test.label),
    )


def greatest_cut(reviews: BothModels, lowest: float, max_flipped_share: float) -> float | None:
    """The greatest log-odds of these reviews up to which (flipped + 1) / (reviews + 1) keeps to the share, and the
    baseline's own probability stays below the `lowest` threshold; None where there is none.

    The share of new reviews of the same kind that are flipped is then expected to be at most that, though the cut was
    chosen on these (conformal risk control, Angelopoulos et al. 2022, arXiv 2208.02814). The lowest threshold counts
    for all: at a higher one fewer of the skipped reviews would have been flagged.
    """
    order = np.argsort(reviews.logit)
    logit = reviews.logit[order]
    flipped = np.cumsum(reviews.network[order] >= lowest)
    is_too_much = (flipped + 1 > max_flipped_share * (len(logit) + 1)) | (reviews.baseline[order] >= lowest)
    if is_too_much.any():
        logit = logit[logit < logit[np.argmax(is_too_much)]]
    return float(logit[-1]) if len(logit) else None

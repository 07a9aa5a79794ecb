"""How far an engine's scores are from the reference's, and whether that is near enough to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from model.bundle.bundle import bundle_backbone, verify_bundle
from model.evaluation.calibration_error import ten_bin_error
from model.files import read_json
from model.network.backbone import make_classifier
from model.network.classifier import ReviewClassifier
from model.network.lora import load_adapter
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.scorer import Scorer, Scores
from model.settings import ModelSettings, ParitySettings, ScoringSettings


@dataclass(frozen=True)
class Parity:
    """One engine against the reference on the same reviews; differences are of the logit (log-odds).

    `unscored`: rows of which just one of the two has a score. `flipped`: by threshold, rows that just one of the two
    flags. `ece_change`: the engine's expected calibration error less the reference's. `rank_correlation`: Spearman's,
    of the logits.
    """

    rows: int
    unscored: int
    greatest_difference: float
    mean_difference: float
    flipped: dict[str, int]
    ece_change: float
    rank_correlation: float


def unmerged_scorer(bundle: Path, serving: Path) -> Scorer:
    """The bundle's adapter + base in float32 on the CPU: what every engine is held against, slow as it is."""
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    backbone = bundle_backbone(verify_bundle(bundle))
    adapted = load_adapter(make_classifier(backbone, settings.training.head_dropout, seed=0), bundle / "adapter")
    scorer = Scorer.load(serving, ScoringSettings())
    scorer.engine = TorchEngine(cast(ReviewClassifier, adapted.eval()), scorer.device)
    return scorer


def parity(reference: Scores, scores: Scores, label: NDArray[np.int64], thresholds: Mapping[str, float]) -> Parity:
    """The differences on reviews with these labels (1: dissatisfied); a row is flagged from a threshold on upwards.

    Rows without text have a score of neither. Raises ValueError where fewer than two rows are scored by both.
    """
    in_reference, in_scores = np.isfinite(reference.logit), np.isfinite(scores.logit)
    both = in_reference & in_scores
    if both.sum() < 2:
        raise ValueError(f"only {both.sum()} rows are scored by both engines")
    difference = np.abs(reference.logit - scores.logit)[both]
    before, after = reference.probability[both], scores.probability[both]
    return Parity(
        rows=int(both.sum()),
        unscored=int((in_reference != in_scores).sum()),
        greatest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        flipped={name: int(((before >= limit) != (after >= limit)).sum()) for name, limit in thresholds.items()},
        ece_change=ten_bin_error(after, label[both]) - ten_bin_error(before, label[both]),
        rank_correlation=float(spearmanr(reference.logit[both], scores.logit[both]).statistic),
    )


def missed_limits(found: Parity, limits: ParitySettings) -> list[str]:
    """The limits of score.parity that an engine misses, in words; none where it may serve."""
    flipped = {name: count / found.rows for name, count in found.flipped.items()}
    problems = [
        f"{found.flipped[name]} of {found.rows:,} decisions at {name} are flipped (max_flipped_share"
        f" {limits.max_flipped_share:g})"
        for name, share in flipped.items()
        if share > limits.max_flipped_share
    ]
    if found.rows < limits.rows:
        problems.append(f"it was compared on {found.rows:,} reviews only (rows {limits.rows:,})")
    if found.unscored:
        problems.append(f"{found.unscored} reviews have a score of only one of the two")
    if not abs(found.ece_change) <= limits.max_ece_change:
        problems.append(f"ECE changes by {found.ece_change:+.4f} (max_ece_change {limits.max_ece_change:g})")
    if not found.mean_difference <= limits.max_mean_difference:
        problems.append(
            f"logits differ by {found.mean_difference:.3g} on average (max_mean_difference"
            f" {limits.max_mean_difference:g})"
        )
    if not found.rank_correlation >= limits.min_rank_correlation:  # also where it is NaN
        problems.append(
            f"the ranks' correlation is {found.rank_correlation:.5f} (min_rank_correlation"
            f" {limits.min_rank_correlation:g})"
        )
    return problems

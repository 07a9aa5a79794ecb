"""What a cascade saves and costs: a table to choose from (`models compile`), and the cut that the config asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from jobs.config import Config
from jobs.registry.bundles import local_bundle
from jobs.registry.models import thresholds
from model.errors import ReviewriskError, needs_extra
from model.files import read_json
from model.progress import Report
from model.terminal import align

if TYPE_CHECKING:
    from model.scoring.cascade import Cut

OFFERED = (0.0005, 0.001, 0.002, 0.005, 0.01)


def thresholds_by_name(config: Config, model_version: str) -> dict[str, float]:
    """The model's thresholds as they are published now. Raises ReviewriskError where it has none."""
    found = {row["threshold_name"]: float(row["threshold"]) for row in thresholds(config.root, model_version)}
    if not found:
        raise ReviewriskError(f"{model_version} has no threshold in model_thresholds: train again.")
    return found


def chosen_cut(config: Config, row: dict[str, Any], report: Report) -> Cut | None:
    """The cut by which reviews of a row of `models` skip the network, reported; None where the config has no cascade.

    Raises ReviewriskError where the model's bundle keeps no baseline.
    """
    share = config.score.cascade.max_flipped_share
    if share is None:
        return None
    [cut] = fitted_cuts(config, row, [share])
    for line in _table(row["model_version"], [cut]):
        report(line)
    return cut


def offered_cuts(config: Config, row: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    """Cuts for a handful of limits, reported as a table, so that a user may choose; none where the bundle keeps no
    baseline.
    """
    with needs_extra("train", "Scoring"):
        from model.scoring.cascade import has_baseline
    if not has_baseline(local_bundle(config, row)):
        report(f"  {row['model_version']} offers no cascade: its bundle keeps no baseline (train again for one)")
        return []
    cuts = fitted_cuts(config, row, OFFERED)
    for line in _table(row["model_version"], cuts):
        report(line)
    return [asdict(cut) for cut in cuts]


def fitted_cuts(config: Config, row: dict[str, Any], shares: Sequence[float]) -> list[Cut]:
    """The cut of each share for a row of `models`, from the predictions in its verified bundle and the thresholds of
    now.
    """
    with needs_extra("train", "Scoring"):
        from model.bundle.bundle import verify_bundle
        from model.evaluation.calibrators import Calibrator
        from model.scoring.cascade import CalibratedBaseline, fit_cut
    bundle = local_bundle(config, row)
    verify_bundle(bundle)
    baseline = CalibratedBaseline.load(bundle).calibrator
    network = Calibrator.from_json(read_json(bundle / "calibrator.json"))
    predictions = pq.read_table(bundle / "predictions.parquet")
    limits = thresholds_by_name(config, row["model_version"])
    return [fit_cut(predictions, baseline, network, limits, share) for share in shares]


def _table(model_version: str, cuts: Sequence[Cut]) -> list[str]:
    """One line for each limit, under what the figures are of."""
    names = sorted(cuts[0].flipped)
    rows = [["max_flipped_share", "skip the network", *(f"flipped at {name}" for name in names), "ECE changes by"]]
    for cut in cuts:
        rows.append([f"{cut.max_flipped_share:g}", *_figures(cut, names)])
    head = (
        f"  score.cascade for {model_version}: fitted on its {cuts[0].validation_rows:,} validation reviews,"
        f" judged on its {cuts[0].rows:,} test reviews"
    )
    return [head, *(f"    {line}" for line in align(rows, [True] * len(rows[0])))]


def _figures(cut: Cut, names: Sequence[str]) -> list[str]:
    if cut.cut is None and cut.validation_rows < cut.needs:
        return [f"none (it needs {cut.needs:,})", *("–" for _ in names), "–"]
    share = cut.skipped / cut.rows
    return [f"{share:.1%}", *(f"{cut.flipped[name]:,}" for name in names), f"{cut.ece_change:+.5f}"]

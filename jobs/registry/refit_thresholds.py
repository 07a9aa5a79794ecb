"""New decision thresholds for a registered model, from the predictions in its bundle: nothing is scored anew."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import MODEL_THRESHOLDS
from jobs.registry.bundles import local_bundle
from jobs.registry.models import named_or_champion
from model.errors import needs_extra
from model.progress import Report, progress


def run_thresholds(config: Config, version: str | None, report: Report) -> list[dict[str, Any]]:
    """Fit the thresholds of the config's `model.thresholds` for a model (the champion where none is named) and publish
    their rows.

    The model's rows become what the config gives: those of other names go, such as the cost that stood there before or
    a band that the config no longer sets, and so does one that can no longer be set, since its row would show another
    confidence's figures. Only where the config calls that one active its old row stays, so that what is explained does
    not shrink unasked. Each is reported.
    """
    root = config.root
    with needs_extra("train", "Fitting thresholds"):
        from model.bundle.bundle import verify_bundle
        from model.evaluation.calibrators import Calibrator
        from model.evaluation.views import refit_thresholds
        from model.files import read_json
    with JobRun(root, "thresholds") as run:
        row = named_or_champion(root, version)
        bundle = local_bundle(config, row)
        verify_bundle(bundle)
        calibrator = Calibrator.from_json(read_json(bundle / "calibrator.json"))
        with progress("resampling the test rows for intervals", report):
            fitted, not_set = refit_thresholds(pq.read_table(bundle / "predictions.parquet"), calibrator, config.model)
        active = config.model.thresholds.active
        new = {
            one["threshold_name"]: {**one, "model_version": row["model_version"], "run_id": run.run_id}
            for one in fitted
        }

        stale: dict[str, list[str]] = {}

        def merged(before: pa.Table) -> pa.Table:
            others = [one for one in before.to_pylist() if one["model_version"] != row["model_version"]]
            own = {
                one["threshold_name"]: one for one in before.to_pylist() if one["model_version"] == row["model_version"]
            }
            kept = {
                name: one | {"is_default": False, "is_active": True}
                for name, one in own.items()
                if name not in new and name in active
            }
            stale.update(kept=sorted(kept), dropped=sorted(own.keys() - new.keys() - kept.keys()))
            unchanged = {name: own[name] for name in new if name in own and _same(own[name], new[name])}
            return pa.Table.from_pylist(
                [*others, *kept.values(), *(new | unchanged).values()], schema=MODEL_THRESHOLDS.schema
            )

        tables.replace_rows(root, "model_thresholds", run.run_id, merged)
        run.finish(model_version=row["model_version"], rows_written=len(new), details={"not_set": not_set, **stale})
    report(
        f"  {row['model_version']}: {len(new)} thresholds; reports follow with the next `reviewrisk report`, and"
        " nothing needs scoring"
    )
    for line in shown_thresholds(list(new.values())):
        report(line)
    for name, reason in not_set.items():
        report(f"  {name} could not be set: {reason}")
    for line in _stale_lines(**stale):
        report(line)
    return list(new.values())


def shown_thresholds(rows: list[dict[str, Any]]) -> list[str]:
    """Thresholds as lines for a terminal, the default first, with figures on test and their intervals."""
    lines = []
    for row in sorted(rows, key=lambda row: (not row["is_default"], row["threshold_name"])):
        marks = ", ".join(
            name for name, is_set in (("default", row["is_default"]), ("active", row["is_active"])) if is_set
        )
        figures = ", ".join(_figure_with_interval(row, name) for name in ("precision", "recall", "flagged_share"))
        lines.append(f"  {row['threshold_name']}{f' ({marks})' if marks else ''} at {row['threshold']:.4f}: {figures}")
    return lines


def _figure_with_interval(row: dict[str, Any], name: str) -> str:
    title = name.replace("_", " ")
    if row[name] is None:
        return f"{title} –"
    if row.get(f"{name}_low") is None:
        return f"{title} {row[name]:.1%}"
    return f"{title} {row[name]:.1%} [{row[f'{name}_low']:.1%}, {row[f'{name}_high']:.1%}]"


def _stale_lines(kept: list[str], dropped: list[str]) -> list[str]:
    lines = [f"  {name} keeps the row of an earlier fit, since model.thresholds.active names it" for name in kept]
    return lines + ([f"  dropped, as the config gives them no more: {', '.join(dropped)}"] if dropped else [])


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(old[name] == value for name, value in new.items() if name != "run_id")

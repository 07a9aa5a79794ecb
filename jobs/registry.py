"""The model registry: the tables `models` and `model_thresholds`, and which model is the champion."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa

from jobs import tables
from jobs.query import open_warehouse
from jobs.runs import JobRun
from jobs.schemas import MODELS
from jobs.storage import Root
from model.errors import ReviewriskError
from model.progress import Report, progress
from model.settings import PromotionSettings

_TO_SCORE = """
    select count(*)
    from reviews
    anti join (select * from review_scores where model_version = $version) as scores using (review_id, review_month, text_hash)
    where review_date >= $since
"""


def champion(root: Root) -> dict[str, Any]:
    """The champion's row of `models`; an error that says what to do where there is none."""
    rows = [row for row in _models(root) if row["status"] == "champion"]
    if not rows:
        raise ReviewriskError(f"{root.uri} has no champion yet: run `reviewrisk train` and then `reviewrisk models promote`.")
    return rows[0]


def thresholds(root: Root, model_version: str) -> list[dict[str, Any]]:
    """The rows of `model_thresholds` of one model."""
    rows: list[dict[str, Any]] = tables.read_arrow(root, "model_thresholds").to_pylist()
    return [row for row in rows if row["model_version"] == model_version]


def default_threshold(root: Root, model_version: str) -> dict[str, Any]:
    """The one threshold that decides; an error where the model has none."""
    return _one_of([row for row in thresholds(root, model_version) if row["is_default"]], model_version, "default")


def lowest_active_threshold(root: Root, model_version: str) -> dict[str, Any]:
    """The active threshold that flags most."""
    active = [row for row in thresholds(root, model_version) if row["is_active"]]
    return _one_of(sorted(active, key=lambda row: float(row["threshold"])), model_version, "active")


def _one_of(rows: list[dict[str, Any]], model_version: str, kind: str) -> dict[str, Any]:
    if not rows:
        raise ReviewriskError(f"{model_version} has no {kind} threshold in model_thresholds: train again, or promote another model.")
    return rows[0]


def list_models(root: Root) -> list[str]:
    """The registered models, newest first, as lines of text."""
    rows = sorted(_models(root), key=lambda row: row["trained_at"], reverse=True)
    if not rows:
        return ["no model yet: run `reviewrisk train`"]
    width = max(len(row["model_version"]) for row in rows)
    lines = [f"{'model_version':<{width}}  {'status':<9}  {'trained (UTC)':<16}  test AUC      F1     ECE  TF-IDF F1"]
    for row in rows:
        figures = f"{row['test_auc']:8.3f}  {row['test_f1']:6.3f}  {row['test_ece']:6.4f}  {row['baseline_f1']:9.3f}"
        lines.append(f"{row['model_version']:<{width}}  {row['status']:<9}  {row['trained_at']:%Y-%m-%d %H:%M}  {figures}")
    return lines


def run_promote(root: Root, settings: PromotionSettings, version: str | None, since: datetime.date | None, report: Report) -> str:
    """Make a model (the newest candidate where none is named) the champion; says how many rows it will score.

    Raises ReviewriskError where the model's test figures miss the config's limits. With `since`, only reviews of that day and
    later will be scored by it.
    """
    with JobRun(root, "promote") as run:
        row = _candidate(root, version)
        _check_figures(row, settings)
        now = datetime.datetime.now(datetime.UTC)

        def promoted(before: pa.Table) -> pa.Table:
            rows = before.to_pylist()
            for other in rows:
                if other["model_version"] == row["model_version"]:
                    was_champion = other["status"] == "champion"
                    other.update(status="champion", score_since=since, promoted_at=other["promoted_at"] if was_champion else now)
                elif other["status"] == "champion":
                    other["status"] = "retired"
            return pa.Table.from_pylist(rows, schema=MODELS.schema)

        tables.replace_rows(root, "models", run.run_id, promoted)
        with progress("counting what it is to score", report):
            rows_to_score = _rows_to_score(root, row["model_version"], since)
        run.finish(model_version=row["model_version"], rows_read=rows_to_score, details={"since": since})
    scope = f"of {since} and later" if since else "in all"
    report(f"  {row['model_version']} is the champion; {rows_to_score:,} reviews {scope} are still to be scored by it (`reviewrisk score`)")
    return str(row["model_version"])


def _candidate(root: Root, version: str | None) -> dict[str, Any]:
    rows = _models(root)
    if version is None:
        rows = sorted((row for row in rows if row["status"] == "candidate"), key=lambda row: row["trained_at"])
        if not rows:
            raise ReviewriskError("There is no candidate to promote: run `reviewrisk train`, or name a version (`reviewrisk models list`).")
        return rows[-1]
    found = [row for row in rows if row["model_version"] == version]
    if not found:
        raise ReviewriskError(f"There is no model {version}; there are: {', '.join(row['model_version'] for row in rows) or 'none'}.")
    return found[0]


def _models(root: Root) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.read_arrow(root, "models").to_pylist()
    return rows


def _check_figures(row: dict[str, Any], settings: PromotionSettings) -> None:
    misses = [
        f"{name} {row[column]:.4f} is {relation} the config's {limit}"
        for name, column, relation, limit, missed in (
            ("AUC", "test_auc", "below", settings.minimum_auc, row["test_auc"] < settings.minimum_auc),
            ("F1", "test_f1", "below", settings.minimum_f1, row["test_f1"] < settings.minimum_f1),
            ("ECE", "test_ece", "above", settings.maximum_ece, row["test_ece"] > settings.maximum_ece),
        )
        if missed
    ]
    if misses:
        raise ReviewriskError(f"{row['model_version']} is not promoted: on its test split {'; '.join(misses)} (section promotion).")


def _rows_to_score(root: Root, version: str, since: datetime.date | None) -> int:
    """Reviews that the model has no current score for."""
    with open_warehouse(root) as connection:
        found = connection.execute(_TO_SCORE, {"version": version, "since": since or datetime.date.min}).fetchone()
    return int(found[0]) if found else 0

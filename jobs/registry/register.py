"""A fitted model enters the registry: its bundle, its rows of `model_thresholds` and its row of `models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import MODEL_THRESHOLDS, MODELS
from jobs.lake.staging import Staged
from jobs.storage import Root

if TYPE_CHECKING:
    from model.training.pipeline import FittedModel


def register(root: Root, fitted: FittedModel, run: JobRun) -> None:
    """Put the bundle under the root, commit its thresholds, then the model as a candidate: whoever finds a model also
    finds the other two.

    A model that is registered already stays as it is, with the thresholds that were fitted for it since.
    """
    root.upload_folder(fitted.bundle, "models", fitted.model_version)
    _publish_thresholds(root, fitted, run)
    row = _model_row(fitted, run)

    def with_model(before: pa.Table) -> pa.Table:
        rows = before.to_pylist()
        same = [known for known in rows if known["model_version"] == fitted.model_version]
        for known in same:  # made again with the same result: the bundle may have been written anew
            known.update({name: row[name] for name in ("bundle_path", "bundle_checksum")})
        return pa.Table.from_pylist(rows if same else [*rows, row], schema=MODELS.schema)

    tables.replace_rows(root, "models", run.run_id, with_model)


def _publish_thresholds(root: Root, fitted: FittedModel, run: JobRun) -> None:
    """Commit the rows of thresholds.json, unless the table has some of this version: those are of the same file, or
    newer (`models thresholds`).
    """
    is_own = pc.field("model_version") == fitted.model_version
    rows = [
        {**threshold, "model_version": fitted.model_version, "run_id": run.run_id} for threshold in fitted.thresholds
    ]

    def stage(version: int) -> Staged | None:
        if tables.read_arrow(root, "model_thresholds", ["model_version"], is_own, version).num_rows:
            return None
        own = pa.Table.from_pylist(rows, schema=MODEL_THRESHOLDS.schema)
        return tables.stage_arrow(own, root, "model_thresholds", run.run_id, {"model_version": [fitted.model_version]})

    tables.publish(root, "model_thresholds", run.run_id, stage)


def figures_on_test(fitted: FittedModel) -> dict[str, Any]:
    """For `job_runs`: every figure of the model on test as it is, without intervals."""
    return {name: estimate["value"] for name, estimate in fitted.metrics["test"]["as_is"]["model"].items()}


def next_step(fitted: FittedModel) -> str:
    """A line for a terminal: what was registered, and what lets it decide."""
    if only := fitted.settings.rows.only:
        return (
            f"  registered {fitted.model_version} for reviews with {only}; a route in the config's section routing lets"
            " it decide for them"
        )
    return f"  registered {fitted.model_version} as a candidate; `reviewrisk models promote` makes it the champion"


def _model_row(fitted: FittedModel, run: JobRun) -> dict[str, Any]:
    test = fitted.metrics["test"]["as_is"]
    figures = {
        f"test_{name}": test["model"][name]["value"]
        for name in ("auc", "average_precision", "f1", "ece", "brier", "log_loss", "ece_debiased")
    }
    gain, lora = test["gain"]["f1"], fitted.settings.lora
    backbone = fitted.manifest["backbone"]
    return {
        "model_version": fitted.model_version,
        "status": "candidate",
        "trained_at": run.started_at,
        "backbone": backbone["name"],
        "backbone_revision": backbone["revision"],
        "pooling": backbone["pooling"],
        "max_length": backbone["max_length"],
        "lora_rank": lora.rank,
        "lora_alpha": lora.effective_alpha,
        "lora_targets": ",".join(lora.targets),
        "trainable_parameters": fitted.counts.trainable,
        "total_parameters": fitted.counts.distinct,
        "calibration": fitted.calibration,
        "data_version": fitted.data_version,
        "train_rows": fitted.rows["train"],
        "validation_rows": fitted.rows["validation"],
        "test_rows": fitted.rows["test"],
        "row_filter": fitted.settings.rows.only,
        **figures,
        "test_f1_low": test["model"]["f1"]["low"],
        "test_f1_high": test["model"]["f1"]["high"],
        "test_f1_ratings_masked": fitted.metrics["test"]["ratings_masked"]["model"]["f1"]["value"],
        "baseline_auc": test["tfidf"]["auc"]["value"],
        "baseline_f1": test["tfidf"]["f1"]["value"],
        "f1_gain": gain["value"],
        "f1_gain_low": gain["low"],
        "f1_gain_high": gain["high"],
        "beats_baseline": gain["low"] is not None and gain["low"] > 0,
        "bundle_path": f"models/{fitted.model_version}",
        "bundle_checksum": fitted.bundle_checksum,
        "run_id": run.run_id,
    }

"""Train a model on the corpus and register it as a candidate. Reads through pyarrow: no Spark, so a GPU machine needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import tables
from jobs.config import Config
from jobs.runs import JobRun
from jobs.schemas import MODEL_THRESHOLDS, MODELS
from jobs.storage import Root
from model.errors import ReviewriskError
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.fit import FittedModel

COLUMNS = ("review_id", "product_id", "review_headline", "review_body", "star_rating", "review_date", "split")


def run_train(config: Config, report: Report) -> str:
    """The version of a newly trained model, its bundle under <root>/models and its rows in `model_thresholds` and `models`."""
    try:
        from model.fit import fit
    except ImportError as error:
        raise ReviewriskError(f"Training needs its packages ({error.name} is missing): pip install 'reviewrisk[train]'.") from None
    root = config.root
    with JobRun(root, "train") as run:
        with progress("reading the reviews", report):
            reviews = tables.read_arrow(root, "reviews", COLUMNS, pc.field("split").isin(["train", "validation", "test"]))
        if reviews.num_rows == 0:
            raise ReviewriskError(f"{root.uri} has no reviews to train on: run `reviewrisk ingest` first.")
        output = root.local_path / "models" if root.is_local else config.scratch / "models"
        fitted = fit(reviews, config.model, output=output, work=config.scratch / "train", report=report)
        root.upload_folder(fitted.bundle, "models", fitted.model_version)
        _register(root, fitted, config, run)
        run.finish(model_version=fitted.model_version, rows_read=reviews.num_rows, details=fitted.metrics["test"])
    report(f"  registered {fitted.model_version} as a candidate; `reviewrisk models promote` makes it the champion")
    return fitted.model_version


def _register(root: Root, fitted: FittedModel, config: Config, run: JobRun) -> None:
    """Commit thresholds, then the model: whoever finds a model also finds its thresholds."""
    scope = {"model_version": [fitted.model_version]}
    rows = [{**threshold, "model_version": fitted.model_version, "is_active": True, "run_id": run.run_id} for threshold in fitted.thresholds]
    staged_rows = pa.Table.from_pylist(rows, schema=MODEL_THRESHOLDS.schema)
    tables.publish(root, "model_thresholds", run.run_id, lambda _: tables.stage_arrow(staged_rows, root, "model_thresholds", run.run_id, scope))
    row = _model_row(fitted, config, run)

    def registered(before: pa.Table) -> pa.Table:
        rows = before.to_pylist()
        same = [known for known in rows if known["model_version"] == fitted.model_version]
        for known in same:  # trained again with the same result: the bundle may have been written anew
            known.update({name: row[name] for name in ("bundle_path", "bundle_checksum")})
        return pa.Table.from_pylist(rows if same else [*rows, row], schema=MODELS.schema)

    tables.replace_rows(root, "models", run.run_id, registered)


def _model_row(fitted: FittedModel, config: Config, run: JobRun) -> dict[str, Any]:
    test = fitted.metrics["test"]
    figures = {f"test_{name}": test["model"][name] for name in ("auc", "average_precision", "f1", "ece", "brier", "log_loss")}
    lora = config.model.lora
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
        **figures,
        "baseline_auc": test["tfidf"]["auc"],
        "baseline_f1": test["tfidf"]["f1"],
        "bundle_path": f"models/{fitted.model_version}",
        "bundle_checksum": fitted.bundle_checksum,
        "run_id": run.run_id,
    }

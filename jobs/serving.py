"""Merged models, each made once from its bundle and shipped once to every node; several of one pass stand beside each other there."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from model.errors import ReviewriskError, install_extra

if TYPE_CHECKING:
    import datetime

    from pyspark.sql import SparkSession

    from model.scorer import Scorer
    from model.settings import ScoringSettings

# A score, or an explanation, is current while these are those of the stored review.
IDENTITY = ("review_id", "review_month", "text_hash")
# One model's score, or explanation, of a review.
KEY = (*IDENTITY, "model_version")


def serving_folder(config: Config, row: dict[str, Any]) -> Path:
    """A local folder with a model merged in fp32, made from the verified bundle of a row of `models`; made once, then kept."""
    try:
        from model.bundle import build_serving_folder
    except ImportError as error:
        raise ReviewriskError(f"Scoring needs its packages ({error.name} is missing): {install_extra('train')}.") from None
    return build_serving_folder(local_bundle(config, row), config.scratch / "serving" / row["model_version"], config.score.parity_tolerance)


def local_bundle(config: Config, row: dict[str, Any]) -> Path:
    """The bundle of a row of `models` as a local folder; an error where it is not the one that was registered."""
    copy = config.scratch / "bundles" / f"{row['model_version']}-{row['bundle_checksum'][:12]}"
    bundle = config.root.local_copy(copy, *row["bundle_path"].split("/"))
    manifest = bundle / "manifest.json"
    if not manifest.exists() or hashlib.sha256(manifest.read_bytes()).hexdigest() != row["bundle_checksum"]:
        raise ReviewriskError(f"The bundle {bundle} is not the one that was registered (manifest.json is missing or changed): train and promote again.")
    return bundle


def ship(spark: SparkSession, folder: Path) -> str:
    """Send a serving folder to every node as an archive that Spark unpacks there once; returns the name for `worker_scorer`."""
    archive = folder.with_name(f"{folder.name}.tar")
    if not archive.exists():
        draft = archive.with_suffix(f".{os.getpid()}")
        with tarfile.open(draft, "w") as tar:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                tar.add(file, arcname=str(file.relative_to(folder)))
        draft.replace(archive)
    spark.sparkContext.addArchive(f"{archive.as_uri()}#{folder.name}")
    return folder.name


def ship_all(spark: SparkSession, config: Config, rows: Iterable[dict[str, Any]]) -> None:
    """Send the models of some rows of `models` to every node, each as its own archive, under the name of its model_version."""
    for row in rows:
        ship(spark, serving_folder(config, row))


def worker_scorer(name: str, settings: ScoringSettings, threads: int, beside: Collection[str] = ()) -> Scorer:
    """The scorer of a shipped model, loaded once per worker process; `beside` names all models of the pass, which stay loaded with it."""
    from pyspark import SparkFiles

    from model.scorer import cached

    return cached(Path(SparkFiles.getRootDirectory()) / name, settings, threads, beside=beside)


def task_threads(spark: SparkSession) -> int:
    """CPU threads that one task may use."""
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))


def chunks(rows_by_month: dict[datetime.date, int], rows_per_commit: int) -> Iterator[list[datetime.date]]:
    """Months, newest first, in groups of at most `rows_per_commit` rows (a greater month stands alone)."""
    group: list[datetime.date] = []
    rows = 0
    for month in sorted(rows_by_month, reverse=True):
        if group and rows + rows_by_month[month] > rows_per_commit:
            yield group
            group, rows = [], 0
        group.append(month)
        rows += rows_by_month[month]
    if group:
        yield group

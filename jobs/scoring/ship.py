"""Merged models, each made once from its bundle and shipped once to every node; several of one pass stand beside each
other there.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.registry.bundles import serving_folder

if TYPE_CHECKING:
    import datetime

    from pyspark.sql import SparkSession

    from model.scoring.scorer import Scorer
    from model.settings import ScoringSettings

# A score, or an explanation, is current while these are those of the stored review.
IDENTITY = ("review_id", "review_month", "text_hash")
# One model's score, or explanation, of a review.
KEY = (*IDENTITY, "model_version")


def ship(spark: SparkSession, folder: Path) -> str:
    """Send a serving folder to every node as an archive that Spark unpacks there once; returns the name for
    `worker_scorer`.
    """
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
    """Send the models of some rows of `models` to every node, each as its own archive, under the name of its
    model_version.
    """
    for row in rows:
        ship(spark, serving_folder(config, row))


def worker_scorer(name: str, settings: ScoringSettings, threads: int, beside: Collection[str] = ()) -> Scorer:
    """The scorer of a shipped model, loaded once per worker process; `beside` names all models of the pass, which stay
    loaded with it.
    """
    from pyspark import SparkFiles

    from model.scoring.scorer import cached

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

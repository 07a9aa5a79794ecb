"""Merged models, each made once from its bundle and shipped to every node; several of one pass stand beside each other
there.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.registry.bundles import serving_folder
from jobs.scoring.gpu import task_device

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from model.scoring.scorer import Scorer
    from model.settings import ScoringSettings

# How an error of ours ends the trace that a worker sends to the driver.


def ship(spark: SparkSession, folder: Path) -> str:
    """Send a serving folder to every node as an archive that Spark unpacks there once; returns the name for
    `worker_scorer`.

    The archive is made anew from the folder, which is verified: one that lies there from an earlier run may be damaged.
    """
    archive = folder.with_name(f"{folder.name}.tar")
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
    """The scorer of a shipped model on the task's device, verified and loaded once per worker process; `beside` names
    all models of the pass, which stay loaded with it.
    """
    from pyspark import SparkFiles

    from model.scoring.scorer import cached

    return cached(Path(SparkFiles.getRootDirectory()) / name, settings, threads, task_device(settings), beside)


def task_threads(spark: SparkSession) -> int:
    """CPU threads that one task may use."""
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))

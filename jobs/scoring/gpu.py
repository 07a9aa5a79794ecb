"""GPUs for scoring: which one a task computes on, and that no two tasks come to the same one unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs.spark.session import GPUS_A_TASK, is_local, task_gpus
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config import ScoreSettings
    from model.settings import ScoringSettings

# A task reads some of its buffers while the GPU computes others: only the first one is waited for.
_BUFFERS_A_TASK = 8
_OWN_WORKERS = "REVIEWRISK_WORKERS"


def check_gpus(spark: SparkSession, settings: ScoreSettings) -> None:
    """Raise ReviewriskError where tasks are to compute on GPUs and Spark would not say which task has which."""
    conf = spark.sparkContext.getConf()
    if settings.device == "cuda" and not is_local(conf) and not task_gpus(conf):
        raise ReviewriskError(
            f"score.device is cuda, but {GPUS_A_TASK} is not set, so several tasks would come to one GPU: give it and"
            " spark.executor.resource.gpu.amount to Spark (docs/operations.md, Scoring on GPUs), or set score.device to"
            " cpu."
        )


def scoring_tasks(spark: SparkSession, settings: ScoreSettings, rows: int) -> int:
    """Tasks that so many rows are scored in; where Spark hands out no GPUs, no more than may share the machine's first
    one.
    """
    if settings.device == "cpu":
        return -(-rows // settings.rows_per_task)
    if is_local(spark.sparkContext.getConf()):
        return settings.tasks_per_gpu
    return -(-rows // max(settings.rows_per_task, _BUFFERS_A_TASK * settings.for_device().rows_per_buffer))


def scoring_threads(spark: SparkSession, settings: ScoreSettings) -> int:
    """CPU threads of one task: those that Spark gives it, or its part of the session's where few tasks share a GPU."""
    if settings.device == "cuda" and is_local(spark.sparkContext.getConf()):
        return max(1, spark.sparkContext.defaultParallelism // settings.tasks_per_gpu)
    return int(spark.sparkContext.getConf().get("spark.task.cpus", "1"))


def task_device(settings: ScoringSettings) -> str:
    """The device of the Spark task that asks: of GPUs the one that Spark gave it, or the first where it gives none."""
    if settings.device == "cpu":
        return "cpu"
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get("gpu") if context else None
    return f"cuda:{given.addresses[0]}" if given else "cuda:0"


@contextmanager
def own_workers(spark: SparkSession, settings: ScoreSettings) -> Iterator[None]:
    """Within it, a function that is made for Spark gets Python workers of its own where it computes on a GPU.

    Spark gives a task any idle worker with the same environment. Workers of other steps would each keep a model on the
    GPU, once a task of scoring was given to them.
    """
    environment = spark.sparkContext.environment
    if settings.device == "cuda":
        environment[_OWN_WORKERS] = "score"
    try:
        yield
    finally:
        environment.pop(_OWN_WORKERS, None)

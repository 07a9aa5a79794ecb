"""The Spark session: UTC, bounded Arrow batches, a quiet log, and Python workers that find this package."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from jobs.config import SparkSettings
from jobs.resources import resource_folder
from jobs.spark.java import use_java
from model.errors import ReviewriskError, needs_extra
from model.progress import Report, progress

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import DataFrame, SparkSession

GPUS_A_TASK = "spark.task.resource.gpu.amount"


def build_session(settings: SparkSettings) -> SparkSession:
    """The running session, or a new one. Under spark-submit what it was given there wins over `settings`."""
    use_java()
    use_utf8()
    # Workers forked from a multi-threaded parent deadlock in the tokenizer's own threads; Spark's tasks are the
    # parallelism here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with needs_extra("spark", "This step"):
        from pyspark import SparkConf, SparkContext
        from pyspark.sql import SparkSession
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()  # only now does SparkConf hold what spark-submit was given
        _use_our_log_settings(SparkContext._jvm)
    conf = SparkConf()
    for key, value in _options(settings).items():
        conf.setIfMissing(key, value)
    _refuse_gpus_in_local_mode(conf)
    session = SparkSession.builder.config(conf=conf).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def is_local(conf: SparkConf) -> bool:
    """Whether Spark's tasks run in the driver's own process, on this machine."""
    return re.match(r"local(\[|$)", conf.get("spark.master") or "") is not None


def task_gpus(conf: SparkConf) -> float:
    """GPUs that Spark gives to every task, a share of one where tasks are to share it; 0: it hands out none."""
    return float(conf.get(GPUS_A_TASK) or 0)


def _refuse_gpus_in_local_mode(conf: SparkConf) -> None:
    """Raise where Spark would wait for ever: its local mode hands out no GPUs, and starts no task that asks for one."""
    if is_local(conf) and task_gpus(conf):
        raise ReviewriskError(
            f"{GPUS_A_TASK} is set, but with spark.master {conf.get('spark.master')} Spark hands out no GPUs and would"
            " wait for ever: leave the setting out (score.device cuda needs none there), or use a cluster."
        )


def use_utf8() -> None:
    """Set LC_ALL to a UTF-8 locale for this process's children where the environment has none, as under cron: the names
    of files in Java are in that encoding.
    """
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "C")
    if "utf8" not in chosen.lower().replace("-", ""):
        os.environ["LC_ALL"] = "C.UTF-8"


def _log_settings() -> str:
    return (resource_folder("conf") / "log4j2.properties").as_uri()


def _use_our_log_settings(jvm: Any) -> None:
    """Our log settings in a JVM that spark-submit started, unless it was given some: Spark's defaults print INFO lines
    around our own.

    Spark settles its log with its first line, over whatever was set before: so that is done first, silently.
    """
    getattr(getattr(jvm.org.apache.spark.util, "Utils$"), "MODULE$").initializeForcefully(False, True)
    log4j = jvm.org.apache.logging.log4j
    source = log4j.LogManager.getContext(False).getConfiguration().getConfigurationSource().getLocation() or ""
    if source.endswith("log4j2-defaults.properties"):
        log4j.core.config.Configurator.reconfigure(jvm.java.net.URI(_log_settings()))


def _options(settings: SparkSettings) -> dict[str, str]:
    return {
        "spark.app.name": "reviewrisk",
        # Without a number of failures, local mode does not try a task again that failed for want of memory, say.
        "spark.master": re.sub(
            r"^local(?:\[([^,\]]+)\])?$", lambda found: f"local[{found[1] or 1},2]", settings.master
        ),
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_log_settings()}",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(settings.records_per_batch),
        "spark.sql.execution.arrow.maxBytesPerBatch": settings.bytes_per_batch,
        "spark.executorEnv.TOKENIZERS_PARALLELISM": "false",
        "spark.executorEnv.LC_ALL": "C.UTF-8",
        **settings.options,
    }


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, kept by Spark within the block and released at its end, whatever that is."""
    try:
        yield frame.persist()
    finally:
        frame.unpersist()


def spark_progress(spark: SparkSession, label: str, report: Report) -> AbstractContextManager[None]:
    """While the block runs, a line every few seconds says how many of the started stages' tasks are done."""

    def state() -> str:
        done, total = _tasks(spark)
        return f"{done:,} of {total:,} tasks of this step done" if total else "working"

    return progress(label, report, state)


def _tasks(spark: SparkSession) -> tuple[int, int]:
    """Tasks done and in all of the stages that run now."""
    tracker = spark.sparkContext.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
    known = [stage for stage in stages if stage is not None]
    return sum(stage.numCompletedTasks for stage in known), sum(stage.numTasks for stage in known)

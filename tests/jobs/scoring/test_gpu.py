"""Scoring on GPUs, without one: which task computes where, what is refused, the whole job with a CPU in its place."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from jobs.config import Config, ScoreSettings
from jobs.lake import tables
from jobs.outages import worker_errors
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion
from jobs.scoring.engines import chosen_settings
from jobs.scoring.gpu import check_gpus, own_workers, scoring_tasks, scoring_threads, task_device
from jobs.scoring.incremental import KEY, TEXT
from jobs.scoring.score import run_score
from jobs.scoring.ship import ship
from jobs.scoring.udfs import scoring_udf
from model.errors import ReviewriskError
from tests.jobs.scoring.test_engines import trials
from tests.support.trained_root import copied, versions

CPU, GPU, SHARED = ScoreSettings(), ScoreSettings(device="cuda"), ScoreSettings(device="cuda", tasks_per_gpu=4)


def session(master: str, **options: str) -> Any:
    """What of a Spark session is asked, without one."""
    from pyspark import SparkConf

    conf = SparkConf(loadDefaults=False).setMaster(master)
    for name, value in options.items():
        conf.set(name.replace("_", "."), value)
    return types.SimpleNamespace(
        sparkContext=types.SimpleNamespace(getConf=lambda: conf, defaultParallelism=6, environment={})
    )


LOCAL, CLUSTER = session("local[6,2]"), session("spark://host:7077", spark_task_cpus="4")
SCHEDULED = session("yarn", spark_task_resource_gpu_amount="0.5", spark_task_cpus="4")


def test_a_cluster_that_does_not_say_which_task_has_which_gpu_is_refused() -> None:
    with pytest.raises(ReviewriskError) as caught:
        check_gpus(CLUSTER, GPU)
    assert str(caught.value) == (
        "score.device is cuda, but spark.task.resource.gpu.amount is not set, so several tasks would come to one GPU:"
        " give it and spark.executor.resource.gpu.amount to Spark (docs/operations.md, Scoring on GPUs), or set"
        " score.device to cpu."
    )
    for spark, settings in ((CLUSTER, CPU), (LOCAL, GPU), (SCHEDULED, GPU), (session("local-cluster[1,1,1]"), CPU)):
        check_gpus(spark, settings)
    with pytest.raises(ReviewriskError):
        check_gpus(session("local-cluster[1,1,1]"), GPU)


@pytest.mark.parametrize(
    ("running", "settings", "rows", "expected"),
    [
        (LOCAL, CPU, 2001, 3),
        (LOCAL, GPU, 1_000_000, 1),
        (LOCAL, SHARED, 1_000_000, 4),
        (SCHEDULED, CPU, 2000, 2),
        (SCHEDULED, GPU, 65_536, 1),
        (SCHEDULED, GPU, 65_537, 2),
    ],
)
def test_no_more_tasks_come_to_a_gpu_than_may_and_they_bring_many_rows(
    running: Any, settings: ScoreSettings, rows: int, expected: int
) -> None:
    assert scoring_tasks(running, settings, rows) == expected


@pytest.mark.parametrize(
    ("running", "settings", "expected"),
    [(LOCAL, CPU, 1), (LOCAL, GPU, 6), (LOCAL, SHARED, 1), (SCHEDULED, SHARED, 4), (CLUSTER, CPU, 4)],
)
def test_tasks_of_one_machine_share_its_threads(running: Any, settings: ScoreSettings, expected: int) -> None:
    assert scoring_threads(running, settings) == expected


def given(**addresses: list[str]) -> Any:
    """A task's context with resources of these addresses."""
    found = {name: types.SimpleNamespace(addresses=some) for name, some in addresses.items()}
    return types.SimpleNamespace(resources=lambda: found)


@pytest.mark.parametrize(
    ("context", "settings", "expected"),
    [
        (given(gpu=["3"]), GPU, "cuda:3"),
        (given(gpu=["1", "2"]), GPU, "cuda:1"),
        (given(fpga=["f1"]), GPU, "cuda:0"),
        (None, GPU, "cuda:0"),
        (given(gpu=["3"]), CPU, "cpu"),
    ],
)
def test_a_task_computes_on_the_gpu_that_spark_gave_it(
    context: Any, settings: ScoreSettings, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyspark.TaskContext.get", lambda: context)
    assert task_device(settings) == expected


def test_a_gpu_has_one_worker_process_whatever_other_steps_leave_behind(spark: Any) -> None:
    """Spark gives tasks idle workers in turn: without workers of its own, each would load the model in the end."""
    from pyspark.sql import functions as F

    seen = set()
    for _ in range(4):
        with own_workers(spark, GPU):
            numbered = spark.range(10).repartition(1).select(process_udf()(F.col("id")).alias("process"))
        spark.range(8).repartition(2).mapInArrow(slow, "id long").collect()  # other steps, in two workers at once
        seen |= {row.process for row in numbered.collect()}
    assert len(seen) == 1
    assert "REVIEWRISK_WORKERS" not in spark.sparkContext.environment


def process_udf() -> Any:
    from pyspark.sql.pandas.functions import pandas_udf

    def process(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            yield pd.Series([os.getpid()] * len(batch))

    return pandas_udf(process, "long")  # type: ignore[call-overload]


def slow(batches: Any) -> Any:
    import time

    time.sleep(0.5)
    yield from batches


def on_gpu(config: Config, engine: str = "torch", precision: str = "float32") -> Config:
    update = {"device": "cuda", "engine": engine, "precision": precision, "rows_per_task": 10}
    parity = config.score.parity.model_copy(update={"max_mean_difference": 0.5})
    score = config.score.model_copy(update={**update, "parity": parity})
    return config.model_copy(update={"score": score})


def test_an_absent_gpu_is_refused_before_anything_is_tried_or_shipped(spark: Any, trained: Config) -> None:
    if torch.cuda.is_available():
        pytest.fail("this test is of machines without a GPU")
    before = versions(trained)
    with pytest.raises(ReviewriskError, match="Device 'cuda' was asked for, but this machine has 0 CUDA devices"):
        run_score(spark, on_gpu(trained), lambda _: None)
    assert versions(trained) == before and trials(trained) == []


def test_a_worker_without_its_gpu_refuses_it_by_name(spark: Any, trained: Config) -> None:
    from pyspark.sql import functions as F

    row = champion(trained.root)
    name, settings = ship(spark, serving_folder(trained, row)), on_gpu(trained).score
    reviews = tables.read_frame(spark, trained.root, "reviews").limit(3).withColumn("model_version", F.lit(name))
    with (
        pytest.raises(ReviewriskError, match="Device 'cuda:0' was asked for, but this machine has 0 CUDA devices"),
        worker_errors("the table"),
        own_workers(spark, settings),
    ):
        reviews.select(scoring_udf({name: settings}, 64, 1)(F.struct(*KEY, *TEXT))).collect()


def cpu_worker(evaluated: Any) -> Any:
    """In place of `worker_scorer`: the shipped model on the CPU. Every worker process is noted."""

    def worker_scorer(name: str, settings: Any, threads: int, beside: Any = ()) -> Any:
        from pyspark import SparkFiles

        from model.scoring.scorer import cached

        evaluated.add({os.getpid()})
        return cached(Path(SparkFiles.getRootDirectory()) / name, settings, 1, "cpu", beside)

    return worker_scorer


def test_the_whole_job_with_a_cpu_in_the_gpus_place(
    spark: Any, built: Config, trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task reads ahead of the device and scores all rows of all commits, and gives what the CPU's tasks give."""
    run_score(spark, trained, lambda _: None)
    expected = scores(trained)
    processes = spark.sparkContext.accumulator(set(), SetOfProcesses())
    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", cpu_worker(processes))
    for module in ("engine_choice", "scorer"):
        monkeypatch.setattr(f"model.scoring.{module}.find_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr("model.network.hardware.gpu_name", lambda: "A card of the test")
    config, lines = on_gpu(copied(built, tmp_path / "gpu")), list[str]()
    config = config.model_copy(update={"score": config.score.model_copy(update={"rows_per_commit": 40})})
    run_score(spark, config, lines.append)
    found = scores(config)
    assert found.keys() == expected.keys()
    for review_id, (logit, error) in expected.items():
        assert found[review_id][1] == error
        assert found[review_id][0] == (None if logit is None else pytest.approx(logit, abs=1e-4)), review_id
    assert len(processes.value) == 1 and tables.current_version(config.root, "review_scores") > 2, "several commits"
    again = chosen_settings(config, champion(config.root), 7, lines.append)
    assert again.precision == "float32", "as found before: the CPU's threads do not matter"
    (trial,) = trials(config)
    assert (trial["processor"], trial["name"], trial["precision"]) == ("A card of the test", "torch", "float32")
    assert any("trying 1 engines on A card of the test, threads: 2" in line for line in lines)


def scores(config: Config) -> dict[str, tuple[float | None, str | None]]:
    rows = tables.read_arrow(config.root, "review_scores", ["review_id", "logit", "error"]).to_pylist()
    return {row["review_id"]: (row["logit"], row["error"]) for row in rows}


def SetOfProcesses() -> Any:
    from pyspark.accumulators import AccumulatorParam

    class Sets(AccumulatorParam[set[int]]):
        def zero(self, value: set[int]) -> set[int]:
            return set()

        def addInPlace(self, one: set[int], other: set[int]) -> set[int]:
            return one | other

    return Sets()

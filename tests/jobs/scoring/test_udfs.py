"""What workers compute: once a row, for the row's own review and by its own model."""

from __future__ import annotations

import datetime
from typing import Any

import pandas as pd
import pytest

from jobs.config import ExplainSettings, ScoreSettings
from jobs.outages import worker_errors
from jobs.scoring.incremental import KEY
from jobs.scoring.udfs import buffered, explaining_udf, scoring_udf
from model.errors import OutageError

BOTH = {"even": ScoreSettings(), "odd": ScoreSettings()}
ON_GPU = {name: ScoreSettings(device="cuda") for name in BOTH}
UDFS = {
    "score": lambda: scoring_udf(BOTH, 2048, 1),
    "explain": lambda: explaining_udf(("even", "odd"), ScoreSettings(), ExplainSettings(), 1),
}


def numbered(spark: Any, rows: int) -> Any:
    """Reviews whose text is a number, by two models in turn."""
    from pyspark.sql import functions as F

    identity = [F.col("id").cast("string").alias("review_id"), F.lit(datetime.date(2015, 6, 1)).alias("review_month")]
    version = F.when(F.col("id") % 2 == 0, "even").otherwise("odd").alias("model_version")
    texts = [F.lit(None).cast("string").alias("review_headline"), F.col("id").cast("string").alias("review_body")]
    return spark.range(rows).select(*identity, F.lit("hash").alias("text_hash"), version, *texts)


def counting_worker(evaluated: Any) -> Any:
    """A scorer for which a text's score is its number, and which counts the rows that it is given."""

    def worker_scorer(name: str, settings: Any, threads: int, beside: Any = ()) -> Any:
        import types

        from model.scoring.engines.interface import REFERENCE
        from model.scoring.scorer import Scores

        def read(reviews: list[tuple[str, str]], cut: float | None) -> list[int]:
            evaluated.add(len(reviews))
            assert all((int(body) % 2 == 0) == (name == "even") for _, body in reviews), "its own reviews alone"
            return [int(body) for _, body in reviews]

        def compute(numbers: list[int]) -> Scores:
            scores = Scores.empty(len(numbers))
            scores.logit[:] = numbers
            return scores

        return types.SimpleNamespace(read=read, compute=compute, engine=types.SimpleNamespace(kind=REFERENCE))

    return worker_scorer


@pytest.mark.parametrize("settings", [BOTH, ON_GPU], ids=["cpu", "cuda"])
def test_spark_evaluates_a_score_once_a_row_and_gives_it_to_its_own_review(
    spark: Any, settings: dict[str, ScoreSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter on a field of the result is a plan in which Spark evaluates a deterministic function twice."""
    from pyspark.sql import functions as F

    evaluated = spark.sparkContext.accumulator(0)
    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", counting_worker(evaluated))
    udf = scoring_udf(settings, 4, 1)
    struct = F.struct(*KEY, "review_headline", "review_body")
    scored = numbered(spark, 21).repartition(2).select(udf(struct).alias("score")).where("score.error is null")
    found = scored.select("score.*").where("logit >= 0").select("review_id", "model_version", "logit").collect()
    assert evaluated.value == 21
    assert sorted((int(row.review_id), row.model_version, row.logit) for row in found) == [
        (number, "odd" if number % 2 else "even", float(number)) for number in range(21)
    ]


def failing_worker(name: str, settings: Any, threads: int, beside: Any = ()) -> Any:
    """A scorer whose device fails at once."""
    import types

    from model.scoring.faults import MachineFaultError

    def compute(reading: Any) -> Any:
        raise MachineFaultError("The machine failed, not a text (RuntimeError): run the command again.")

    return types.SimpleNamespace(read=lambda reviews, cut: reviews, compute=compute)


@pytest.mark.parametrize("settings", [BOTH, ON_GPU], ids=["cpu", "cuda"])
def test_a_device_that_fails_ends_the_task_though_more_was_read_ahead(
    spark: Any, settings: dict[str, ScoreSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark.sql import functions as F

    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", failing_worker)
    struct = F.struct(*KEY, "review_headline", "review_body")
    rows = numbered(spark, 5000).repartition(2).select(scoring_udf(settings, 4, 1)(struct))
    with pytest.raises(OutageError, match="The machine failed, not a text"), worker_errors("the table"):
        rows.collect()


@pytest.mark.parametrize("name", UDFS)
def test_what_a_model_computes_is_evaluated_once_in_any_plan(spark: Any, name: str) -> None:
    """`explain` explodes the words of its result, and a filter after that would be pushed below it."""
    from pyspark.sql import functions as F

    udf: Any = UDFS[name]()
    assert udf.deterministic is False
    struct = F.struct(*KEY, "review_headline", "review_body")
    filtered = numbered(spark, 3).select(udf(struct).alias("it")).where("it.error is null").select("it.*")
    plan = filtered._jdf.queryExecution().optimizedPlan().toString()
    assert plan.count("ArrowEvalPython ") == 1


def test_batches_are_joined_into_buffers_without_losing_rows() -> None:
    batches = [pd.DataFrame({"x": range(start, start + size)}) for start, size in ((0, 3), (3, 2), (5, 4), (9, 1))]
    buffers = list(buffered(iter(batches), 4))
    assert [len(buffer) for buffer in buffers] == [5, 4, 1]
    assert pd.concat(buffers)["x"].tolist() == list(range(10))

"""Apply the champion to every review that it has no current score for, and publish `review_scores` month by month."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs import tables
from jobs.config import Config, ScoreSettings
from jobs.delta import Scope, Staged
from jobs.registry import champion
from jobs.runs import JobRun
from jobs.serving import IDENTITY, chunks, serving_folder, ship, task_threads, worker_scorer
from jobs.session import spark_progress
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import Column, DataFrame, SparkSession

RESULT = (
    "review_id string, review_month date, text_hash string, logit double, raw_probability double, probability double, "
    "token_count int, is_truncated boolean, has_rating_phrase boolean, error string"
)


@dataclass(frozen=True)
class ScoreSummary:
    """Rows and speed of one scoring run. `skipped` rows have a current score; `failed` ones carry an error."""

    model_version: str
    scored: int
    skipped: int
    failed: int
    tokens: int
    padding_share: float
    seconds: float


def run_score(spark: SparkSession, config: Config, report: Report) -> ScoreSummary:
    """Score what is new, moved or changed under the champion. Each commit publishes whole months, newest first."""
    root = config.root
    with JobRun(root, "score") as run:
        row = champion(root)
        version = str(row["model_version"])
        with spark_progress(spark, "score", report):
            todo, stale, skipped = _rows_to_score(spark, config, version, row["score_since"])
        work = _Work(spark, config, row, run)
        total = sum(todo.values())
        report(f"  {version}: {total:,} reviews to score, {skipped:,} have a current score")
        started = time.monotonic()
        if stale:  # first and in one commit: a review that moved must at no time have two scores
            tables.publish(root, "review_scores", run.run_id, work.stager(stale, 0))
        if todo:
            work.ship()
        for months in chunks(todo, config.score.rows_per_commit):
            rows = sum(todo[month] for month in months)
            with spark_progress(spark, f"score {months[-1]:%Y-%m} to {months[0]:%Y-%m} ({rows:,} reviews)", report):
                tables.publish(root, "review_scores", run.run_id, work.stager(months, rows))
        summary = work.summary(total, skipped, time.monotonic() - started)
        run.finish(model_version=version, rows_read=total + skipped, rows_written=total, rows_failed=summary.failed, details=asdict(summary))
    if total:
        report(
            f"  scored {total:,} reviews in {summary.seconds:,.0f} s: {total / summary.seconds:,.0f} reviews/s, {summary.tokens / summary.seconds:,.0f} "
            f"tokens/s, {summary.padding_share:.1%} padding, {summary.failed:,} failed"
        )
    return summary


def _rows_to_score(spark: SparkSession, config: Config, version: str, since: datetime.date | None) -> tuple[dict[datetime.date, int], list[datetime.date], int]:
    """Reviews without a current score by month, months with scores of texts that have changed or moved, and reviews with a current score."""
    reviews = tables.read_frame(spark, config.root, "reviews", columns=(*IDENTITY, "review_date"))
    scores = tables.read_frame(spark, config.root, "review_scores", {"model_version": [version]}, columns=IDENTITY)
    todo = _newer(reviews, since).join(scores, on=list(IDENTITY), how="left_anti").groupBy("review_month").count().collect()
    stale = scores.join(reviews, on=list(IDENTITY), how="left_anti").select("review_month").distinct().collect()
    current = scores.join(reviews, on=list(IDENTITY), how="left_semi").count()
    return {row["review_month"]: row["count"] for row in todo}, [row["review_month"] for row in stale], current


def _newer(reviews: DataFrame, since: datetime.date | None) -> DataFrame:
    from pyspark.sql import functions as F

    return reviews if since is None else reviews.where(F.col("review_date") >= F.lit(since))


class _Work:
    """The scoring of one run: the shipped model, and figures that the tasks add to."""

    def __init__(self, spark: SparkSession, config: Config, row: dict[str, Any], run: JobRun) -> None:
        self._spark, self._config, self._row, self._run = spark, config, row, run
        self._name = ""
        context = spark.sparkContext
        self._real, self._padded, self._failed = (context.accumulator(0) for _ in range(3))

    def ship(self) -> None:
        self._name = ship(self._spark, serving_folder(self._config, self._row))

    def stager(self, months: list[datetime.date], rows: int) -> Callable[[int], Staged]:
        """What stages the scores of some months: current ones are kept, missing ones computed, stale ones left out."""
        from pyspark.sql import functions as F

        version = self._row["model_version"]
        scope: Scope = {"model_version": [version], "review_month": months}
        settings = self._config.score

        def stage(table_version: int) -> Staged:
            reviews = tables.read_frame(self._spark, self._config.root, "reviews", {"review_month": months})
            stored = tables.read_frame(self._spark, self._config.root, "review_scores", scope, table_version)
            kept = stored.join(reviews.select(*IDENTITY), on=list(IDENTITY), how="left_semi")
            if not rows:
                return tables.stage_frame(kept, self._config.root, "review_scores", self._run.run_id, scope)
            missing = _newer(reviews, self._row["score_since"]).join(kept.select(*IDENTITY), on=list(IDENTITY), how="left_anti")
            tasks = max(1, -(-rows // settings.rows_per_task))
            scored = missing.repartition(tasks).select(self._scorer()(F.struct(*IDENTITY, "review_headline", "review_body")).alias("score"))
            constants = {
                "model_version": version,
                "engine": "torch",
                "precision": settings.precision,
                "scored_at": self._run.started_at,
                "run_id": self._run.run_id,
            }
            new = scored.select("score.*", *(F.lit(value).alias(name) for name, value in constants.items()))
            return tables.stage_frame(kept.unionByName(new), self._config.root, "review_scores", self._run.run_id, scope)

        return stage

    def _scorer(self) -> Callable[[Column], Column]:
        settings = self._config.score
        return scoring_udf(self._name, settings, task_threads(self._spark), self._real, self._padded, self._failed)

    def summary(self, total: int, skipped: int, seconds: float) -> ScoreSummary:
        padded = self._padded.value
        share = 1 - self._real.value / padded if padded else 0.0
        return ScoreSummary(self._row["model_version"], total, skipped, self._failed.value, self._real.value, share, seconds)


def scoring_udf(
    name: str, settings: ScoreSettings, threads: int, real: Accumulator[int], padded: Accumulator[int], failed: Accumulator[int]
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(review_id, review_month, text_hash, review_headline, review_body) to one struct (RESULT).

    The keys travel with the rows and come back in the struct, so nothing depends on the order of rows. Marked non-deterministic:
    Spark then evaluates it once a row, however often the struct's fields are used.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        scorer = worker_scorer(name, settings, threads)
        for rows in buffered(batches, settings.rows_per_buffer):
            scores = scorer.score(rows["review_headline"].tolist(), rows["review_body"].tolist())
            real.add(scores.real_tokens)
            padded.add(scores.padded_tokens)
            failed.add(sum(error is not None for error in scores.error))
            result = rows[list(IDENTITY)].copy()
            for column in ("logit", "raw_probability", "probability", "token_count", "is_truncated", "has_rating_phrase"):
                result[column] = getattr(scores, column)
            result["error"] = scores.error
            yield result.astype({"logit": "Float64", "raw_probability": "Float64", "probability": "Float64"})

    udf: Callable[[Column], Column] = pandas_udf(score, RESULT).asNondeterministic()  # type: ignore[call-overload]
    return udf


def buffered(batches: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """The stream's batches joined into frames of at least `rows` rows (the last may be shorter), so that texts of like length meet."""
    waiting: list[pd.DataFrame] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= rows:
            yield pd.concat(waiting, ignore_index=True)
            waiting, count = [], 0
    if waiting:
        yield pd.concat(waiting, ignore_index=True)

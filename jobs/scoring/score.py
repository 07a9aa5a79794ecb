"""Apply the champion, or the model that a route names, to every review without a current score of it; publish
`review_scores` by month.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from jobs.config import Config, ScoreSettings
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.staging import Scope, Staged
from jobs.registry.models import champion, routable
from jobs.registry.routes import Routes, assigned, configured_routes, publish_routes
from jobs.scoring.ship import IDENTITY, KEY, chunks, ship_all, task_threads, worker_scorer
from jobs.spark.session import spark_progress
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import Column, DataFrame, SparkSession

    from model.scoring.scorer import Scores

RESULT = (
    "review_id string, review_month date, text_hash string, model_version string, logit double, raw_probability double,"
    " probability double, token_count int, is_truncated boolean, has_rating_phrase boolean, error string"
)


@dataclass(frozen=True)
class ScoreSummary:
    """Rows and speed of one scoring run. `model_version`: the champion; `rows_by_version`: scored rows of each model of
    the pass.

    `skipped` rows have a current score of their model; `failed` ones carry an error.
    """

    model_version: str
    scored: int
    skipped: int
    failed: int
    tokens: int
    padding_share: float
    seconds: float
    rows_by_version: dict[str, int]


@dataclass(frozen=True)
class _Todo:
    """Rows to score by month and by version, months with scores of texts that have changed or moved, and rows with a
    current score.
    """

    by_month: Counter[datetime.date]
    by_version: Counter[str]
    stale: list[datetime.date]
    current: int


def run_score(spark: SparkSession, config: Config, report: Report) -> ScoreSummary:
    """Score what is new, moved, changed or routed anew, in one pass. Each commit publishes whole months, newest first.

    The config's routes come into force when all is scored: until then, and after a death in between, the old ones hold.
    """
    root = config.root
    with JobRun(root, "score") as run:
        row = champion(root)
        routes = configured_routes(config.routing)
        work = _Work(spark, config, row, routes, run)
        with spark_progress(spark, "score", report):
            todo = work.todo()
        total = todo.by_month.total()
        for line in _shown_todo(todo, routes, work.versions):
            report(line)
        started = time.monotonic()
        if todo.stale:  # first and in one commit: a review that moved must at no time have two scores
            tables.publish(root, "review_scores", run.run_id, work.stager(todo.stale, 0))
        if total:
            work.ship()
        for months in chunks(todo.by_month, config.score.rows_per_commit):
            rows = sum(todo.by_month[month] for month in months)
            with spark_progress(spark, f"score {months[-1]:%Y-%m} to {months[0]:%Y-%m} ({rows:,} reviews)", report):
                tables.publish(root, "review_scores", run.run_id, work.stager(months, rows))
        if publish_routes(root, routes, run.run_id, datetime.datetime.now(datetime.UTC)):
            report(
                "  routes in force: "
                + (", ".join(f"{value} → {version}" for value, version in routes.models.items()) or "none")
            )
        summary = work.summary(todo, time.monotonic() - started)
        run.finish(
            model_version=summary.model_version,
            rows_read=total + todo.current,
            rows_written=total,
            rows_failed=summary.failed,
            details=asdict(summary),
        )
    if total:
        report(
            f"  scored {total:,} reviews in {summary.seconds:,.0f} s: {total / summary.seconds:,.0f} reviews/s,"
            f" {summary.tokens / summary.seconds:,.0f} tokens/s, {summary.padding_share:.1%} padding,"
            f" {summary.failed:,} failed"
        )
    return summary


def _shown_todo(todo: _Todo, routes: Routes, versions: list[str]) -> list[str]:
    """What is to be scored, as lines: all, and by model where there are several."""
    others = f", and by routes {', '.join(versions[1:])}" if len(versions) > 1 else ""
    lines = [
        f"  {versions[0]}{others}: {todo.by_month.total():,} reviews to score, {todo.current:,} have a current score"
    ]
    for version in versions if others else []:
        scope = ", ".join(routes.values_of(version)) or "all others"
        lines.append(f"    {version} ({scope}): {todo.by_version[version]:,}")
    return lines


def _newer(reviews: DataFrame, since: datetime.date | None) -> DataFrame:
    from pyspark.sql import functions as F

    return reviews if since is None else reviews.where(F.col("review_date") >= F.lit(since))


class _Work:
    """The scoring of one run: its models, the champion first, and figures that the tasks add to."""

    def __init__(self, spark: SparkSession, config: Config, row: dict[str, Any], routes: Routes, run: JobRun) -> None:
        self._spark, self._config, self._routes, self._run = spark, config, routes, run
        self._champion: str = row["model_version"]
        self._since: datetime.date | None = row["score_since"]
        self._rows = [row, *(routable(config, version) for version in routes.versions(self._champion)[1:])]
        context = spark.sparkContext
        self._real, self._padded, self._failed = (context.accumulator(0) for _ in range(3))

    @property
    def versions(self) -> list[str]:
        return [row["model_version"] for row in self._rows]

    def todo(self) -> _Todo:
        """What lacks a current score of the model that decides for it, as the tables stand now."""
        reviews = self._assigned(
            tables.read_frame(
                self._spark, self._config.root, "reviews", columns=(*IDENTITY, "review_date", self._routes.column)
            )
        )
        scores = tables.read_frame(
            self._spark, self._config.root, "review_scores", {"model_version": self.versions}, columns=KEY
        )
        missing = (
            _newer(reviews, self._since)
            .join(scores, on=list(KEY), how="left_anti")
            .groupBy("review_month", "model_version")
            .count()
            .collect()
        )
        stale = scores.join(reviews, on=list(IDENTITY), how="left_anti").select("review_month").distinct().collect()
        by_month, by_version = Counter[datetime.date](), Counter[str]()
        for row in missing:
            by_month[row["review_month"]] += row["count"]
            by_version[row["model_version"]] += row["count"]
        current = reviews.join(scores, on=list(KEY), how="left_semi").count()
        return _Todo(by_month, by_version, [row["review_month"] for row in stale], current)

    def _assigned(self, reviews: DataFrame) -> DataFrame:
        return assigned(reviews, self._routes, self._champion)

    def ship(self) -> None:
        """All models of the pass: a review that comes in the meantime may be any one's."""
        ship_all(self._spark, self._config, self._rows)

    def stager(self, months: list[datetime.date], rows: int) -> Callable[[int], Staged]:
        """What stages the scores of some months by all models of the pass: current ones are kept, missing ones
        computed, stale ones left out.
        """
        from pyspark.sql import functions as F

        scope: Scope = {"model_version": self.versions, "review_month": months}
        settings = self._config.score

        def stage(table_version: int) -> Staged:
            reviews = self._assigned(
                tables.read_frame(self._spark, self._config.root, "reviews", {"review_month": months})
            )
            stored = tables.read_frame(self._spark, self._config.root, "review_scores", scope, table_version)
            kept = stored.join(reviews.select(*IDENTITY), on=list(IDENTITY), how="left_semi")
            if not rows:
                return tables.stage_frame(kept, self._config.root, "review_scores", self._run.run_id, scope)
            missing = _newer(reviews, self._since).join(kept.select(*KEY), on=list(KEY), how="left_anti")
            tasks = max(1, -(-rows // settings.rows_per_task))
            scored = missing.repartition(tasks).select(
                self._scorer()(F.struct(*KEY, "review_headline", "review_body")).alias("score")
            )
            constants = {
                "engine": "torch",
                "precision": settings.precision,
                "scored_at": self._run.started_at,
                "run_id": self._run.run_id,
            }
            new = scored.select("score.*", *(F.lit(value).alias(name) for name, value in constants.items()))
            return tables.stage_frame(
                kept.unionByName(new), self._config.root, "review_scores", self._run.run_id, scope
            )

        return stage

    def _scorer(self) -> Callable[[Column], Column]:
        settings = self._config.score
        return scoring_udf(
            tuple(self.versions), settings, task_threads(self._spark), self._real, self._padded, self._failed
        )

    def summary(self, todo: _Todo, seconds: float) -> ScoreSummary:
        padded = self._padded.value
        share = 1 - self._real.value / padded if padded else 0.0
        by_version = {version: todo.by_version[version] for version in self.versions}
        return ScoreSummary(
            self._champion,
            todo.by_month.total(),
            todo.current,
            self._failed.value,
            self._real.value,
            share,
            seconds,
            by_version,
        )


def scoring_udf(
    versions: tuple[str, ...],
    settings: ScoreSettings,
    threads: int,
    real: Accumulator[int],
    padded: Accumulator[int],
    failed: Accumulator[int],
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(review_id, review_month, text_hash, model_version, review_headline, review_body)
    to one struct (RESULT).

    Each row is scored by the model of its `model_version`, which is one of the shipped `versions`. The keys travel with
    the rows and come back in the struct, so nothing depends on the order of rows. Marked non-deterministic: Spark then
    evaluates it once a row, however often the struct's fields are used.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for buffer in buffered(batches, settings.rows_per_buffer):
            for version, rows in buffer.groupby("model_version"):
                scorer = worker_scorer(str(version), settings, threads, versions)
                scores = scorer.score(rows["review_headline"].tolist(), rows["review_body"].tolist())
                real.add(scores.real_tokens)
                padded.add(scores.padded_tokens)
                failed.add(sum(error is not None for error in scores.error))
                yield _as_frame(rows, scores)

    udf: Callable[[Column], Column] = pandas_udf(score, RESULT).asNondeterministic()  # type: ignore[call-overload]
    return udf


def _as_frame(rows: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """The rows' keys with their scores, column by column as RESULT."""
    result = rows[list(KEY)].copy()
    for column in ("logit", "raw_probability", "probability", "token_count", "is_truncated", "has_rating_phrase"):
        result[column] = getattr(scores, column)
    result["error"] = scores.error
    return result.astype({"logit": "Float64", "raw_probability": "Float64", "probability": "Float64"})


def buffered(batches: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """The stream's batches joined into frames of at least `rows` rows (the last may be shorter), so that texts of like
    length meet.
    """
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

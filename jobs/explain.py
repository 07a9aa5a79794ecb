"""Explain the champion's flagged reviews by Integrated Gradients and publish the top words to `token_attributions`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.compute as pc

from jobs import tables
from jobs.config import Config, ExplainSettings, ScoreSettings
from jobs.delta import Scope, Staged
from jobs.registry import champion, lowest_active_threshold
from jobs.runs import JobRun
from jobs.serving import IDENTITY, chunks, serving_folder, ship, task_threads, worker_scorer
from jobs.session import spark_progress
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import Column, DataFrame, SparkSession

    from model.attribution import Explanation

SPECIAL_TOKENS = 2  # [CLS] and [SEP]: a text with no more has no word to explain
RESULT = (
    "review_id string, review_month date, text_hash string, nodes int, convergence_delta double, is_converged boolean, "
    "error string, words array<struct<attribution_rank int, word string, field string, char_start int, char_end int, attribution double>>"
)

# What stands in for the words of a review that has none, so that it is known and not tried in every run.
NO_WORDS = {"attribution_rank": 0, "word": None, "field": None, "char_start": None, "char_end": None, "attribution": None}


@dataclass(frozen=True)
class ExplainSummary:
    """Reviews of one run. `left`: flagged and not yet explained, beyond this run's bounds."""

    model_version: str
    explained: int
    not_converged: int
    failed: int
    left: int
    seconds: float


def run_explain(spark: SparkSession, config: Config, report: Report) -> ExplainSummary:
    """Explain flagged reviews that have no current explanation: newest first, up to `explain.months` and `explain.max_rows`."""
    root, settings = config.root, config.explain
    with JobRun(root, "explain") as run:
        row = champion(root)
        version = str(row["model_version"])
        with spark_progress(spark, "explain", report):
            pending = _pending(spark, config, version).persist()
            flagged = pending.count()
            chosen = _bounded(spark, pending, config, version).persist()
            todo = {row["review_month"]: row["count"] for row in chosen.groupBy("review_month").count().collect()}
            stale = _months_with_stale_rows(spark, config, version)
        total = sum(todo.values())
        report(f"  {version}: {total:,} flagged reviews to explain" + (f" of {flagged:,}; the rest waits for a later run" if flagged > total else ""))
        work = _Work(spark, config, version, run, chosen)
        started = time.monotonic()
        if total:
            work.name = ship(spark, serving_folder(config, row))
        for months in chunks(dict.fromkeys(stale, 0) | todo, settings.rows_per_commit):
            rows = sum(todo.get(month, 0) for month in months)
            with spark_progress(spark, f"explain {months[-1]:%Y-%m} to {months[0]:%Y-%m} ({rows:,} reviews)", report):
                tables.publish(root, "token_attributions", run.run_id, work.stager(months, rows))
        summary = ExplainSummary(version, total - work.failed.value, work.capped.value, work.failed.value, flagged - total, time.monotonic() - started)
        run.finish(model_version=version, rows_read=flagged, rows_written=summary.explained, rows_failed=summary.failed, details=asdict(summary))
    if total:
        report(
            f"  explained {summary.explained:,} reviews in {summary.seconds:,.0f} s ({summary.seconds / total:.2f} s each); {summary.not_converged:,} stopped "
            f"at {settings.nodes[-1]} nodes with |delta| >= {settings.max_delta}, {summary.failed:,} failed, {summary.left:,} left for later"
        )
    return summary


def with_test_months(config: Config) -> Config:
    """The config with `explain.months` such that explaining reaches back to the test split's first month; newer (live) months are within it too."""
    [test] = [row for row in tables.read_arrow(config.root, "splits").to_pylist() if row["split"] == "test"]
    months = tables.read_arrow(config.root, "reviews", ["review_month"], pc.field("review_month") >= test["first_date"].replace(day=1))
    count = len(months["review_month"].unique())
    return config.model_copy(update={"explain": config.explain.model_copy(update={"months": count})})


def _pending(spark: SparkSession, config: Config, version: str) -> DataFrame:
    """Identity of the reviews that an active threshold flags and that have no current explanation."""
    from pyspark.sql import functions as F

    lowest = lowest_active_threshold(config.root, version)["threshold"]
    scores = tables.read_frame(spark, config.root, "review_scores", {"model_version": [version]})
    flagged = scores.where((F.col("probability") >= lowest) & (F.col("token_count") > SPECIAL_TOKENS)).select(*IDENTITY)
    explained = tables.read_frame(spark, config.root, "token_attributions", {"model_version": [version]}, columns=IDENTITY).distinct()
    return flagged.join(explained, on=list(IDENTITY), how="left_anti")


def _bounded(spark: SparkSession, pending: DataFrame, config: Config, version: str) -> DataFrame:
    """The pending reviews of the newest months that hold scores, newest first, at most `max_rows`."""
    from pyspark.sql import functions as F

    settings = config.explain
    if settings.months is not None:
        scores = tables.read_frame(spark, config.root, "review_scores", {"model_version": [version]})
        months = [row["review_month"] for row in scores.select("review_month").distinct().orderBy(F.desc("review_month")).limit(settings.months).collect()]
        pending = pending.where(F.col("review_month").isin(months))
    if settings.max_rows is not None:
        dates = tables.read_frame(spark, config.root, "reviews", columns=["review_id", "review_date"])
        newest = pending.join(dates, on="review_id", how="inner").orderBy(F.desc("review_date"), "review_id")
        pending = newest.limit(settings.max_rows).select(*IDENTITY)
    return pending


def _months_with_stale_rows(spark: SparkSession, config: Config, version: str) -> list[datetime.date]:
    """Months with explanations of texts that have changed or moved since."""
    scope = {"model_version": [version]}
    explained = tables.read_frame(spark, config.root, "token_attributions", scope, columns=IDENTITY).distinct()
    scores = tables.read_frame(spark, config.root, "review_scores", scope, columns=IDENTITY)
    stale = explained.join(scores, on=list(IDENTITY), how="left_anti")
    return [row["review_month"] for row in stale.select("review_month").distinct().collect()]


class _Work:
    """The explaining of one run: the shipped model, the chosen reviews, and figures that the tasks add to."""

    def __init__(self, spark: SparkSession, config: Config, version: str, run: JobRun, chosen: DataFrame) -> None:
        self._spark, self._config, self._version, self._run, self._chosen = spark, config, version, run, chosen
        self.name = ""
        self.capped = spark.sparkContext.accumulator(0)
        self.failed = spark.sparkContext.accumulator(0)

    def stager(self, months: list[datetime.date], rows: int) -> Callable[[int], Staged]:
        """What stages the attributions of some months: current ones are kept, the chosen reviews' added, stale ones left out."""
        from pyspark.sql import functions as F

        scope: Scope = {"model_version": [self._version], "review_month": months}
        root = self._config.root

        def stage(table_version: int) -> Staged:
            scores = tables.read_frame(self._spark, root, "review_scores", scope).select(*IDENTITY)
            stored = tables.read_frame(self._spark, root, "token_attributions", scope, table_version)
            kept = stored.join(scores, on=list(IDENTITY), how="left_semi")
            if not rows:
                return tables.stage_frame(kept, root, "token_attributions", self._run.run_id, scope)
            texts = tables.read_frame(self._spark, root, "reviews", {"review_month": months}).select(*IDENTITY, "review_headline", "review_body")
            wanted = self._chosen.where(F.col("review_month").isin(months))
            wanted = wanted.join(kept.select(*IDENTITY).distinct(), on=list(IDENTITY), how="left_anti")
            missing = texts.join(wanted, on=list(IDENTITY), how="left_semi")
            tasks = max(1, -(-rows // self._config.explain.rows_per_task))
            udf = explaining_udf(self.name, self._config.score, self._config.explain, task_threads(self._spark), self.capped, self.failed)
            explained = (
                missing.repartition(tasks).select(udf(F.struct(*IDENTITY, "review_headline", "review_body")).alias("explanation")).select("explanation.*")
            )
            new = explained.select("*", F.explode("words").alias("entry")).select(
                *IDENTITY,
                "entry.*",
                "nodes",
                "convergence_delta",
                "is_converged",
                "error",
                F.lit(self._version).alias("model_version"),
                F.lit("integrated_gradients").alias("method"),
                F.lit(self._run.started_at).alias("explained_at"),
                F.lit(self._run.run_id).alias("run_id"),
            )
            return tables.stage_frame(kept.unionByName(new), root, "token_attributions", self._run.run_id, scope)

        return stage


def explaining_udf(
    name: str, scoring: ScoreSettings, settings: ExplainSettings, threads: int, capped: Accumulator[int], failed: Accumulator[int]
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(identity, review_headline, review_body) to one struct (RESULT). A failing review has the row of rank 0."""
    from pyspark.sql.pandas.functions import pandas_udf

    def explain_batches(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from model.attribution import explain

        scorer = worker_scorer(name, scoring, threads)
        for rows in batches:
            headlines, bodies = rows["review_headline"].tolist(), rows["review_body"].tolist()
            try:
                explanations: list[Explanation | str] = list(explain(scorer, headlines, bodies, settings))
            except Exception:  # one bad row must not cost its batch: each is tried alone
                explanations = [_explain_alone(scorer, headline, body, settings) for headline, body in zip(headlines, bodies, strict=True)]
            failed.add(sum(isinstance(explanation, str) for explanation in explanations))
            capped.add(sum(not isinstance(explanation, str) and not explanation.is_converged for explanation in explanations))
            yield _as_frame(rows, explanations)

    udf: Callable[[Column], Column] = pandas_udf(explain_batches, RESULT).asNondeterministic()  # type: ignore[call-overload]
    return udf


def _explain_alone(scorer: Any, headline: str | None, body: str | None, settings: ExplainSettings) -> Explanation | str:
    """The explanation, or what the computing failed with."""
    from model.attribution import explain

    try:
        return explain(scorer, [headline], [body], settings)[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


def _as_frame(rows: pd.DataFrame, explanations: list[Explanation | str]) -> pd.DataFrame:
    done = [None if isinstance(explanation, str) else explanation for explanation in explanations]
    words = [[asdict(word) for word in explanation.words] if explanation and explanation.words else [dict(NO_WORDS)] for explanation in done]
    computed = {
        "nodes": pd.Series([explanation.nodes if explanation else None for explanation in done], dtype="Int32"),
        "convergence_delta": pd.Series([explanation.convergence_delta if explanation else None for explanation in done], dtype="Float64"),
        "is_converged": pd.Series([bool(explanation and explanation.is_converged) for explanation in done]),
        "error": pd.Series([_error(explanation) for explanation in explanations], dtype=object),
        "words": pd.Series(words, dtype=object),
    }
    return pd.concat([rows[list(IDENTITY)].reset_index(drop=True), pd.DataFrame(computed)], axis=1)


def _error(explanation: Explanation | str) -> str | None:
    if isinstance(explanation, str):
        return explanation
    return None if explanation.words else "no word stands in what the model reads of the text"

"""Explain flagged reviews by Integrated Gradients of the model that decides for them; publish the top words to
`token_attributions`.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.compute as pc

from jobs.config import Config, ExplainSettings, ScoreSettings
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.staging import Scope, Staged
from jobs.registry.models import champion, lowest_active_threshold, registered
from jobs.registry.routes import Routes, assigned, published_routes
from jobs.scoring.ship import IDENTITY, KEY, chunks, ship_all, task_threads, worker_scorer
from jobs.spark.session import spark_progress
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import Column, DataFrame, SparkSession

    from model.explanation.integrated_gradients import Explanation

SPECIAL_TOKENS = 2  # [CLS] and [SEP]: a text with no more has no word to explain
RESULT = (
    "review_id string, review_month date, text_hash string, model_version string, nodes int, convergence_delta double,"
    " is_converged boolean, error string, words array<struct<attribution_rank int, word string, field string,"
    " char_start int, char_end int, attribution double>>"
)

# What stands in for the words of a review that has none, so that it is known and not tried in every run.
NO_WORDS = {
    "attribution_rank": 0,
    "word": None,
    "field": None,
    "char_start": None,
    "char_end": None,
    "attribution": None,
}


@dataclass(frozen=True)
class ExplainSummary:
    """Reviews of one run. `model_version`: the champion; `left`: flagged and not yet explained, beyond this run's
    bounds.
    """

    model_version: str
    explained: int
    not_converged: int
    failed: int
    left: int
    seconds: float


def run_explain(spark: SparkSession, config: Config, report: Report) -> ExplainSummary:
    """Explain flagged reviews that have no current explanation: newest first, up to `explain.months` and
    `explain.max_rows`.

    Which model decides for a review, the champion or one that a route names, is read from the published routes.
    """
    root, settings = config.root, config.explain
    with JobRun(root, "explain") as run:
        version = str(champion(root)["model_version"])
        work = _Work(spark, config, version, published_routes(root), run)
        with spark_progress(spark, "explain", report):
            pending = work.pending().persist()
            flagged = pending.count()
            chosen = work.choose(pending).persist()
            todo = {row["review_month"]: row["count"] for row in chosen.groupBy("review_month").count().collect()}
            stale = work.months_with_stale_rows()
        total = sum(todo.values())
        report(
            f"  {version}: {total:,} flagged reviews to explain"
            + (f" of {flagged:,}; the rest waits for a later run" if flagged > total else "")
        )
        started = time.monotonic()
        if total:
            ship_all(spark, config, (registered(root, one) for one in work.versions))
        for months in chunks(dict.fromkeys(stale, 0) | todo, settings.rows_per_commit):
            rows = sum(todo.get(month, 0) for month in months)
            with spark_progress(spark, f"explain {months[-1]:%Y-%m} to {months[0]:%Y-%m} ({rows:,} reviews)", report):
                tables.publish(root, "token_attributions", run.run_id, work.stager(chosen, months, rows))
        summary = ExplainSummary(
            version,
            total - work.failed.value,
            work.capped.value,
            work.failed.value,
            flagged - total,
            time.monotonic() - started,
        )
        run.finish(
            model_version=version,
            rows_read=flagged,
            rows_written=summary.explained,
            rows_failed=summary.failed,
            details=asdict(summary),
        )
    if total:
        report(
            f"  explained {summary.explained:,} reviews in {summary.seconds:,.0f} s ({summary.seconds / total:.2f} s"
            f" each); {summary.not_converged:,} stopped at {settings.nodes[-1]} nodes with |delta| >="
            f" {settings.max_delta}, {summary.failed:,} failed, {summary.left:,} left for later"
        )
    return summary


def with_test_months(config: Config) -> Config:
    """The config with `explain.months` such that explaining reaches back to the test split's first month; newer (live)
    months are within it too.
    """
    [test] = [row for row in tables.read_arrow(config.root, "splits").to_pylist() if row["split"] == "test"]
    months = tables.read_arrow(
        config.root, "reviews", ["review_month"], pc.field("review_month") >= test["first_date"].replace(day=1)
    )
    count = len(months["review_month"].unique())
    return config.model_copy(update={"explain": config.explain.model_copy(update={"months": count})})


class _Work:
    """The explaining of one run: the models that decide, and figures that the tasks add to."""

    def __init__(self, spark: SparkSession, config: Config, version: str, routes: Routes, run: JobRun) -> None:
        self._spark, self._config, self._champion, self._routes, self._run = spark, config, version, routes, run
        self.versions = routes.versions(version)
        self.capped = spark.sparkContext.accumulator(0)
        self.failed = spark.sparkContext.accumulator(0)

    def _read(self, name: str, scope: Scope | None = None, columns: tuple[str, ...] | None = None) -> DataFrame:
        return tables.read_frame(self._spark, self._config.root, name, scope, columns=columns)

    def pending(self) -> DataFrame:
        """KEY of the reviews that an active threshold of the model that decides for them flags, and that it has no
        current explanation of.
        """
        from pyspark.sql import functions as F

        reviews = assigned(
            self._read("reviews", columns=(*IDENTITY, self._routes.column)), self._routes, self._champion
        )
        scores = self._read("review_scores", {"model_version": self.versions}, (*KEY, "probability", "token_count"))
        explained = self._read("token_attributions", {"model_version": self.versions}, KEY).distinct()
        is_flagged = F.lit(False)
        for version in self.versions:
            lowest = lowest_active_threshold(self._config.root, version)["threshold"]
            is_flagged = is_flagged | ((F.col("model_version") == version) & (F.col("probability") >= lowest))
        flagged = scores.where(is_flagged & (F.col("token_count") > SPECIAL_TOKENS)).join(
            reviews, on=list(KEY), how="left_semi"
        )
        return flagged.select(*KEY).join(explained, on=list(KEY), how="left_anti")

    def choose(self, pending: DataFrame) -> DataFrame:
        """The pending reviews of the newest months that hold scores, newest first, at most `max_rows`."""
        from pyspark.sql import functions as F

        settings = self._config.explain
        if settings.months is not None:
            scored = self._read("review_scores", {"model_version": self.versions}, ("review_month",)).distinct()
            months = [
                row["review_month"] for row in scored.orderBy(F.desc("review_month")).limit(settings.months).collect()
            ]
            pending = pending.where(F.col("review_month").isin(months))
        if settings.max_rows is not None:
            dates = self._read("reviews", columns=("review_id", "review_date"))
            newest = pending.join(dates, on="review_id", how="inner").orderBy(F.desc("review_date"), "review_id")
            pending = newest.limit(settings.max_rows).select(*KEY)
        return pending

    def months_with_stale_rows(self) -> list[datetime.date]:
        """Months with explanations of texts that have changed or moved since."""
        scope = {"model_version": self.versions}
        explained = self._read("token_attributions", scope, KEY).distinct()
        stale = explained.join(self._read("review_scores", scope, KEY), on=list(KEY), how="left_anti")
        return [row["review_month"] for row in stale.select("review_month").distinct().collect()]

    def stager(self, chosen: DataFrame, months: list[datetime.date], rows: int) -> Callable[[int], Staged]:
        """What stages the attributions of some months: current ones are kept, the chosen reviews' added, stale ones
        left out.
        """
        from pyspark.sql import functions as F

        scope: Scope = {"model_version": self.versions, "review_month": months}
        root = self._config.root

        def stage(table_version: int) -> Staged:
            scores = self._read("review_scores", scope, KEY)
            stored = tables.read_frame(self._spark, root, "token_attributions", scope, table_version)
            kept = stored.join(scores, on=list(KEY), how="left_semi")
            if not rows:
                return tables.stage_frame(kept, root, "token_attributions", self._run.run_id, scope)
            texts = self._read("reviews", {"review_month": months}).select(*IDENTITY, "review_headline", "review_body")
            wanted = chosen.where(F.col("review_month").isin(months)).join(
                kept.select(*KEY).distinct(), on=list(KEY), how="left_anti"
            )
            missing = texts.join(wanted, on=list(IDENTITY), how="inner")
            tasks = max(1, -(-rows // self._config.explain.rows_per_task))
            settings = (self._config.score, self._config.explain)
            udf = explaining_udf(tuple(self.versions), *settings, task_threads(self._spark), self.capped, self.failed)
            explained = (
                missing.repartition(tasks)
                .select(udf(F.struct(*KEY, "review_headline", "review_body")).alias("explanation"))
                .select("explanation.*")
            )
            new = explained.select("*", F.explode("words").alias("entry")).select(
                *KEY,
                "entry.*",
                "nodes",
                "convergence_delta",
                "is_converged",
                "error",
                F.lit("integrated_gradients").alias("method"),
                F.lit(self._run.started_at).alias("explained_at"),
                F.lit(self._run.run_id).alias("run_id"),
            )
            return tables.stage_frame(kept.unionByName(new), root, "token_attributions", self._run.run_id, scope)

        return stage


def explaining_udf(
    versions: tuple[str, ...],
    scoring: ScoreSettings,
    settings: ExplainSettings,
    threads: int,
    capped: Accumulator[int],
    failed: Accumulator[int],
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(KEY, review_headline, review_body) to one struct (RESULT). A failing review has
    the row of rank 0.

    Each review is explained by the model of its `model_version`, which is one of the shipped `versions`.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    def explain_batches(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            for version, rows in batch.groupby("model_version"):
                scorer = worker_scorer(str(version), scoring, threads, versions)
                explanations = _explain_rows(
                    scorer, rows["review_headline"].tolist(), rows["review_body"].tolist(), settings
                )
                failed.add(sum(isinstance(explanation, str) for explanation in explanations))
                capped.add(
                    sum(
                        not isinstance(explanation, str) and not explanation.is_converged
                        for explanation in explanations
                    )
                )
                yield _as_frame(rows, explanations)

    udf: Callable[[Column], Column] = pandas_udf(explain_batches, RESULT).asNondeterministic()  # type: ignore[call-overload]
    return udf


def _explain_rows(
    scorer: Any, headlines: list[str | None], bodies: list[str | None], settings: ExplainSettings
) -> list[Explanation | str]:
    """An explanation for each review, or what its computing failed with."""
    from model.explanation.integrated_gradients import explain

    try:
        return list(explain(scorer, headlines, bodies, settings))
    except Exception:  # one bad row must not cost its batch: each is tried alone
        return [
            _explain_alone(scorer, headline, body, settings) for headline, body in zip(headlines, bodies, strict=True)
        ]


def _explain_alone(scorer: Any, headline: str | None, body: str | None, settings: ExplainSettings) -> Explanation | str:
    """The explanation, or what the computing failed with."""
    from model.explanation.integrated_gradients import explain

    try:
        return explain(scorer, [headline], [body], settings)[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


def _as_frame(rows: pd.DataFrame, explanations: list[Explanation | str]) -> pd.DataFrame:
    done = [None if isinstance(explanation, str) else explanation for explanation in explanations]
    words = [
        [asdict(word) for word in explanation.words] if explanation and explanation.words else [dict(NO_WORDS)]
        for explanation in done
    ]
    computed = {
        "nodes": pd.Series([explanation.nodes if explanation else None for explanation in done], dtype="Int32"),
        "convergence_delta": pd.Series(
            [explanation.convergence_delta if explanation else None for explanation in done], dtype="Float64"
        ),
        "is_converged": pd.Series([bool(explanation and explanation.is_converged) for explanation in done]),
        "error": pd.Series([_error(explanation) for explanation in explanations], dtype=object),
        "words": pd.Series(words, dtype=object),
    }
    return pd.concat([rows[list(KEY)].reset_index(drop=True), pd.DataFrame(computed)], axis=1)


def _error(explanation: Explanation | str) -> str | None:
    if isinstance(explanation, str):
        return explanation
    return None if explanation.words else "no word stands in what the model reads of the text"

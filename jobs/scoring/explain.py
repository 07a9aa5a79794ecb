"""Explain flagged reviews by Integrated Gradients of the model that decides for them; publish the top words to
`token_attributions`.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config, ExplainSettings
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.registry.models import champion, lowest_active_threshold, registered
from jobs.registry.routes import Routes, assigned, published_routes
from jobs.scoring.incremental import IDENTITY, KEY, TEXT, Counts, IncrementalTable, Todo, errors_of
from jobs.scoring.ship import ship_all, task_threads
from jobs.scoring.udfs import explaining_udf
from jobs.spark.session import persisted, spark_progress
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


@dataclass(frozen=True)
class ExplainSummary:
    """Reviews of one run, as published. `model_version`: the champion; `left`: flagged and not yet explained, beyond
    this run's bounds.
    """

    model_version: str
    explained: int
    not_converged: int
    failed: int
    left: int
    seconds: float


def run_explain(spark: SparkSession, config: Config, report: Report, retry_failed: bool = False) -> ExplainSummary:
    """Explain flagged reviews that have no current explanation: newest first, up to `explain.months` and
    `explain.max_rows`.

    With `retry_failed`, reviews whose explanation failed are explained again. Which model decides for a review, the
    champion or one that a route names, is read from the published routes.
    """
    root = config.root
    with JobRun(root, "explain") as run:
        version = str(champion(root)["model_version"])
        explaining = Explaining(spark, config, version, published_routes(root), run, report, retry_failed)
        try:
            explaining.explain_all()
        finally:  # a run that fails halfway notes what it has published, too
            summary = explaining.summary()
            explaining.finish(summary)
    if summary.explained + summary.failed:
        report(_summary_line(summary, config.explain))
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


class Explaining(IncrementalTable):
    """The explaining of one run by the models that decide."""

    table = "token_attributions"
    command = "explain"

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        version: str,
        routes: Routes,
        run: JobRun,
        report: Report,
        retry_failed: bool = False,
    ) -> None:
        super().__init__(spark, config, routes.versions(version), run, report, retry_failed)
        self._champion, self._routes = version, routes
        self._chosen: DataFrame | None = None
        self._flagged = 0
        self._started = time.monotonic()

    def explain_all(self) -> None:
        """Find the reviews to explain, and explain and publish them."""
        with persisted(self.pending()) as pending, persisted(self.choose(pending)) as chosen:
            with spark_progress(self.spark, "explain", self.report):
                self._flagged = pending.count()
                todo = self._todo(chosen)
            self.report(_todo_line(self._champion, todo, self._flagged))
            self._started, self._chosen = time.monotonic(), chosen
            if todo.rows:
                ship_all(self.spark, self.config, (registered(self.config.root, version) for version in self.versions))
            self.publish(todo)

    def pending(self) -> DataFrame:
        """KEY, review_date and failed_before of the reviews that an active threshold of the model that decides for them
        flags, and that it has no current explanation of.
        """
        from pyspark.sql import functions as F

        columns = (*IDENTITY, "review_date", self._routes.column)
        reviews = assigned(self.read("reviews", columns=columns), self._routes, self._champion)
        scores = self.read("review_scores", {"model_version": self.versions}, (*KEY, "probability"))
        explained = self.read(self.table, {"model_version": self.versions}, (*KEY, "nodes"))
        tried = explained.groupBy(*KEY).agg(F.bool_or(self.is_failed()).alias("has_failed"))
        flagged = scores.where(self._is_flagged()).select(*KEY).join(reviews, on=list(KEY), how="inner")
        joined = flagged.join(tried, on=list(KEY), how="left")
        is_open = F.col("has_failed").isNull() | (F.col("has_failed") & F.lit(self.retry_failed))
        failed_before = F.coalesce("has_failed", F.lit(False)).alias("failed_before")
        return joined.where(is_open).select(*KEY, "review_date", failed_before)

    def choose(self, pending: DataFrame) -> DataFrame:
        """The pending reviews of the newest months that hold scores, newest first, at most `max_rows`."""
        from pyspark.sql import functions as F

        settings = self.config.explain
        if settings.months is not None:
            scored = self.read("review_scores", {"model_version": self.versions}, ("review_month",)).distinct()
            newest = scored.orderBy(F.desc("review_month")).limit(settings.months).collect()
            pending = pending.where(F.col("review_month").isin([row["review_month"] for row in newest]))
        if settings.max_rows is not None:
            pending = pending.orderBy(F.desc("review_date"), "review_id").limit(settings.max_rows)
        return pending.select(*KEY, "failed_before")

    def _todo(self, chosen: DataFrame) -> Todo:
        from pyspark.sql import functions as F

        failed = F.count_if("failed_before").alias("failed")
        found = chosen.groupBy("review_month").agg(F.count("*").alias("rows"), failed).collect()
        by_month = {row["review_month"]: row["rows"] for row in found}
        return Todo(dict.fromkeys(self._stale_months(), 0) | by_month, sum(row["failed"] for row in found))

    def _stale_months(self) -> list[datetime.date]:
        """Months with explanations of texts that have changed or moved since."""
        scope = {"model_version": self.versions}
        explained = self.read(self.table, scope, KEY).distinct()
        stale = explained.join(self.read("review_scores", scope, KEY), on=list(KEY), how="left_anti")
        return [row["review_month"] for row in stale.select("review_month").distinct().collect()]

    def current(self, stored: DataFrame, months: Sequence[datetime.date]) -> DataFrame:
        scores = self.read("review_scores", {"model_version": self.versions, "review_month": months}, KEY)
        return stored.join(scores, on=list(KEY), how="left_semi")

    def candidates(self, months: Sequence[datetime.date]) -> DataFrame:
        assert self._chosen is not None, "chosen before anything is published"
        texts = self.read("reviews", {"review_month": months}, (*IDENTITY, *TEXT))
        return texts.join(self._chosen.select(*KEY), on=list(IDENTITY), how="inner").select(*KEY, *TEXT)

    def computed(self, missing: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        # gradients need the network itself; a worker says in which arithmetic
        network = self.config.score.model_copy(update={"engine": "torch", "device": "cpu"})
        settings = (network, self.config.explain)
        explain = explaining_udf(tuple(self.versions), *settings, task_threads(self.spark))
        explained = missing.select(explain(F.struct(*KEY, *TEXT)).alias("explanation")).select("explanation.*")
        return explained.select("*", F.explode("words").alias("entry")).select(
            *KEY,
            "entry.*",
            "nodes",
            "convergence_delta",
            "is_converged",
            "error",
            F.lit("integrated_gradients").alias("method"),
            F.lit(self.run.started_at).alias("explained_at"),
            F.lit(self.run.run_id).alias("run_id"),
        )

    def is_failed(self) -> Column:
        from pyspark.sql import functions as F

        return F.col("nodes").isNull()

    def counts(self, rows: pa.Table) -> Counts:
        """Reviews in all, and those that stopped at the greatest number of nodes."""
        reviews = rows.filter(pc.field("attribution_rank") <= 1)
        computed = reviews.filter(pc.field("nodes").is_valid())
        capped = pc.sum(pc.invert(computed["is_converged"])).as_py() or 0
        figures = Counter({"reviews": len(reviews), "not_converged": capped})
        return Counts(figures, errors_of(reviews.filter(pc.field("nodes").is_null())))

    def _is_flagged(self) -> Column:
        from pyspark.sql import functions as F

        is_flagged = F.lit(False)
        for version in self.versions:
            lowest = lowest_active_threshold(self.config.root, version)["threshold"]
            is_flagged = is_flagged | ((F.col("model_version") == version) & (F.col("probability") >= lowest))
        return is_flagged

    def summary(self) -> ExplainSummary:
        """What was published up to now."""
        figures, failed = self.published.figures, self.published.failed
        return ExplainSummary(
            self._champion,
            figures["reviews"] - failed,
            figures["not_converged"],
            failed,
            self._flagged - figures["reviews"],
            time.monotonic() - self._started,
        )

    def finish(self, summary: ExplainSummary) -> None:
        """Keep the figures for the run's row."""
        self.run.finish(
            model_version=summary.model_version,
            rows_read=self._flagged,
            rows_written=summary.explained,
            rows_failed=summary.failed,
            details=asdict(summary),
        )


def _todo_line(version: str, todo: Todo, flagged: int) -> str:
    waiting = f" of {flagged:,}; the rest waits for a later run" if flagged > todo.rows else ""
    again = f" ({todo.failed_before:,} of them failed before)" if todo.failed_before else ""
    return f"  {version}: {todo.rows:,} flagged reviews to explain{again}{waiting}"


def _summary_line(summary: ExplainSummary, settings: ExplainSettings) -> str:
    total = summary.explained + summary.failed
    again = " (explain --retry-failed tries them again)" if summary.failed else ""
    return (
        f"  explained {summary.explained:,} reviews in {summary.seconds:,.0f} s ({summary.seconds / total:.2f} s"
        f" each); {summary.not_converged:,} stopped at {settings.nodes[-1]} nodes with |delta| >="
        f" {settings.max_delta}, {summary.failed:,} failed{again}, {summary.left:,} left for later"
    )

"""Apply the champion, or the model that a route names, to every review without a current score of it; publish
`review_scores` by month.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config, ScoreSettings
from jobs.lake.runs import JobRun
from jobs.registry.models import champion, routable
from jobs.registry.routes import Routes, assigned, configured_routes, publish_routes
from jobs.scoring.engines import chosen_settings
from jobs.scoring.gpu import check_gpus, own_workers, scoring_tasks, scoring_threads
from jobs.scoring.incremental import IDENTITY, KEY, TEXT, Counts, IncrementalTable, Todo, errors_of
from jobs.scoring.ship import ship_all
from jobs.scoring.trade import chosen_cut
from jobs.scoring.udfs import scoring_udf
from jobs.spark.session import spark_progress
from model.progress import Report
from model.scoring.engines.interface import BASELINE
from model.text.compose import NO_TEXT

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from model.scoring.cascade import Cut


@dataclass(frozen=True)
class ScoreSummary:
    """Rows and speed of one scoring run, as published. `model_version`: the champion; `rows_by_version`: scored rows of
    each model of the pass.

    `skipped` rows have a current score of their model; `failed` ones carry an error; `no_text` ones say nothing;
    `by_baseline` ones skipped the network.
    """

    model_version: str
    scored: int
    skipped: int
    failed: int
    no_text: int
    by_baseline: int
    tokens: int
    padding_share: float
    seconds: float
    rows_by_version: dict[str, int]


@dataclass(frozen=True)
class _ScoreTodo(Todo):
    """Also: rows to score by version, months with scores of texts that have changed or moved, and rows with a current
    score.
    """

    by_version: Mapping[str, int] = field(default_factory=Counter)
    stale: Sequence[datetime.date] = ()
    current: int = 0


def run_score(spark: SparkSession, config: Config, report: Report, retry_failed: bool = False) -> ScoreSummary:
    """Score what is new, moved, changed or routed anew, in one pass. Each commit publishes whole months, newest first.

    With `retry_failed`, reviews whose score is an error are scored again. The config's routes come into force when all
    is scored: until then, and after a death in between, the old ones hold.
    """
    root = config.root
    with JobRun(root, "score") as run:
        routes = configured_routes(config.routing)
        scoring = Scoring(spark, config, champion(root), routes, run, report, retry_failed)
        try:
            scoring.score_all()
        finally:  # a run that fails halfway notes what it has published, too
            summary = scoring.summary()
            scoring.finish(summary)
        if publish_routes(root, routes, run.run_id, datetime.datetime.now(datetime.UTC)):
            report(f"  routes in force: {_listed(routes)}")
    if summary.scored:
        report(_summary_line(summary))
    return summary


class Scoring(IncrementalTable):
    """The scoring of one run by its models, the champion first."""

    table = "review_scores"
    command = "score"

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        row: dict[str, Any],
        routes: Routes,
        run: JobRun,
        report: Report,
        retry_failed: bool = False,
    ) -> None:
        self._champion: str = row["model_version"]
        self._since: datetime.date | None = row["score_since"]
        self._routes = routes
        self._rows = [row, *(routable(config, version) for version in routes.versions(self._champion)[1:])]
        super().__init__(spark, config, [one["model_version"] for one in self._rows], run, report, retry_failed)
        self._todo = _ScoreTodo({})
        self._engines: dict[str, ScoreSettings] = {}
        self._cuts: dict[str, Cut | None] = {}
        self._threads = 1
        self._started = time.monotonic()

    def score_all(self) -> None:
        """Find what is to do, and score and publish it."""
        check_gpus(self.spark, self.config.score)
        with spark_progress(self.spark, "score", self.report):
            self._todo = self.todo()
        for line in _todo_lines(self._todo, self._routes, self.versions):
            self.report(line)
        self._started = time.monotonic()
        if self._todo.stale:  # first and in one commit: a review that moved must at no time have two scores
            self.publish_months(list(self._todo.stale), 0, self._todo)
        if self._todo.rows:  # all models of the pass: a review that comes in the meantime may be any one's
            self._threads = scoring_threads(self.spark, self.config.score)
            before = time.monotonic()
            for row in self._rows:
                self._cuts[row["model_version"]] = chosen_cut(self.config, row, self.report)
                self._engines[row["model_version"]] = chosen_settings(self.config, row, self._threads, self.report)
            self._started += time.monotonic() - before  # a trial of the engines is a run of its own in job_runs
            ship_all(self.spark, self.config, self._rows)
        self.publish(self._todo)

    def todo(self) -> _ScoreTodo:
        """What lacks a current score of the model that decides for it, as the tables stand now."""
        from pyspark.sql import functions as F

        counted = self.states().groupBy("review_month", "model_version", "state")
        found = counted.agg(F.count("*").alias("rows"), F.flatten(F.collect_set("stale")).alias("stale")).collect()
        by_month, by_version, by_state = Counter[datetime.date](), Counter[str](), Counter[str]()
        for row in found:
            by_state[row["state"]] += row["rows"]
            if row["state"] in ("missing", "failed"):
                by_month[row["review_month"]] += row["rows"]
                by_version[row["model_version"]] += row["rows"]
        stale = sorted({month for row in found for month in row["stale"]})
        return _ScoreTodo(by_month, by_state["failed"], by_version, stale, by_state["current"])

    def states(self) -> DataFrame:
        """One row per review, from one join: month, deciding model, months of its scores that are out of date, and its
        state.

        current: scored. failed: to be tried again. missing: to be scored. none: neither, being older than the champion
        is to score, or no review any more.
        """
        from pyspark.sql import functions as F

        def is_of_text(score: Column) -> Column:
            same = (score["review_month"] == F.col("review_month")) & (score["text_hash"] == F.col("text_hash"))
            return F.coalesce(same, F.lit(False))

        def is_own(score: Column) -> Column:
            return is_of_text(score) & (score["model_version"] == F.col("model_version"))

        reviews = self._assigned(self.read("reviews", columns=(*IDENTITY, "review_date", self._routes.column)))
        stored = self.read(self.table, {"model_version": self.versions}, (*KEY, "error"))
        score = F.struct(*KEY, self.is_failed().alias("is_failed"))
        scores = stored.groupBy("review_id").agg(F.collect_list(score).alias("scores"))
        joined = reviews.join(scores, on="review_id", how="full_outer")
        own = F.get(F.filter("scores", is_own), 0)
        is_due = F.coalesce(self._is_due(), F.lit(False))
        state = (
            F.when(own.isNotNull() & ~(own["is_failed"] & is_due & F.lit(self.retry_failed)), "current")
            .when(own.isNotNull(), "failed")
            .when(is_due, "missing")
            .otherwise("none")
        )
        stale = F.transform(F.filter("scores", lambda one: ~is_of_text(one)), lambda one: one["review_month"])
        return joined.select("review_month", "model_version", state.alias("state"), stale.alias("stale"))

    def current(self, stored: DataFrame, months: Sequence[datetime.date]) -> DataFrame:
        reviews = self.read("reviews", {"review_month": months}, IDENTITY)
        return stored.join(reviews, on=list(IDENTITY), how="left_semi")

    def candidates(self, months: Sequence[datetime.date]) -> DataFrame:
        columns = (*IDENTITY, *TEXT, "review_date", self._routes.column)
        reviews = self._assigned(self.read("reviews", {"review_month": months}, columns))
        return reviews.where(self._is_due()).select(*KEY, *TEXT)

    def computed(self, missing: DataFrame) -> DataFrame:
        from pyspark.sql import functions as F

        settings = self.config.score
        cuts = {version: None if cut is None else cut.cut for version, cut in self._cuts.items()}
        score = scoring_udf(self._engines, settings.for_device().rows_per_buffer, self._threads, cuts)
        constants = {"scored_at": self.run.started_at, "run_id": self.run.run_id}
        with own_workers(self.spark, settings):
            scored = missing.select(score(F.struct(*KEY, *TEXT)).alias("score"))
        return scored.select("score.*", *(F.lit(value).alias(name) for name, value in constants.items()))

    def spread(self, missing: DataFrame, rows: int) -> DataFrame:
        tasks = scoring_tasks(self.spark, self.config.score, rows)
        return missing.repartition(tasks, "text_hash")  # identical texts meet in one task, which computes them once

    def is_failed(self) -> Column:
        from pyspark.sql import functions as F

        return F.coalesce(F.col("error") != NO_TEXT, F.lit(False))

    def counts(self, rows: pa.Table) -> Counts:
        """Reviews in all, without text, that skipped the network, and by model ("by MODEL_VERSION"); tokens that the
        network read, and that were computed.
        """
        from model.scoring.batches import padded_length

        longest = {row["model_version"]: row["max_length"] for row in self._rows}
        without_text = pc.equal(rows["error"], NO_TEXT).fill_null(False)
        skipped = pc.equal(rows["engine"], BASELINE.name)
        figures = Counter({"reviews": len(rows), "no_text": _count(without_text), "by_baseline": _count(skipped)})
        by_network = rows.filter(pc.invert(pc.or_(without_text, skipped)))
        computed = by_network.group_by(["model_version", "token_count"])
        for row in computed.aggregate([([], "count_all")]).to_pylist():
            most = longest[row["model_version"]]
            figures["tokens"] += row["count_all"] * min(row["token_count"], most)
            figures["padded"] += row["count_all"] * padded_length(min(row["token_count"], most), most)
        figures.update({f"by {version}": count for version, count in _frequencies(rows["model_version"])})
        return Counts(figures, errors_of(rows.filter(pc.invert(without_text))))

    def summary(self) -> ScoreSummary:
        """What was published up to now."""
        figures = self.published.figures
        return ScoreSummary(
            self._champion,
            figures["reviews"],
            self._todo.current,
            self.published.failed,
            figures["no_text"],
            figures["by_baseline"],
            figures["tokens"],
            1 - figures["tokens"] / figures["padded"] if figures["padded"] else 0.0,
            time.monotonic() - self._started,
            {version: figures[f"by {version}"] for version in self.versions},
        )

    def finish(self, summary: ScoreSummary) -> None:
        """Keep the figures for the run's row."""
        self.run.finish(
            model_version=summary.model_version,
            rows_read=summary.scored + summary.skipped,
            rows_written=summary.scored,
            rows_failed=summary.failed,
            details=asdict(summary) | {"cascade": {version: asdict(cut) for version, cut in self._cuts.items() if cut}},
        )

    def _assigned(self, reviews: DataFrame) -> DataFrame:
        return assigned(reviews, self._routes, self._champion)

    def _is_due(self) -> Column:
        """Whether a review is to have a score: not one that is older than what the champion was promoted to score."""
        from pyspark.sql import functions as F

        return F.col("review_date") >= F.lit(self._since) if self._since else F.col("review_date").isNotNull()


def _count(is_so: pa.ChunkedArray) -> int:
    return pc.sum(is_so).as_py() or 0


def _frequencies(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    return [(one["values"], one["counts"]) for one in column.value_counts().to_pylist()]


def _todo_lines(todo: _ScoreTodo, routes: Routes, versions: list[str]) -> list[str]:
    """What is to be scored, as lines: all, and by model where there are several."""
    others = f", and by routes {', '.join(versions[1:])}" if len(versions) > 1 else ""
    again = f" ({todo.failed_before:,} of them failed before)" if todo.failed_before else ""
    lines = [f"  {versions[0]}{others}: {todo.rows:,} reviews to score{again}, {todo.current:,} have a current score"]
    for version in versions if others else []:
        scope = ", ".join(routes.values_of(version)) or "all others"
        lines.append(f"    {version} ({scope}): {todo.by_version[version]:,}")
    return lines


def _listed(routes: Routes) -> str:
    return ", ".join(f"{value} → {version}" for value, version in routes.models.items()) or "none"


def _summary_line(summary: ScoreSummary) -> str:
    without_text = f", {summary.no_text:,} without text" if summary.no_text else ""
    by_baseline = f", {summary.by_baseline:,} decided by the baseline" if summary.by_baseline else ""
    again = " (score --retry-failed tries them again)" if summary.failed else ""
    return (
        f"  scored {summary.scored:,} reviews in {summary.seconds:,.0f} s:"
        f" {summary.scored / summary.seconds:,.0f} reviews/s, {summary.tokens / summary.seconds:,.0f} tokens/s,"
        f" {summary.padding_share:.1%} padding{without_text}{by_baseline}, {summary.failed:,} failed{again}"
    )

"""A table with what models say of reviews, brought up to date: `score` and `explain` are two of the same shape.

A run computes what reviews lack and publishes it by whole months, newest first. Rows of texts that have changed or
moved since go in the same commits. What is counted is read back from the rows about to be published: neither a task
that Spark runs twice nor a review that arrives in the meantime makes a figure wrong.
"""

from __future__ import annotations

import datetime
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config, ExplainSettings, ScoreSettings
from jobs.lake import staging, tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import TABLES
from jobs.lake.staging import Scope, Staged
from jobs.spark.session import spark_progress
from model.errors import ReviewriskError
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

# A score, or an explanation, is current while these are those of the stored review.
IDENTITY = ("review_id", "review_month", "text_hash")
# One model's score, or explanation, of a review.
KEY = (*IDENTITY, "model_version")
TEXT = ("review_headline", "review_body")


@dataclass(frozen=True)
class Todo:
    """Rows to compute by month, newest first or not; a month with 0 has only rows that are out of date.

    `failed_before`: how many of them a former run tried in vain.
    """

    by_month: Mapping[datetime.date, int]
    failed_before: int = 0

    @property
    def rows(self) -> int:
        return sum(self.by_month.values())


@dataclass
class Counts:
    """What was published: figures by name, `reviews` among them, and the errors of reviews that failed."""

    figures: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.figures + other.figures, self.errors + other.errors)

    @property
    def failed(self) -> int:
        return self.errors.total()


class IncrementalTable(ABC):
    """One run that brings `table` up to date for some models; a subclass says what a row is and how it is computed."""

    table: ClassVar[str]
    command: ClassVar[str]  # also the config's section

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        versions: list[str],
        run: JobRun,
        report: Report,
        retry_failed: bool,
    ) -> None:
        self.spark, self.config, self.versions, self.run, self.report = spark, config, versions, run, report
        self.retry_failed = retry_failed
        self.settings: ScoreSettings | ExplainSettings = getattr(config, self.command)
        self.published = Counts()
        self._staged = Counts()

    @abstractmethod
    def current(self, stored: DataFrame, months: Sequence[datetime.date]) -> DataFrame:
        """The stored rows of the months that still fit their review."""

    @abstractmethod
    def candidates(self, months: Sequence[datetime.date]) -> DataFrame:
        """KEY and TEXT of the reviews of the months that are to have rows, whether or not they have."""

    @abstractmethod
    def computed(self, missing: DataFrame) -> DataFrame:
        """The table's rows of reviews that come as KEY and TEXT."""

    @abstractmethod
    def is_failed(self) -> Column:
        """Whether a stored row is one of a review that could not be computed, and may be tried again."""

    @abstractmethod
    def counts(self, rows: pa.Table) -> Counts:
        """What computed rows come to."""

    def spread(self, missing: DataFrame, rows: int) -> DataFrame:
        """So many rows, parted as Spark's tasks are to compute them."""
        return missing.repartition(-(-rows // self.settings.rows_per_task))

    def read(self, name: str, scope: Scope | None = None, columns: Sequence[str] | None = None) -> DataFrame:
        return tables.read_frame(self.spark, self.config.root, name, scope, columns=columns)

    def publish(self, todo: Todo) -> None:
        """Compute and publish all that is to do; raises ReviewriskError where more rows fail than the config allows,
        and leaves the months of that commit as they were.
        """
        for months in chunks(todo.by_month, self.settings.rows_per_commit):
            self.publish_months(months, sum(todo.by_month[month] for month in months), todo)

    def publish_months(self, months: list[datetime.date], rows: int, todo: Todo) -> None:
        """Replace the months in one commit; with 0 rows to compute, rows that are out of date go and no other comes."""

        def stage(version: int) -> Staged:
            staged = self._stage(months, rows, version)
            self._staged = self._count(staged) if rows else Counts()
            self._check_failures(months, todo)
            return staged

        label = f"{self.command} {_span(months)} ({rows:,} reviews)"
        with spark_progress(self.spark, label, self.report):
            tables.publish(self.config.root, self.table, self.run.run_id, stage)
        self.published += self._staged

    def _stage(self, months: list[datetime.date], rows: int, version: int) -> Staged:
        scope: Scope = {"model_version": self.versions, "review_month": months}
        stored = tables.read_frame(self.spark, self.config.root, self.table, scope, version)
        frame = kept = self.current(stored, months)
        if rows:
            candidates = self.candidates(months)
            if self.retry_failed:
                failed = kept.where(self.is_failed()).select(*KEY)
                again = failed.join(candidates.select(*KEY), on=list(KEY), how="left_semi")
                kept = kept.join(again, on=list(KEY), how="left_anti")
            missing = candidates.join(kept.select(*KEY), on=list(KEY), how="left_anti")
            frame = kept.unionByName(self.computed(self.spread(missing, rows)))
        return tables.stage_frame(frame, self.config.root, self.table, self.run.run_id, scope)

    def _count(self, staged: Staged) -> Counts:
        """What the staged rows of this run come to: rows that were kept are of earlier runs."""
        if not staged.files:
            return Counts()
        rows = staging.dataset(self.config.root, TABLES[self.table], (file.path for file in staged.files))
        return self.counts(rows.to_table(filter=pc.field("run_id") == self.run.run_id))

    def _check_failures(self, months: list[datetime.date], todo: Todo) -> None:
        """Raise where more rows failed than may; what failed before may fail again."""
        share = self.settings.max_failed_share
        allowed = todo.failed_before + math.ceil(share * (todo.rows - todo.failed_before))
        found = self.published + self._staged
        if found.failed > allowed:
            [(error, _)] = found.errors.most_common(1)
            raise ReviewriskError(
                f"{found.failed:,} of {todo.rows:,} reviews failed, most often with {error[:200]!r}, but"
                f" {self.command}.max_failed_share {share} allows only {allowed:,}, so nothing of {_span(months)} was"
                " published: remove the cause or raise the limit, then run the command again."
            )


def errors_of(rows: pa.Table) -> Counter[str]:
    """How often each error stands in rows that have one."""
    return Counter({row["values"]: row["counts"] for row in rows["error"].drop_null().value_counts().to_pylist()})


def chunks(rows_by_month: Mapping[datetime.date, int], rows_per_commit: int) -> Iterator[list[datetime.date]]:
    """Months, newest first, in groups of at most `rows_per_commit` rows (a greater month stands alone)."""
    group: list[datetime.date] = []
    rows = 0
    for month in sorted(rows_by_month, reverse=True):
        if group and rows + rows_by_month[month] > rows_per_commit:
            yield group
            group, rows = [], 0
        group.append(month)
        rows += rows_by_month[month]
    if group:
        yield group


def _span(months: Sequence[datetime.date]) -> str:
    first, last = f"{min(months):%Y-%m}", f"{max(months):%Y-%m}"
    return first if first == last else f"{first} to {last}"

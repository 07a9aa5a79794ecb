"""Which version of a review is stored: the newest of the lines read, held against the stored ones, and the months of
`reviews` that change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.ingest import splits
from jobs.ingest.splits import Boundaries, StoredRows
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import RAW_COLUMNS
from jobs.lake.staging import Staged
from jobs.spark.session import persisted
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

VERSION_ORDER = ("review_date", "source_order", "source_line")
# A stored row with these and the same text_hash needs no rewriting; the long texts themselves are not read for it.
COMPARED = tuple(name for name in RAW_COLUMNS if name not in ("review_id", "review_headline", "review_body"))
BROADCAST_IDS = 2_000_000  # at most so many review ids are sent to every task; more are joined by a shuffle


def newest_versions(valid: DataFrame) -> DataFrame:
    """The newest version of each review_id among valid lines: by review date, then source order, then line."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    newest_first = Window.partitionBy("review_id").orderBy(*(F.desc(name) for name in VERSION_ORDER))
    return (
        valid.withColumn("age", F.row_number().over(newest_first))
        .where("age = 1")
        .select(*RAW_COLUMNS, "text_hash", "source_checksum", "source_order", "source_line")
    )


def compare(newest: DataFrame, stored: DataFrame) -> DataFrame:
    """`newest` with `outcome` against the stored rows, and the stored row's month.

    new: not stored yet; already_stored: the stored row says the same; correction: it is older; superseded: it is newer.
    """
    from pyspark.sql import functions as F

    names = (*COMPARED, "text_hash", "source_checksum", "source_order", "source_line")
    old = stored.select("review_id", F.col("review_month").alias("stored_month"), F.struct(*names).alias("stored"))
    same = F.lit(True)
    for name in (*COMPARED, "text_hash"):
        same = same & F.col(name).eqNullSafe(F.col(f"stored.{name}"))
    is_newer = F.struct(*VERSION_ORDER) > F.struct(*(F.col(f"stored.{name}").alias(name) for name in VERSION_ORDER))
    outcome = (
        F.when(F.col("stored_month").isNull(), "new")
        .when(same, "already_stored")
        .when(is_newer, "correction")
        .otherwise("superseded")
    )
    return newest.join(old, on="review_id", how="left").withColumn("outcome", outcome).drop("stored")


class Merge:
    """Merges the newest versions into `reviews`, on whatever version of it `publish` asks for."""

    def __init__(self, spark: SparkSession, config: Config, newest: DataFrame, valid_lines: int, run: JobRun) -> None:
        self._spark, self._config, self._newest, self._run = spark, config, newest, run
        self._valid_lines = valid_lines
        self.outcomes: dict[tuple[str, str], int] = {}
        self.changes: list[dict[str, Any]] = []  # what the run put into each split, see splits.summarise

    def stage(self, version: int) -> Staged | None:
        """Stage the touched months, the rows that stay included; None where no row is new or corrected."""
        from pyspark.sql import functions as F

        stored = tables.read_frame(self._spark, self._config.root, "reviews", version=version)
        stored = stored.join(self._ids(self._newest), on="review_id", how="left_semi")
        with persisted(compare(self._newest, stored)) as compared:
            counted = compared.groupBy("source_checksum", "outcome").count().collect()
            self.outcomes = {(row["source_checksum"], row["outcome"]): row["count"] for row in counted}
            self.changes = []
            if not any(outcome in ("new", "correction") for _, outcome in self.outcomes):
                return None
            return self._stage(compared.where(F.col("outcome").isin("new", "correction")), version)

    def _ids(self, frame: DataFrame) -> DataFrame:
        """The ids of this run's reviews, to be joined with stored ones. Few are sent to every task, so that a night's
        cost follows the night: stored rows are then read where they lie and not shuffled.
        """
        from pyspark.sql import functions as F

        ids = frame.select("review_id")
        return F.broadcast(ids) if self._valid_lines <= BROADCAST_IDS else ids

    def _stage(self, changed: DataFrame, version: int) -> Staged:
        root = self._config.root
        before = splits.stored_rows(root, version)
        finished = self._cut(changed, is_new=not before)
        months = [row["review_month"] for row in finished.groupBy("review_month").count().collect()]
        left = [row["stored_month"] for row in finished.groupBy("stored_month").count().collect()]
        scope = {"review_month": sorted({*months, *filter(None, left)})}
        kept = tables.read_frame(self._spark, root, "reviews", scope, version)
        kept = kept.join(self._ids(changed), on="review_id", how="left_anti")
        rows = kept.unionByName(finished.drop("stored_month"))
        staged = tables.stage_frame(rows, root, "reviews", self._run.run_id, scope)
        self._check_none_lost(staged, before)
        return staged

    def _cut(self, changed: DataFrame, is_new: bool) -> DataFrame:
        """The changed rows with their splits; for a new corpus the boundaries are resolved, checked and stored."""
        root, run_id = self._config.root, self._run.run_id
        stored = None if is_new else Boundaries.from_rows(tables.read_arrow(root, "splits"))
        boundaries = stored or self._new_boundaries(changed)
        finished = self._finish(changed, boundaries)
        self.changes = splits.summarise(finished)
        if stored is None:
            splits.check_corpus(self.changes, boundaries)
            tables.replace_rows(root, "splits", run_id, lambda _: boundaries.to_rows(run_id))
        else:
            splits.check_given(self._config.splits, stored)
        return finished

    def _new_boundaries(self, changed: DataFrame) -> Boundaries:
        by_day = {row["review_date"]: row["count"] for row in changed.groupBy("review_date").count().collect()}
        return splits.resolve_boundaries(self._config.splits, by_day)

    def _finish(self, changed: DataFrame, boundaries: Boundaries) -> DataFrame:
        from pyspark.sql import functions as F

        return changed.select(
            *RAW_COLUMNS,
            splits.split_column(F.col("review_date"), boundaries).alias("split"),
            F.trunc("review_date", "month").alias("review_month"),
            "text_hash",
            "source_checksum",
            "source_order",
            "source_line",
            F.lit(self._run.started_at).alias("ingested_at"),
            F.lit(self._run.run_id).alias("run_id"),
            "stored_month",
        )

    def _check_none_lost(self, staged: Staged, before: StoredRows) -> None:
        """Raise unless the staged months hold what they held, and the new reviews: a task that ran twice may not have
        found the same lines.
        """
        months = {str(month) for month in staged.scope["review_month"]}
        stored = sum(rows for (_, month), rows in before.items() if month in months)
        new = sum(count for (_, outcome), count in self.outcomes.items() if outcome == "new")
        if staged.rows != stored + new:
            raise ReviewriskError(
                f"{staged.rows:,} reviews were written but {stored + new:,} were counted, so nothing was published: run"
                " the command again when the source files no longer change."
            )

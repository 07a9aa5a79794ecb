"""Raw review files into `reviews` and `rejected_reviews`: every line read is accepted, rejected with a reason, or
superseded.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.config import Config
from jobs.ingest import splits
from jobs.ingest.splits import Boundaries
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import RAW_COLUMNS, SOURCES
from jobs.lake.staging import Staged
from jobs.sources.files import NumberedLines, SourceFile, find_sources, header_problem, number_lines
from jobs.sources.parsing import classify
from jobs.spark.session import spark_progress
from jobs.storage import Root
from model.errors import ReviewriskError
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

VERSION_ORDER = ("review_date", "source_order", "source_line")
# A stored row with these and the same text_hash needs no rewriting; the long texts themselves are not read for it.
COMPARED = tuple(name for name in RAW_COLUMNS if name not in ("review_id", "review_headline", "review_body"))


@dataclass(frozen=True)
class IngestSummary:
    """Lines of one ingest: read = accepted + rejected + superseded, and accepted = new + corrected + already_stored."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    superseded: int = 0
    new: int = 0
    corrected: int = 0
    already_stored: int = 0
    skipped_files: int = 0


def run_ingest(spark: SparkSession, config: Config, arguments: Sequence[str], report: Report) -> IngestSummary:
    """Ingest files, folders or globs into the root's tables. A file whose content was ingested before is skipped.

    Raises ReviewriskError, and publishes nothing but a row of `job_runs`, where a file is refused (header, share of
    rejected lines) or where a new corpus would have an empty or one-class split.
    """
    root = config.root
    tables.create_tables(root)
    with JobRun(root, "ingest") as run, spark_progress(spark, "ingest", report):
        found = find_sources(arguments)
        known = tables.read_arrow(root, "sources", ["source_checksum", "source_order"])
        old = set(known["source_checksum"].to_pylist())
        fresh = [source for source in found if source.checksum not in old]
        for source in found:
            if source.checksum in old:
                report(f"  {source.name}: this content was ingested before, skipped")
        summary = IngestSummary(skipped_files=len(found) - len(fresh))
        if fresh:
            first_order = _last_order(spark, root, known) + 1
            summary = _ingest(spark, config, fresh, first_order, run, report)
        run.finish(
            rows_read=summary.read,
            rows_written=summary.new + summary.corrected,
            rows_failed=summary.rejected,
            details=asdict(summary),
        )
        for line in splits.format_summary(splits.summarise(tables.read_frame(spark, root, "reviews"))):
            report(line)
    return summary


def _last_order(spark: SparkSession, root: Root, known: pa.Table) -> int:
    """The greatest source order in use: of published sources, or of reviews whose ingest died before its source was
    published.
    """
    from pyspark.sql import functions as F

    stored = (
        tables.read_frame(spark, root, "reviews", columns=["source_order"])
        .agg(F.max("source_order").alias("last"))
        .first()
    )
    return max([*map(int, known["source_order"].to_pylist()), int((stored["last"] if stored else None) or 0)])


def _ingest(
    spark: SparkSession, config: Config, sources: list[SourceFile], first_order: int, run: JobRun, report: Report
) -> IngestSummary:
    """Commit rejected lines, reviews and, last of all, the sources: their rows say that the rest is there."""
    lines = _read(spark, sources, first_order)
    for source in sources:
        problem = header_problem(lines.headers.get(source.checksum))
        if problem:
            raise ReviewriskError(f"{source.name} is refused: {problem}. Nothing was published.")
    parsed = classify(lines.frame.where("source_line > 1"), datetime.datetime.now(datetime.UTC).date()).persist()
    try:
        counts = _count_by_reason(parsed)
        _check_all_lines_read(counts, sources, lines)
        _refuse_bad_files(counts, sources, config.ingest.max_rejected_share)
        _check_not_empty(counts, config)
        merge = _Merge(spark, config, newest_versions(parsed.where("reason is null")), run)
        tables.publish(config.root, "reviews", run.run_id, merge.stage, guard_whole_table=True)
        _publish_rejected(spark, config, parsed.where("reason is not null"), sources, run)
        rows = _source_rows(sources, first_order, counts, merge.outcomes, run)
        tables.replace_rows(config.root, "sources", run.run_id, lambda before: _with_sources(before, rows, first_order))
        summary = _summary(rows, merge.outcomes)
    finally:
        parsed.unpersist()
    _print(summary, counts, report)
    return summary


def _read(spark: SparkSession, sources: list[SourceFile], first_order: int) -> NumberedLines:
    """`number_lines`, with Spark's failure on a damaged file turned into a sentence."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        return number_lines(spark, sources, first_order)
    except (PySparkException, Py4JJavaError) as error:
        causes = [line.strip() for line in str(error).splitlines() if "Caused by" in line] or str(error).splitlines()[
            :1
        ]
        names = ", ".join(source.name for source in sources)
        raise ReviewriskError(
            f"{names} cannot be read ({causes[-1][:300]}): is a file damaged, or its ending wrong? Nothing was"
            " published."
        ) from None


def newest_versions(valid: DataFrame) -> DataFrame:
    """The newest version of each review_id among valid lines: by review date, then source order, then line."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    newest_first = Window.partitionBy("review_id").orderBy(*(F.desc(name) for name in VERSION_ORDER))
    return (
        valid.withColumn("age", F.row_number().over(newest_first))
        .where("age = 1")
        .drop("age", "value", "is_text", "reason", "detail")
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


class _Merge:
    """Merges the newest versions into `reviews`, on whatever version of it `publish` asks for."""

    def __init__(self, spark: SparkSession, config: Config, newest: DataFrame, run: JobRun) -> None:
        self._spark, self._config, self._newest, self._run = spark, config, newest, run
        self.outcomes: dict[tuple[str, str], int] = {}

    def stage(self, version: int) -> Staged | None:
        """Stage the touched months, the rows that stay included; None where no row is new or corrected."""
        from pyspark.sql import functions as F

        root = self._config.root
        stored = tables.read_frame(self._spark, root, "reviews", version=version)
        compared = compare(self._newest, stored).persist()
        counted = compared.groupBy("source_checksum", "outcome").count().collect()
        self.outcomes = {(row["source_checksum"], row["outcome"]): row["count"] for row in counted}
        changed = compared.where(F.col("outcome").isin("new", "correction"))
        if not any(outcome in ("new", "correction") for _, outcome in self.outcomes):
            return None
        finished = self._finish(changed, self._boundaries(changed, is_new=stored.isEmpty()))
        touched = (
            finished.select(F.explode(F.array("review_month", "stored_month")).alias("month"))
            .where("month is not null")
            .distinct()
        )
        scope = {"review_month": [row["month"] for row in touched.collect()]}
        kept = tables.read_frame(self._spark, root, "reviews", scope, version).join(
            changed.select("review_id"), on="review_id", how="left_anti"
        )
        staged = tables.stage_frame(
            kept.unionByName(finished.drop("stored_month")), root, "reviews", self._run.run_id, scope
        )
        compared.unpersist()
        return staged

    def _boundaries(self, changed: DataFrame, is_new: bool) -> Boundaries:
        """The corpus's stored boundaries; for a new corpus they are resolved, checked and stored."""
        settings, root = self._config.splits, self._config.root
        stored = splits.Boundaries.from_rows(tables.read_arrow(root, "splits"))
        if stored is not None and not is_new:
            given = (settings.train_end, settings.validation_end, settings.test_end)
            if settings.mode == "given" and given != (stored.train_end, stored.validation_end, stored.test_end):
                raise ReviewriskError(
                    f"The config's split dates {', '.join(map(str, given))} differ from those this corpus was built"
                    f" with ({stored.train_end}, {stored.validation_end}, {stored.test_end}): set the config to these,"
                    " or build a new corpus under another root."
                )
            return stored
        by_day = {row["review_date"]: row["count"] for row in changed.groupBy("review_date").count().collect()}
        boundaries = splits.resolve_boundaries(settings, by_day)
        splits.check_corpus(splits.summarise(self._finish(changed, boundaries)), boundaries)
        tables.replace_rows(root, "splits", self._run.run_id, lambda _: boundaries.to_rows(self._run.run_id))
        return boundaries

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


def _count_by_reason(parsed: DataFrame) -> dict[str, list[dict[str, Any]]]:
    """By source: one dict per reason (None: valid) with lines, first line, an example's detail, and first and last
    date.
    """
    from pyspark.sql import functions as F

    counted = parsed.groupBy("source_checksum", "reason").agg(
        F.count("*").alias("lines"),
        F.min("source_line").alias("first_line"),
        F.min_by("detail", "source_line").alias("detail"),
        F.min("review_date").alias("first_date"),
        F.max("review_date").alias("last_date"),
    )
    counts: dict[str, list[dict[str, Any]]] = {}
    for row in counted.orderBy(F.desc("lines"), "reason").collect():
        counts.setdefault(row["source_checksum"], []).append(row.asDict())
    return counts


def _check_all_lines_read(
    counts: dict[str, list[dict[str, Any]]], sources: list[SourceFile], lines: NumberedLines
) -> None:
    """Raise where the pass that parses saw other lines than the pass that counted: nothing may be lost in silence."""
    for source in sources:
        parsed = sum(row["lines"] for row in counts.get(source.checksum, []))
        if parsed != lines.counts[source.checksum] - 1:
            raise ReviewriskError(
                f"{source.name}: {lines.counts[source.checksum] - 1:,} lines were counted and {parsed:,} read; did the"
                " file change, or do options in spark.options (spark.sql.files.*) differ between the passes? Nothing"
                " was published."
            )


def _refuse_bad_files(counts: dict[str, list[dict[str, Any]]], sources: list[SourceFile], limit: float) -> None:
    """Raise where a file has too great a share of rejected lines; the message shows the commonest reasons."""
    refused = []
    for source in sources:
        reasons = counts.get(source.checksum, [])
        read = sum(row["lines"] for row in reasons)
        rejected = [row for row in reasons if row["reason"] is not None]
        bad = sum(row["lines"] for row in rejected)
        if read and bad / read > limit:
            shown = [
                f"    {row['reason']}: {row['lines']:,}, first in line {row['first_line']:,}:"
                f" {(row['detail'] or '')[:60]!r}"
                for row in rejected[:5]
            ]
            refused.append(
                f"{source.name} is refused: {bad:,} of {read:,} lines ({bad / read:.1%}) are no valid reviews; the"
                f" limit is {limit:.1%}.\n" + "\n".join(shown)
            )
    if refused:
        hint = (
            "Expected is the Amazon US Customer Reviews TSV: tab-separated, no quoting, dates as 2015-08-31. Mend the"
            " file, or raise ingest.max_rejected_share to take the valid lines and keep the others in rejected_reviews."
            " Nothing was published."
        )
        raise ReviewriskError("\n".join([*refused, hint]))


def _check_not_empty(counts: dict[str, list[dict[str, Any]]], config: Config) -> None:
    """Raise where a new corpus would be built from no valid line at all; an empty nightly file is no error."""
    has_rows = any(row["reason"] is None for rows in counts.values() for row in rows)
    if not has_rows and tables.read_arrow(config.root, "splits").num_rows == 0:
        raise ReviewriskError("The corpus was not built: the source holds no valid review.")


def _publish_rejected(
    spark: SparkSession, config: Config, rejected: DataFrame, sources: list[SourceFile], run: JobRun
) -> None:
    """Replace these files' partitions of `rejected_reviews`, so that a run repeated after a kill doubles nothing."""
    from pyspark.sql import functions as F

    names = spark.createDataFrame(
        [(source.checksum, source.name, source.ingest_id) for source in sources],
        "source_checksum string, source_file string, ingest_id string",
    )
    rows = rejected.join(F.broadcast(names), on="source_checksum", how="inner").select(
        "ingest_id",
        "source_checksum",
        "source_file",
        "source_line",
        "reason",
        "detail",
        F.expr("make_valid_utf8(value)").alias("raw_line"),
        F.when(~F.col("is_text"), F.base64(F.col("value").cast("binary"))).alias("raw_line_base64"),
        F.lit(run.run_id).alias("run_id"),
    )
    scope = {"ingest_id": [source.ingest_id for source in sources]}
    staged = tables.stage_frame(rows, config.root, "rejected_reviews", run.run_id, scope)
    if staged.rows or tables.has_files(config.root, "rejected_reviews", scope):
        tables.publish(config.root, "rejected_reviews", run.run_id, lambda _: staged)


def _with_sources(before: pa.Table, rows: pa.Table, first_order: int) -> pa.Table:
    if max(before["source_order"].to_pylist(), default=0) >= first_order:
        raise ReviewriskError(
            "Another ingest published its files while this one ran: run this one again (its reviews are stored and will"
            " be recognised)."
        )
    return pa.concat_tables([before, rows])


def _source_rows(
    sources: list[SourceFile],
    first_order: int,
    counts: dict[str, list[dict[str, Any]]],
    outcomes: dict[tuple[str, str], int],
    run: JobRun,
) -> pa.Table:
    """The rows of the table `sources` for this ingest."""
    rows = []
    for place, source in enumerate(sources):
        reasons = counts.get(source.checksum, [])
        valid = [row for row in reasons if row["reason"] is None]
        valid_lines = sum(row["lines"] for row in valid)
        accepted = sum(
            outcomes.get((source.checksum, outcome), 0) for outcome in ("new", "correction", "already_stored")
        )
        read = sum(row["lines"] for row in reasons)
        rows.append(
            {
                "source_checksum": source.checksum,
                "source_file": source.name,
                "source_bytes": source.bytes,
                "source_order": first_order + place,
                "rows_read": read,
                "rows_accepted": accepted,
                "rows_rejected": read - valid_lines,
                "rows_superseded": valid_lines - accepted,
                "first_review_date": min((row["first_date"] for row in valid), default=None),
                "last_review_date": max((row["last_date"] for row in valid), default=None),
                "ingested_at": run.started_at,
                "run_id": run.run_id,
            }
        )
    return pa.Table.from_pylist(rows, schema=SOURCES.schema)


def _summary(rows: pa.Table, outcomes: dict[tuple[str, str], int]) -> IngestSummary:
    def total(outcome: str) -> int:
        return sum(count for (_, found), count in outcomes.items() if found == outcome)

    sums = {name: sum(rows[f"rows_{name}"].to_pylist()) for name in ("read", "accepted", "rejected", "superseded")}
    return IngestSummary(
        **sums, new=total("new"), corrected=total("correction"), already_stored=total("already_stored")
    )


def _print(summary: IngestSummary, counts: dict[str, list[dict[str, Any]]], report: Report) -> None:
    report(
        f"  read {summary.read:,} lines = accepted {summary.accepted:,} + rejected {summary.rejected:,} + superseded"
        f" {summary.superseded:,}"
    )
    report(
        f"  of the accepted: {summary.new:,} new, {summary.corrected:,} corrections of stored reviews,"
        f" {summary.already_stored:,} stored already"
    )
    reasons: dict[str, int] = {}
    for row in (row for rows in counts.values() for row in rows if row["reason"] is not None):
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["lines"]
    if reasons:
        report("  rejected: " + ", ".join(f"{reason} {lines:,}" for reason, lines in reasons.items()))

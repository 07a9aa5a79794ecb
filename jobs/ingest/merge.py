"""Raw review files into `reviews` and `rejected_reviews`: every line read is accepted, rejected with a reason, or
superseded.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.config import Config
from jobs.ingest import accounting, splits
from jobs.ingest.accounting import Counts, IngestSummary
from jobs.ingest.versions import Merge, newest_versions
from jobs.lake import delta, tables
from jobs.lake.runs import JobRun
from jobs.sources.files import SourceFile, find_sources, shown
from jobs.sources.formats import EMPTY, problem_of
from jobs.sources.lines import read_lines
from jobs.sources.parsing import classify
from jobs.spark.session import persisted, spark_progress
from model.errors import ReviewriskError
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def run_ingest(spark: SparkSession, config: Config, arguments: Sequence[str], report: Report) -> IngestSummary:
    """Ingest files, folders or globs into the root's tables. A file whose content was ingested before is skipped.

    Raises ReviewriskError, and publishes nothing but a row of `job_runs`, where a file is refused (header, share of
    rejected lines) or where a new corpus would have an empty or one-class split.
    """
    root = config.root
    tables.create_tables(root)
    with JobRun(root, "ingest") as run, spark_progress(spark, "ingest", report):
        fresh, summary = _fresh_sources(config, arguments, report)
        changes: list[dict[str, object]] = []
        if fresh:
            counted, changes = _ingest(spark, config, fresh, run, report)
            summary = replace(counted, skipped_files=summary.skipped_files, left_out_files=summary.left_out_files)
        else:
            report("  nothing new: no file has new content")
        run.finish(
            rows_read=summary.read,
            rows_written=summary.new + summary.corrected,
            rows_failed=summary.rejected,
            details=asdict(summary),
        )
        for line in splits.format_summary(splits.stored_rows(root), changes):
            report(line)
    return summary


def _fresh_sources(config: Config, arguments: Sequence[str], report: Report) -> tuple[list[SourceFile], IngestSummary]:
    """The files to be read, and how many others were named and why they are not. Raises where one is no review file."""
    found = find_sources(arguments)
    known = set(tables.read_arrow(config.root, "sources", ["source_checksum"])["source_checksum"].to_pylist())
    problems = {
        source: problem_of(source.path, config.ingest.quoting)
        for source in found.sources
        if source.checksum not in known
    }
    refused = {source: problem for source, problem in problems.items() if problem not in (None, EMPTY)}
    accounting.refuse([f"{source.name} is refused: {problem}." for source, problem in refused.items()])
    empty = [(source.path, problem) for source, problem in problems.items() if problem == EMPTY]
    for path, reason in (*found.left_out, *empty):
        report(f"  {shown(path)} is left out: {reason}")
    for source in found.sources:
        if source.checksum in known:
            report(f"  {source.name}: this content was ingested before, skipped")
    skipped = sum(source.checksum in known for source in found.sources)
    summary = IngestSummary(skipped_files=skipped, left_out_files=len(found.left_out) + len(empty))
    return [source for source, problem in problems.items() if problem is None], summary


def _ingest(
    spark: SparkSession, config: Config, sources: list[SourceFile], run: JobRun, report: Report
) -> tuple[IngestSummary, list[dict[str, object]]]:
    """Commit rejected lines, reviews and, last of all, the sources: their rows say that the rest is there.

    Gives the summary and what each split got.
    """
    from pyspark.sql import functions as F

    root, today = config.root, datetime.datetime.now(datetime.UTC).date()
    with persisted(classify(read_lines(spark, sources, config.ingest.quoting), today)) as parsed:
        counts = accounting.count_by_reason(parsed)
        accounting.refuse_unreadable_files(counts, sources)
        accounting.refuse_bad_files(counts, sources, config.ingest.max_rejected_share)
        _check_not_empty(counts, config)
        orders = _orders(config, sources)
        numbers = spark.createDataFrame(list(orders.items()), "source_checksum string, source_order long")
        valid = parsed.where("reason is null").join(F.broadcast(numbers), on="source_checksum", how="inner")
        newest = newest_versions(valid)
        merge = Merge(spark, config, newest, accounting.valid_lines(counts), run)
        tables.publish(root, "reviews", run.run_id, merge.stage, guard_whole_table=True)
        _publish_rejected(spark, config, parsed.where("reason is not null"), sources, run)
    rows = accounting.source_rows(sources, orders, counts, merge.outcomes, run)
    tables.replace_rows(root, "sources", run.run_id, lambda before: _with_sources(before, rows))
    summary = accounting.summary_of(rows, merge.outcomes)
    accounting.print_summary(summary, counts, report)
    return summary, merge.changes


def _orders(config: Config, sources: Sequence[SourceFile]) -> dict[str, int]:
    """Each source's place in the order of ingestion, by checksum.

    Taken when the files are found to be good and before a review is published: no other run gets the same place, and
    a file whose run died gets its own again.
    """
    published = tables.read_arrow(config.root, "sources", ["source_order"])["source_order"].to_pylist()
    checksums = [source.checksum for source in sources]
    return delta.take_numbers(config.root, "sources", checksums, after=max(published, default=0))


def _check_not_empty(counts: Counts, config: Config) -> None:
    """Raise where a new corpus would be built from no valid line at all; an empty nightly file is no error."""
    if not accounting.valid_lines(counts) and tables.read_arrow(config.root, "splits").num_rows == 0:
        raise ReviewriskError(
            "The corpus was not built, as the source has no valid review: name a file that has reviews."
        )


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


def _with_sources(before: pa.Table, rows: pa.Table) -> pa.Table:
    """The sources with this ingest's; one that another run published at the same time stays as that run wrote it."""
    known = set(before["source_checksum"].to_pylist())
    is_new = [checksum not in known for checksum in rows["source_checksum"].to_pylist()]
    return pa.concat_tables([before, rows.filter(pa.array(is_new))])

"""What became of every line that was read: counted by file and reason, held against the limit, and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.lake.runs import JobRun
from jobs.lake.schemas import SOURCES
from jobs.sources.files import SourceFile
from jobs.sources.parsing import REPEATED_HEADER, UNREADABLE
from model.errors import ReviewriskError
from model.progress import Report

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# By a source's checksum: one dict per reason (None: valid) with lines, first_line, detail, first_date and last_date.
Counts = dict[str, list[dict[str, Any]]]
Outcomes = dict[
    tuple[str, str], int
]  # reviews by their source's checksum and what became of them, see versions.compare


@dataclass(frozen=True)
class IngestSummary:
    """Lines of one ingest: read = accepted + rejected + superseded, and accepted = new + corrected + already_stored.

    `files` were read, `skipped_files` were ingested before, `left_out_files` are no sources or empty.
    """

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    superseded: int = 0
    new: int = 0
    corrected: int = 0
    already_stored: int = 0
    files: int = 0
    skipped_files: int = 0
    left_out_files: int = 0

    @property
    def is_nothing_new(self) -> bool:
        """No file was there whose content had not been ingested before."""
        return self.files == 0


def count_by_reason(parsed: DataFrame) -> Counts:
    """Lines of each source by what is wrong with them, the commonest reason first."""
    from pyspark.sql import functions as F

    counted = parsed.groupBy("source_checksum", "reason").agg(
        F.count("*").alias("lines"),
        F.min("source_line").alias("first_line"),
        F.min_by("detail", "source_line").alias("detail"),
        F.min("review_date").alias("first_date"),
        F.max("review_date").alias("last_date"),
    )
    counts: Counts = {}
    for row in counted.orderBy(F.desc("lines"), "reason").collect():
        counts.setdefault(row["source_checksum"], []).append(row.asDict())
    return counts


def valid_lines(counts: Counts) -> int:
    return sum(row["lines"] for rows in counts.values() for row in rows if row["reason"] is None)


def refuse_unreadable_files(counts: Counts, sources: Sequence[SourceFile]) -> None:
    """Raise where a file could not be read to its end."""
    refuse(
        [
            f"{source.name} is refused at line {row['first_line']:,}: {row['detail']}."
            for source in sources
            for row in counts.get(source.checksum, [])
            if row["reason"] == UNREADABLE
        ]
    )


def refuse_bad_files(counts: Counts, sources: Sequence[SourceFile], limit: float) -> None:
    """Raise where a file has too great a share of rejected lines; the message shows the commonest reasons."""
    refused = [problem for source in sources if (problem := _too_many_rejected(source, counts, limit))]
    hint = (
        "A file must be Amazon US Customer Reviews TSV, with tabs between fields and dates such as 2015-08-31: correct"
        " it, or raise ingest.max_rejected_share to ingest its valid lines and keep the others in rejected_reviews."
    )
    refuse([*refused, hint] if refused else [])


def refuse(problems: Sequence[str]) -> None:
    """Raise with these sentences, a line each; nothing where there is none."""
    if problems:
        raise ReviewriskError("\n".join(problems) + " Nothing was published.")


def _too_many_rejected(source: SourceFile, counts: Counts, limit: float) -> str | None:
    reasons = [row for row in counts.get(source.checksum, []) if row["reason"] != REPEATED_HEADER]
    rejected = [row for row in reasons if row["reason"] is not None]
    read, bad = sum(row["lines"] for row in reasons), sum(row["lines"] for row in rejected)
    if not read or bad / read <= limit:
        return None
    shown = [
        f"    {row['reason']}: {row['lines']:,}, first in line {row['first_line']:,}: {(row['detail'] or '')[:60]!r}"
        for row in rejected[:5]
    ]
    share, allowed = told_apart(bad / read, limit)
    head = f"{source.name} is refused: {bad:,} of {read:,} lines ({share}) are not valid, and the limit is {allowed}."
    return "\n".join([head, *shown])


def told_apart(share: float, limit: float) -> tuple[str, str]:
    """A share above a limit and the limit as percentages, with as many digits as tell them apart."""
    digits = next(digits for digits in range(1, 18) if f"{share:.{digits}%}" != f"{limit:.{digits}%}" or digits == 17)
    return f"{share:.{digits}%}", f"{limit:.{digits}%}"


def source_rows(
    sources: Sequence[SourceFile], orders: dict[str, int], counts: Counts, outcomes: Outcomes, run: JobRun
) -> pa.Table:
    """The rows of the table `sources` for this ingest."""
    rows = [_source_row(source, orders[source.checksum], counts, outcomes, run) for source in sources]
    return pa.Table.from_pylist(rows, schema=SOURCES.schema)


def _source_row(source: SourceFile, order: int, counts: Counts, outcomes: Outcomes, run: JobRun) -> dict[str, Any]:
    reasons = counts.get(source.checksum, [])
    valid = [row for row in reasons if row["reason"] is None]
    valid_count = sum(row["lines"] for row in valid)
    accepted = sum(outcomes.get((source.checksum, outcome), 0) for outcome in ("new", "correction", "already_stored"))
    read = sum(row["lines"] for row in reasons)
    return {
        "source_checksum": source.checksum,
        "source_file": source.name,
        "source_bytes": source.bytes,
        "source_order": order,
        "rows_read": read,
        "rows_accepted": accepted,
        "rows_rejected": read - valid_count,
        "rows_superseded": valid_count - accepted,
        "first_review_date": min((row["first_date"] for row in valid), default=None),
        "last_review_date": max((row["last_date"] for row in valid), default=None),
        "ingested_at": run.started_at,
        "run_id": run.run_id,
    }


def summary_of(rows: pa.Table, outcomes: Outcomes) -> IngestSummary:
    """The sums over this ingest's rows of `sources`."""

    def total(outcome: str) -> int:
        return sum(count for (_, found), count in outcomes.items() if found == outcome)

    sums = {name: sum(rows[f"rows_{name}"].to_pylist()) for name in ("read", "accepted", "rejected", "superseded")}
    return IngestSummary(
        **sums,
        new=total("new"),
        corrected=total("correction"),
        already_stored=total("already_stored"),
        files=rows.num_rows,
    )


def print_summary(summary: IngestSummary, counts: Counts, report: Report) -> None:
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

"""Temporal splits: boundaries given or resolved once from shares of rows, stored with the corpus, and the table that
shows them.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.config import SplitSettings
from jobs.lake import delta
from jobs.lake.schemas import SPLITS
from jobs.storage import Root
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

NAMES = ("train", "validation", "test", "live")
StoredRows = dict[tuple[str, str], int]  # rows by split and first day of the month


@dataclass(frozen=True)
class Boundaries:
    """Last day of each of the three closed splits; what comes later is live."""

    train_end: datetime.date
    validation_end: datetime.date
    test_end: datetime.date
    origin: str

    def to_rows(self, run_id: str) -> pa.Table:
        """The rows of the table `splits`."""
        ends = (self.train_end, self.validation_end, self.test_end)
        starts = (None, *(end + datetime.timedelta(days=1) for end in ends))
        rows = [
            {"split": name, "first_date": first, "last_date": last, "origin": self.origin, "run_id": run_id}
            for name, first, last in zip(NAMES, starts, (*ends, None), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=SPLITS.schema)

    @classmethod
    def from_rows(cls, rows: pa.Table) -> Boundaries | None:
        """The stored boundaries, or None where the table is empty."""
        ends = {row["split"]: row for row in rows.to_pylist()}
        if not ends:
            return None
        return cls(
            ends["train"]["last_date"],
            ends["validation"]["last_date"],
            ends["test"]["last_date"],
            ends["train"]["origin"],
        )


def resolve_boundaries(settings: SplitSettings, rows_by_day: dict[datetime.date, int]) -> Boundaries:
    """The boundaries for a new corpus: the given ones, or the days that come nearest to the configured shares of rows.

    A day is never cut. With `auto`, test ends on the corpus's last day, so whatever is ingested later and is newer is
    live.
    """
    if settings.mode == "given":
        assert settings.train_end and settings.validation_end and settings.test_end
        return Boundaries(settings.train_end, settings.validation_end, settings.test_end, "given")
    days = sorted(rows_by_day)
    if len(days) < 3:
        raise ReviewriskError(
            f"The corpus was not built: its reviews are of {len(days)} different days{_range(days)}, and the splits"
            " need at least three, so add reviews of other days."
        )
    total = sum(rows_by_day.values())
    shares: list[float] = []
    seen = 0
    for day in days:
        seen += rows_by_day[day]
        shares.append(seen / total)
    last = len(days) - 1
    first_cut = _nearest(shares, settings.train_share, 0, last - 2)
    second_cut = _nearest(shares, settings.train_share + settings.validation_share, first_cut + 1, last - 1)
    return Boundaries(days[first_cut], days[second_cut], days[last], "auto")


def check_given(settings: SplitSettings, stored: Boundaries) -> None:
    """Raise where the config gives other dates than those that the corpus was built with."""
    given = (settings.train_end, settings.validation_end, settings.test_end)
    ends = (stored.train_end, stored.validation_end, stored.test_end)
    if settings.mode == "given" and given != ends:
        raise ReviewriskError(
            f"The config's split dates {', '.join(map(str, given))} differ from those this corpus was built with"
            f" ({', '.join(map(str, ends))}): set the config to these, or build a new corpus under another root."
        )


def _nearest(shares: list[float], target: float, low: int, high: int) -> int:
    return min(range(low, high + 1), key=lambda index: abs(shares[index] - target))


def split_column(date: Column, boundaries: Boundaries) -> Column:
    """The split's name for a review date."""
    from pyspark.sql import functions as F

    return (
        F.when(date <= F.lit(boundaries.train_end), "train")
        .when(date <= F.lit(boundaries.validation_end), "validation")
        .when(date <= F.lit(boundaries.test_end), "test")
        .otherwise("live")
    )


def summarise(reviews: DataFrame) -> list[dict[str, Any]]:
    """One dict per split that holds rows: rows, labelled, dissatisfied, duplicates, first_date, last_date.

    A duplicate is a row whose headline and body also stand in another row of its split.
    """
    from pyspark.sql import functions as F

    texts = reviews.groupBy("split", "text_hash").agg(
        F.count("*").alias("copies"),
        F.count_if(F.col("star_rating") != 3).alias("labelled"),
        F.count_if(F.col("star_rating") <= 2).alias("dissatisfied"),
        F.min("review_date").alias("first_date"),
        F.max("review_date").alias("last_date"),
    )
    splits = texts.groupBy("split").agg(
        F.sum("copies").alias("rows"),
        F.sum("labelled").alias("labelled"),
        F.sum("dissatisfied").alias("dissatisfied"),
        F.sum(F.when(F.col("copies") > 1, F.col("copies")).otherwise(0)).alias("duplicates"),
        F.min("first_date").alias("first_date"),
        F.max("last_date").alias("last_date"),
    )
    found = {row["split"]: row.asDict() for row in splits.collect()}
    return [found[name] for name in NAMES if name in found]


def check_corpus(summary: list[dict[str, Any]], boundaries: Boundaries) -> None:
    """Raise where train, validation or test is empty or has one class only; the message shows the
    source's true dates.
    """
    found = {row["split"]: row for row in summary}
    dates = [row[key] for row in summary for key in ("first_date", "last_date")]
    problems = []
    for name in NAMES[:3]:
        row = found.get(name)
        if row is None:
            problems.append(f"{name} would be empty")
        elif row["dissatisfied"] in (0, row["labelled"]):
            problems.append(
                f"{name} would hold one class only ({row['dissatisfied']:,} dissatisfied of {row['labelled']:,}"
                " labelled)"
            )
    if problems:
        raise ReviewriskError(
            f"The corpus was not built: {'; '.join(problems)}, where train ends on {boundaries.train_end}, validation"
            f" on {boundaries.validation_end} and test on {boundaries.test_end} ({boundaries.origin}), so set the"
            f" config's splits to dates within the reviews' own{_range(dates)}, or splits.mode to auto."
        )


def stored_rows(root: Root, version: int | None = None) -> StoredRows:
    """Rows of `reviews` by split and month, out of the table's log: no file is read."""
    counts: StoredRows = {}
    for partition, rows in delta.rows_by_partition(root, "reviews", version):
        place = (partition["split"], partition["review_month"])
        counts[place] = counts.get(place, 0) + rows
    return counts


def format_summary(stored: StoredRows, changes: list[dict[str, Any]]) -> list[str]:
    """The split table as lines of text: what the corpus holds, and what this run put into it (`summarise`)."""
    lines = [
        f"  {'split':<11}{'rows':>12}  {'first month':<12}{'last month':<12}{'this run':>12}{'dissatisfied':>14}"
        f"{'duplicate texts':>17}"
    ]
    changed = {row["split"]: row for row in changes}
    for name in NAMES:
        months = {month: rows for (split, month), rows in stored.items() if split == name and rows}
        if months:
            span = f"{min(months)[:7]:<12}{max(months)[:7]:<12}"
            lines.append(f"  {name:<11}{sum(months.values()):>12,}  {span}{_format_change(changed.get(name))}")
    lines.append(
        "  this run: reviews that it added or corrected; dissatisfied: share of 1-2 stars among those without 3 stars;"
        " duplicate texts: share whose text stands twice among them"
    )
    return lines


def _format_change(row: dict[str, Any] | None) -> str:
    if row is None:
        return f"{0:>12}{'-':>14}{'-':>17}"
    rate = f"{row['dissatisfied'] / row['labelled']:.1%}" if row["labelled"] else "-"
    return f"{row['rows']:>12,}{rate:>14}{row['duplicates'] / row['rows']:>17.1%}"


def _range(days: list[datetime.date]) -> str:
    return f" from {min(days)} to {max(days)}" if days else ""

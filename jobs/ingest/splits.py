"""Temporal splits: boundaries given or resolved once from shares of rows, stored with the corpus, and the table that
shows them.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.config import SplitSettings
from jobs.lake.schemas import SPLITS
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

NAMES = ("train", "validation", "test", "live")


@dataclass(frozen=True)
class Boundaries:
    """Last day of each of the three closed splits; what comes later is live."""

    train_end: datetime.date
    validation_end: datetime.date
    test_end: datetime.date
    origin: str

    def to_rows(self, run_id: str) -> pa.Table:
        """The rows of the table `splits`."""
        ends = (self.train_end, self.validation_end, self.test_end, None)
        starts = (None, *(end + datetime.timedelta(days=1) for end in ends[:3] if end is not None))
        rows = [
            {"split": name, "first_date": first, "last_date": last, "origin": self.origin, "run_id": run_id}
            for name, first, last in zip(NAMES, starts, ends, strict=True)
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
    """The boundaries for a new corpus: the given ones, or the days that come nearest to the wanted shares of rows.

    A day is never cut. With `auto`, test ends on the corpus's last day, so whatever is ingested later and is newer is
    live.
    """
    if settings.mode == "given":
        assert settings.train_end and settings.validation_end and settings.test_end
        return Boundaries(settings.train_end, settings.validation_end, settings.test_end, "given")
    days = sorted(rows_by_day)
    if len(days) < 3:
        raise ReviewriskError(
            f"Splits cannot be resolved: the source has reviews of {len(days)} different days{_range(days)}, and three"
            " are the least."
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


def _nearest(shares: list[float], wanted: float, low: int, high: int) -> int:
    return min(range(low, high + 1), key=lambda index: abs(shares[index] - wanted))


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
            f"The corpus was not built: {'; '.join(problems)}. The source's dates run{_range(dates)}; the boundaries"
            f" are train to {boundaries.train_end}, validation to {boundaries.validation_end}, test to"
            f" {boundaries.test_end} ({boundaries.origin}). Set splits in the config to dates inside that range, or"
            " splits.mode: auto."
        )


def format_summary(summary: list[dict[str, Any]]) -> list[str]:
    """The split table as lines of text."""
    lines = [
        f"  {'split':<11}{'rows':>12}  {'first date':<11} {'last date':<11}{'dissatisfied':>13}{'duplicate texts':>17}"
    ]
    for row in summary:
        rate = f"{row['dissatisfied'] / row['labelled']:.1%}" if row["labelled"] else "-"
        duplicates = f"{row['duplicates'] / row['rows']:.1%}"
        lines.append(
            f"  {row['split']:<11}{row['rows']:>12,}  {row['first_date']!s:<11}"
            f" {row['last_date']!s:<11}{rate:>13}{duplicates:>17}"
        )
    lines.append(
        "  dissatisfied: share of 1-2 stars among all but 3 stars; duplicate texts: share of rows whose text stands"
        " twice in the split"
    )
    return lines


def _range(days: list[datetime.date]) -> str:
    return f" from {min(days)} to {max(days)}" if days else ""

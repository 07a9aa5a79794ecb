"""Temporal splits at their edges: first and last day of each, shares that are met exactly, the least number of days."""

from __future__ import annotations

import datetime
from datetime import date
from typing import Any

import pytest

from jobs.config import SplitSettings
from jobs.ingest import splits
from jobs.ingest.splits import Boundaries, resolve_boundaries
from model.errors import ReviewriskError

GIVEN = Boundaries(date(2014, 12, 31), date(2015, 4, 30), date(2015, 8, 31), "given")
DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("last_day", "split", "following"),
    [
        (GIVEN.train_end, "train", "validation"),
        (GIVEN.validation_end, "validation", "test"),
        (GIVEN.test_end, "test", "live"),
    ],
)
def test_the_last_day_of_a_split_is_in_it_and_the_next_day_is_not(
    spark: Any, last_day: date, split: str, following: str
) -> None:
    days = spark.createDataFrame([(last_day - DAY,), (last_day,), (last_day + DAY,)], "day date")
    found = days.select(splits.split_column(days["day"], GIVEN).alias("split")).collect()
    assert [row["split"] for row in found] == [split, split, following]


def test_the_stored_days_are_those_that_reviews_are_cut_by() -> None:
    rows = GIVEN.to_rows("run").to_pylist()
    assert [(row["split"], row["first_date"], row["last_date"]) for row in rows] == [
        ("train", None, date(2014, 12, 31)),
        ("validation", date(2015, 1, 1), date(2015, 4, 30)),
        ("test", date(2015, 5, 1), date(2015, 8, 31)),
        ("live", date(2015, 9, 1), None),
    ]
    assert Boundaries.from_rows(GIVEN.to_rows("run")) == GIVEN
    assert Boundaries.from_rows(GIVEN.to_rows("run").slice(0, 0)) is None


def auto(rows_by_day: dict[int, int], **shares: float) -> tuple[int, int, int]:
    """The three last days (of January 2015) that are resolved."""
    settings = SplitSettings(mode="auto", **shares)
    found = resolve_boundaries(settings, {date(2015, 1, day): rows for day, rows in rows_by_day.items()})
    assert found.origin == "auto"
    return found.train_end.day, found.validation_end.day, found.test_end.day


@pytest.mark.parametrize(
    ("rows_by_day", "ends"),
    [
        (dict.fromkeys(range(1, 21), 1), (14, 17, 20)),
        ({1: 1, 2: 1, 3: 1}, (1, 2, 3)),
        ({1: 100, 2: 1, 3: 1}, (1, 2, 3)),
        ({1: 1, 2: 1, 3: 100}, (1, 2, 3)),
        ({1: 50, 2: 20, 3: 15, 4: 15}, (2, 3, 4)),
        ({3: 70, 9: 15, 20: 15}, (3, 9, 20)),
    ],
)
def test_days_are_never_cut_and_no_split_is_empty(rows_by_day: dict[int, int], ends: tuple[int, int, int]) -> None:
    assert auto(rows_by_day) == ends


def test_two_days_are_too_few() -> None:
    with pytest.raises(ReviewriskError, match="reviews are of 2 different days from 2015-01-01 to 2015-01-02, and"):
        auto({1: 5, 2: 5})
    with pytest.raises(ReviewriskError, match="reviews are of 0 different days, and the splits need at least three"):
        auto({})


def summary_row(split: str, dissatisfied: int, labelled: int) -> dict[str, Any]:
    return {
        "split": split,
        "rows": 9,
        "labelled": labelled,
        "dissatisfied": dissatisfied,
        "duplicates": 0,
        "first_date": date(2015, 1, 1),
        "last_date": date(2015, 1, 2),
    }


@pytest.mark.parametrize(
    ("dissatisfied", "labelled", "is_refused"), [(1, 2, False), (0, 2, True), (2, 2, True), (0, 0, True), (1, 3, False)]
)
def test_a_split_needs_both_classes(dissatisfied: int, labelled: int, is_refused: bool) -> None:
    rows = [summary_row("train", 1, 2), summary_row("validation", 1, 2), summary_row("test", dissatisfied, labelled)]
    if is_refused:
        with pytest.raises(ReviewriskError, match="test would hold one class only"):
            splits.check_corpus(rows, GIVEN)
    else:
        splits.check_corpus(rows, GIVEN)


def test_what_a_run_put_into_a_split_is_counted(spark: Any) -> None:
    rows = [
        ("live", "a", 1, date(2016, 1, 1)),
        ("live", "a", 2, date(2016, 1, 3)),
        ("live", "b", 3, date(2016, 1, 2)),
        ("live", "c", 4, date(2016, 1, 2)),
        ("test", "a", 5, date(2015, 8, 1)),
    ]
    frame = spark.createDataFrame(rows, "split string, text_hash string, star_rating int, review_date date")
    assert [tuple(row[key] for key in sorted(row)) for row in splits.summarise(frame)] == [
        (0, 0, date(2015, 8, 1), 1, date(2015, 8, 1), 1, "test"),
        (2, 2, date(2016, 1, 1), 3, date(2016, 1, 3), 4, "live"),
    ]


def test_the_split_table_shows_the_corpus_and_this_run() -> None:
    stored = {("live", "2016-02-01"): 3, ("train", "2014-05-01"): 1000, ("train", "2014-12-01"): 500}
    changed = {**summary_row("live", 1, 4), "rows": 5, "duplicates": 2}
    head, train, live, note = splits.format_summary(stored, [changed])
    assert head.split() == [
        "split",
        "rows",
        "first",
        "month",
        "last",
        "month",
        "this",
        "run",
        "dissatisfied",
        "duplicate",
        "texts",
    ]
    assert train.split() == ["train", "1,500", "2014-05", "2014-12", "0", "-", "-"]
    assert live.split() == ["live", "3", "2016-02", "2016-02", "5", "25.0%", "40.0%"]
    assert note.startswith("  this run: reviews that it added or corrected")

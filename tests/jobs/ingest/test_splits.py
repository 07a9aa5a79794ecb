"""Temporal splits at their edges: first and last day of each, shares that are met exactly, the least number of days."""

from __future__ import annotations

import dataclasses
import datetime
from datetime import date
from typing import Any

import pytest

from jobs.config import Config, SplitSettings
from jobs.ingest import splits
from jobs.ingest.splits import Boundaries, resolve_boundaries
from jobs.lake.schemas import SPLITS
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
    assert {(row["origin"], row["run_id"]) for row in rows} == {("given", "run")}
    assert GIVEN.to_rows("run").schema.equals(SPLITS.schema)
    assert Boundaries.from_rows(GIVEN.to_rows("run")) == GIVEN
    assert Boundaries.from_rows(GIVEN.to_rows("run").slice(0, 0)) is None


def settings_of(boundaries: Boundaries) -> SplitSettings:
    ends = (boundaries.train_end, boundaries.validation_end, boundaries.test_end)
    return SplitSettings(mode="given", train_end=ends[0], validation_end=ends[1], test_end=ends[2])


def test_given_days_are_taken_whatever_the_corpus_holds() -> None:
    assert resolve_boundaries(settings_of(GIVEN), {}) == GIVEN


@pytest.mark.parametrize("changed", ["train_end", "validation_end", "test_end"])
def test_given_days_are_those_that_the_corpus_was_built_with(changed: str) -> None:
    other = dataclasses.replace(GIVEN, **{changed: getattr(GIVEN, changed) + DAY})
    splits.check_given(settings_of(GIVEN), GIVEN)
    splits.check_given(SplitSettings(mode="auto"), other)
    with pytest.raises(ReviewriskError) as raised:
        splits.check_given(settings_of(GIVEN), other)
    built = ", ".join(str(day) for day in (other.train_end, other.validation_end, other.test_end))
    assert str(raised.value) == (
        "The config's split dates 2014-12-31, 2015-04-30, 2015-08-31 differ from those this corpus was built with"
        f" ({built}): set the config to these, or build a new corpus under another root."
    )


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
        ({1: 69, 2: 2, 3: 14, 4: 15}, (1, 3, 4)),  # 69% and 71% are as near to 70%: the earlier day
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


def test_what_is_wrong_with_each_split_is_one_sentence_with_the_true_dates() -> None:
    rows = [
        summary_row("validation", 2000, 2000) | {"first_date": date(2016, 2, 1), "last_date": date(2016, 2, 9)},
        summary_row("test", 0, 5) | {"first_date": date(2016, 3, 1), "last_date": date(2016, 3, 9)},
        summary_row("live", 0, 0) | {"first_date": date(2016, 4, 1), "last_date": date(2016, 4, 9)},
    ]
    with pytest.raises(ReviewriskError) as raised:
        splits.check_corpus(rows, GIVEN)
    assert str(raised.value) == (
        "The corpus was not built: train would be empty; validation would hold one class only (2,000 dissatisfied of"
        " 2,000 labelled); test would hold one class only (0 dissatisfied of 5 labelled), where train ends on"
        " 2014-12-31, validation on 2015-04-30 and test on 2015-08-31 (given), so set the config's splits to dates"
        " within the reviews' own from 2016-02-01 to 2016-04-09, or splits.mode to auto."
    )


def test_what_a_run_put_into_a_split_is_counted(spark: Any) -> None:
    rows = [
        ("live", "a", 1, date(2016, 1, 1)),
        ("live", "a", 2, date(2016, 1, 3)),
        ("live", "b", 3, date(2016, 1, 2)),
        ("live", "c", 4, date(2016, 1, 2)),
        ("test", "a", 5, date(2015, 8, 1)),
    ]
    frame = spark.createDataFrame(rows, "split string, text_hash string, star_rating int, review_date date")
    counted = ("split", "rows", "labelled", "dissatisfied", "duplicates", "first_date", "last_date")
    assert splits.summarise(frame) == [
        dict(zip(counted, ("test", 1, 1, 0, 0, date(2015, 8, 1), date(2015, 8, 1)), strict=True)),
        dict(zip(counted, ("live", 4, 3, 2, 2, date(2016, 1, 1), date(2016, 1, 3)), strict=True)),
    ]


def test_the_split_table_shows_the_corpus_and_this_run() -> None:
    stored = {
        ("live", "2016-02-01"): 3,
        ("train", "2014-05-01"): 1000,
        ("train", "2014-12-01"): 500,
        ("train", "2015-01-01"): 0,
        ("test", "2015-03-01"): 1,
    }
    changed = [
        {**summary_row("live", 1, 4), "rows": 5, "duplicates": 2},
        {**summary_row("test", 0, 0), "rows": 1000, "duplicates": 0},
    ]
    note = (
        "  this run: reviews that it added or corrected; dissatisfied: share of 1-2 stars among those without 3 stars;"
        " duplicate texts: share whose text stands twice among them"
    )
    assert splits.format_summary(stored, changed) == [
        "  split              rows  first month last month      this run  dissatisfied  duplicate texts",
        "  train             1,500  2014-05     2014-12                0             -                -",
        "  test                  1  2015-03     2015-03            1,000             -             0.0%",
        "  live                  3  2016-02     2016-02                5         25.0%            40.0%",
        note,
    ]


def test_stored_rows_are_those_of_all_files_of_a_month(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    files = [("train", "2014-05-01", 3), ("test", "2015-05-01", 1), ("train", "2014-05-01", 4)]
    asked: list[Any] = []

    def rows_by_partition(*arguments: Any) -> list[tuple[dict[str, str], int]]:
        asked.append(arguments)
        return [({"split": split, "review_month": month}, rows) for split, month, rows in files]

    monkeypatch.setattr(splits.delta, "rows_by_partition", rows_by_partition)
    assert splits.stored_rows(config.root, 7) == {("train", "2014-05-01"): 7, ("test", "2015-05-01"): 1}
    assert asked == [(config.root, "reviews", 7)]

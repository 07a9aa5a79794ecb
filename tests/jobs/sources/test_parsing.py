"""A line becomes a typed review or the reason why it is none; values at the edges of each rule."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from jobs.lake.schemas import RAW_COLUMNS
from jobs.sources.lines import LINES_SCHEMA
from jobs.sources.parsing import classify
from tests.support.raw_files import HEADER, line

TODAY = datetime.date(2020, 2, 28)


def parsed(spark: Any, *values: str | bytes, fields: list[list[str] | None] | None = None) -> list[Any]:
    """The classified rows of some lines, in their order."""
    from pyspark.sql import functions as F

    rows = [
        ("sum", number, text.encode() if isinstance(text, str) else text, None, None)
        for number, text in enumerate(values, start=2)
    ]
    assert LINES_SCHEMA.names == ["source_checksum", "source_line", "value", "fields", "problem"]
    frame = spark.createDataFrame(
        rows, "source_checksum string, source_line long, value binary, fields array<string>, problem string"
    ).withColumn("value", F.col("value").cast("string"))
    if fields is not None:
        given = spark.createDataFrame(list(enumerate(fields, start=2)), "source_line long, given array<string>")
        frame = frame.join(given, "source_line").withColumn("fields", F.col("given"))
    return classify(frame, TODAY).orderBy("source_line").collect()


def outcomes(spark: Any, column: str, written: list[str]) -> list[Any]:
    """What each written value of a column becomes, or the reason why its line is rejected."""
    return [
        row[column] if row["reason"] is None else row["reason"]
        for row in parsed(spark, *[line(**{column: value}) for value in written])
    ]


def test_stars_are_whole_numbers_of_1_to_5(spark: Any) -> None:
    written = [
        "1",
        "5",
        " 4 ",
        "4.0",
        "3.00",
        "0",
        "6",
        "0.0",
        "4.5",
        "4.",
        ".0",
        "-1",
        "05",
        "",
        "five",
        "4\u2028",
        "٤",
    ]
    assert outcomes(spark, "star_rating", written) == [1, 5, 4, 4, 3, *["bad_star_rating"] * 12]


@pytest.mark.parametrize("column", ["helpful_votes", "total_votes"])
def test_votes_are_whole_numbers_of_nine_digits_or_none(spark: Any, column: str) -> None:
    written = ["0", "999999999", "2.0", "", " ", "1000000000", "-1", "2.5", ".0", "1e3", "2\u2028"]
    assert outcomes(spark, column, written) == [0, 999_999_999, 2, None, None, *[f"bad_{column}"] * 6]


def test_dates_are_days_from_the_shop_s_first_year_to_tomorrow(spark: Any) -> None:
    written = ["1995-01-01", "2020-02-29", " 2015-08-31 ", "2015-08-31 00:00:00", "2015-08-31T00:00:00.000"]
    day = datetime.date(2015, 8, 31)
    expected = [datetime.date(1995, 1, 1), datetime.date(2020, 2, 29), day, day, day]
    assert outcomes(spark, "review_date", written) == expected
    bad = ["1994-12-31", "2020-03-01", "2015-02-29", "2015-13-01", "2015-8-31", "8/31/2015", "2015-08-31 10:30:00", ""]
    assert outcomes(spark, "review_date", bad) == ["bad_review_date"] * len(bad)


@pytest.mark.parametrize("column", ["vine", "verified_purchase"])
def test_flags_are_y_or_n_in_any_case_or_nothing(spark: Any, column: str) -> None:
    assert outcomes(spark, column, ["Y", "n", " y ", "", "X", "YES"]) == [
        True,
        False,
        True,
        None,
        *[f"bad_{column}"] * 2,
    ]


def test_an_empty_text_is_null_and_an_id_is_trimmed(spark: Any) -> None:
    [row] = parsed(spark, line(review_id=" R7 ", review_headline="", product_title=" oak ", review_body=" "))
    assert (row["review_id"], row["review_headline"], row["product_title"], row["review_body"]) == (
        "R7",
        None,
        " oak ",
        " ",
    )
    assert outcomes(spark, "review_id", ["", " "]) == ["bad_review_id"] * 2


def test_a_header_that_comes_again_has_a_reason_of_its_own(spark: Any) -> None:
    rows = parsed(spark, HEADER, HEADER + "\r", "\ufeff" + HEADER, HEADER + "\t", HEADER.upper())
    assert [row["reason"] for row in rows] == [*["repeated_header"] * 3, "too_many_fields", "bad_star_rating"]


def test_the_first_fault_of_a_line_is_its_reason(spark: Any) -> None:
    cut = line().rsplit("\t", 1)[0]
    rows = parsed(spark, "", " \r", cut, line() + "\t", line(review_id="", star_rating="9"), line().encode() + b"\xff")
    assert [(row["reason"], row["detail"]) for row in rows] == [
        ("blank_line", None),
        ("blank_line", None),
        ("too_few_fields", "14 fields, not 15"),
        ("too_many_fields", "16 fields, not 15"),
        ("bad_review_id", "no id"),
        ("not_utf8", "bytes that are not UTF-8"),
    ]


def test_fields_whose_quotes_were_undone_are_taken_in_place_of_the_line(spark: Any) -> None:
    unquoted = line(review_body='He said "no"').split("\t")
    unquoted[RAW_COLUMNS.index("review_body")] += "\tto me"
    rows = parsed(spark, "as read", "as read", line(), HEADER, fields=[unquoted, [], None, list(RAW_COLUMNS)])
    assert [row["reason"] for row in rows] == [None, "bad_quoting", None, "repeated_header"]
    assert rows[0]["review_body"] == 'He said "no"\tto me'
    assert rows[1]["detail"] == "a quoted field does not end in this line, or text follows it"


def test_the_same_text_has_the_same_hash_and_headline_and_body_are_kept_apart(spark: Any) -> None:
    a, b, c = parsed(
        spark,
        line(review_headline="a", review_body="b"),
        line(review_id="R2", review_headline="a", review_body="b\r"[:1]),
        line(review_headline="ab", review_body=""),
    )
    assert a["text_hash"] == b["text_hash"] != c["text_hash"]

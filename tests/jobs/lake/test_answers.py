"""jobs.lake.answers: what programs read carries every text as it is; what people read is aligned and never raw."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.lake.answers import write_answer
from jobs.lake.query import Answer
from model.errors import ReviewriskError

ESCAPES = "\x1b[31mred\x1b[0m\x07 \x9b5m \x7f \t\u202e"


def written(columns: list[str], rows: list[tuple[Any, ...]], form: str = "table", **how: Any) -> str:
    out = io.BytesIO()
    write_answer(Answer(columns, iter(rows)), out, form, **how)
    return out.getvalue().decode()


NAMES = ["text", "day", "moment", "price", "sum", "gap", "nothing", "yes", "list", "struct", "blob"]
VALUES = (
    'a "b", c\nd',
    datetime.date(2015, 6, 1),
    datetime.datetime(2015, 6, 1, 10, tzinfo=datetime.UTC),
    decimal.Decimal("1.50"),
    0.1 + 0.2,
    float("nan"),
    None,
    True,
    [1, None],
    {"day": datetime.date(2015, 6, 1)},
    b"\x01\xff",
)


def test_json_is_an_array_of_objects() -> None:
    assert json.loads(written(NAMES, [VALUES], "json")) == [
        {
            "text": 'a "b", c\nd',
            "day": "2015-06-01",
            "moment": "2015-06-01T10:00:00+00:00",
            "price": 1.5,
            "sum": 0.30000000000000004,
            "gap": None,
            "nothing": None,
            "yes": True,
            "list": [1, None],
            "struct": {"day": "2015-06-01"},
            "blob": "01ff",
        }
    ]
    assert written(["a"], [(1,), ("ü",)], "json") == '[{"a": 1},\n {"a": "ü"}]\n'
    assert written(["a"], [], "json") == "[]\n"
    with pytest.raises(ReviewriskError, match="Two columns are called a: "):
        written(["a", "b", "a"], [(1, 2, 3)], "json")


def test_csv_is_that_of_rfc_4180_with_lines_that_a_shell_can_read() -> None:
    text = written(NAMES, [VALUES], "csv")
    assert text == (
        ",".join(NAMES)
        + '\n"a ""b"", c\nd",2015-06-01,2015-06-01T10:00:00+00:00,1.50,0.30000000000000004,nan,,true,"[1, null]",'
        + '"{""day"": ""2015-06-01""}",01ff\n'
    )
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == 2


@pytest.mark.parametrize(
    "text", ["", "a\rb", "\r", "\n", "a\r\nb", '"', ",", ESCAPES, "=cmd|' /C calc'!A0", "\ufeff", "ü椅子"]
)
def test_csv_and_json_carry_every_text_as_it_is(text: str) -> None:
    as_csv = written([text, "b"], [(text, text), (None, text)], "csv")
    assert list(csv.reader(io.StringIO(as_csv, newline=""))) == [[text, "b"], [text, text], ["", text]]
    assert json.loads(written(["a"], [(text,)], "json")) == [{"a": text}]


def test_csv_tells_a_null_from_an_empty_text_and_leaves_no_line_blank() -> None:
    assert written(["a", "b"], [(None, "")], "csv") == 'a,b\n,""\n'
    assert written(["a"], [(None,), ("x",)], "csv") == 'a\n""\nx\n'


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_terminal_never_gets_a_control_character(form: str, capsysbinary: Any) -> None:
    text = (
        written([f"name {ESCAPES}", "b"], [(ESCAPES, 1)], form, terminal=True) + capsysbinary.readouterr().out.decode()
    )
    assert [char for char in text if not char.isprintable() and char != "\n"] == []
    assert "[31mred" in text and ("\\x1b" in text or "\\u001b" in text)
    if form == "json":
        assert json.loads(text) == [{f"name {ESCAPES}": ESCAPES, "b": 1}]


def test_the_plain_table_is_escaped_too() -> None:
    assert "\\x1b[31mred" in written(["a"], [(ESCAPES,)]) and "\x1b" not in written(["a"], [(ESCAPES,)])


def test_safe_csv_puts_a_quote_before_what_a_spreadsheet_would_run() -> None:
    dangers = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "＝1"]
    text = written(
        ["=a"],
        [(each,) for each in dangers] + [("a=1",), (-1,), (-0.5,), (decimal.Decimal("-2"),)],
        "csv",
        safe_csv=True,
    )
    [header], *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == "'=a"
    assert [row for [row] in rows] == [*(f"'{each}" for each in dangers), "a=1", "-1", "-0.5", "-2"]
    assert written(["a"], [("=1+1",)], "csv") == "a\n=1+1\n"


def test_a_table_is_aligned_and_cuts_no_cell() -> None:
    rows = [(1, "short", None), (20, "two\nlines", None), (100, "x" * 200, datetime.date(2015, 6, 1))]
    assert written(["number", "text", "day"], rows).splitlines() == [
        "number  text" + " " * 198 + "day",
        "-" * 220,
        "     1  short" + " " * 197 + "null",
        "    20  two\\nlines" + " " * 192 + "null",
        "   100  " + "x" * 200 + "  2015-06-01",
        "(3 rows)",
    ]
    assert written(["yes"], [(True,), (False,)]).splitlines() == ["yes", "-----", "true", "false", "(2 rows)"]
    assert written(["a"], [(1,)]).splitlines()[-1] == "(1 row)"


@pytest.mark.parametrize(
    ("count", "limit", "shown", "last"),
    [
        (1000, None, 1000, "(1,000 rows)"),
        (1001, None, 1000, "(the first 1,000 rows; there are more, which --limit N or --format csv shows)"),
        (3, 3, 3, "(3 rows)"),
        (3, 2, 2, "(the first 2 rows; there are more, which --limit N or --format csv shows)"),
        (1001, 5000, 1001, "(1,001 rows)"),
    ],
)
def test_a_table_ends_after_its_limit_and_says_so(count: int, limit: int | None, shown: int, last: str) -> None:
    lines = written(["a"], [(place,) for place in range(count)], limit=limit).splitlines()
    assert (len(lines) - 3, lines[-1]) == (shown, last)


def test_csv_and_json_have_no_limit_but_the_one_that_is_given() -> None:
    rows = [(place,) for place in range(1001)]
    assert (
        len(written(["a"], rows, "csv").splitlines()) == 1002 and len(json.loads(written(["a"], rows, "json"))) == 1001
    )
    assert written(["a"], rows, "csv", limit=1) == "a\n0\n"
    assert write_answer(Answer(["a"], iter(rows)), io.BytesIO(), "csv", limit=1000)
    assert not write_answer(Answer(["a"], iter(rows)), io.BytesIO(), "csv", limit=1001)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_are_written_as_they_come(form: str) -> None:
    out = io.BytesIO()

    def rows() -> Iterator[tuple[int]]:
        yield (1,)
        assert b"1" in out.getvalue()
        yield (2,)

    write_answer(Answer(["a"], rows()), out, form)
    assert b"2" in out.getvalue()


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ReviewriskError, match="no format xml; there are: table, csv, json"):
        written(["a"], [], "xml")

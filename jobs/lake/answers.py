"""The forms in which the rows of a query leave: csv and json, row by row, and an aligned table."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

from rich.cells import cell_len

from jobs.lake.query import Answer
from model.errors import ReviewriskError
from model.terminal import align, print_table, printable

TABLE_ROWS = 1000
# What a spreadsheet takes for a formula where a cell begins with it: OWASP's page "CSV Injection".
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_QUOTED = re.compile(r'[",\r\n]')
Row = Sequence[Any]


def write_answer(
    answer: Answer,
    out: BinaryIO,
    form: str = "table",
    limit: int | None = None,
    safe_csv: bool = False,
    terminal: bool = False,
) -> bool:
    """Write the rows, or the first `limit` of them, in UTF-8: a "table", "csv" (RFC 4180, but lines end in LF) or
    "json" (an array of objects). No cell is cut. True where there are more rows.

    csv and json are written as the rows come; a table is held whole, so it has a limit of its own, 1,000 rows. With
    `safe_csv` text that a spreadsheet would take for a formula gets a ' in front. On a terminal, control characters
    are shown escaped; elsewhere csv and json carry the text as it is.
    """
    rows = _Limited(answer.rows, limit or (TABLE_ROWS if form == "table" else sys.maxsize))
    forms: dict[str, Callable[[Sequence[str], _Limited, BinaryIO, bool], None]] = {
        "table": _write_table,
        "csv": partial(_write_csv, safe=safe_csv),
        "json": _write_json,
    }
    if form not in forms:
        raise ReviewriskError(f"There is no format {form}; there are: {', '.join(forms)}.")
    forms[form](answer.columns, rows, out, terminal)
    return rows.more


class _Limited:
    """The first rows; once they are taken, `more` says whether there are others."""

    def __init__(self, rows: Iterator[tuple[Any, ...]], limit: int) -> None:
        self._rows = rows
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for place, row in enumerate(self._rows):
            if place == self._limit:
                self.more = True
                return
            yield row


def _write_csv(columns: Sequence[str], rows: _Limited, out: BinaryIO, terminal: bool, safe: bool) -> None:
    shown: Callable[[str], str] = partial(printable, keep="\n") if terminal else str
    for row in itertools.chain([columns], rows):
        out.write(f"{shown(_csv_line(row, safe))}\n".encode())


def _csv_line(row: Row, safe: bool) -> str:
    """The row as a line: a null is nothing, an empty text is "" (as is a null that would leave the line blank)."""
    if len(row) == 1 and row[0] is None:
        return '""'
    return ",".join(_csv_cell(value, safe) for value in row)


def _csv_cell(value: Any, safe: bool) -> str:
    if value is None:
        return ""
    text = cell_text(value)
    is_number = isinstance(value, (int, float, decimal.Decimal))
    if safe and not is_number and text.startswith(_FORMULA):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if not text or _QUOTED.search(text) else text


def _write_json(columns: Sequence[str], rows: _Limited, out: BinaryIO, terminal: bool) -> None:
    repeated = sorted({name for name in columns if list(columns).count(name) > 1})
    if repeated:
        raise ReviewriskError(
            f"Two columns are called {repeated[0]}: a JSON object cannot have both, so rename one with `as`."
        )
    before = "["
    for row in rows:
        each = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        text = json.dumps(each, ensure_ascii=False, allow_nan=False)
        out.write((before + (_json_escaped(text) if terminal else text)).encode())
        before = ",\n "
    out.write(b"[]\n" if before == "[" else b"]\n")


def _json_escaped(text: str) -> str:
    """JSON of the same meaning with every unprintable character as \\u…."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _write_table(columns: Sequence[str], rows: _Limited, out: BinaryIO, terminal: bool) -> None:
    held = list(rows)
    cells = [["null" if value is None else cell_text(value) for value in row] for row in held]
    right = [_is_numeric(row[place] for row in held) for place in range(len(columns))]
    if terminal:
        from rich.console import Console

        print_table(columns, cells, right, Console())
    else:
        header, *body = align([columns, *cells], right)
        rule = "-" * max(map(cell_len, (header, *body)))
        out.write("".join(f"{line}\n" for line in (header, rule, *body)).encode())
    out.write(f"{_count(len(held), rows.more)}\n".encode())


def _count(rows: int, more: bool) -> str:
    said = f"{rows:,} row{'' if rows == 1 else 's'}"
    return f"(the first {said}; there are more, which --limit N or --format csv shows)" if more else f"({said})"


def _is_numeric(values: Iterable[Any]) -> bool:
    return all(
        value is None or (isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool))
        for value in values
    )


def _plain(value: Any) -> Any:
    """A value as JSON has it; dates and times in ISO 8601, what JSON has no number for as null."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return _plain(float(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def cell_text(value: Any) -> str:
    """A value that is not null, as it stands in a cell."""
    if isinstance(value, (float, decimal.Decimal)):
        return str(value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)

"""Reading in SQL: one DuckDB connection over all tables and marts, read-only; queries as text; the checks of
sql/checks.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from duckdb import StatementType

from jobs.lake import delta
from jobs.lake.schemas import TABLES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError

SAMPLE_ROWS = 5
# What may stand before an explained statement: blanks, comments, `explain`, its options.
_EXPLAIN = re.compile(
    r"^(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*explain\b\s*(?:analyze\b)?\s*(?:\([^)]*\))?", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class CheckFailure:
    """A check that gave rows back: its file's name, what a row means, how many there are and the first few of them."""

    name: str
    meaning: str
    rows: int
    sample: list[dict[str, Any]]


def warehouse_file(root: Root, warehouse: Path | None) -> Path | None:
    """The DuckDB file that dbt builds: the given one, else the root's own; None for an s3 root where none is given."""
    if warehouse is not None:
        return warehouse.expanduser().resolve()
    return root.local_path / "warehouse" / "reviewrisk.duckdb" if root.is_local else None


def open_warehouse(root: Root | str, warehouse: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that sees every Delta table, at its newest version, and every mart and report under their plain
    names.

    Nothing can be written through it and no file be read: DuckDB's access to the outside is switched off and its
    settings locked. Marts are missing where `reviewrisk report` has not run yet. Tables are read by delta-rs, so a
    local and an s3 root work alike.
    """
    place = parse_root(root, StorageSettings()) if isinstance(root, str) else root
    connection = _connection_over_tables(place)
    file = warehouse_file(place, warehouse)
    if file is not None and file.exists():
        _attach_marts(connection, file)
    return _locked(connection)


def open_tables(root: Root | str) -> duckdb.DuckDBPyConnection:
    """As `open_warehouse`, over the Delta tables alone: it works while another program holds the warehouse's file."""
    return _locked(_connection_over_tables(parse_root(root, StorageSettings()) if isinstance(root, str) else root))


def _connection_over_tables(root: Root) -> duckdb.DuckDBPyConnection:
    tables = delta.published_tables(root)
    connection = duckdb.connect(config={"python_enable_replacements": False})
    connection.execute("set TimeZone = 'UTC'")
    # a root that an earlier version of the code made may lack a table: it is empty then
    for name, declared in TABLES.items():
        connection.register(
            name, tables[name].to_pyarrow_dataset() if name in tables else declared.schema.empty_table()
        )
    return connection


def _locked(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection without access to files or to its own settings."""
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def _attach_marts(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Give each table of the warehouse file a view of its plain name. The file's views (staging) need the Delta
    extension and stay out.
    """
    quoted = str(file).replace("'", "''")
    try:
        connection.execute(f"attach '{quoted}' as warehouse (read_only)")
    except duckdb.Error as error:
        raise ReviewriskError(
            f"The warehouse {file} cannot be opened; does another program write to it? DuckDB says: {error}"
        ) from None
    listed = "select table_name from duckdb_tables() where database_name = 'warehouse' and schema_name = 'main'"
    for (name,) in connection.execute(listed).fetchall():
        connection.table(f"warehouse.main.{name}").create_view(name)


def table_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names that a query may use, sorted."""
    return [name for (name,) in connection.execute("show tables").fetchall()]


def run_query(connection: duckdb.DuckDBPyConnection, sql: str, form: str = "table") -> str:
    """The result of one reading statement as text: a "table", "csv" (RFC 4180, but lines end in LF) or "json" (an array
    of objects). No cell is cut.
    """
    write = _FORMS.get(form)
    if write is None:
        raise ReviewriskError(f"There is no format {form}; there are: {', '.join(_FORMS)}.")
    try:
        statement = _reading_statement(connection, sql)
        result = connection.execute(statement)
        columns = [column[0] for column in result.description or []]
        rows = result.fetchall()
    except duckdb.PermissionException:
        raise ReviewriskError(
            "The query is refused: it may read the tables and marts only, no files and no other databases."
        ) from None
    except duckdb.CatalogException as error:
        raise ReviewriskError(f"{error}\nTables and marts there are: {', '.join(table_names(connection))}.") from None
    except duckdb.Error as error:
        raise ReviewriskError(str(error)) from None
    return write(columns, rows)


def _reading_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement of `sql`, if it only reads (DuckDB counts with, describe, show, summarize, values and from as
    select).
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        count = len(statements)
        raise ReviewriskError(
            f"One query at a time: this text holds {count} statements (a pivot needs its values written out: `in"
            " (...)`)."
        )
    explained = _EXPLAIN.sub("", sql, count=1) if statements[0].type == StatementType.EXPLAIN else sql
    kinds = [statement.type for statement in connection.extract_statements(explained)]
    if kinds != [StatementType.SELECT]:
        name = (kinds or [statements[0].type])[0].name.lower()
        allowed = "select, with, describe, show, summarize, explain"
        raise ReviewriskError(
            f"The query is refused: it is a statement of kind {name}, and only reading ones are run ({allowed})."
        )
    return statements[0]


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


def _text(value: Any, null: str) -> str:
    """A value as it stands in a cell."""
    if value is None:
        return null
    if isinstance(value, (float, decimal.Decimal)):
        return str(value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _as_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    repeated = sorted({name for name in columns if list(columns).count(name) > 1})
    if repeated:
        raise ReviewriskError(
            f"Two columns are called {repeated[0]}: a JSON object cannot have both, so rename one with `as`."
        )
    objects = ({name: _plain(value) for name, value in zip(columns, row, strict=True)} for row in rows)
    return "[" + ",\n ".join(json.dumps(each, ensure_ascii=False, allow_nan=False) for each in objects) + "]"


def _as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # commas, quotes doubled where needed
    writer.writerow(columns)
    writer.writerows([_text(value, null="") for value in row] for row in rows)
    return text.getvalue().removesuffix("\n")


def format_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned text: a header, a rule, a line per row (numbers to the right) and the number of rows."""
    cells = [[_text(value, null="null") for value in row] for row in rows]
    header, *body = align(
        [columns, *cells], right=[_is_numeric([row[place] for row in rows]) for place in range(len(columns))]
    )
    rule = "-" * max(_width(line) for line in (header, *body))
    return "\n".join([header, rule, *body, f"({len(rows):,} row{'' if len(rows) == 1 else 's'})"])


def _is_numeric(values: Iterable[Any]) -> bool:
    return all(
        value is None or (isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool))
        for value in values
    )


def align(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """One line per row, the columns two blanks apart and padded to the widest cell; control characters are shown
    escaped.
    """
    cells = [[_printable(text) for text in row] for row in rows]
    widths = [max(_width(row[place]) for row in cells) for place in range(len(right))]
    return ["  ".join(_padded(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() for row in cells]


def _padded(text: str, width: int, to_the_right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if to_the_right else text + blanks


_FORMS: dict[str, Callable[[Sequence[str], Sequence[Sequence[Any]]], str]] = {
    "table": format_table,
    "csv": _as_csv,
    "json": _as_json,
}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: East Asian wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def run_checks(connection: duckdb.DuckDBPyConnection, checks: Path | Iterable[Path]) -> list[CheckFailure]:
    """Run the check files of a folder and those below it, or the files given; one CheckFailure for each that gives a
    row back.

    The connection must know the tables that the checks name: `open_warehouse`, or views over rows that are not
    committed yet.
    """
    files = sorted(checks.rglob("*.sql")) if isinstance(checks, Path) else list(checks)
    found = (_run_check(connection, file) for file in files)
    return [failure for failure in found if failure is not None]


def _run_check(connection: duckdb.DuckDBPyConnection, file: Path) -> CheckFailure | None:
    sql = file.read_text(encoding="utf-8")
    result = connection.execute(sql)
    columns = [column[0] for column in result.description or []]
    first = result.fetchmany(SAMPLE_ROWS)
    if not first:
        return None
    count = len(first)
    while rest := result.fetchmany(10_000):
        count += len(rest)
    meaning = " ".join(line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--"))
    return CheckFailure(file.stem, meaning, count, [dict(zip(columns, row, strict=True)) for row in first])

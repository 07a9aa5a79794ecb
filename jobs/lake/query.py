"""Reading in SQL: one DuckDB connection over all tables and marts, read-only; the rows of a query."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import duckdb
from duckdb import StatementType

from jobs.lake import delta
from jobs.lake.schemas import TABLES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from model.terminal import printable

# What may stand before an explained statement: blanks, comments, `explain`, its options.
_EXPLAIN = re.compile(
    r"^(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*explain\b\s*(?:analyze\b)?\s*(?:\([^)]*\))?", re.IGNORECASE | re.DOTALL
)
# Table functions that change settings of DuckDB, or write, from within a select.
_SETTINGS_FUNCTION = re.compile(
    r"\b((?:en|dis)able_(?:logging|profiling)|(?:force_)?checkpoint|truncate_duckdb_logs)\s*\(", re.IGNORECASE
)
# What DuckDB puts before the cause of an error that ends a query after its first rows.
_BEFORE_THE_CAUSE = re.compile(r"^Invalid Input Error: Attempting to execute an unsuccessful [^\n]*\nError: ")
ROWS_AT_A_TIME = 1000
# One run in 100 with an error hides its cause, so that this many in a row do not.
TRIES_FOR_THE_CAUSE = 6


@dataclass(frozen=True)
class Answer:
    """The columns of a query and its rows, which are read while they are taken: no more than a few thousand at once."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


def warehouse_file(root: Root, warehouse: Path | None) -> Path | None:
    """The DuckDB file that dbt builds: the given one, else the root's own; None for an s3 root where none is given."""
    if warehouse is not None:
        return warehouse.expanduser().resolve()
    return root.local_path / "warehouse" / "reviewrisk.duckdb" if root.is_local else None


def open_warehouse(
    root: Root | str, warehouse: Path | None = None, note: Callable[[str], None] | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection that sees every Delta table, at its newest version, and every mart and report under their plain
    names.

    Nothing can be written through it and no other file be read: DuckDB's access to the outside is switched off and its
    settings locked. Marts are missing where `reviewrisk report` has not run yet. A warehouse file that cannot be opened
    is an error, or, where `note` is given, a note in one line: the tables alone are there then. Tables are read by
    delta-rs, so a local and an s3 root work alike.
    """
    place = parse_root(root, StorageSettings()) if isinstance(root, str) else root
    connection = _connection_over_tables(place)
    file = warehouse_file(place, warehouse)
    if file is not None and file.exists():
        try:
            _attach_marts(connection, file)
        except ReviewriskError as error:
            if note is None:
                raise
            note(f"marts are missing: {error}")
    return _locked(connection)


def open_tables(root: Root | str) -> duckdb.DuckDBPyConnection:
    """As `open_warehouse`, over the Delta tables alone: it works while another program holds the warehouse's file."""
    return _locked(_connection_over_tables(parse_root(root, StorageSettings()) if isinstance(root, str) else root))


def _connection_over_tables(root: Root) -> duckdb.DuckDBPyConnection:
    tables = delta.published_tables(root)
    # A folder that DuckDB makes when memory runs out, and removes; its default, .tmp, could be read by a query.
    spill = Path(tempfile.gettempdir()) / f"reviewrisk-sql-{uuid.uuid4().hex}"
    connection = duckdb.connect(config={"temp_directory": str(spill)})
    connection.execute("set TimeZone = 'UTC'")
    # a root that an earlier version of the code made may lack a table: it is empty then
    for name, declared in TABLES.items():
        known = name in tables
        rows = delta.arrow_dataset(tables[name], root, name) if known else declared.schema.empty_table()
        connection.register(name, rows)
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
        said = " ".join(str(error).partition("See also")[0].split())
        raise ReviewriskError(
            f"The warehouse {file} cannot be opened; does another program write to it? DuckDB says: {said}"
        ) from None
    listed = "select table_name from duckdb_tables() where database_name = 'warehouse' and schema_name = 'main'"
    for (name,) in connection.execute(listed).fetchall():
        connection.table(f"warehouse.main.{name}").create_view(name)


def table_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names that a query may use, sorted."""
    return [name for (name,) in connection.execute("show tables").fetchall()]


def run_query(connection: duckdb.DuckDBPyConnection, sql: str) -> Answer:
    """The answer of one reading statement; anything else is refused."""
    with _sentences(connection):
        statement = _reading_statement(connection, sql)
        connection.execute(statement)
    return Answer([column[0] for column in connection.description or []], _rows(connection, sql))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[tuple[Any, ...]]:
    with _sentences(connection):
        try:
            yield from _fetched(connection)
        except duckdb.InterruptException:
            _raise_the_cause(connection, sql)


def _fetched(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := connection.fetchmany(ROWS_AT_A_TIME):
        yield from rows


def _raise_the_cause(connection: duckdb.DuckDBPyConnection, sql: str) -> NoReturn:
    """Run the query again for the error that interrupted it. DuckDB stops its other threads before it keeps the error
    of one, and where another is the faster, "Interrupted" is all that it reports.
    """
    for _ in range(TRIES_FOR_THE_CAUSE):
        with suppress(duckdb.InterruptException):
            connection.execute(sql)
            for _row in _fetched(connection):
                pass
    raise ReviewriskError("DuckDB stopped the query and does not say why: run the command again.")


@contextmanager
def _sentences(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within it, an error of DuckDB is one for the user. What it repeats of the data is shown escaped."""
    try:
        yield
    except duckdb.PermissionException:
        raise ReviewriskError(
            "The query is refused: it may read the tables and marts only, no files and no other databases."
        ) from None
    except duckdb.CatalogException as error:
        said = printable(str(error), keep="\n")
        raise ReviewriskError(f"{said}\nTables and marts there are: {', '.join(table_names(connection))}.") from None
    except duckdb.Error as error:
        raise ReviewriskError(printable(_BEFORE_THE_CAUSE.sub("", str(error)), keep="\n")) from None
    except RuntimeError as error:  # what DuckDB makes of Ctrl-C while it computes
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None


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
    if found := _SETTINGS_FUNCTION.search(sql):
        raise ReviewriskError(f"The query is refused: {found[1]} changes settings or files, and a query only reads.")
    return statements[0]

"""No row may come back: the checks of sql/checks, and those that the schemas state, on staged and published rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb

from jobs.lake import staging
from jobs.lake.query import open_tables
from jobs.lake.schemas import TABLES, Table
from jobs.lake.staging import Staged
from jobs.outages import storage_errors
from jobs.resources import resource_folder
from jobs.storage import Root
from model.errors import ReviewriskError
from model.progress import Report, progress

SAMPLE_ROWS = 5


@dataclass(frozen=True)
class Check:
    """A query that gives no row back where all is well. Its first comment says what a row means."""

    name: str
    sql: str

    @property
    def meaning(self) -> str:
        return " ".join(line.removeprefix("--").strip() for line in self.sql.splitlines() if line.startswith("--"))


@dataclass(frozen=True)
class CheckFailure:
    """A check that gave rows back: its name, what a row means, how many there are and the first few of them."""

    name: str
    meaning: str
    rows: int
    sample: list[dict[str, Any]]


def staged_checks(table: Table) -> list[Check]:
    """The checks of one table's rows: what its schema states, and the files under sql/checks/staged."""
    return [_unique_key(table), _required_values(table), *_checks_of_files("staged", f"{table.name}__*.sql")]


def published_checks() -> list[Check]:
    """The checks of tables against each other, the files under sql/checks/published.

    Each reads keys, dates and counts alone, and no text, so that it is quick on large tables.
    """
    return _checks_of_files("published", "*.sql")


def all_checks() -> list[Check]:
    return [*published_checks(), *(check for table in TABLES.values() for check in staged_checks(table))]


def _checks_of_files(folder: str, names: str) -> list[Check]:
    files = sorted((resource_folder("sql") / "checks" / folder).glob(names))
    return [Check(file.stem, file.read_text(encoding="utf-8")) for file in files]


def _unique_key(table: Table) -> Check:
    key = ", ".join(table.key)
    return Check(
        f"{table.name}__key_is_unique",
        f"-- A row is a key ({key}) that more than one row of {table.name} has.\n"
        f"select {key}, count(*) as row_count from {table.name} group by {key} having count(*) > 1",
    )


def _required_values(table: Table) -> Check:
    lacking = " or ".join(f"{column.name} is null" for column in table.schema if not column.nullable)
    return Check(
        f"{table.name}__required_values_are_there",
        "-- A row lacks a value in a column that may not be null.\n"
        f"select {', '.join(table.key)} from {table.name} where {lacking}",
    )


def check_staged(root: Root, table: Table, staged: Staged) -> None:
    """Raise where the staged rows of a table break a check, or do not add up to the rows that the tasks wrote."""
    if not staged.files:
        return
    with (
        storage_errors(f"The table {table.name} of {root.uri}"),
        duckdb.connect(config={"temp_directory": tempfile.gettempdir()}) as connection,
    ):
        connection.register(table.name, staging.dataset(root, table, [file.path for file in staged.files]))
        counted = connection.table(table.name).count("*").fetchone()
        if counted is None or counted[0] != staged.rows:
            raise ReviewriskError(
                f"{table.name}: the tasks wrote {staged.rows} rows and the staged files hold {counted and counted[0]};"
                " nothing was published."
            )
        failures = run_checks(connection, staged_checks(table))
    if failures:
        raise ReviewriskError(
            f"{table.name}: the rows to be published break these checks, so nothing was published:\n{_listed(failures)}"
        )


def run_published_checks(root: Root, report: Report) -> None:
    """Run every check on the published tables; raise where one gives a row back."""
    checks = all_checks()
    with open_tables(root) as connection:
        failures = run_checks(connection, checks)
    if failures:
        raise ReviewriskError(
            f"{len(failures)} of {len(checks)} checks found rows in the tables of {root.uri}:\n{_listed(failures)}"
        )
    report(f"  {len(checks)} checks, no row found")


def check_before_report(root: Root | str, report: Report) -> None:
    """Raise where the tables contradict each other, which no check of one table's staged rows can see."""
    with progress("checking the tables against each other", report), open_tables(root) as connection:
        failures = run_checks(connection, published_checks())
    if failures:
        raise ReviewriskError(
            "Tables contradict each other, so nothing was built and the warehouse was left as it"
            f" was:\n{_listed(failures)}\nThe rows are what the query of each file under sql/checks/published gives"
            " (`reviewrisk sql`)."
        )


def run_checks(connection: duckdb.DuckDBPyConnection, checks: Iterable[Check]) -> list[CheckFailure]:
    """One CheckFailure for each check that gives a row back. The connection must know the tables that they name."""
    found = (_run_check(connection, check) for check in checks)
    return [failure for failure in found if failure is not None]


def _run_check(connection: duckdb.DuckDBPyConnection, check: Check) -> CheckFailure | None:
    result = connection.execute(check.sql)
    columns = [column[0] for column in result.description or []]
    first = result.fetchmany(SAMPLE_ROWS)
    if not first:
        return None
    count = len(first)
    while rest := result.fetchmany(10_000):
        count += len(rest)
    return CheckFailure(check.name, check.meaning, count, [dict(zip(columns, row, strict=True)) for row in first])


def _listed(failures: list[CheckFailure]) -> str:
    return "\n".join(f"  {failure.name} ({failure.rows:,} rows): {failure.meaning}" for failure in failures)

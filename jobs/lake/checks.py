"""sql/checks against staged rows before a commit, and against the published tables."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pyarrow.dataset as ds

from jobs.lake import delta
from jobs.lake.delta import Staged
from jobs.lake.query import CheckFailure, open_tables, run_checks
from jobs.lake.schemas import Table
from jobs.resources import resource_folder
from jobs.storage import Root
from model.errors import ReviewriskError
from model.progress import Report, progress


def check_staged(root: Root, table: Table, staged: Staged) -> None:
    """Raise where the staged rows of a table break a check of sql/checks/staged, or do not add up to the rows that the
    tasks wrote.
    """
    if not staged.files:
        return
    base = root.path_on_filesystem(delta.table_uri(root, table.name))
    partitioning = (
        ds.partitioning(table.schema.empty_table().select(table.partition_by).schema, flavor="hive")
        if table.partition_by
        else None
    )
    rows = ds.dataset(
        [f"{base}/{file.path}" for file in staged.files],
        table.schema,
        "parquet",
        root.filesystem(),
        partitioning,
        partition_base_dir=base,
    )
    with duckdb.connect(config={"temp_directory": tempfile.gettempdir()}) as connection:
        connection.register(table.name, rows)
        counted = connection.table(table.name).count("*").fetchone()
        if counted is None or counted[0] != staged.rows:
            raise ReviewriskError(
                f"{table.name}: the tasks wrote {staged.rows} rows and the staged files hold {counted and counted[0]};"
                " nothing was published."
            )
        files = sorted((resource_folder("sql") / "checks" / "staged").glob(f"{table.name}__*.sql"))
        failures = run_checks(connection, files)
    if failures:
        raise ReviewriskError(
            f"{table.name}: the rows to be published break these checks, so nothing was published:\n{_shown(failures)}"
        )


def run_published_checks(root: Root, report: Report) -> None:
    """Run every check on the published tables; raise where one gives a row back."""
    files = sorted((resource_folder("sql") / "checks").rglob("*.sql"))
    failures = _failures(root, files)
    if failures:
        raise ReviewriskError(
            f"{len(failures)} of {len(files)} checks found rows in the tables of {root.uri}:\n{_shown(failures)}"
        )
    report(f"  {len(files)} checks, no row found")


def check_before_report(root: Root | str, report: Report) -> None:
    """Raise where the tables contradict each other: sql/checks/published, which no check of one table's staged rows can
    see.

    Each reads keys, dates and counts alone, and no text, so that it is quick on large tables.
    """
    files = sorted((resource_folder("sql") / "checks" / "published").glob("*.sql"))
    with progress("checking the tables against each other", report):
        failures = _failures(root, files)
    if failures:
        raise ReviewriskError(
            "Tables contradict each other, so nothing was built and the warehouse was left as it"
            f" was:\n{_shown(failures)}\nThe rows are what the query of each file under sql/checks/published gives"
            " (`reviewrisk sql`)."
        )


def _failures(root: Root | str, files: list[Path]) -> list[CheckFailure]:
    with open_tables(root) as connection:
        return run_checks(connection, files)


def _shown(failures: list[CheckFailure]) -> str:
    return "\n".join(f"  {failure.name} ({failure.rows:,} rows): {failure.meaning}" for failure in failures)

"""`reviewrisk sql` and `reviewrisk tables …`: reading in SQL, and what is done to tables as such."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from jobs.cli.common import conf_option, load


@click.command()
@conf_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.argument("query")
def sql(conf: Path | None, form: Literal["table", "csv", "json"], query: str) -> None:
    """Run a read-only QUERY over all tables and marts in DuckDB."""
    from jobs.lake.query import open_warehouse, run_query

    config = load(conf)
    with open_warehouse(config.root, config.warehouse) as connection:
        click.echo(run_query(connection, query, form))


@click.group("tables")
def tables() -> None:
    """Export tables, check them, and clear out old files."""


@tables.command("export")
@conf_option
@click.option(
    "--parquet",
    "target",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder to write to; one folder a table.",
)
@click.argument("names", nargs=-1)
def tables_export(conf: Path | None, target: str, names: tuple[str, ...]) -> None:
    """Write tables (NAMES; default: all) as plain Parquet, for readers that know no Delta."""
    from jobs.lake.tables import export_parquet

    for name, rows in export_parquet(load(conf).root, target, names).items():
        click.echo(f"  {name}: {rows:,} rows")


@tables.command("vacuum")
@conf_option
@click.option(
    "--retention-hours",
    default=168,
    show_default=True,
    type=click.IntRange(min=1),
    help="Files younger than this stay, so that running jobs and readers keep theirs.",
)
def tables_vacuum(conf: Path | None, retention_hours: int) -> None:
    """Delete files that no recent version of a table names."""
    from jobs.lake.tables import vacuum

    for name, files in vacuum(load(conf).root, retention_hours).items():
        click.echo(f"  {name}: {files:,} files deleted")


@tables.command("check")
@conf_option
def tables_check(conf: Path | None) -> None:
    """Run sql/checks on the published tables; fails where a row comes back."""
    from jobs.lake.checks import run_published_checks

    run_published_checks(load(conf).root, click.echo)


@tables.command("ddl")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("sql/tables"))
def tables_ddl(folder: Path) -> None:
    """Write each table's CREATE TABLE statement to FOLDER, from jobs/lake/schemas.py."""
    from jobs.lake.ddl import write_ddl

    write_ddl(folder)

"""`reviewrisk sql` and `reviewrisk tables …`: reading in SQL, and what is done to tables as such."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import click

from jobs.cli.options import conf_option, load
from model.errors import ReviewriskError


class QueryCommand(click.Command):
    """Takes an argument such as "-- How many?\\nselect 1" for what it is: a query that begins with a comment."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        options = [arg for arg in args[:end] if not re.match(r"--[^=]*\s", arg)]
        queries = [arg for arg in args[:end] if arg not in options]
        return super().parse_args(ctx, [*options, "--", *queries, *args[end + 1 :]])


@click.command(cls=QueryCommand)
@conf_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the query from this file, such as those of sql/adhoc.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="Rows to give at most.  [default: 1,000 for a table, all for csv, json]"
)
@click.option(
    "--safe-csv",
    is_flag=True,
    help="With --format csv, put a ' before text that begins with = + - @, a tab or a line end.",
)
@click.argument("query", required=False)
def sql(
    conf: Path | None,
    form: Literal["table", "csv", "json"],
    file: Path | None,
    limit: int | None,
    safe_csv: bool,
    query: str | None,
) -> None:
    """Run a read-only QUERY over all tables and marts in DuckDB; a QUERY of - is read from standard input.

    csv and json are written row by row and carry each text as it is stored. A spreadsheet takes cells such as =1+1 for
    formulas: give --safe-csv where a file is for one. On a terminal, control characters are shown as escapes.
    """
    from jobs.lake.answers import write_answer
    from jobs.lake.query import open_warehouse, run_query

    if safe_csv and form != "csv":
        raise click.UsageError("--safe-csv goes with --format csv.")
    text = _query_text(query, file)
    config, out, is_cut = load(conf), click.get_binary_stream("stdout"), False
    with open_warehouse(config.root, config.warehouse, _note) as connection, _until_the_reader_leaves(out):
        is_cut = write_answer(run_query(connection, text), out, form, limit, safe_csv, out.isatty())
    if is_cut and form != "table":
        _note(f"the first {limit:,} rows; there are more")


def _query_text(query: str | None, file: Path | None) -> str:
    """The query, from the one of three places that is given."""
    if (query is None) == (file is None):
        raise click.UsageError("Give one query: as an argument, as --file FILE, or as - for standard input.")
    if query is not None and query != "-":
        return query
    given = file.read_bytes() if file else click.get_binary_stream("stdin").read()
    try:
        return given.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReviewriskError(f"The query in {file or 'standard input'} is not UTF-8 text: save it as UTF-8.") from None


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


@contextmanager
def _until_the_reader_leaves(out: BinaryIO) -> Iterator[None]:
    """Within it, a reader that closes the pipe early (`| head`) ends the writing quietly."""
    try:
        yield
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # Python flushes what is left once more at its end


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
    """Write tables and marts (NAMES; default: all) as plain Parquet, for readers that know no Delta."""
    from jobs.lake.export import export_parquet

    config = load(conf)
    for name, rows in export_parquet(config.root, target, names, config.warehouse).items():
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
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("sql/ddl"))
def tables_ddl(folder: Path) -> None:
    """Write each table's CREATE TABLE statement to FOLDER, from jobs/lake/schemas.py."""
    from jobs.lake.ddl import write_ddl

    write_ddl(folder)

"""The DDL under sql/ddl, generated from jobs.lake.schemas for people and for other warehouses. Nothing here reads or
writes a table.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from jobs.lake.schemas import TABLES, UTC, Table

LONGEST_LINE = 120

_TYPES: dict[pa.DataType, str] = {
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.date32(): "date",
    UTC: "timestamp",
}


def table_ddl(table: Table) -> str:
    """One `create table` statement in Spark SQL for Delta, every column with its comment."""
    columns = ",\n".join(_column_ddl(column) for column in table.schema)
    lines = [
        "-- Generated from jobs/lake/schemas.py: change it there.",
        f"-- Key: {', '.join(table.key)} (unique; see sql/checks).",
        f"create table if not exists {table.name} (",
        columns,
        ")",
        "using delta",
    ]
    if table.partition_by:
        lines.append(f"partitioned by ({', '.join(table.partition_by)})")
    lines.append(_with_comment("comment", "    ", table.description) + ";")
    return "\n".join(lines) + "\n"


def _column_ddl(column: pa.Field) -> str:
    required = "" if column.nullable else " not null"
    comment = column.metadata[b"comment"].decode()
    return _with_comment(f"    {column.name} {_TYPES[column.type]}{required} comment", " " * 8, comment)


def _with_comment(head: str, indent: str, comment: str) -> str:
    """The head and its comment on one line, or on two where one would be longer than 120 columns."""
    line = f"{head} {_literal(comment)}"
    if len(line) < LONGEST_LINE:
        return line
    return f"{head}\n{indent}{_literal(comment)}"


def _literal(text: str) -> str:
    """A Spark string literal; a doubled quote would be read as two literals by Spark 3."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write_ddl(folder: Path) -> list[Path]:
    """Write <table>.sql for every table into a folder; the files written, in the order of jobs.lake.schemas."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.sql" for name in TABLES]
    for path, table in zip(paths, TABLES.values(), strict=True):
        path.write_text(table_ddl(table), encoding="utf-8")
    return paths

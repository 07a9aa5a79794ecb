"""The DDL under sql/tables, generated from jobs.lake.schemas for people and for other warehouses. Nothing here reads or
writes a table.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from jobs.lake.schemas import TABLES, UTC, Table

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
        (
            f"-- Key: {', '.join(table.key)} (unique; see sql/checks). Generated from jobs/lake/schemas.py: change it"
            " there."
        ),
        f"create table if not exists {table.name} (",
        columns,
        ")",
        "using delta",
    ]
    if table.partition_by:
        lines.append(f"partitioned by ({', '.join(table.partition_by)})")
    lines.append(f"comment {_literal(table.description)};")
    return "\n".join(lines) + "\n"


def _column_ddl(column: pa.Field) -> str:
    required = "" if column.nullable else " not null"
    comment = column.metadata[b"comment"].decode()
    return f"    {column.name} {_TYPES[column.type]}{required} comment {_literal(comment)}"


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

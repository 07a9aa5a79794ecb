"""The only reader and writer of tables: whole, checked, and replaced scope by scope in single commits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.lake import delta, staging, table_damage
from jobs.lake.checks import check_staged
from jobs.lake.schemas import TABLES, Table
from jobs.lake.staging import Scope, Staged, StagedFile
from jobs.outages import storage_errors, worker_errors
from jobs.storage import Root, literal_path
from model.errors import LostRaceError, ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

REBUILDS = 5


def create_tables(root: Root) -> None:
    """Make every table that is not there yet, empty, so that readers never meet half a warehouse."""
    for table in TABLES.values():
        delta.create(root, table)


def add_missing_columns(root: Root) -> None:
    """Give a root that an earlier version of the code made the tables and columns that have come since; a folder
    without tables is left alone.
    """
    missing = [table for table in TABLES.values() if not delta.add_missing_columns(root, table)]
    for table in missing if len(missing) < len(TABLES) else []:
        delta.create(root, table)


def is_there(root: Root, name: str) -> bool:
    """Whether the root has the table: a root of an earlier version of the code, which no run has written to since, may
    lack one.
    """
    return delta.find_table(root, TABLES[name]) is not None


def current_version(root: Root, name: str) -> int:
    return delta.open_table(root, name).version()


def read_arrow(
    root: Root,
    name: str,
    columns: Sequence[str] | None = None,
    where: ds.Expression | None = None,
    version: int | None = None,
) -> pa.Table:
    """A table's rows on the driver, in the declared schema (or the chosen columns of it).

    A nullable column that a table of an earlier version of the code lacks is null. Raises ReviewriskError where it
    lacks a needed one.
    """
    handle = delta.open_table(root, name, version)
    table_damage.check_data(root, name, delta.files_in_scope(handle, {}))
    with delta.delta_errors(root, name):
        return _conformed(delta.arrow_dataset(handle, root, name), root, name, columns, where)


def _conformed(
    dataset: ds.Dataset, root: Root, name: str, columns: Sequence[str] | None, where: ds.Expression | None
) -> pa.Table:
    """Rows of a dataset of the table as `read_arrow` gives them."""
    schema = pa.schema([TABLES[name].schema.field(column) for column in columns or TABLES[name].schema.names])
    missing = [field for field in schema if field.name not in dataset.schema.names]
    if needed := [field.name for field in missing if not field.nullable]:
        raise ReviewriskError(
            f"The table {name} of {root.uri}, made by an earlier version of the code, has no {', '.join(needed)}: build"
            " a new root."
        )
    rows = dataset.to_table(columns=[field.name for field in schema if field not in missing], filter=where)
    for field in missing:
        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(schema.names).cast(schema)


def read_frame(
    spark: SparkSession,
    root: Root,
    name: str,
    scope: Scope | None = None,
    version: int | None = None,
    columns: Sequence[str] | None = None,
) -> DataFrame:
    """A table's rows in Spark: all, or those of some partitions, at one version (the newest where none is given); all
    or some columns.
    """
    table = TABLES[name]
    names = list(columns or table.schema.names)
    schema = spark_schema(table)
    uri = staging.table_uri(root, name)
    paths = delta.files_in_scope(delta.open_table(root, name, version), scope or {})
    table_damage.check_data(root, name, paths)
    if not paths:
        return spark.createDataFrame([], schema).select(names)
    if root.is_local:
        reader = spark.read.schema(schema).option("basePath", uri)
        return reader.parquet(*(literal_path(f"{uri}/{path}") for path in paths)).select(names)
    addresses = spark.createDataFrame([(path,) for path in paths], "path string").repartition(len(paths))
    return addresses.mapInArrow(_file_reader(root, table, names), _subset(schema, names))


def _file_reader(
    root: Root, table: Table, names: Sequence[str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a Spark task reads files of an object store with: paths in, rows out."""

    def read_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([table.schema.field(column) for column in names])
        for batch in batches:
            for path in batch.column("path").to_pylist():
                with storage_errors(f"The file {path} of the table {table.name}"):
                    for rows in staging.dataset(root, table, [path]).to_batches(columns=names):
                        yield from pa.Table.from_batches([rows]).cast(schema).to_batches()

    return read_files


def _subset(schema: StructType, names: Sequence[str]) -> StructType:
    from pyspark.sql.types import StructType

    return StructType([schema[name] for name in names])


def has_files(root: Root, name: str, scope: Scope) -> bool:
    """Whether the table's newest version has any rows in the scope."""
    return bool(delta.files_in_scope(delta.open_table(root, name), scope))


def spark_schema(table: Table) -> StructType:
    """The table's columns as Spark types."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(table.schema.remove_metadata())


def stage_frame(frame: DataFrame, root: Root, name: str, run_id: str, scope: Scope) -> Staged:
    """Write a frame's rows as files of a table, on the executors; nothing is visible before `publish` commits them."""
    from pyspark.sql.pandas.types import from_arrow_schema

    table = TABLES[name]

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from staging.files_as_batches(staging.write_files(batches, root, table, run_id))

    if table.partition_by:
        frame = frame.repartition(*table.partition_by).sortWithinPartitions(*table.partition_by)
    with worker_errors(f"The table {name} of {root.uri}"):
        rows = frame.select(table.schema.names).mapInArrow(write, from_arrow_schema(staging.FILES_SCHEMA)).collect()
    return Staged([StagedFile(row.path, row.bytes, row.rows, json.loads(row.partition)) for row in rows], scope)


def stage_arrow(rows: pa.Table, root: Root, name: str, run_id: str, scope: Scope | None = None) -> Staged:
    """Write rows that lie on the driver as files of a table."""
    table = TABLES[name]
    rows = staging.conform(rows, table)
    if table.partition_by:
        rows = rows.sort_by([(column, "ascending") for column in table.partition_by])
    batches = rows.combine_chunks().to_batches()
    return Staged(list(staging.write_files(batches, root, table, run_id)), scope or {})


def publish(
    root: Root, name: str, run_id: str, build: Callable[[int], Staged | None], guard_whole_table: bool = False
) -> Staged | None:
    """Replace a scope of a table, in one commit, with what `build(version)` stages from that version; None where it
    stages nothing.

    The staged rows must pass sql/checks/staged first. Where another writer changed the scope meanwhile (or, with
    `guard_whole_table`, any part of the table), `build` is called again on the newer version.
    """
    table = TABLES[name]
    for attempt in range(REBUILDS):
        version = current_version(root, name)
        staged = build(version)
        if staged is None:
            return None
        staging.check_files(root, table, staged)
        check_staged(root, table, staged)
        if delta.commit(root, table, staged, version, run_id, guard={} if guard_whole_table else staged.scope):
            return staged
        delta.pause(attempt)
    raise LostRaceError(
        f"{name}: other writers kept changing the same rows, so nothing was published: run the command again when they"
        " are done."
    )


def replace_rows(root: Root, name: str, run_id: str, build: Callable[[pa.Table], pa.Table | None]) -> None:
    """Replace a small table whole by what `build` makes of its rows; nothing is committed where it gives None or the
    same rows.
    """
    table = TABLES[name]

    def stage(version: int) -> Staged | None:
        before = read_arrow(root, name, version=version)
        after = build(before)
        if after is None or _sorted(after, table).equals(_sorted(before, table)):
            return None
        return stage_arrow(after, root, name, run_id)

    publish(root, name, run_id, stage)


def _sorted(rows: pa.Table, table: Table) -> pa.Table:
    return staging.conform(rows, table).combine_chunks().sort_by([(column, "ascending") for column in table.key])


def append_row(root: Root, name: str, row: dict[str, Any], run_id: str) -> None:
    """Add one row to a table that only grows; an error where the table is not there."""
    delta.open_table(root, name)  # before a file is written
    rows = pa.Table.from_pylist([row], schema=TABLES[name].schema)
    delta.append(root, TABLES[name], stage_arrow(rows, root, name, run_id).files, run_id)


def vacuum(root: Root, retention_hours: int, names: Sequence[str] | None = None) -> dict[str, int]:
    """Delete files that no version of the last hours names, orphans of killed runs included; files
    deleted per table.
    """
    return {
        name: len(handle.vacuum(retention_hours, dry_run=False, enforce_retention_duration=False, full=True))
        for name, handle in delta.published_tables(root).items()
        if names is None or name in names
    }

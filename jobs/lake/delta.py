"""Delta tables over delta-rs: tasks write and read Parquet files, the driver commits once. No JVM package is needed.

A write is staged first (files that no version of the table names yet) and then committed: one commit replaces the rows
of one scope, a set of partitions. Whatever dies before the commit leaves the table as it was; its files are never
visible and go with a vacuum.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction
from pyarrow.fs import SubTreeFileSystem

from jobs.lake.schemas import TABLES, Table
from jobs.storage import Root
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Partition column -> the values being read or replaced. An empty scope is the whole table.
Scope = Mapping[str, Collection[Any]]
ROWS_PER_FILE = 2_000_000
ROWS_PER_GROUP = 128_000
BYTES_PER_GROUP = 64 * 2**20
FILES_SCHEMA = pa.schema(
    [("path", pa.string()), ("bytes", pa.int64()), ("rows", pa.int64()), ("partition", pa.string())]
)


@dataclass(frozen=True)
class StagedFile:
    """A Parquet file that is written and not committed; `path` is relative to the table, `partition` its column values
    as text.
    """

    path: str
    bytes: int
    rows: int
    partition: dict[str, str]


@dataclass(frozen=True)
class Staged:
    """What one commit is to put in place of the rows of `scope`."""

    files: list[StagedFile] = field(default_factory=list)
    scope: Scope = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def table_uri(root: Root, name: str) -> str:
    return root.join("tables", name)


def create(root: Root, table: Table) -> None:
    """Make the table, empty, where it is not there yet."""
    DeltaTable.create(
        table_uri(root, table.name),
        table.schema,
        mode="ignore",
        partition_by=list(table.partition_by),
        name=table.name,
        description=table.description,
        storage_options=root.storage_options(),
    )


def add_missing_columns(root: Root, table: Table) -> bool:
    """Give a table that an earlier version of the code made the columns that have come since, their old values null;
    False where the table is not there.

    Raises ReviewriskError where a lacking column may not be null.
    """
    handle = find_table(root, table)
    known = {field.name for field in handle.schema().fields} if handle else set()
    missing = [field for field in table.schema if handle and field.name not in known]
    required = [field.name for field in missing if not field.nullable]
    if required:
        raise ReviewriskError(
            f"{root.uri}: {table.name} was made by an earlier version of the code and has no {', '.join(required)}:"
            " build a new root from the sources (reviewrisk ingest)."
        )
    if handle and missing:
        with suppress(CommitFailedError):  # another run adds them at this moment
            handle.alter.add_columns([Field.from_arrow(field) for field in missing])
    return handle is not None


def find_table(root: Root, table: Table) -> DeltaTable | None:
    """The table at its newest version, None where the root has none of that name."""
    with suppress(ReviewriskError):
        return open_table(root, table.name)
    return None


def open_table(root: Root, name: str, version: int | None = None) -> DeltaTable:
    """The table at a version, the newest where none is given."""
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(table_uri(root, name), version=version, storage_options=root.storage_options())
    except TableNotFoundError:
        raise ReviewriskError(
            f"{root.uri} holds no table {name} yet: run `reviewrisk ingest` first, or check the root."
        ) from None


def published_tables(root: Root) -> dict[str, DeltaTable]:
    """The root's tables at their newest version, by name; an error where it has none."""
    found: dict[str, DeltaTable] = {}
    for name in TABLES:
        with suppress(ReviewriskError):  # a root of an earlier version may lack a table
            found[name] = open_table(root, name)
    if not found:
        raise ReviewriskError(f"{root.uri} holds no tables yet: run `reviewrisk ingest` first, or check the root.")
    return found


def arrow_dataset(handle: DeltaTable, root: Root, name: str) -> ds.Dataset:
    """The version's rows as an Arrow dataset, read by Arrow's own file system.

    delta-rs' default file system is Python code. A scan that ends early (a `limit`) leaves threads behind that call it
    while the interpreter shuts down: the process then hangs or crashes.
    """
    base = root.path_on_filesystem(table_uri(root, name))
    dataset: ds.Dataset = handle.to_pyarrow_dataset(filesystem=SubTreeFileSystem(base, root.filesystem()))
    return dataset


def files_in_scope(handle: DeltaTable, scope: Scope) -> list[str]:
    """Paths, relative to the table, of the version's files that lie in a scope."""
    wanted = {column: {str(value) for value in values} for column, values in scope.items()}
    actions = pa.table(handle.get_add_actions(flatten=True))
    columns = {column: [str(value) for value in actions[f"partition.{column}"].to_pylist()] for column in wanted}
    paths: list[str] = actions["path"].to_pylist()
    return [path for i, path in enumerate(paths) if all(columns[column][i] in wanted[column] for column in wanted)]


def write_files(batches: Iterable[pa.RecordBatch], root: Root, table: Table, run_id: str) -> Iterator[StagedFile]:
    """Write rows, sorted by the partition columns, into Parquet files under the table; yields each file when it is
    complete.
    """
    filesystem = root.filesystem()
    stored = pa.schema([column for column in table.schema if column.name not in table.partition_by])
    writer: _FileWriter | None = None
    for values, rows in _runs(batches, table):
        if writer is None or writer.partition != values or writer.rows >= ROWS_PER_FILE:
            if writer is not None:
                yield writer.close()
            writer = _FileWriter(filesystem, root, table.name, values, stored, run_id)
        writer.write(rows)
    if writer is not None:
        yield writer.close()


def conform(rows: pa.Table, table: Table) -> pa.Table:
    """The rows with just the table's columns, in its types; an error names a required column that has a null."""
    for column in table.schema:
        if not column.nullable and rows[column.name].null_count:
            raise ReviewriskError(
                f"{table.name}.{column.name} may not be null, and {rows[column.name].null_count} rows to be written"
                " have no value."
            )
    return rows.select(table.schema.names).cast(table.schema)


def _runs(batches: Iterable[pa.RecordBatch], table: Table) -> Iterator[tuple[dict[str, str], pa.Table]]:
    """Stretches of rows with the same partition values, with all of the table's columns checked."""
    for batch in batches:
        rows = conform(pa.Table.from_batches([batch]), table)
        keys = list(zip(*(rows[name].to_pylist() for name in table.partition_by), strict=True)) or [()] * len(rows)
        start = 0
        for key, stretch in groupby(keys):
            length = sum(1 for _ in stretch)
            values = {name: str(value) for name, value in zip(table.partition_by, key, strict=True)}
            yield values, rows.slice(start, length)
            start += length


class _FileWriter:
    """One Parquet file being written."""

    def __init__(
        self, filesystem: FileSystem, root: Root, name: str, partition: dict[str, str], schema: pa.Schema, run_id: str
    ) -> None:
        self.partition = partition
        self.rows = 0
        self._waiting: list[pa.Table] = []
        folder = "/".join(f"{column}={value}" for column, value in partition.items())
        self._path = "/".join(filter(None, (folder, f"{run_id}-{uuid.uuid4().hex[:12]}.parquet")))
        self._schema = schema
        self._filesystem = filesystem
        self._address = root.path_on_filesystem(f"{table_uri(root, name)}/{self._path}")
        if root.is_local:
            filesystem.create_dir(self._address.rsplit("/", 1)[0], recursive=True)
        self._writer = pq.ParquetWriter(self._address, schema, filesystem=filesystem, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(rows.select(self._schema.names))
        self.rows += len(rows)
        if (
            sum(map(len, self._waiting)) >= ROWS_PER_GROUP
            or sum(part.nbytes for part in self._waiting) >= BYTES_PER_GROUP
        ):
            self._flush()

    def _flush(self) -> None:
        """Write what waits as one row group: small Arrow batches must not become small row groups."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def close(self) -> StagedFile:
        self._flush()
        self._writer.close()
        return StagedFile(self._path, self._filesystem.get_file_info(self._address).size, self.rows, self.partition)


def check_files(root: Root, table: Table, staged: Staged) -> None:
    """Raise unless every staged file exists with its size and lies inside the scope that it is to replace."""
    filesystem = root.filesystem()
    for file in staged.files:
        found = filesystem.get_file_info(root.path_on_filesystem(f"{table_uri(root, table.name)}/{file.path}"))
        if not found.is_file or found.size != file.bytes:
            raise ReviewriskError(
                f"{table.name}: the staged file {file.path} is missing or incomplete, so nothing was published. Run the"
                " step again."
            )
        for column, values in staged.scope.items():
            if file.partition[column] not in {str(value) for value in values}:
                raise ReviewriskError(
                    f"{table.name}: a staged row has {column} {file.partition[column]}, outside the partitions being"
                    " replaced."
                )


def commit(
    root: Root, table: Table, staged: Staged, base_version: int, run_id: str, guard: Scope, attempts: int = 20
) -> bool:
    """Replace the rows of the staged scope in one commit; True when done.

    Another writer may come first. The same files are then committed on top of its version, unless it changed a file of
    `guard` since `base_version`: the staged rows are stale then, nothing is committed and the answer is False.
    """
    handle = open_table(root, table.name, base_version)
    before = set(files_in_scope(handle, guard))
    handle = open_table(root, table.name)
    for _ in range(attempts):
        if handle.version() != base_version and set(files_in_scope(handle, guard)) != before:
            return False
        try:
            handle.create_write_transaction(
                [_add_action(file) for file in staged.files],
                "overwrite",
                table.schema,
                list(table.partition_by),
                [(column, "in", sorted(str(value) for value in values)) for column, values in staged.scope.items()]
                or None,
                commit_properties=CommitProperties(custom_metadata={"run_id": run_id}, max_commit_retries=0),
            )
            return True
        except CommitFailedError:
            handle = open_table(root, table.name)
    raise ReviewriskError(
        f"{table.name}: other writers were first {attempts} times in a row, so nothing was published. Run the step"
        " again."
    )


def _add_action(file: StagedFile) -> AddAction:
    statistics = json.dumps({"numRecords": file.rows})
    return AddAction(file.path, file.bytes, file.partition, int(time.time() * 1000), True, statistics)


def files_as_batches(files: Iterable[StagedFile]) -> Iterator[pa.RecordBatch]:
    """Staged files as Arrow rows (FILES_SCHEMA), the form in which a task tells the driver of them."""
    for file in files:
        row = {"path": file.path, "bytes": file.bytes, "rows": file.rows, "partition": json.dumps(file.partition)}
        yield pa.RecordBatch.from_pylist([row], schema=FILES_SCHEMA)

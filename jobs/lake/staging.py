"""Staged files: rows as Parquet files under a table that no version of it names yet; written by tasks, read before a
commit.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.lake.schemas import Table
from jobs.outages import storage_errors
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
        self._place = f"The table {name} of {root.uri}"
        with self._writing():
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
            with self._writing():
                self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Within it, what storage refuses is a sentence, and what there is of the file goes: a run that is tried again
        on a full disk must not leave one each time.
        """
        try:
            with storage_errors(self._place):
                yield
        except ReviewriskError:
            with suppress(OSError):
                self._filesystem.delete_file(self._address)
            raise

    def close(self) -> StagedFile:
        self._flush()
        with self._writing():
            self._writer.close()
            size = self._filesystem.get_file_info(self._address).size
        return StagedFile(self._path, size, self.rows, self.partition)


def dataset(root: Root, table: Table, paths: Iterable[str]) -> ds.Dataset:
    """Files of the table (paths relative to it), committed or not, as one dataset with all of its columns."""
    base = root.path_on_filesystem(table_uri(root, table.name))
    folders = pa.schema([table.schema.field(column) for column in table.partition_by])
    return ds.dataset(
        [f"{base}/{path}" for path in paths],
        table.schema,
        "parquet",
        root.filesystem(),
        ds.partitioning(folders, flavor="hive") if table.partition_by else None,
        partition_base_dir=base,
    )


def check_files(root: Root, table: Table, staged: Staged) -> None:
    """Raise unless every staged file exists with its size and lies inside the scope that it is to replace."""
    filesystem = root.filesystem()
    for file in staged.files:
        with storage_errors(f"The table {table.name} of {root.uri}"):
            found = filesystem.get_file_info(root.path_on_filesystem(f"{table_uri(root, table.name)}/{file.path}"))
        if found.size != file.bytes:  # None where there is no file
            raise ReviewriskError(
                f"{table.name}: the staged file {file.path} is missing or incomplete, so nothing was published: run the"
                " command again."
            )
        for column, values in staged.scope.items():
            if file.partition[column] not in {str(value) for value in values}:
                raise ReviewriskError(
                    f"{table.name}: a staged row has {column} {file.partition[column]}, outside the partitions being"
                    " replaced."
                )


def files_as_batches(files: Iterable[StagedFile]) -> Iterator[pa.RecordBatch]:
    """Staged files as Arrow rows (FILES_SCHEMA), the form in which a task tells the driver of them."""
    for file in files:
        row = {"path": file.path, "bytes": file.bytes, "rows": file.rows, "partition": json.dumps(file.partition)}
        yield pa.RecordBatch.from_pylist([row], schema=FILES_SCHEMA)

"""Delta tables over delta-rs: tasks write and read Parquet files, the driver commits once. No JVM package is needed.

A write is staged first (files that no version of the table names yet) and then committed: one commit replaces the rows
of one scope, a set of partitions. Whatever dies before the commit leaves the table as it was; its files are never
visible and go with a vacuum.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from pyarrow.fs import SubTreeFileSystem

from jobs.lake import damage
from jobs.lake.schemas import TABLES, Table
from jobs.outages import outage, redacted, storage_errors
from jobs.storage import Root
from model.errors import LostRaceError, ReviewriskError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PUBLISHED_IN_ORDER = (
    "splits",
    "reviews",
    "rejected_reviews",
    "sources",
    "model_thresholds",
    "models",
    "review_scores",
    "token_attributions",
    "model_routes",
    "job_runs",
)
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


class NoSuchTableError(ReviewriskError):
    """The root has no table of that name: nothing is wrong with what is there."""


def table_uri(root: Root, name: str) -> str:
    return root.join("tables", name)


@contextmanager
def delta_errors(root: Root, name: str) -> Iterator[None]:
    """Within it, what delta-rs raises is one sentence that names the table; a lost race stays what it is."""
    place = f"The table {name} of {root.uri}"
    try:
        yield
    except (ReviewriskError, CommitFailedError):
        raise
    except TableNotFoundError:
        damage.check_never_made(root, name)
        raise NoSuchTableError(
            f"{root.uri} holds no table {name} yet: run `reviewrisk ingest` first, or check the root."
        ) from None
    except OSError as error:
        raise outage(error, place) from None
    except (DeltaError, pa.ArrowInvalid) as error:
        raise _unreadable(place, error) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3 derives it from BaseException and shows it nowhere
            raise
        raise _unreadable(place, error) from None


def _unreadable(place: str, error: BaseException) -> ReviewriskError:
    reason = redacted(" ".join(str(error).split("0: <unknown>")[0].split()))[:300]
    return ReviewriskError(
        f"{place} is damaged or cannot be read ({reason}): restore its folder from a backup, or build a new root from"
        " the sources."
    )


def create(root: Root, table: Table) -> None:
    """Make the table, empty, where it is not there yet."""
    with suppress(CommitFailedError), delta_errors(root, table.name):  # suppressed: another run makes it just now
        if find_table(root, table) is None:
            if root.is_local:  # the system says here what is wrong, where delta-rs would say that no table is there
                Path(table_uri(root, table.name)).mkdir(parents=True, exist_ok=True)
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
        with suppress(CommitFailedError), delta_errors(root, table.name):  # suppressed: another run adds them just now
            handle.alter.add_columns([Field.from_arrow(field) for field in missing])
    return handle is not None


def find_table(root: Root, table: Table) -> DeltaTable | None:
    """The table at its newest version, None where the root has none of that name."""
    with suppress(NoSuchTableError):
        return open_table(root, table.name)
    return None


def open_table(root: Root, name: str, version: int | None = None) -> DeltaTable:
    """The table at a version, the newest where none is given; refused where its log is damaged."""
    with delta_errors(root, name):
        handle = DeltaTable(table_uri(root, name), version=version, storage_options=root.storage_options())
        if version is None:
            damage.check_log(root, name)
    return handle


def published_tables(root: Root) -> dict[str, DeltaTable]:
    """The root's tables at their newest version, by name, with all their files; an error where it has none.

    Opened in the opposite order of publishing: what one table looks up in another is then there, whoever publishes now.
    """
    found: dict[str, DeltaTable] = {}
    for name in reversed(PUBLISHED_IN_ORDER):
        if handle := find_table(root, TABLES[name]):  # a root of an earlier version may lack a table
            damage.check_data(root, name, files_in_scope(handle, {}))
            found[name] = handle
    if not found:
        raise ReviewriskError(f"{root.uri} holds no tables yet: run `reviewrisk ingest` first, or check the root.")
    return {name: found[name] for name in TABLES if name in found}


def arrow_dataset(handle: DeltaTable, root: Root, name: str) -> ds.Dataset:
    """The version's rows as an Arrow dataset, read by Arrow's own file system.

    delta-rs' default file system is Python code. A scan that ends early (a `limit`) leaves threads behind that call it
    while the interpreter shuts down: the process then hangs or crashes.
    """
    base = root.path_on_filesystem(table_uri(root, name))
    dataset: ds.Dataset = handle.to_pyarrow_dataset(filesystem=SubTreeFileSystem(base, root.filesystem()))
    return dataset


def files_in_scope(handle: DeltaTable, scope: Scope) -> dict[str, int]:
    """Path, relative to the table, and size of the version's files that lie in a scope."""
    wanted = {column: {str(value) for value in values} for column, values in scope.items()}
    actions = pa.table(handle.get_add_actions(flatten=True))
    rows = actions.select(["path", "size_bytes", *(f"partition.{column}" for column in wanted)]).to_pylist()
    return {
        row["path"]: row["size_bytes"]
        for row in rows
        if all(str(row[f"partition.{column}"]) in values for column, values in wanted.items())
    }


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
    before = files_in_scope(open_table(root, table.name, base_version), guard)
    for attempt in range(attempts):
        handle = open_table(root, table.name)
        if handle.version() != base_version and files_in_scope(handle, guard) != before:
            return False
        if _commit_once(root, table, staged, handle, run_id, "overwrite"):
            return True
        pause(attempt)
    raise _lost_race(table, attempts)


def append(root: Root, table: Table, files: list[StagedFile], run_id: str, attempts: int = 20) -> None:
    """Add files to a table in one commit; other writers' commits do not matter to it."""
    for attempt in range(attempts):
        if _commit_once(root, table, Staged(files), open_table(root, table.name), run_id, "append"):
            return
        pause(attempt)
    raise _lost_race(table, attempts)


def _commit_once(
    root: Root, table: Table, staged: Staged, handle: DeltaTable, run_id: str, mode: Literal["append", "overwrite"]
) -> bool:
    """Commit on top of the handle's version; False where another writer was first."""
    replaced = len(files_in_scope(handle, staged.scope)) if mode == "overwrite" else 0
    filters = [(column, "in", sorted(str(value) for value in values)) for column, values in staged.scope.items()]
    try:
        with delta_errors(root, table.name):
            handle.create_write_transaction(
                [_add_action(file) for file in staged.files],
                mode,
                table.schema,
                list(table.partition_by),
                filters or None,
                commit_properties=CommitProperties(
                    custom_metadata={"run_id": run_id, damage.FILES: str(len(staged.files) + replaced)},
                    max_commit_retries=0,
                ),
            )
    except CommitFailedError:
        return False
    return True


def pause(attempt: int) -> None:
    """Wait a little, longer with each attempt and never as long as another writer."""
    time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))  # noqa: S311 (no secret)


def _lost_race(table: Table, attempts: int) -> LostRaceError:
    return LostRaceError(
        f"{table.name}: other writers were first {attempts} times in a row, so nothing was published: give the command"
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


def take_numbers(root: Root, name: str, keys: Sequence[str], after: int = 0, attempts: int = 50) -> dict[str, int]:
    """A number for each key, 1, 2, 3 … in the order of the keys: the one that it got before, else one that no other key
    ever got, greater than `after`.

    The numbers are application transactions in the table's log, which Delta keeps for ever. They are taken in a commit
    that fails where another run was first, so two runs never take the same, and a run that died leaves its own to the
    next one with the same keys.
    """
    for attempt in range(attempts):
        handle = open_table(root, name)
        found = {key: handle.transaction_version(f"number of {key}") for key in keys}
        known = {key: number for key, number in found.items() if number is not None}
        last = max(handle.transaction_version("last number") or 0, after)
        new = {key: last + place for place, key in enumerate((key for key in keys if key not in known), start=1)}
        if not new:
            return known
        taken = [Transaction(f"number of {key}", number) for key, number in new.items()]
        taken.append(Transaction("last number", last + len(new)))
        try:
            handle.create_write_transaction(
                [],
                "append",
                TABLES[name].schema,
                list(TABLES[name].partition_by),
                commit_properties=CommitProperties(app_transactions=taken, max_commit_retries=0),
            )
            return {**known, **new}
        except CommitFailedError:
            time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 10)))  # noqa: S311 (so that two do not meet again)
    raise LostRaceError(f"{name}: other runs kept being first, so nothing was published: give the command again.")


def rows_by_partition(root: Root, name: str, version: int | None = None) -> list[tuple[dict[str, str], int]]:
    """The partition values and the number of rows of each of a version's files, out of the log alone."""
    handle = open_table(root, name, version)
    actions = pa.table(handle.get_add_actions(flatten=True))
    columns = TABLES[name].partition_by
    values = zip(*(map(str, actions[f"partition.{column}"].to_pylist()) for column in columns), strict=True)
    counts = actions["num_records"].to_pylist()
    return [(dict(zip(columns, row, strict=True)), int(count)) for row, count in zip(values, counts, strict=True)]

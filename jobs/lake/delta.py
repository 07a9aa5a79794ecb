"""Delta tables over delta-rs: opened, created and committed to by the driver. No JVM package is needed.

A write is staged first (jobs.lake.staging) and then committed: one commit replaces the rows of one scope, a set of
partitions. Whatever dies before the commit leaves the table as it was; its files are never visible and go with a
vacuum.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Field, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction
from pyarrow.fs import SubTreeFileSystem

from jobs.lake import table_damage
from jobs.lake.schemas import TABLES, Table
from jobs.lake.staging import Scope, Staged, StagedFile, table_uri
from jobs.outages import outage, redacted
from jobs.storage import Root
from model.errors import LostRaceError, ReviewriskError

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


class NoSuchTableError(ReviewriskError):
    """The root has no table of that name: nothing is wrong with what is there."""


@contextmanager
def delta_errors(root: Root, name: str) -> Iterator[None]:
    """Within it, what delta-rs raises is one sentence that names the table; a lost race stays what it is."""
    place = f"The table {name} of {root.uri}"
    try:
        yield
    except (ReviewriskError, CommitFailedError):
        raise
    except TableNotFoundError:
        table_damage.check_never_made(root, name)
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
            table_damage.check_log(root, name)
    return handle


def published_tables(root: Root) -> dict[str, DeltaTable]:
    """The root's tables at their newest version, by name, with all their files; an error where it has none.

    Opened in the opposite order of publishing: what one table looks up in another is then there, whoever publishes now.
    """
    found: dict[str, DeltaTable] = {}
    for name in reversed(PUBLISHED_IN_ORDER):
        if handle := find_table(root, TABLES[name]):  # a root of an earlier version may lack a table
            table_damage.check_data(root, name, files_in_scope(handle, {}))
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
    partitions = {column: {str(value) for value in values} for column, values in scope.items()}
    actions = pa.table(handle.get_add_actions(flatten=True))
    rows = actions.select(["path", "size_bytes", *(f"partition.{column}" for column in partitions)]).to_pylist()
    return {
        row["path"]: row["size_bytes"]
        for row in rows
        if all(str(row[f"partition.{column}"]) in values for column, values in partitions.items())
    }


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
                    custom_metadata={"run_id": run_id, table_damage.FILES: str(len(staged.files) + replaced)},
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
        f"{table.name}: other writers were first {attempts} times in a row, so nothing was published: run the command"
        " again."
    )


def _add_action(file: StagedFile) -> AddAction:
    statistics = json.dumps({"numRecords": file.rows})
    return AddAction(file.path, file.bytes, file.partition, int(time.time() * 1000), True, statistics)


def take_numbers(root: Root, name: str, keys: Sequence[str], after: int = 0, attempts: int = 50) -> dict[str, int]:
    """A number for each key, 1, 2, 3 … in the order of the keys: the one that it got before, else one that no other
    key ever got, greater than `after`.

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
            with delta_errors(root, name):
                handle.create_write_transaction(
                    [],
                    "append",
                    TABLES[name].schema,
                    list(TABLES[name].partition_by),
                    commit_properties=CommitProperties(app_transactions=taken, max_commit_retries=0),
                )
            return {**known, **new}
        except CommitFailedError:
            pause(attempt)
    raise LostRaceError(f"{name}: other runs kept being first, so nothing was published: run the command again.")


def rows_by_partition(root: Root, name: str, version: int | None = None) -> list[tuple[dict[str, str], int]]:
    """The partition values and the number of rows of each of a version's files, out of the log alone."""
    files = pa.table(open_table(root, name, version).get_add_actions(flatten=True)).to_pylist()
    columns = TABLES[name].partition_by
    return [({column: str(file[f"partition.{column}"]) for column in columns}, file["num_records"]) for file in files]

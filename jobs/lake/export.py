"""Tables and marts as plain Parquet, for readers that know no Delta."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.lake import delta
from jobs.lake.query import open_tables, open_warehouse, table_names
from jobs.lake.schemas import TABLES
from jobs.storage import Root
from model.errors import ReviewriskError


def export_parquet(root: Root, target: str, names: Sequence[str] = (), warehouse: Path | None = None) -> dict[str, int]:
    """Write tables and marts (default: all there are) as Parquet folders under `target`; rows per name. One without
    rows becomes one empty file with its columns.

    The folders of the root itself are not for such readers: they also hold replaced and uncommitted files. Nothing is
    written where a name is unknown or a folder holds an earlier export.
    """
    published = delta.published_tables(root)
    only_tables = bool(names) and set(names) <= set(TABLES)
    with open_tables(root) if only_tables else open_warehouse(root, warehouse) as connection:
        there = sorted({*published, *table_names(connection)} - (set(TABLES) - set(published)))
        folders = {name: Path(target) / name for name in names or there}
        _check_names(folders, there)
        _check_folders(folders.values())
        return {
            name: _export_table(root, name, folder) if name in published else _export_mart(connection, name, folder)
            for name, folder in folders.items()
        }


def _check_names(names: Iterable[str], there: Sequence[str]) -> None:
    for name in names:
        if name not in there:
            raise ReviewriskError(
                f"There is no table {name}; there are: {', '.join(there)}. Marts are those of the last"
                " `reviewrisk report`."
            )


def _check_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        if folder.exists() and any(folder.iterdir()):
            raise ReviewriskError(f"{folder} is not empty: give a folder that holds no earlier export.")


def _export_table(root: Root, name: str, folder: Path) -> int:
    handle = delta.open_table(root, name)
    rows = delta.arrow_dataset(handle, root, name)
    schema = pa.schema([rows.schema.field(column) for column in TABLES[name].partition_by])
    _write(rows, rows.schema, folder, ds.partitioning(schema, flavor="hive"))
    return int(handle.count())


def _export_mart(connection: duckdb.DuckDBPyConnection, name: str, folder: Path) -> int:
    rows = connection.table(name).to_arrow_reader()
    _write(rows, rows.schema, folder)
    found = connection.table(name).count("*").fetchone()
    return int(found[0]) if found else 0


def _write(
    rows: ds.Dataset | pa.RecordBatchReader,
    schema: pa.Schema,
    folder: Path,
    partitioning: ds.Partitioning | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ds.write_dataset(rows, folder, format="parquet", partitioning=partitioning, max_partitions=10_000)
    if not any(folder.iterdir()):
        pq.write_table(schema.empty_table(), folder / "part-0.parquet")

"""jobs.lake.export: tables and marts as Parquet that any reader takes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.lake.export import export_parquet
from jobs.lake.schemas import TABLES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from tests.jobs.lake.test_query import MARTS
from tests.support.warehouse_rows import built_root, corpus_root, review, write_root


def root_at(path: Path) -> Root:
    return parse_root(str(path), StorageSettings())


def test_the_visible_rows_of_a_table_are_exported(tmp_path: Path) -> None:
    root = root_at(write_root(tmp_path / "root", {"reviews": [review("R1"), review("R2")]}))
    assert export_parquet(root, str(tmp_path / "out"), ["reviews"]) == {"reviews": 2}
    found = ds.dataset(tmp_path / "out" / "reviews", partitioning="hive").to_table()
    assert sorted(found["review_id"].to_pylist()) == ["R1", "R2"] and set(found["split"].to_pylist()) == {"test"}


def test_a_table_without_rows_is_an_empty_file_with_all_columns(tmp_path: Path) -> None:
    root = root_at(write_root(tmp_path / "root", {}))
    assert export_parquet(root, str(tmp_path / "out")) == dict.fromkeys(sorted(TABLES), 0)
    for name, table in TABLES.items():
        found = pq.read_table(tmp_path / "out" / name / "part-0.parquet")
        assert found.num_rows == 0 and found.schema.equals(pa.schema(table.schema), check_metadata=False), name


def test_marts_are_exported_with_the_tables(tmp_path: Path) -> None:
    root = root_at(built_root())
    counts = export_parquet(root, str(tmp_path / "out"))
    assert set(counts) == set(TABLES) | MARTS and counts["fct_review_scores"] == 90 and counts["model_routes"] == 0
    assert {folder.name for folder in (tmp_path / "out").iterdir()} == set(counts)
    for name, rows in counts.items():
        assert ds.dataset(tmp_path / "out" / name, partitioning="hive").count_rows() == rows, name


def test_a_mart_can_be_named_and_one_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    import duckdb

    file = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("create table rpt_empty (month date, rate double)")
        connection.execute("create table rpt_full as select 1 as a union all select 2")
    root = root_at(corpus_root())
    counts = export_parquet(root, str(tmp_path / "out"), ["rpt_full", "rpt_empty", "models"], file)
    assert counts == {"rpt_full": 2, "rpt_empty": 0, "models": 2}
    empty = pq.read_table(tmp_path / "out" / "rpt_empty" / "part-0.parquet")
    assert empty.num_rows == 0 and empty.schema.names == ["month", "rate"] and empty.schema.types[0] == pa.date32()


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = root_at(corpus_root())
    with pytest.raises(ReviewriskError, match=r"There is no table nope; there are: .*reviews"):
        export_parquet(root, str(tmp_path / "out"), ["reviews", "nope"])
    assert not (tmp_path / "out").exists()


def test_a_folder_with_an_earlier_export_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = root_at(corpus_root())
    export_parquet(root, str(tmp_path / "out"), ["reviews"])
    with pytest.raises(ReviewriskError, match="reviews is not empty"):
        export_parquet(root, str(tmp_path / "out"), ["models", "reviews"])
    assert not (tmp_path / "out" / "models").exists()


def test_tables_are_exported_while_the_warehouse_cannot_be_opened(tmp_path: Path) -> None:
    file = tmp_path / "broken.duckdb"
    file.write_text("no database", encoding="utf-8")
    assert export_parquet(root_at(corpus_root()), str(tmp_path / "out"), ["models"], file) == {"models": 2}
    with pytest.raises(ReviewriskError, match=r"broken\.duckdb cannot be opened"):
        export_parquet(root_at(corpus_root()), str(tmp_path / "all"), [], file)
    assert not (tmp_path / "all").exists()

"""Staged files: what is written is what was given, and what is not whole is not published."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.lake import delta, staging, tables
from jobs.lake.schemas import REVIEW_SCORES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from tests.support.score_rows import FEBRUARY, JANUARY, publish, scores, stored


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = parse_root(str(tmp_path / "root"), StorageSettings())
    delta.create(made, REVIEW_SCORES)
    return made


def written(root: Root, *batches: pa.Table) -> list[staging.StagedFile]:
    rows = (batch for rows in batches for batch in rows.to_batches())
    return list(staging.write_files(rows, root, REVIEW_SCORES, "run-1"))


def path(root: Root, file: staging.StagedFile) -> Path:
    return Path(staging.table_uri(root, "review_scores"), file.path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"0"),
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["a byte less", "a byte more", "empty", "gone", "a folder"],
)
def test_a_staged_file_that_is_not_what_was_written_is_not_published(
    root: Root, harm: Callable[[Path], object]
) -> None:
    scope = {"model_version": ["m-1"], "review_month": [JANUARY]}

    def stage(_: int) -> staging.Staged:
        staged = tables.stage_arrow(scores(("a", JANUARY, 0.1)), root, "review_scores", "r", scope)
        harm(path(root, staged.files[0]))
        return staged

    with pytest.raises(ReviewriskError, match=r"the staged file .* is missing or incomplete, so nothing was published"):
        tables.publish(root, "review_scores", "r", stage)
    assert tables.current_version(root, "review_scores") == 0


@pytest.mark.parametrize("told", [0, 2])
def test_a_task_that_tells_of_other_rows_than_it_wrote_is_not_published(root: Root, told: int) -> None:
    def stage(_: int) -> staging.Staged:
        [file] = tables.stage_arrow(scores(("a", JANUARY, 0.1)), root, "review_scores", "r").files
        return staging.Staged([staging.StagedFile(file.path, file.bytes, told, file.partition)])

    with pytest.raises(ReviewriskError, match=f"the tasks wrote {told} rows and the staged files hold 1; nothing was"):
        tables.publish(root, "review_scores", "r", stage)
    assert stored(root) == []


@pytest.mark.parametrize(
    ("scope", "column"),
    [
        ({"review_month": [JANUARY]}, "review_month 2015-02-01"),
        ({"model_version": ["m-2"], "review_month": [JANUARY, FEBRUARY]}, "model_version m-1"),
        ({"review_month": []}, "review_month 2015-01-01"),
    ],
)
def test_a_row_outside_the_scope_is_named(root: Root, scope: delta.Scope, column: str) -> None:
    rows = scores(("a", JANUARY, 0.1), ("b", FEBRUARY, 0.2))
    with pytest.raises(ReviewriskError, match=f"a staged row has {column}, outside the partitions being replaced"):
        tables.publish(
            root, "review_scores", "r", lambda _: tables.stage_arrow(rows, root, "review_scores", "r", scope)
        )
    assert stored(root) == []


def test_a_file_is_one_stretch_of_one_partition(root: Root) -> None:
    first = scores(("a", JANUARY, 0.1), ("b", JANUARY, 0.2), ("c", FEBRUARY, 0.3))
    files = written(root, first, scores(("d", FEBRUARY, 0.4)), scores())
    assert [(file.rows, file.partition["review_month"]) for file in files] == [(2, "2015-01-01"), (2, "2015-02-01")]
    assert [pq.read_table(path(root, file), partitioning=None)["review_id"].to_pylist() for file in files] == [
        ["a", "b"],
        ["c", "d"],
    ]
    for file in files:
        assert file.path.startswith(f"model_version=m-1/review_month={file.partition['review_month']}/run-1-")
        assert path(root, file).stat().st_size == file.bytes
        assert not {"model_version", "review_month"} & set(pq.read_schema(path(root, file)).names)
    assert written(root) == [] and written(root, scores()) == []


def test_rows_in_any_order_become_one_file_a_partition(root: Root) -> None:
    turns = [(name, (JANUARY, FEBRUARY)[place % 2], 0.1) for place, name in enumerate("abcd")]
    assert [file.rows for file in tables.stage_arrow(scores(*turns), root, "review_scores", "r").files] == [2, 2]


def test_a_file_ends_with_the_row_that_fills_it(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_FILE", 2)
    files = written(root, *(scores((name, JANUARY, 0.1)) for name in "abcde"))
    assert [file.rows for file in files] == [2, 2, 1]


def test_small_batches_become_row_groups_of_some_size(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [scores((name, JANUARY, 0.1)) for name in "abcde"]

    def groups() -> list[int]:
        [file] = written(root, *batches)
        metadata = pq.ParquetFile(path(root, file)).metadata
        return [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]

    assert groups() == [5]
    monkeypatch.setattr(staging, "ROWS_PER_GROUP", 2)
    assert groups() == [2, 2, 1]
    monkeypatch.setattr(staging, "ROWS_PER_GROUP", 128_000)
    monkeypatch.setattr(staging, "BYTES_PER_GROUP", 1)
    assert groups() == [1, 1, 1, 1, 1]
    size = batches[0].select(pq.read_schema(path(root, written(root, batches[0])[0])).names).nbytes
    monkeypatch.setattr(staging, "BYTES_PER_GROUP", 2 * size)
    assert groups() == [2, 2, 1]


def test_a_root_may_lie_in_a_folder_with_the_name_of_a_partition(tmp_path: Path) -> None:
    made = parse_root(str(tmp_path / "review_month=2015-02-01" / "root"), StorageSettings())
    delta.create(made, REVIEW_SCORES)
    publish(made, scores(("a", JANUARY, 0.1)), JANUARY)
    assert stored(made) == [("a", 0.1)]
    [file] = written(made, scores(("b", JANUARY, 0.2)))
    [row] = staging.dataset(made, REVIEW_SCORES, [file.path]).to_table().to_pylist()
    assert (row["review_id"], row["review_month"], row["model_version"]) == ("b", JANUARY, "m-1")


def test_columns_come_in_the_tables_order_and_types_and_no_others() -> None:
    rows = scores(("a", JANUARY, 0.1))
    turned = rows.select(rows.schema.names[::-1]).append_column("more", pa.array([1]))
    turned = turned.set_column(turned.schema.names.index("token_count"), "token_count", pa.array([5], pa.int64()))
    assert staging.conform(turned, REVIEW_SCORES).equals(rows)
    nothing = turned.set_column(turned.schema.names.index("error"), "error", pa.nulls(1, pa.string()))
    assert staging.conform(nothing, REVIEW_SCORES)["error"].null_count == 1
    missing = turned.set_column(turned.schema.names.index("engine"), "engine", pa.nulls(1, pa.string()))
    with pytest.raises(ReviewriskError, match=r"review_scores\.engine may not be null, and 1 rows to be written have"):
        staging.conform(missing, REVIEW_SCORES)


def test_a_scope_of_several_columns_is_where_all_agree(root: Root) -> None:
    other = scores(("x", JANUARY, 0.1), ("y", FEBRUARY, 0.1), version="m-2")
    both = pa.concat_tables([scores(("a", JANUARY, 0.1), ("b", FEBRUARY, 0.1)), other])
    tables.publish(root, "review_scores", "r", lambda _: tables.stage_arrow(both, root, "review_scores", "r"))
    handle = delta.open_table(root, "review_scores")

    def count(**scope: list[object]) -> int:
        return len(delta.files_in_scope(handle, scope))

    assert (count(), count(review_month=[JANUARY]), count(model_version=["m-1"], review_month=[JANUARY])) == (4, 2, 1)
    assert count(model_version=["m-1", "m-2"], review_month=["2015-01-01"]) == 2
    assert (count(review_month=[]), count(model_version=["m-3"])) == (0, 0)
    assert tables.has_files(root, "review_scores", {"review_month": [FEBRUARY]})
    assert not tables.has_files(root, "review_scores", {"review_month": [datetime.date(2015, 3, 1)]})
    publish(root, scores(), JANUARY)
    assert [name for name, _ in stored(root)] == ["b", "x", "y"], "a month of one model is emptied, the others stay"


def test_a_table_is_replaced_where_its_rows_changed_in_whatever_order(root: Root) -> None:
    delta.create(root, tables.TABLES["splits"])

    def row(name: str, first: datetime.date | None) -> dict[str, object]:
        return {"split": name, "first_date": first, "last_date": None, "origin": "given", "run_id": "r"}

    def replace(*rows: dict[str, object]) -> int:
        made = pa.Table.from_pylist(list(rows), schema=tables.TABLES["splits"].schema)
        tables.replace_rows(root, "splits", "r", lambda _: made)
        return tables.current_version(root, "splits")

    assert replace(row("train", JANUARY), row("test", None)) == 1
    assert replace(row("test", None), row("train", JANUARY)) == 1, "the same rows are no new version"
    assert replace(row("test", None), row("train", FEBRUARY)) == 2
    tables.replace_rows(root, "splits", "r", lambda _: None)
    assert tables.current_version(root, "splits") == 2

    def without_days_of_train(before: pa.Table) -> pa.Table:
        kept = [one for one in before.to_pylist() if one["split"] != "train"]
        return pa.Table.from_pylist([*kept, row("train", None)], schema=before.schema)

    tables.replace_rows(root, "splits", "r-4", without_days_of_train)
    assert sorted(tables.read_arrow(root, "splits")["split"].to_pylist()) == ["test", "train"]
    handle = delta.open_table(root, "splits")
    assert handle.history(1)[0]["run_id"] == "r-4" and Path(handle.file_uris()[0]).name.startswith("r-4-")
    assert replace() == 4 and tables.read_arrow(root, "splits").num_rows == 0

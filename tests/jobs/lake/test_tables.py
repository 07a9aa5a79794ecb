"""Publishing: one commit per scope, conflicts seen, deaths before the commit invisible; on a local root and on s3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableAlterer

from jobs.lake import delta, staging, tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import REVIEW_SCORES, TABLES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import LostRaceError, ReviewriskError
from tests import ROOT
from tests.support.score_rows import FEBRUARY, JANUARY, object_store, publish, s3_root, scores, stored
from tests.support.warehouse_rows import job_run


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with object_store() as endpoint:
        yield endpoint


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    is_local = request.param == "local"
    made = (
        parse_root(str(tmp_path / "root"), StorageSettings())
        if is_local
        else s3_root(request.getfixturevalue("s3_endpoint"))
    )
    tables.create_tables(made)
    return made


def made_by_an_earlier_version(root: Root, *lacking: str) -> None:
    """Puts a table review_scores without some columns, with one row, in the place of the empty one."""
    schema = pa.schema([column for column in REVIEW_SCORES.schema if column.name not in lacking])
    rows = scores(("a", JANUARY, 0.1)).select(schema.names)
    write_deltalake(
        staging.table_uri(root, "review_scores"),
        rows.cast(schema),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=list(REVIEW_SCORES.partition_by),
        storage_options=root.storage_options(),
    )


def test_a_table_of_an_earlier_version_gets_its_new_columns_and_keeps_its_rows(root: Root) -> None:
    made_by_an_earlier_version(root, "error", "token_count")
    before = tables.current_version(root, "review_scores")
    known = tables.read_arrow(root, "review_scores")
    assert (
        known.schema.equals(REVIEW_SCORES.schema) and known["error"].null_count == known["token_count"].null_count == 1
    ), "to be read before any run"
    assert tables.read_arrow(root, "review_scores", ["error", "review_id"]).to_pylist() == [
        {"error": None, "review_id": "a"}
    ]
    with JobRun(root, "score"):
        pass
    assert [
        (row["review_id"], row["error"], row["token_count"])
        for row in tables.read_arrow(root, "review_scores").to_pylist()
    ] == [("a", None, None)]
    publish(root, scores(("b", FEBRUARY, 0.2)), FEBRUARY)
    assert stored(root) == [("a", 0.1), ("b", 0.2)]
    assert tables.current_version(root, "review_scores") == before + 2
    with JobRun(root, "score"):
        pass
    assert tables.current_version(root, "review_scores") == before + 2, "nothing is added twice"


def test_a_table_of_an_earlier_version_that_lacks_a_needed_column_is_refused(root: Root) -> None:
    made_by_an_earlier_version(root, "engine")
    with (
        pytest.raises(ReviewriskError, match="earlier version of the code and has no engine: build a new root"),
        JobRun(root, "score"),
    ):
        pass
    with pytest.raises(ReviewriskError, match="earlier version of the code, has no engine: build a new root"):
        tables.read_arrow(root, "review_scores")


def test_columns_that_another_run_adds_at_the_same_time_are_no_error(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise CommitFailedError("another was first")

    made_by_an_earlier_version(root, "error")
    monkeypatch.setattr(TableAlterer, "add_columns", lose)
    assert delta.add_missing_columns(root, REVIEW_SCORES)


def test_a_scope_is_replaced_and_the_rest_stays(root: Root) -> None:
    publish(root, scores(("a", JANUARY, 0.1), ("b", FEBRUARY, 0.2)), JANUARY, FEBRUARY)
    publish(root, scores(("a2", JANUARY, 0.3)), JANUARY)
    assert stored(root) == [("a2", 0.3), ("b", 0.2)]
    assert tables.current_version(root, "review_scores") == 2


def test_spark_reads_and_writes_the_same_rows(root: Root, spark: Any) -> None:
    rows = scores(*[(f"r{i}", (JANUARY, FEBRUARY)[i % 2], i / 100) for i in range(50)])
    publish(root, rows, JANUARY, FEBRUARY)
    frame = tables.read_frame(spark, root, "review_scores", {"review_month": [JANUARY]})
    assert {row["review_id"] for row in frame.collect()} == {f"r{i}" for i in range(0, 50, 2)}
    scope = {"model_version": ["m-1"], "review_month": [JANUARY]}
    tables.publish(
        root,
        "review_scores",
        "r",
        lambda _: tables.stage_frame(frame.where("probability > 0.4"), root, "review_scores", "r", scope),
    )
    assert len(stored(root)) == 25 + 4
    assert tables.read_arrow(root, "review_scores").schema.equals(REVIEW_SCORES.schema)
    with delta_log_row_count(root) as counted:
        assert counted == 29


class delta_log_row_count:
    def __init__(self, root: Root) -> None:
        self._root = root

    def __enter__(self) -> int:
        return int(delta.open_table(self._root, "review_scores").count())

    def __exit__(self, *_: object) -> None:
        return None


def test_another_writer_in_another_month_is_no_conflict(root: Root) -> None:
    builds = 0

    def stage(_: int) -> staging.Staged:
        nonlocal builds
        builds += 1
        staged = tables.stage_arrow(
            scores(("a", JANUARY, 0.1)),
            root,
            "review_scores",
            "r",
            {"model_version": ["m-1"], "review_month": [JANUARY]},
        )
        publish(root, scores(("b", FEBRUARY, 0.2)), FEBRUARY)
        return staged

    tables.publish(root, "review_scores", "r", stage)
    assert stored(root) == [("a", 0.1), ("b", 0.2)]
    assert builds == 1


def test_another_writer_in_the_same_month_makes_the_rows_be_worked_out_anew(root: Root) -> None:
    publish(root, scores(("old", JANUARY, 0.5)), JANUARY)
    seen: list[int] = []

    def stage(version: int) -> staging.Staged:
        kept = tables.read_arrow(root, "review_scores", version=version)
        seen.append(kept.num_rows)
        rows = pa.concat_tables([kept, scores(("mine", JANUARY, 0.1))])
        staged = tables.stage_arrow(
            rows, root, "review_scores", "r", {"model_version": ["m-1"], "review_month": [JANUARY]}
        )
        if len(seen) == 1:
            publish(root, scores(("old", JANUARY, 0.5), ("theirs", JANUARY, 0.2)), JANUARY)
        return staged

    tables.publish(root, "review_scores", "r", stage)
    assert seen == [1, 2]
    assert stored(root) == [("mine", 0.1), ("old", 0.5), ("theirs", 0.2)]


@pytest.fixture
def local(tmp_path: Path) -> Root:
    made = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(made)
    return made


@pytest.mark.parametrize(("guard_whole_table", "builds"), [(False, [1]), (True, [1, 2])])
def test_rows_that_depend_on_the_whole_table_are_worked_out_anew_after_any_commit(
    local: Root, guard_whole_table: bool, builds: list[int]
) -> None:
    publish(local, scores(("old", FEBRUARY, 0.5)), FEBRUARY)
    seen: list[int] = []

    def stage(version: int) -> staging.Staged:
        seen.append(version)
        if len(seen) == 1:
            publish(local, scores(("theirs", FEBRUARY, 0.2)), FEBRUARY)
        scope = {"model_version": ["m-1"], "review_month": [JANUARY]}
        return tables.stage_arrow(scores(("mine", JANUARY, 0.1)), local, "review_scores", "r", scope)

    published = tables.publish(local, "review_scores", "r", stage, guard_whole_table)
    assert seen == builds and published is not None and published.rows == 1
    assert delta.open_table(local, "review_scores").history(1)[0]["run_id"] == "r"
    assert stored(local) == [("mine", 0.1), ("theirs", 0.2)]


def test_rows_that_change_at_every_attempt_are_given_up_after_the_fifth(
    local: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(delta, "pause", waits.append)
    seen: list[int] = []

    def stage(version: int) -> staging.Staged:
        seen.append(version)
        scope = {"model_version": ["m-1"], "review_month": [JANUARY]}
        mine = tables.stage_arrow(scores(("mine", JANUARY, 0.1)), local, "review_scores", "r", scope)
        publish(local, scores((f"theirs-{len(seen)}", JANUARY, 0.2)), JANUARY)
        return mine

    with pytest.raises(LostRaceError) as raised:
        tables.publish(local, "review_scores", "r", stage)
    assert str(raised.value) == (
        "review_scores: other writers kept changing the same rows, so nothing was published: run the command again"
        " when they are done."
    )
    assert (seen, waits) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert stored(local) == [("theirs-5", 0.2)]


def test_rows_and_columns_are_chosen_by_the_reader_at_any_version(local: Root) -> None:
    assert tables.read_arrow(local, "review_scores").num_rows == 0
    publish(local, scores(("a", JANUARY, 0.1), ("b", JANUARY, 0.2)), JANUARY)
    publish(local, scores(("c", JANUARY, 0.3)), JANUARY)
    many = tables.read_arrow(local, "review_scores", ["probability", "review_id"], pc.field("probability") > 0.1, 1)
    assert many.to_pylist() == [{"probability": 0.2, "review_id": "b"}] and many.schema.names[0] == "probability"
    assert many.schema.field("probability") == REVIEW_SCORES.schema.field("probability")
    assert tables.read_arrow(local, "review_scores", where=pc.field("probability") > 0.3).num_rows == 0


def test_a_row_is_added_to_a_table_that_is_there_and_leaves_no_file_where_it_is_not(
    local: Root, tmp_path: Path
) -> None:
    for name in ("run-1", "run-2"):
        tables.append_row(local, "job_runs", job_run(run_id=name), name)
    assert sorted(tables.read_arrow(local, "job_runs")["run_id"].to_pylist()) == ["run-1", "run-2"]
    assert delta.open_table(local, "job_runs").history(1)[0]["run_id"] == "run-2"
    other = parse_root(str(tmp_path / "other"), StorageSettings())
    with pytest.raises(delta.NoSuchTableError, match="holds no table job_runs yet"):
        tables.append_row(other, "job_runs", job_run(), "run-1")
    assert not list(tmp_path.glob("other/**/*.parquet"))


def test_a_vacuum_is_of_the_named_tables_and_of_files_older_than_its_hours(local: Root) -> None:
    for name, month in (("a", JANUARY), ("b", JANUARY)):
        publish(local, scores((name, month, 0.1)), month)
    tables.stage_arrow(scores(("orphan", FEBRUARY, 0.1)), local, "review_scores", "r")
    assert tables.vacuum(local, 1, ["review_scores"]) == {"review_scores": 0}
    assert tables.vacuum(local, 0, ["reviews"]) == {"reviews": 0}
    assert tables.vacuum(local, 0) == {**dict.fromkeys(TABLES, 0), "review_scores": 2}
    assert stored(local) == [("b", 0.1)]


def test_a_table_is_there_or_is_not(local: Root, tmp_path: Path) -> None:
    assert tables.is_there(local, "model_routes")
    assert not tables.is_there(parse_root(str(tmp_path / "other"), StorageSettings()), "model_routes")


def test_two_first_writers_of_an_empty_month_do_not_double_it(root: Root) -> None:
    calls = 0

    def stage(version: int) -> staging.Staged:
        nonlocal calls
        calls += 1
        kept = tables.read_arrow(root, "review_scores", version=version)
        rows = kept if kept.num_rows else scores(("a", JANUARY, 0.1))
        staged = tables.stage_arrow(
            rows, root, "review_scores", "r", {"model_version": ["m-1"], "review_month": [JANUARY]}
        )
        if calls == 1:
            publish(root, scores(("a", JANUARY, 0.1)), JANUARY)
        return staged

    tables.publish(root, "review_scores", "r", stage)
    assert stored(root) == [("a", 0.1)] and calls == 2


def test_rows_that_break_a_check_are_not_published(root: Root) -> None:
    with pytest.raises(ReviewriskError, match="nothing was published"):
        publish(root, scores(("a", JANUARY, 0.1), ("a", JANUARY, 0.2)), JANUARY)
    with pytest.raises(ReviewriskError, match="nothing was published"):
        publish(root, scores(("a", JANUARY, 1.5)), JANUARY)
    with pytest.raises(ReviewriskError, match=r"text_hash may not be null"):
        rows = scores(("a", JANUARY, 0.1)).to_pylist()
        rows[0]["text_hash"] = None
        publish(root, pa.Table.from_pylist(rows, schema=REVIEW_SCORES.schema), JANUARY)
    assert stored(root) == []


def test_a_row_outside_the_scope_or_a_lost_file_is_refused(tmp_path: Path) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    with pytest.raises(ReviewriskError, match="outside the partitions being replaced"):
        publish(root, scores(("b", FEBRUARY, 0.2)), JANUARY)

    def stage(_: int) -> staging.Staged:
        staged = tables.stage_arrow(
            scores(("a", JANUARY, 0.1)), root, "review_scores", "r", {"review_month": [JANUARY]}
        )
        Path(staging.table_uri(root, "review_scores"), staged.files[0].path).unlink()
        return staged

    with pytest.raises(ReviewriskError, match="missing or incomplete"):
        tables.publish(root, "review_scores", "r", stage)
    assert stored(root) == []


WRITER = """
import sys, time
from pathlib import Path
from jobs.lake import delta
from jobs.lake import staging, tables
from jobs.storage import StorageSettings, parse_root
from tests.support.score_rows import JANUARY, scores, publish
root = parse_root(sys.argv[1], StorageSettings())
where = sys.argv[2]
def hang(*a, **k):
    print("ready", flush=True)
    time.sleep(60)
if where == "in a file":
    real = staging._FileWriter.write
    def write(self, rows):
        real(self, rows)
        hang()
    staging._FileWriter.write = write
elif where == "before the commit":
    delta.commit = hang
publish(root, scores(("new", JANUARY, 0.9)), JANUARY)
"""


@pytest.mark.parametrize("where", ["in a file", "before the commit"])
def test_a_killed_writer_leaves_the_last_version_and_the_next_run_finishes(tmp_path: Path, where: str) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    publish(root, scores(("old", JANUARY, 0.5)), JANUARY)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, root.uri, where], stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ}
    )
    assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert stored(root) == [("old", 0.5)] and tables.current_version(root, "review_scores") == 1
    orphans = set(Path(staging.table_uri(root, "review_scores")).rglob("*.parquet"))
    assert len(orphans) == 2, "the killed writer left its file behind"
    publish(root, scores(("new", JANUARY, 0.9)), JANUARY)
    assert stored(root) == [("new", 0.9)]
    assert tables.vacuum(root, 0, ["review_scores"]) == {"review_scores": 2}
    assert stored(root) == [("new", 0.9)]


def test_the_delta_table_carries_descriptions_and_keys(tmp_path: Path) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    for table in TABLES.values():
        metadata = delta.open_table(root, table.name).metadata()
        assert (metadata.description, list(metadata.partition_columns)) == (table.description, list(table.partition_by))
        assert all(column.metadata and column.metadata.get(b"comment") for column in table.schema)
        assert set(table.key) <= set(table.schema.names)

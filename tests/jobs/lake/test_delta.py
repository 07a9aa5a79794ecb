"""Stores that are down, full or read-only are one sentence each and lose nothing; a number is given only once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from jobs.config import Config
from jobs.lake import delta, staging, tables
from jobs.lake.query import open_tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import REVIEW_SCORES
from jobs.spark.session import persisted
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import LostRaceError, OutageError, ReviewriskError
from tests import ROOT
from tests.support.score_rows import FEBRUARY, JANUARY, object_store, publish, s3_root, s3_settings, scores, stored
from tests.support.warehouse_rows import arrow_rows, source


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with object_store() as address:
        yield address


def every_use(root: Root) -> list[Any]:
    return [
        lambda: tables.create_tables(root),
        lambda: tables.add_missing_columns(root),
        lambda: tables.is_there(root, "models"),
        lambda: tables.current_version(root, "models"),
        lambda: stored(root),
        lambda: open_tables(root),
        lambda: tables.stage_arrow(scores(("a", JANUARY, 0.1)), root, "review_scores", "r"),
        lambda: root.upload_folder(ROOT / "conf", "models"),
        lambda: root.local_copy(Path("nowhere"), "models"),
    ]


def said(uses: list[Any], kind: type[ReviewriskError]) -> set[str]:
    found = set()
    for use in uses:
        with pytest.raises(ReviewriskError) as caught:
            use()
        assert type(caught.value) is kind, str(caught.value)
        assert "\n" not in str(caught.value) and "invented" not in str(caught.value)
        found.add(str(caught.value))
    return found


def test_a_store_that_is_down_is_said_to_be_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    root = parse_root("s3://bucket/x", s3_settings("http://127.0.0.1:9"))
    for sentence in said(every_use(root), OutageError):
        assert "s3://bucket/x" in sentence
        assert "(it does not answer): check the network and storage.endpoint_url" in sentence


def test_a_bucket_that_does_not_exist_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    root = parse_root("s3://no-such-bucket/x", s3_settings(endpoint))
    opening, writing = every_use(root)[:6], every_use(root)[6:7]
    for sentence in said([*opening, *writing], ReviewriskError):
        assert "s3://no-such-bucket/x" in sentence
        assert "(the bucket does not exist): create it or name another in paths.root" in sentence


def test_a_bucket_without_tables_has_none_yet(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = s3_root(endpoint)
    assert not tables.is_there(root, "models")
    with pytest.raises(ReviewriskError, match="holds no table models yet: run `reviewrisk ingest` first"):
        tables.current_version(root, "models")
    with pytest.raises(ReviewriskError, match="holds no tables yet: run `reviewrisk ingest` first"):
        open_tables(root)


def test_a_damaged_table_of_a_bucket_is_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = s3_root(endpoint)
    tables.create_tables(root)
    publish(root, scores(("a", JANUARY, 0.1)), JANUARY)
    filesystem, folder = root.filesystem(), root.path_on_filesystem(root.join("tables", "review_scores"))
    [path] = delta.files_in_scope(delta.open_table(root, "review_scores"), {})
    whole = filesystem.open_input_stream(f"{folder}/{path}").read()
    with filesystem.open_output_stream(f"{folder}/{path}") as stream:
        stream.write(whole[:-1])
    with pytest.raises(ReviewriskError, match=f"has {len(whole) - 1:,} bytes instead of {len(whole):,}"):
        stored(root)
    with filesystem.open_output_stream(f"{folder}/_delta_log/{1:020}.json") as stream:
        stream.write(b"")
    with pytest.raises(ReviewriskError, match=r"commit _delta_log.0+1.json is empty"):
        stored(root)


LIMITED = """
import resource, sys
from jobs.lake import tables
from jobs.storage import StorageSettings, parse_root
from tests.support.score_rows import FEBRUARY, JANUARY, publish, scores
from model.errors import OutageError
root = parse_root(sys.argv[1], StorageSettings())
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    publish(root, scores(*((f"r{place}", JANUARY, place / 9000) for place in range(9000))), JANUARY)
except OutageError as error:
    print(error)
"""


@pytest.mark.parametrize("bytes_at_most", [0, 100, 20_000])
def test_a_file_that_cannot_grow_leaves_the_version_before(tmp_path: Path, bytes_at_most: int) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    publish(root, scores(("old", JANUARY, 0.5)), JANUARY)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, root.uri, str(bytes_at_most)],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
    assert f"The table review_scores of {root.uri} cannot be used (the file is too large" in ended.stdout
    assert stored(root) == [("old", 0.5)]
    assert len(list((tmp_path / "root" / "tables" / "review_scores").rglob("*.parquet"))) == 1, "no half file is left"


def test_a_full_disk_and_a_read_only_one_leave_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    publish(root, scores(("old", JANUARY, 0.5)), JANUARY)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(staging.pq.ParquetWriter, "write_table", full)
        with pytest.raises(OutageError, match=r"no space is left\): make room"), JobRun(root, "score"):
            publish(root, scores(("new", JANUARY, 0.9)), JANUARY)
    assert stored(root) == [("old", 0.5)]
    told = capsys.readouterr().err
    assert told.startswith("job_runs has no row of this failed run ") and "(no space is left)" in told

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", read_only)
        with pytest.raises(OutageError, match=r"table reviews of .*new cannot be used \(it is read-only"):
            tables.create_tables(parse_root(str(tmp_path / "new"), StorageSettings()))


def test_an_outage_of_a_task_reaches_the_driver_as_a_sentence(
    tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    frame = spark.createDataFrame(scores(("a", JANUARY, 0.1)).to_pandas(), tables.spark_schema(REVIEW_SCORES))
    month = tmp_path / "root" / "tables" / "review_scores" / "model_version=m-1"
    month.parent.mkdir(parents=True, exist_ok=True)
    month.write_text("a file where a folder is to be")
    with persisted(frame) as kept, pytest.raises(OutageError, match="a part of its path is not a folder") as caught:
        kept.count()
        tables.stage_frame(kept, root, "review_scores", "r", {})
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_race_that_is_always_lost_ends_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    waits: list[float] = []
    monkeypatch.setattr(delta, "time", SimpleNamespace(sleep=waits.append))
    with monkeypatch.context() as patched:
        patched.setattr(delta, "_commit_once", lambda *_: False)
        lost = "other writers were first 20 times in a row, so nothing was published: run the command again"
        with pytest.raises(LostRaceError, match=rf"^review_scores: {lost}\.$"):
            publish(root, scores(("a", JANUARY, 0.1)), JANUARY)
        with (
            pytest.raises(LostRaceError, match=r"^job_runs: other writers were first 20 times in a row, .* again\.$"),
            JobRun(root, "score"),
        ):
            pass
    assert len(waits) == 40 and min(waits) >= 0 and max(waits) <= 1 and len(set(waits)) > 30
    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", lambda *_, **__: False)
        with pytest.raises(LostRaceError, match="other writers kept changing the same rows"):
            publish(root, scores(("a", JANUARY, 0.1)), JANUARY)
    assert stored(root) == []


def test_a_pause_may_be_longer_with_each_attempt_up_to_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(delta.random, "uniform", lambda _, most: most)
    monkeypatch.setattr(delta, "time", SimpleNamespace(sleep=waits.append))
    for attempt in range(9):
        delta.pause(attempt)
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]


def test_the_first_tables_are_made_by_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    monkeypatch.setattr(delta, "find_table", lambda *_: None)  # what each of them sees before any has written
    tables.create_tables(root)
    tables.create_tables(root)
    assert tables.current_version(root, "reviews") == 0


def test_a_key_keeps_its_number_and_no_other_gets_it(config: Config) -> None:
    tables.create_tables(config.root)
    assert delta.take_numbers(config.root, "sources", ["b", "a"]) == {"b": 1, "a": 2}
    assert delta.take_numbers(config.root, "sources", ["c", "a"]) == {"a": 2, "c": 3}
    assert delta.take_numbers(config.root, "sources", ["d"], after=9) == {"d": 10}
    version = tables.current_version(config.root, "sources")
    assert delta.take_numbers(config.root, "sources", ["d", "b"]) == {"d": 10, "b": 1}
    assert tables.current_version(config.root, "sources") == version, "nothing new is no commit"
    assert tables.read_arrow(config.root, "sources").num_rows == 0


@pytest.mark.parametrize(
    ("fault", "kind", "message", "waits"),
    [
        (CommitFailedError("another was first"), LostRaceError, "sources: other runs kept being first, so nothing", 50),
        (DeltaError("torn"), ReviewriskError, r"The table sources of .* is damaged or cannot be read \(torn\)", 0),
    ],
)
def test_a_number_that_cannot_be_taken_is_a_sentence(
    config: Config, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type[Exception], message: str, waits: int
) -> None:
    tables.create_tables(config.root)
    waited: list[int] = []

    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    monkeypatch.setattr(delta, "pause", waited.append)
    with pytest.raises(kind, match=message):
        delta.take_numbers(config.root, "sources", ["a"])
    assert waited == list(range(waits))


def test_a_long_reason_of_delta_rs_is_cut_and_its_frames_are_left_out(config: Config) -> None:
    with pytest.raises(ReviewriskError) as raised, delta.delta_errors(config.root, "models"):
        raise DeltaError("torn  \n" + "x" * 400 + "0: <unknown>\n1: more")
    reason = str(raised.value).partition("(")[2].partition(")")[0]
    assert reason == "torn " + "x" * 295


def test_numbers_outlive_the_log_s_checkpoint(config: Config) -> None:
    tables.create_tables(config.root)
    delta.take_numbers(config.root, "sources", ["a"])
    tables.replace_rows(config.root, "sources", "run", lambda _: arrow_rows("sources", [source()]))
    DeltaTable(delta.table_uri(config.root, "sources")).create_checkpoint()
    for commit in sorted((config.root.local_path / "tables" / "sources" / "_delta_log").glob("*.json"))[:-1]:
        commit.unlink()
    assert delta.take_numbers(config.root, "sources", ["b", "a"]) == {"a": 1, "b": 2}


def test_runs_at_once_get_different_numbers(config: Config) -> None:
    tables.create_tables(config.root)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda key: delta.take_numbers(config.root, "sources", [key])[key], map(str, range(24))))
    assert sorted(taken) == list(range(1, 25))


def test_rows_are_counted_out_of_the_log(config: Config) -> None:
    root = config.root
    tables.create_tables(root)
    assert delta.rows_by_partition(root, "review_scores") == []
    publish(root, scores(("a", JANUARY, 0.1), ("b", JANUARY, 0.2)), JANUARY)
    january = ({"model_version": "m-1", "review_month": "2015-01-01"}, 2)
    february = ({"model_version": "m-1", "review_month": "2015-02-01"}, 1)
    publish(root, scores(("c", FEBRUARY, 0.3)), FEBRUARY)
    counted = delta.rows_by_partition(root, "review_scores")
    assert sorted(counted, key=lambda one: one[0]["review_month"]) == [january, february]
    assert delta.rows_by_partition(root, "review_scores", 1) == [january], "at an earlier version"

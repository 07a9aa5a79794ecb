"""A table with a file gone, empty or cut is refused by name with the remedy; the version before is never taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.lake import delta, table_damage, tables
from jobs.lake.export import export_parquet
from jobs.lake.query import open_tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import REVIEW_SCORES, TABLES
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from tests.support.score_rows import FEBRUARY, JANUARY, publish, scores, stored


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root whose review_scores has three commits: made, a row of January and one of February, January replaced."""
    made = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(made)
    publish(made, scores(("old", JANUARY, 0.1), ("b", FEBRUARY, 0.2)), JANUARY, FEBRUARY)
    publish(made, scores(("new", JANUARY, 0.9)), JANUARY)
    return made


def folder(root: Root) -> Path:
    return root.local_path / "tables" / "review_scores"


def commit(root: Root, version: int) -> Path:
    return folder(root) / "_delta_log" / f"{version:020}.json"


def january(root: Root) -> Path:
    """The data file that holds the newest row of January."""
    [path] = delta.files_in_scope(delta.open_table(root, "review_scores"), {"review_month": [JANUARY]})
    return folder(root) / path


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def uses(root: Root) -> dict[str, Callable[[], Any]]:
    return {
        "read": lambda: stored(root),
        "create": lambda: tables.create_tables(root),
        "query": lambda: open_tables(root),
        "publish": lambda: publish(root, scores(("c", FEBRUARY, 0.3)), FEBRUARY),
        "vacuum": lambda: tables.vacuum(root, 0),
    }


LOG = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "of blanks": (lambda path: path.write_bytes(b"\n"), "is cut"),
    "of zeros": (lambda path: path.write_bytes(bytes(80)), "is cut or no JSON|Json error"),
    "torn in a line": (lambda path: cut(path, path.stat().st_size // 2), "is cut or no JSON|Json error"),
    "torn by one sign": (lambda path: cut(path, path.stat().st_size - 1), "is cut or no JSON|Json error"),
    "torn after its first line": (lambda path: path.write_bytes(lines(path)[0]), "is cut"),
    "torn before its last line": (lambda path: path.write_bytes(b"".join(lines(path)[:-1]).rstrip()), "is cut"),
}


@pytest.mark.parametrize("use", ["read", "create", "query", "publish", "vacuum"])
@pytest.mark.parametrize("harm", LOG)
def test_the_newest_commit_is_whole_or_refused(root: Root, harm: str, use: str) -> None:
    do, problem = LOG[harm]
    do(commit(root, 2))
    with pytest.raises(ReviewriskError, match=problem) as caught:
        uses(root)[use]()
    said = str(caught.value)
    assert "The table review_scores of " in said and "restore" in said and "\n" not in said
    if "_delta_log" in said:
        assert f"_delta_log/{2:020}.json" in said
        assert "or delete it to have the table as it was before, and run `reviewrisk tables check`" in said


def test_the_remedy_of_a_cut_commit_works(root: Root) -> None:
    cut(commit(root, 2), 0)
    commit(root, 2).unlink()
    assert stored(root) == [("b", 0.2), ("old", 0.1)]
    publish(root, scores(("new", JANUARY, 0.9)), JANUARY)
    assert stored(root) == [("b", 0.2), ("new", 0.9)]


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda root: cut(commit(root, 1), 0), "00000000000000000001.json is empty"),
        (lambda root: cut(commit(root, 0), 0), "No table metadata|00000000000000000000.json is empty"),
        (lambda root: commit(root, 1).unlink(), "damaged or cannot be read"),
        (lambda root: shutil.rmtree(folder(root) / "_delta_log"), "has data files and no commit in _delta_log"),
        (lambda root: [path.unlink() for path in folder(root).glob("_delta_log/*")], "no commit in _delta_log"),
    ],
)
def test_an_older_commit_that_is_empty_or_gone_is_no_new_table(
    root: Root, harm: Callable[[Root], None], problem: str
) -> None:
    harm(root)
    for use in uses(root).values():
        with pytest.raises(ReviewriskError, match=problem) as caught:
            use()
        assert "review_scores" in str(caught.value) and "or build a new root from the sources" in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "is gone"),
        (lambda path: cut(path, 100), "has 100 bytes instead of "),
        (lambda path: cut(path, path.stat().st_size - 1), "bytes instead of "),
        (lambda path: path.write_bytes(b""), "has 0 bytes instead of "),
    ],
)
def test_a_data_file_gone_or_cut_is_named(root: Root, harm: Callable[[Path], None], problem: str, spark: Any) -> None:
    file = january(root)
    harm(file)
    readers = [
        lambda: stored(root),
        lambda: open_tables(root),
        lambda: tables.read_frame(spark, root, "review_scores"),
        lambda: export_parquet(root, str(root.local_path / "out")),
    ]
    for read in readers:
        with pytest.raises(ReviewriskError, match=problem) as caught:
            read()
        assert f"since its file model_version=m-1/review_month=2015-01-01/{file.name} " in str(caught.value)
    rows = tables.read_frame(spark, root, "review_scores", {"review_month": [FEBRUARY]}).collect()
    assert [row["review_id"] for row in rows] == ["b"], "another month can still be read"
    publish(root, scores(("again", JANUARY, 0.4)), JANUARY)
    assert stored(root) == [("again", 0.4), ("b", 0.2)], "and the month be written anew"


def test_a_data_file_whose_bytes_are_no_parquet_is_a_sentence(root: Root) -> None:
    file = january(root)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(ReviewriskError, match=r"review_scores of .* is damaged or cannot be read") as caught:
        stored(root)
    assert "\n" not in str(caught.value)


def test_a_panic_of_delta_rs_is_a_sentence(root: Root) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    with (
        pytest.raises(ReviewriskError, match=r"The table models of .* cannot be read \(called unwrap on None\)"),
        delta.delta_errors(root, "models"),
    ):
        raise PanicException("called unwrap on None\n   0: <unknown>\n   1: <unknown>")
    with pytest.raises(KeyboardInterrupt), delta.delta_errors(root, "models"):
        raise KeyboardInterrupt


def test_every_commit_tells_how_many_files_it_changes(root: Root) -> None:
    """The count that a cut commit is known by is that of delta-rs, whatever the scope and the mode."""
    more = scores(("x", JANUARY, 0.1), ("y", FEBRUARY, 0.1), version="m-2")
    scope = {"model_version": ["m-1", "m-2"], "review_month": [JANUARY, FEBRUARY]}
    publish(root, scores(), JANUARY)  # a month that becomes empty
    tables.publish(root, "review_scores", "r", lambda _: tables.stage_arrow(more, root, "review_scores", "r", scope))
    tables.publish(
        root, "review_scores", "r", lambda _: tables.stage_arrow(more.slice(0, 1), root, "review_scores", "r", {})
    )
    with JobRun(root, "score"):
        pass
    tables.create_tables(root)
    assert stored(root) == [("x", 0.1)]
    for version, files in {1: 2, 2: 2, 3: 1, 4: 3, 5: 3}.items():
        text = commit(root, version).read_text()
        assert f'"files":"{files}"' in text.replace(" ", "") and text.count('"path":') == files
        assert table_damage._problem_of_commit(text.encode()) is None
        added = [json.loads(row)["add"] for row in text.splitlines() if row.startswith('{"add"')]
        assert all(add["dataChange"] and add["modificationTime"] > 10**12 for add in added), "milliseconds"


def test_an_older_commit_without_that_count_is_taken(root: Root) -> None:
    text = commit(root, 2).read_text()
    commit(root, 2).write_text(text.replace(',"files":"2"', "").replace('"files":"2",', ""))
    assert '"files"' not in commit(root, 2).read_text()
    assert stored(root) == [("b", 0.2), ("new", 0.9)]


def test_tables_are_opened_against_the_order_of_publishing(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a table holds what another one, read before it, looks up there, whoever publishes in between."""
    assert set(delta.PUBLISHED_IN_ORDER) == set(TABLES)
    opened: list[str] = []
    real = delta.find_table
    monkeypatch.setattr(delta, "find_table", lambda root, table: opened.append(table.name) or real(root, table))
    assert list(delta.published_tables(root)) == list(TABLES)
    places = {name: place for place, name in enumerate(opened)}
    looked_up = [("sources", "reviews"), ("sources", "rejected_reviews"), ("reviews", "splits")]
    looked_up += [("review_scores", "reviews"), ("review_scores", "models"), ("models", "model_thresholds")]
    looked_up += [("token_attributions", "review_scores"), ("model_routes", "models")]
    assert all(places[reader] < places[read] for reader, read in looked_up)


def test_a_table_with_no_row_is_whole(tmp_path: Path) -> None:
    empty = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(empty)
    assert tables.read_arrow(empty, "review_scores").schema.equals(REVIEW_SCORES.schema)
    assert stored(empty) == [] and open_tables(empty).execute("select count(*) from reviews").fetchone() == (0,)

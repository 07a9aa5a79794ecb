"""The command line as a person uses it, on real tables with a real small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.lake import tables
from tests import ROOT
from tests.support.command_line import run, written
from tests.support.raw_files import corpus, line, write_source


@pytest.fixture
def conf(trained: Config, tmp_path: Path) -> Path:
    return written(trained, tmp_path / "conf.yml")


def test_try_scores_decides_and_names_the_words(conf: Path) -> None:
    result = run("try", "--conf", conf, "--headline", "Five Stars", "it broke and was a waste")
    assert result.exit_code == 0, result.output
    assert "probability of 1-2 stars" in result.output and "flagged as critically dissatisfied" in result.output
    assert "broke" in result.output and "headline: Five Stars" in result.output
    good = run("try", "--conf", conf, "love this great sturdy chair")
    assert "not flagged" in good.output


def test_try_reads_a_file_and_gives_one_object_a_line(conf: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    rows = [
        {"headline": "Bad", "body": "broke broken waste"},
        {"headline": None, "body": "love it great"},
        {"body": "not ( readable"},
    ]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [json.loads(row) for row in run("try", "--conf", conf, "--jsonl", texts).output.splitlines()]
    assert [row["is_flagged"] for row in found] == [True, False, None]
    assert found[0]["score"] > 0.5 > found[1]["score"] and found[2]["score"] is None and "error" in found[2]
    assert found[0]["words"][0]["word"] in {"broke", "broken", "waste", "Bad"}
    bare = [json.loads(row) for row in run("try", "--conf", conf, "--jsonl", texts, "--no-explain").output.splitlines()]
    assert [row["words"] for row in bare] == [[], [], []] and bare[0]["score"] == pytest.approx(found[0]["score"])
    assert run("try", "--conf", conf, "--jsonl", texts, "--headline", "Bad").exit_code == 2, (
        "each line has a headline of its own"
    )
    assert run("try", "--conf", conf, "--jsonl", texts, "--marketplace", "US").exit_code == 2, "and a place of its own"
    texts.write_text('\n{"body": "love it great"}\n\n')
    assert len(run("try", "--conf", conf, "--jsonl", texts, "--no-explain").output.splitlines()) == 1, (
        "blank lines are no texts"
    )


def test_sql_finds_the_root_from_the_environment(trained: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWRISK_ROOT", trained.root.uri)
    result = run("sql", "--format", "json", "select count(*) as reviews from reviews")
    assert json.loads(result.output) == [{"reviews": tables.read_arrow(trained.root, "reviews").num_rows}]
    refused = run("sql", "drop table reviews")
    assert refused.exit_code == 3 and "error:" in refused.output


def test_an_error_is_one_sentence_and_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWRISK_ROOT", str(tmp_path / "nothing"))
    result = run("models", "list")
    assert result.exit_code == 3 and "holds no table models yet" in result.output and "Traceback" not in result.output
    assert run("ingest", "--conf", tmp_path / "none.yml", "x.tsv").exit_code == 3


def test_a_mistyped_root_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWRISK_ROOT", str(tmp_path / "typo"))
    for command in (["train"], ["models", "promote"], ["score"], ["report"], ["sql", "select 1"]):
        result = run(*command)
        assert result.exit_code == 3 and "Traceback" not in result.output, command
    assert not (tmp_path / "typo").exists()


def test_a_night_goes_from_a_new_file_to_the_report(conf: Path, trained: Config, tmp_path: Path, spark: Any) -> None:
    night = [
        line(
            review_id=f"night-{i}",
            product_id="P9",
            review_date=f"2015-09-{i + 1:02d}",
            review_body="broke broken waste",
            star_rating="1",
        )
        for i in range(20)
    ]
    source = write_source(tmp_path / "night.tsv.gz", night)
    result = run("nightly", "--conf", conf, source)
    assert result.exit_code == 0, result.output
    for said in ("1/4 ingest", "20 new", "live", "2/4 score", "3/4 explain", "4/4 report", "2015-09"):
        assert said in result.output
    checked = run("tables", "check", "--conf", conf)
    assert checked.exit_code == 0, checked.output
    flagged = run(
        "sql",
        "--conf",
        conf,
        "--format",
        "json",
        "select count(*) as n from fct_review_scores where is_flagged and review_month = date '2015-09-01'",
    )
    assert json.loads(flagged.output) == [{"n": 20}]
    again = run("nightly", "--conf", conf, source)
    assert (
        again.exit_code == 4 and "was ingested before, skipped" in again.output and "0 reviews to score" in again.output
    )


def test_vacuum_and_export_say_what_they_did(conf: Path, tmp_path: Path) -> None:
    assert "reviews: " in run("tables", "vacuum", "--conf", conf).output
    exported = run("tables", "export", "--conf", conf, "--parquet", tmp_path / "out", "reviews", "models")
    assert exported.exit_code == 0 and (tmp_path / "out" / "reviews").is_dir() and "models: 1 rows" in exported.output


def test_ingest_takes_split_ends_from_the_command_line(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.raw_files import corpus

    source = write_source(tmp_path / "a.tsv", corpus())
    conf = ROOT / "conf" / "test.yml"
    partial = run("ingest", "--conf", conf, "--train-end", "2014-12-31", source)
    assert (
        partial.exit_code == 3
        and "--train-end alone does not set the splits: give --validation-end, --test-end too" in partial.output
        and "{" not in partial.output
    )
    ends = ("--train-end", "2014-12-31", "--validation-end", "2015-04-30", "--test-end", "2015-08-31")
    whole = run("ingest", "--conf", conf, *ends, source)
    assert whole.exit_code == 0, whole.output
    stored = {row["split"]: str(row["last_date"]) for row in tables.read_arrow(config.root, "splits").to_pylist()}
    assert stored["train"] == "2014-12-31" and stored["test"] == "2015-08-31"


@pytest.mark.parametrize(("command", "called"), [("score", "score.run_score"), ("explain", "explain.run_explain")])
def test_retry_failed_is_passed_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, called: str
) -> None:
    received: list[bool] = []
    monkeypatch.setattr(f"jobs.scoring.{called}", lambda *arguments: received.append(arguments[-1]))
    monkeypatch.setattr("jobs.spark.session.build_session", lambda _: None)
    path = written(config, tmp_path / "conf.yml")
    assert run(command, "--conf", path, "--retry-failed").exit_code == 0
    assert run(command, "--conf", path).exit_code == 0
    assert received == [True, False]


def test_an_ingest_that_finds_nothing_new_exits_with_4(spark: Any, config: Config, tmp_path: Path) -> None:
    """No file, an empty one alone, and one that was ingested before; a good file beside the empty one is read."""
    path, folder = written(config, tmp_path / "conf.yml"), tmp_path / "in"
    folder.mkdir()
    assert run("ingest", "--conf", path, folder).exit_code == 4
    (folder / "b.tsv").touch()
    only_empty = run("ingest", "--conf", path, folder)
    assert only_empty.exit_code == 4 and "b.tsv is left out: it is empty" in only_empty.output
    write_source(folder / "a.tsv", corpus())
    assert [run("ingest", "--conf", path, folder).exit_code for _ in range(2)] == [0, 4]

"""Scoring on real Spark with a real small transformer: a row for every review, incremental, by key,
alive after a kill.
"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion
from jobs.registry.promote import run_promote
from jobs.scoring import score as score_module
from jobs.scoring.explain import run_explain
from jobs.scoring.score import Scoring, run_score
from model.errors import ReviewriskError
from model.scoring.scorer import Scorer
from model.text.rating_phrases import has_rating_phrase
from tests import ROOT
from tests.support.raw_files import line, write_source
from tests.support.trained_root import by_id, versions


def score(spark: Any, config: Config) -> tuple[Any, dict[str, dict[str, Any]]]:
    summary = run_score(spark, config, lambda _: None)
    return summary, by_id(tables.read_arrow(config.root, "review_scores"))


def test_identical_texts_meet_in_one_task(spark: Any, config: Config) -> None:
    from pyspark.sql import functions as F

    rows = [(f"R{number}", f"text {number % 5}") for number in range(50)]
    settings = config.score.model_copy(update={"rows_per_task": 10})
    scoring: Any = SimpleNamespace(spark=spark, config=config.model_copy(update={"score": settings}))
    spread = Scoring.spread(scoring, spark.createDataFrame(rows, "review_id string, text_hash string"), 50)
    assert spread.rdd.getNumPartitions() == 5
    places = spread.select("text_hash", F.spark_partition_id()).distinct().collect()
    assert len(places) == 5, "as many pairs of text and task as texts"


def test_the_time_of_trying_engines_is_no_time_of_scoring(
    spark: Any, trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, spent = time.monotonic, [0.0]

    def tried(config: Config, *_: Any) -> Any:
        spent[0] += 1e6
        return config.score

    monkeypatch.setattr(score_module, "chosen_settings", tried)
    monkeypatch.setattr(score_module, "time", SimpleNamespace(monotonic=lambda: real() + spent[0]))
    summary, _ = score(spark, trained)
    assert 0 < summary.seconds < 1e6


def test_every_review_gets_a_row_and_a_second_run_changes_nothing(spark: Any, trained: Config) -> None:
    summary, scores = score(spark, trained)
    reviews = by_id(tables.read_arrow(trained.root, "reviews"))
    assert scores.keys() == reviews.keys()
    assert (summary.scored, summary.skipped, summary.failed, summary.no_text) == (len(reviews), 0, 1, 1)
    assert all(
        (row["review_month"], row["text_hash"]) == (reviews[key]["review_month"], reviews[key]["text_hash"])
        for key, row in scores.items()
    )
    errors = {key: row["error"] for key, row in scores.items() if row["error"]}
    assert errors.keys() == {"poison", "empty"} and scores["poison"]["probability"] is None
    assert (scores["empty"]["error"], scores["empty"]["probability"]) == ("no_text", None)
    assert scores["huge"]["is_truncated"] and not scores["empty"]["is_truncated"]
    assert scores["empty"]["token_count"] == 2
    lengths = [min(row["token_count"], 64) for row in scores.values() if row["error"] != "no_text"]
    padded = sum(min(-(-length // 16) * 16, 64) for length in lengths)
    assert summary.tokens == sum(lengths) and summary.padding_share == pytest.approx(1 - sum(lengths) / padded)
    before = versions(trained)
    again, _ = score(spark, trained)
    assert (again.scored, again.skipped) == (0, len(reviews))
    assert versions(trained) == before


def test_spark_gives_the_scores_of_the_scorer_alone_to_the_right_rows(spark: Any, trained: Config) -> None:
    _, scores = score(spark, trained)
    reviews = tables.read_arrow(trained.root, "reviews").to_pylist()
    scorer = Scorer.load(serving_folder(trained, champion(trained.root)), trained.score, threads=1)
    alone = scorer.score([row["review_headline"] for row in reviews], [row["review_body"] for row in reviews])
    for place, row in enumerate(reviews):
        if row["review_id"] not in ("poison", "empty"):
            found = scores[row["review_id"]]
            assert found["logit"] == pytest.approx(alone.logit[place], abs=1e-4)
            assert found["probability"] == pytest.approx(alone.probability[place], abs=1e-4)
    good = [
        scores[key]["probability"]
        for key in scores
        if scores[key]["probability"] is not None and reviews and key.startswith("test-")
    ]
    assert max(good) > 0.8 and min(good) < 0.2, "the planted words were learned"


STATED = {
    "stated-in-headline": {"review_headline": "One Star", "review_body": "the leg broke"},
    "stated-in-body": {"review_headline": "Sturdy", "review_body": "nice chair, I give it 4 out of 5"},
    "stated-in-markup": {"review_headline": "", "review_body": "awful<br />2 stars"},
    "not-stated": {"review_headline": "Star Wars lamp", "review_body": "the four legs wobble after two weeks"},
    "not-written": {"review_headline": "", "review_body": ""},
}


def test_rows_say_whether_the_review_states_its_rating(spark: Any, trained: Config, tmp_path: Path) -> None:
    night = [line(review_id=name, review_date="2015-09-02", **fields) for name, fields in STATED.items()]
    run_ingest(spark, trained, [str(write_source(tmp_path / "night.tsv", night))], lambda _: None)
    _, scores = score(spark, trained)
    assert {name for name in STATED if scores[name]["has_rating_phrase"]} == {
        name for name in STATED if name.startswith("stated-")
    }
    reviews = tables.read_arrow(trained.root, "reviews").to_pylist()
    expected = {
        row["review_id"]: has_rating_phrase(row["review_headline"], row["review_body"])
        for row in reviews
        if row["review_id"] != "poison"
    }
    assert {name: scores[name]["has_rating_phrase"] for name in expected} == expected


def test_only_new_changed_and_moved_reviews_are_handled(spark: Any, trained: Config, tmp_path: Path) -> None:
    _, before = score(spark, trained)
    night = [
        line(review_id="new", review_date="2015-09-02", review_body="broke broken"),
        line(review_id="test-1", review_date="2015-09-03", review_body="changed and moved: waste"),
        line(review_id="emoji", review_date="2015-06-16", review_body="changed in its month"),
    ]
    run_ingest(spark, trained, [str(write_source(tmp_path / "night.tsv", night))], lambda _: None)
    summary, after = score(spark, trained)
    assert (summary.scored, summary.skipped) == (3, len(before) - 2)
    assert after.keys() == before.keys() | {"new"}
    assert {key for key in after if key not in before or after[key] != before[key]} == {"new", "test-1", "emoji"}
    assert after["test-1"]["review_month"] == datetime.date(2015, 9, 1)


def test_since_limits_what_a_new_champion_scores(spark: Any, trained: Config) -> None:
    printed: list[str] = []
    run_promote(trained, champion(trained.root)["model_version"], datetime.date(2015, 6, 1), None, printed.append)
    summary, scores = score(spark, trained)
    reviews = tables.read_arrow(trained.root, "reviews").to_pylist()
    newer = {row["review_id"] for row in reviews if row["review_date"] >= datetime.date(2015, 6, 1)}
    assert scores.keys() == newer and summary.scored == len(newer)
    assert f"{len(newer):,} reviews of 2015-06-01 and later" in printed[0]


def test_promoting_with_since_keeps_the_scores_there_are(spark: Any, trained: Config) -> None:
    _, before = score(spark, trained)
    run_promote(trained, champion(trained.root)["model_version"], datetime.date(2015, 6, 1), None, lambda _: None)
    summary, after = score(spark, trained)
    assert after == before and summary.scored == 0


def test_the_old_row_of_a_moved_review_goes_before_the_new_one_comes(
    spark: Any, trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = trained.model_copy(update={"score": trained.score.model_copy(update={"rows_per_commit": 1})})
    score(spark, small)
    moved = line(review_id="test-1", review_date="2015-09-03", review_body="moved to a newer month")
    run_ingest(spark, small, [str(write_source(tmp_path / "night.tsv", [moved]))], lambda _: None)
    real = tables.publish
    seen: list[int] = []

    def publish(root: Any, name: str, *rest: Any, **options: Any) -> Any:
        done = real(root, name, *rest, **options)
        if name == "review_scores":
            seen.append(tables.read_arrow(root, name)["review_id"].to_pylist().count("test-1"))
        return done

    monkeypatch.setattr(tables, "publish", publish)
    score(spark, small)
    assert seen == [0, 1]


def test_a_changed_bundle_is_not_scored_with(spark: Any, trained: Config) -> None:
    bundle = trained.root.local_path / champion(trained.root)["bundle_path"]
    (bundle / "calibrator.json").write_text('{"method": "none"}')
    with pytest.raises(ReviewriskError, match=r"calibrator\.json"):
        run_score(spark, trained, lambda _: None)
    (bundle / "manifest.json").unlink()
    with pytest.raises(ReviewriskError, match=r"manifest\.json is missing or changed"):
        run_score(spark, trained, lambda _: None)


def test_a_killed_scoring_job_shows_whole_months_and_the_next_run_finishes(
    spark: Any, trained: Config, tmp_path: Path
) -> None:
    """A real process, JVM and workers included, is killed after its first commits."""
    small = trained.model_copy(update={"score": trained.score.model_copy(update={"rows_per_commit": 1})})
    conf = tmp_path / "small.yml"
    conf.write_text(yaml.safe_dump(small.model_dump(mode="json")))
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli.main", "score", "--conf", str(conf)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while (
        tables.current_version(trained.root, "review_scores") < 2 and job.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    partial = by_id(tables.read_arrow(trained.root, "review_scores"))
    reviews = by_id(tables.read_arrow(trained.root, "reviews"))
    months = {row["review_month"] for row in partial.values()}
    assert 0 < len(partial) < len(reviews)
    assert partial.keys() == {key for key, row in reviews.items() if row["review_month"] in months}, (
        "each published month is whole"
    )
    summary, scores = score(spark, small)
    assert scores.keys() == reviews.keys() and summary.skipped == len(partial)


def test_without_a_champion_the_error_says_what_to_do(spark: Any, config: Config) -> None:
    tables.create_tables(config.root)
    for run in (run_score, run_explain):
        with pytest.raises(ReviewriskError, match="has no champion yet"):
            run(spark, config, lambda _: None)
    runs = tables.read_arrow(config.root, "job_runs").to_pylist()
    assert sorted((row["command"], row["status"]) for row in runs) == [
        ("explain", "failed"),
        ("score", "failed"),
    ], "a run that could not begin leaves its row"

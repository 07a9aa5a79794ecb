"""What scoring and explaining share: faults of a text and of a machine, the limit, trying again, and true counts."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import delta, tables
from jobs.registry.models import champion
from jobs.registry.routes import Routes
from jobs.scoring.explain import run_explain
from jobs.scoring.incremental import chunks
from jobs.scoring.score import Scoring, run_score
from model.errors import OutageError, ReviewriskError
from tests import ROOT
from tests.support.raw_files import line, write_source
from tests.support.trained_root import by_id, copied, versions
from tests.support.workers import leaving_out, raising, worker_that

JUNE = datetime.date(2015, 6, 1)
# Both commands with the table that they write; explaining is bounded to few reviews.
COMMANDS = [
    pytest.param(run_score, "score", "review_scores", id="score"),
    pytest.param(run_explain, "explain", "token_attributions", id="explain"),
]


@pytest.fixture(scope="module")
def scored_once(spark: Any, built: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = copied(built, tmp_path_factory.mktemp("scored") / "root")
    run_score(spark, config, lambda _: None)
    return config


@pytest.fixture
def scored(scored_once: Config, tmp_path: Path) -> Config:
    """A copy of a root with all scores for one test."""
    return copied(scored_once, tmp_path / "scored-root")


def changed(config: Config, section: str, **values: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def ingest(spark: Any, config: Config, folder: Path, *lines: str) -> None:
    run_ingest(spark, config, [str(write_source(folder / f"{len(lines)}.tsv", list(lines)))], lambda _: None)


def last_run(config: Config, command: str) -> dict[str, Any]:
    rows = [row for row in tables.read_arrow(config.root, "job_runs").to_pylist() if row["command"] == command]
    return max(rows, key=lambda row: row["started_at"])


@pytest.mark.parametrize(("run", "command", "table"), COMMANDS)
def test_a_fault_of_the_machine_leaves_no_error_and_the_next_run_does_the_work(
    spark: Any,
    scored: Config,
    trained: Config,
    run: Callable[..., Any],
    command: str,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = trained if command == "score" else scored
    before = versions(config)
    with monkeypatch.context() as patch:
        worker = worker_that(raising(MemoryError("no room"), "broke"))
        patch.setattr("jobs.scoring.udfs.worker_scorer", worker)
        with pytest.raises(OutageError, match=r"^The machine failed, not a text \(MemoryError: no room\): .*again\.$"):
            run(spark, config, lambda _: None)
    assert versions(config) == before
    assert last_run(config, command)["status"] == "failed"
    summary = run(spark, config, lambda _: None)
    errors = {row["error"] for row in tables.read_arrow(config.root, table).to_pylist()}
    assert not [error for error in errors if error and "MemoryError" in error]
    assert summary.failed == (1 if command == "score" else 0)


# The command line, but for a worker whose first task finds no memory.
FAILS_ONCE = """
import sys
from pathlib import Path
import jobs.scoring.udfs
from jobs.cli.main import main
from tests.support.workers import worker_that

def fitted(marker):
    def act(texts):
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return
        raise MemoryError("no room, once")
    return act

marker, *arguments = sys.argv[1:]
jobs.scoring.udfs.worker_scorer = worker_that(fitted(marker))
main(arguments)
"""


def test_spark_gives_a_task_that_failed_to_another_worker_and_no_row_is_counted_twice(
    trained: Config, tmp_path: Path
) -> None:
    conf, marker = tmp_path / "conf.yml", tmp_path / "failed-once"
    config = changed(trained, "spark", master="local[2]")
    conf.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-c", FAILS_ONCE, str(marker), "score", "--conf", str(conf)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert marker.exists()
    scores = by_id(tables.read_arrow(config.root, "review_scores"))
    assert {row["review_id"] for row in scores.values() if row["error"]} == {"poison", "empty"}
    details = json.loads(last_run(config, "score")["details"])
    longest = config.model.backbone.max_length
    read = [min(row["token_count"], longest) for row in scores.values() if row["error"] != "no_text"]
    assert (details["scored"], details["failed"], details["tokens"]) == (len(scores), 1, sum(read))


def test_more_failed_reviews_than_allowed_fail_the_run_and_their_months_stay_as_they_were(
    spark: Any, trained: Config
) -> None:
    """One review of June 2015 cannot be scored. No newer month has one, so those are published before."""
    strict = changed(trained, "score", max_failed_share=0.0, rows_per_commit=1)
    reviews = tables.read_arrow(trained.root, "reviews").num_rows
    with pytest.raises(ReviewriskError) as raised:
        run_score(spark, strict, lambda _: None)
    assert str(raised.value) == (
        f'1 of {reviews:,} reviews failed, most often with "FloatingPointError: the model\'s logit is nan", but'
        " score.max_failed_share 0.0 allows only 0, so nothing of 2015-06 was published: remove the cause or raise the"
        " limit, then run the command again."
    )
    months = {row["review_month"] for row in tables.read_arrow(trained.root, "review_scores").to_pylist()}
    assert months and min(months) > JUNE
    run = last_run(trained, "score")
    assert run["status"] == "failed"
    assert run["rows_written"] == tables.read_arrow(trained.root, "review_scores").num_rows, "what was published"
    just_enough = changed(trained, "score", max_failed_share=1 / reviews)
    assert run_score(spark, just_enough, lambda _: None).failed == 1


@pytest.mark.parametrize(("share", "allowed"), [(0.1, 3), (0.09, 3), (0.05, 2)])
def test_the_limit_of_explaining_is_met_or_passed(
    spark: Any, scored: Config, tmp_path: Path, share: float, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 of 30 reviews fail; a share of 0.09 of 30 is 2.7, and is rounded up."""
    config = changed(scored, "explain", max_rows=30, max_failed_share=share, rows_per_task=10)
    bodies = ["broke broken waste, unread"] * 3 + ["broke broken waste"] * 27
    night = [line(review_id=f"new-{n}", review_date="2015-09-02", review_body=body) for n, body in enumerate(bodies)]
    ingest(spark, config, tmp_path, *night)
    run_score(spark, config, lambda _: None)
    before = tables.current_version(config.root, "token_attributions")
    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", worker_that(raising(ValueError("no"), "unread")))
    if allowed < 3:
        sentence = r"^3 of 30 reviews failed, most often with 'ValueError: no', .*max_failed_share 0\.05 allows only 2"
        with pytest.raises(ReviewriskError, match=sentence):
            run_explain(spark, config, lambda _: None)
        assert tables.current_version(config.root, "token_attributions") == before
    else:
        summary = run_explain(spark, config, lambda _: None)
        assert (summary.explained, summary.failed) == (27, 3)
        assert last_run(config, "explain")["rows_failed"] == 3


def test_failed_scores_are_tried_again_when_asked_and_others_are_left(
    spark: Any, scored: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = by_id(tables.read_arrow(scored.root, "review_scores"))
    assert run_score(spark, scored, lambda _: None).scored == 0, "not unless asked"
    printed: list[str] = []
    strict = changed(scored, "score", max_failed_share=0.0)
    summary = run_score(spark, strict, printed.append, retry_failed=True)
    assert (summary.scored, summary.failed, summary.skipped) == (1, 1, len(before) - 1), "it may fail again"
    assert "1 reviews to score (1 of them failed before)" in printed[0]
    assert "1 failed (score --retry-failed tries them again)" in printed[-1]
    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", worker_that(leaving_out("(")))
    summary = run_score(spark, scored, lambda _: None, retry_failed=True)
    assert (summary.scored, summary.failed) == (1, 0)
    after = by_id(tables.read_arrow(scored.root, "review_scores"))
    assert after["poison"]["error"] is None and after["poison"]["probability"] is not None
    assert {key for key in after if after[key] != before[key]} == {"poison"}, "a review without text is not tried"
    assert run_score(spark, scored, lambda _: None, retry_failed=True).scored == 0


def test_failed_explanations_are_tried_again_when_asked(
    spark: Any, scored: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(scored, "explain", max_rows=6, max_failed_share=1.0)
    with monkeypatch.context() as patch:
        patch.setattr("jobs.scoring.udfs.worker_scorer", worker_that(raising(ValueError("odd"), "broke")))
        first = run_explain(spark, config, lambda _: None)
    failed = {
        row["review_id"]
        for row in tables.read_arrow(config.root, "token_attributions").to_pylist()
        if row["error"] == "ValueError: odd"
    }
    assert first.failed == len(failed) > 0 and first.explained == 6 - first.failed
    strict = changed(scored, "explain", max_rows=None, max_failed_share=0.0)
    second = run_explain(spark, strict, lambda _: None)
    rows = tables.read_arrow(config.root, "token_attributions").to_pylist()
    assert {row["review_id"] for row in rows if row["error"]} == failed, "not unless asked"
    third = run_explain(spark, strict, lambda _: None, retry_failed=True)
    rows = tables.read_arrow(config.root, "token_attributions").to_pylist()
    assert second.failed == third.failed == 0 and third.explained == len(failed)
    assert not [row for row in rows if row["error"]] and failed <= {row["review_id"] for row in rows}


def test_reviews_that_arrive_while_scoring_runs_are_counted_where_they_are_published(
    spark: Any, trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.scoring.score as module

    real = module.ship_all
    arriving = [line(review_id=f"late-{place}", review_date="2015-06-20") for place in range(3)]

    def ship_all(*arguments: Any) -> None:
        ingest(spark, trained, tmp_path, *arriving)
        real(*arguments)

    monkeypatch.setattr(module, "ship_all", ship_all)
    summary = run_score(spark, trained, lambda _: None)
    scores = by_id(tables.read_arrow(trained.root, "review_scores"))
    run = last_run(trained, "score")
    assert scores.keys() >= {"late-0", "late-1", "late-2"}
    assert summary.scored == run["rows_written"] == len(scores) == sum(summary.rows_by_version.values())


def test_rows_that_are_worked_out_twice_are_counted_once(
    spark: Any, trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer is said to have come first, so the months are scored again before they are published."""
    real, staged = delta.commit, []

    def commit(root: Any, table: Any, *rest: Any, **options: Any) -> bool:
        if table.name == "review_scores":
            staged.append(table.name)
        return len(staged) != 1 and real(root, table, *rest, **options)

    monkeypatch.setattr(delta, "commit", commit)
    summary = run_score(spark, trained, lambda _: None)
    scores, run = by_id(tables.read_arrow(trained.root, "review_scores")), last_run(trained, "score")
    assert len(staged) > 1 and (summary.failed, summary.no_text, run["rows_failed"]) == (1, 1, 1)
    assert summary.scored == run["rows_written"] == len(scores)


def test_what_lacks_a_score_is_found_by_one_join(spark: Any, scored: Config, tmp_path: Path) -> None:
    """A night with a new review, a changed text, a moved one, and a review that cannot be scored."""
    night = [
        line(review_id="new", review_date="2015-09-02", review_body="broke broken"),
        line(review_id="emoji", review_date="2015-06-16", review_body="changed in its month"),
        line(review_id="test-1", review_date="2015-09-03", review_body="changed and moved"),
    ]
    ingest(spark, scored, tmp_path, *night)
    reviews = by_id(tables.read_arrow(scored.root, "reviews"))
    moved_from = by_id(tables.read_arrow(scored.root, "review_scores"))["test-1"]["review_month"]
    for retry, failed in ((False, 0), (True, 1)):
        scoring = Scoring(spark, scored, champion(scored.root), Routes(), None, print, retry)  # type: ignore[arg-type]
        plan = scoring.states()._jdf.queryExecution().optimizedPlan().toString()
        assert plan.count("Join ") == 1
        todo = scoring.todo()
        assert todo.by_month == {datetime.date(2015, 9, 1): 2, JUNE: 1 + failed}
        assert (todo.rows, todo.failed_before, todo.current) == (3 + failed, failed, len(reviews) - 3 - failed)
        assert list(todo.stale) == sorted({JUNE, moved_from})


def test_months_are_grouped_newest_first() -> None:
    days = [datetime.date(2015, month, 1) for month in range(1, 6)]
    rows = dict(zip(days, [5, 1, 30, 2, 3], strict=True))
    assert list(chunks(rows, 6)) == [[days[4], days[3]], [days[2]], [days[1], days[0]]]
    assert list(chunks(rows, 5)) == [[days[4], days[3]], [days[2]], [days[1]], [days[0]]], "5 rows and 1 are too many"
    assert list(chunks({}, 5)) == []

"""An engine serves once it was held against the reference here; `job_runs` keeps what was found, and is asked first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from jobs.config import Config
from jobs.lake import tables
from jobs.registry.models import champion
from jobs.scoring.engines import chosen_settings, run_compile
from jobs.scoring.score import run_score
from model.errors import ReviewriskError
from model.scoring.engines.interface import REFERENCE, EngineKind
from tests.support.trained_root import copied, versions


def with_engine(config: Config, engine: str, precision: str, **parity: Any) -> Config:
    limits = config.score.parity.model_copy(update={"max_mean_difference": 0.5, **parity})
    score = config.score.model_copy(update={"engine": engine, "precision": precision, "parity": limits})
    return config.model_copy(update={"score": score})


def trials(config: Config) -> list[dict[str, Any]]:
    """What each try of the engines left in job_runs, in order of time."""
    rows = tables.read_arrow(config.root, "job_runs", None, pc.field("command") == "compile").to_pylist()
    return [
        {"status": row["status"], **json.loads(row["details"])}
        for row in sorted(rows, key=lambda row: row["started_at"])
    ]


def scored(spark: Any, config: Config) -> dict[str, float]:
    """Each review's logit, once the root is scored."""
    run_score(spark, config, lambda _: None)
    rows = tables.read_arrow(config.root, "review_scores", ["review_id", "logit"]).to_pylist()
    return {row["review_id"]: row["logit"] for row in rows}


def test_scores_say_what_computed_them_and_the_next_night_tries_nothing(spark: Any, trained: Config) -> None:
    config, lines = with_engine(trained, "openvino", "float32"), list[str]()
    run_score(spark, config, lines.append)
    scores = tables.read_arrow(config.root, "review_scores", ["engine", "precision", "logit"])
    assert set(zip(scores["engine"].to_pylist(), scores["precision"].to_pylist(), strict=True)) == {
        ("openvino", "float32")
    }
    assert any(line.startswith("  openvino float32 ") and line.endswith("yes") for line in lines)
    (found,) = trials(config)
    assert (found["status"], found["name"], found["precision"]) == ("succeeded", "openvino", "float32")
    assert found["trials"][0]["parity"]["rows"] == config.score.parity.rows
    assert found["limits"]["max_flipped_share"] == config.score.parity.max_flipped_share
    lines.clear()
    assert chosen_settings(config, champion(config.root), 1, lines.append).engine == "openvino"
    assert lines == [] and len(trials(config)) == 1


def test_a_run_in_int8_is_published(spark: Any, trained: Config) -> None:
    config = with_engine(trained, "openvino", "int8", max_flipped_share=1, max_ece_change=1, min_rank_correlation=-1)
    run_score(spark, config, lambda _: None)
    scores = tables.read_arrow(config.root, "review_scores", ["precision", "logit"])
    assert set(scores["precision"].to_pylist()) == {"int8"} and scores["logit"].null_count < 5


def test_scores_of_two_engines_are_the_same_but_for_rounding(
    spark: Any, built: Config, trained: Config, tmp_path: Path
) -> None:
    other = with_engine(copied(built, tmp_path / "other"), "openvino", "float32")
    found, expected = scored(spark, other), scored(spark, trained)
    assert found.keys() == expected.keys() and len(found) > 100
    del expected["poison"]  # a weight that is not a number: OpenVINO's kernels do not carry it to the end
    for review_id, logit in expected.items():
        assert found[review_id] == pytest.approx(logit, abs=1e-4), review_id


@pytest.mark.parametrize("changed", [{"max_ece_change": 0.01}, {"rows": 70}])
def test_other_limits_ask_for_another_trial(trained: Config, changed: dict[str, Any]) -> None:
    row = champion(trained.root)
    chosen_settings(with_engine(trained, "openvino", "float32"), row, 1, lambda _: None)
    chosen_settings(with_engine(trained, "openvino", "float32", **changed), row, 1, lambda _: None)
    assert len(trials(trained)) == 2


def test_a_number_of_threads_has_a_trial_of_its_own(trained: Config) -> None:
    config, row = with_engine(trained, "openvino", "float32"), champion(trained.root)
    for threads in (1, 2, 1):
        chosen_settings(config, row, threads, lambda _: None)
    assert [found["threads"] for found in trials(config)] == [1, 2]


def test_an_engine_that_misses_a_limit_serves_nobody(spark: Any, trained: Config) -> None:
    config = with_engine(trained, "openvino", "float32", max_mean_difference=1e-12)
    before = versions(config)
    with pytest.raises(ReviewriskError, match=r"No engine decides like .*openvino float32: logits differ"):
        run_score(spark, config, lambda _: None)
    assert versions(config)["review_scores"] == before["review_scores"]
    (found,) = trials(config)
    assert found["status"] == "failed" and found["trials"][0]["problems"]


def test_with_too_few_reviews_to_compare_on_the_reference_serves(trained: Config) -> None:
    config, lines = with_engine(trained, "auto", "auto", rows=100_000), list[str]()
    chosen = chosen_settings(config, champion(config.root), 1, lines.append)
    assert (chosen.engine, chosen.precision) == REFERENCE
    assert len(lines) == 1 and "100,000 labelled validation and test reviews (score.parity.rows)" in lines[0]


def test_the_reference_by_name_needs_no_trial(trained: Config) -> None:
    config = with_engine(trained, "torch", "float32")
    chosen = chosen_settings(config, champion(config.root), 1, lambda _: None)
    assert (chosen.engine, chosen.precision) == REFERENCE
    assert trials(config) == []


def test_auto_takes_the_fastest_of_those_that_may_serve(trained: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {
        "torch float32": 10.0,
        "torch bfloat16": 20.0,
        "openvino float32": 30.0,
        "openvino bfloat16": 40.0,
        "openvino int8": 50.0,
    }
    monkeypatch.setattr("model.scoring.engine_choice._is_here", lambda kind: True)
    monkeypatch.setattr("model.scoring.engine_choice._speed", lambda scorer, *_: speeds[str(scorer.engine.kind)])
    config, lines = with_engine(trained, "auto", "auto", max_mean_difference=1e-3), list[str]()
    kind = run_compile(config, champion(config.root), 1, lines.append)
    problems = {line.split("  ")[1]: line for line in lines if line.startswith(("  torch", "  openvino"))}
    assert kind == EngineKind("openvino", "float32"), problems
    assert lines[-1].endswith("is scored by openvino float32: the fastest that decides like the reference")

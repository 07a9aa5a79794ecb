"""Explaining on real Spark: flagged reviews alone, newest first within bounds, words found in the stored text, stale rows gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import tables
from jobs.config import Config
from jobs.explain import run_explain
from jobs.ingest import run_ingest
from jobs.registry import champion, thresholds
from jobs.score import run_score
from tests.raw_files import line, write_source
from tests.trained_root import by_id, versions


def bounded(config: Config, **bounds: Any) -> Config:
    return config.model_copy(update={"explain": config.explain.model_copy(update={"max_rows": None, "months": None, **bounds})})


def explain(spark: Any, config: Config) -> tuple[Any, list[dict[str, Any]], str]:
    printed: list[str] = []
    summary = run_explain(spark, config, printed.append)
    return summary, tables.read_arrow(config.root, "token_attributions").to_pylist(), "\n".join(printed)


@pytest.fixture
def scored(spark: Any, trained: Config) -> Config:
    run_score(spark, trained, lambda _: None)
    return trained


def flagged(config: Config) -> dict[str, dict[str, Any]]:
    lowest = min(row["threshold"] for row in thresholds(config.root, champion(config.root)["model_version"]))
    scores = by_id(tables.read_arrow(config.root, "review_scores"))
    return {key: row for key, row in scores.items() if row["probability"] is not None and row["probability"] >= lowest and row["token_count"] > 2}


def test_flagged_reviews_get_their_top_words_located_in_the_stored_text(spark: Any, scored: Config) -> None:
    summary, rows, _ = explain(spark, bounded(scored))
    reviews = by_id(tables.read_arrow(scored.root, "reviews"))
    assert {row["review_id"] for row in rows} == flagged(scored).keys()
    assert (summary.explained, summary.left, summary.failed) == (len(flagged(scored)), 0, 0)
    words: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["attribution_rank"]):
        words.setdefault(row["review_id"], []).append(row)
        stored = reviews[row["review_id"]][f"review_{row['field']}"]
        assert stored[row["char_start"] : row["char_end"]] == row["word"]
    for found in words.values():
        assert [row["attribution_rank"] for row in found] == list(range(1, len(found) + 1)) and len(found) <= scored.explain.top_words
        sizes = [abs(row["attribution"]) for row in found]
        assert sizes == sorted(sizes, reverse=True)
    for row in rows:
        assert row["is_converged"] == (abs(row["convergence_delta"]) < scored.explain.max_delta)
        assert row["nodes"] in scored.explain.nodes
    top = next(row for row in words["no-headline"] if row["attribution_rank"] == 1)
    assert top["word"] in {"broke", "broken", "waste"} and top["attribution"] > 0


def test_bounds_take_the_newest_and_say_what_is_left(spark: Any, scored: Config) -> None:
    dates = {row["review_id"]: row["review_date"] for row in tables.read_arrow(scored.root, "reviews").to_pylist()}
    pending = sorted(flagged(scored), key=lambda key: (-dates[key].toordinal(), key))
    five = bounded(scored, max_rows=5)
    summary, rows, printed = explain(spark, five)
    assert {row["review_id"] for row in rows} == set(pending[:5])
    assert summary.left == len(pending) - 5 and f"{len(pending) - 5:,} left for later" in printed
    _, rows, _ = explain(spark, five)
    assert {row["review_id"] for row in rows} == set(pending[:10])
    newest = max(row["review_month"] for row in tables.read_arrow(scored.root, "review_scores").to_pylist())
    explain(spark, bounded(scored, months=1))
    months = {row["review_month"] for row in tables.read_arrow(scored.root, "token_attributions").to_pylist() if row["review_id"] not in pending[:10]}
    assert months <= {newest}


def test_a_second_run_changes_no_table(spark: Any, scored: Config) -> None:
    explain(spark, bounded(scored, max_rows=4, months=1))
    everything = bounded(scored, months=1)
    explain(spark, everything)
    before = versions(scored)
    summary, _, _ = explain(spark, everything)
    assert summary.explained == 0 and versions(scored) == before


def test_a_changed_text_is_explained_anew_and_its_old_words_go(spark: Any, scored: Config, tmp_path: Path) -> None:
    _, before, _ = explain(spark, bounded(scored))
    night = [
        line(review_id="no-headline", review_date="2015-06-15", review_headline="", review_body="terrible awful refund"),
        line(review_id="html", review_date="2015-06-15", review_body="great love perfect"),
    ]
    run_ingest(spark, scored, [str(write_source(tmp_path / "night.tsv", night))], lambda _: None)
    run_score(spark, scored, lambda _: None)
    _, after, _ = explain(spark, bounded(scored))
    assert {row["word"] for row in after if row["review_id"] == "no-headline"} == {"terrible", "awful", "refund"}
    assert "html" not in flagged(scored) and not [row for row in after if row["review_id"] == "html"]
    others = {"no-headline", "html"}
    assert untouched(after, others) == untouched(before, others)


def untouched(rows: list[dict[str, Any]], others: set[str]) -> list[dict[str, Any]]:
    kept = [row for row in rows if row["review_id"] not in others]
    return sorted(kept, key=lambda row: (row["review_id"], row["attribution_rank"]))

"""Explaining on real Spark: flagged reviews alone, newest first within bounds, words found in the stored text, stale
rows gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql.functions import lit, struct

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, lowest_active_threshold
from jobs.scoring.explain import run_explain, with_test_months
from jobs.scoring.incremental import KEY, TEXT
from jobs.scoring.score import run_score
from jobs.scoring.ship import ship
from jobs.scoring.udfs import explaining_udf
from tests.support.raw_files import line, write_source
from tests.support.trained_root import by_id, routed, versions, with_second_model


def bounded(config: Config, **bounds: Any) -> Config:
    return config.model_copy(
        update={"explain": config.explain.model_copy(update={"max_rows": None, "months": None, **bounds})}
    )


def explain(spark: Any, config: Config) -> tuple[Any, list[dict[str, Any]], str]:
    printed: list[str] = []
    summary = run_explain(spark, config, printed.append)
    return summary, tables.read_arrow(config.root, "token_attributions").to_pylist(), "\n".join(printed)


@pytest.fixture
def scored(spark: Any, trained: Config) -> Config:
    run_score(spark, trained, lambda _: None)
    return trained


def flagged(config: Config) -> dict[str, dict[str, Any]]:
    lowest = lowest_active_threshold(config.root, champion(config.root)["model_version"])["threshold"]
    scores = by_id(tables.read_arrow(config.root, "review_scores"))
    return {
        key: row
        for key, row in scores.items()
        if row["probability"] is not None and row["probability"] >= lowest and row["token_count"] > 2
    }


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
        assert [row["attribution_rank"] for row in found] == list(range(1, len(found) + 1)) and len(
            found
        ) <= scored.explain.top_words
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
    months = {
        row["review_month"]
        for row in tables.read_arrow(scored.root, "token_attributions").to_pylist()
        if row["review_id"] not in pending[:10]
    }
    assert months <= {newest}


def test_a_second_run_changes_no_table(spark: Any, scored: Config) -> None:
    explain(spark, bounded(scored, max_rows=4, months=1))
    everything = bounded(scored, months=1)
    explain(spark, everything)
    before = versions(scored)
    summary, _, _ = explain(spark, everything)
    assert summary.explained == 0 and versions(scored) == before


def flag_everything(config: Config, version: str | None = None) -> None:
    """Adds an active threshold of a model (the champion) that every scored review reaches."""

    def with_one_more(before: pa.Table) -> pa.Table:
        rows = before.to_pylist()
        added = {
            "model_version": version or rows[0]["model_version"],
            "threshold_name": "all",
            "threshold": 0.0,
            "is_default": False,
            "is_active": True,
        }
        return pa.Table.from_pylist([*rows, rows[0] | added], schema=before.schema)

    tables.replace_rows(config.root, "model_thresholds", "run-test", with_one_more)


def test_a_review_without_words_is_noted_once_and_leaves_the_queue(spark: Any, trained: Config, tmp_path: Path) -> None:
    """The one text's only word stands behind what the model reads: it must not be tried in every run, in front of all
    others.
    """
    night = [line(review_id="dots", review_date="2015-08-31", review_headline="", review_body="!" * 400 + " broke")]
    run_ingest(spark, trained, [str(write_source(tmp_path / "night.tsv", night))], lambda _: None)
    run_score(spark, trained, lambda _: None)
    flag_everything(trained)
    newest = bounded(trained, max_rows=1)
    _, rows, _ = explain(spark, newest)
    [dots] = rows
    assert (dots["review_id"], dots["attribution_rank"], dots["word"], dots["attribution"]) == ("dots", 0, None, None)
    assert "no word" in dots["error"]
    _, rows, _ = explain(spark, newest)
    assert len({row["review_id"] for row in rows}) == 2


def test_a_review_whose_computing_failed_says_with_what(spark: Any, scored: Config) -> None:
    """The poison cannot be scored, so it is never flagged; the same task fails on it alone and
    explains its neighbours.
    """
    name = ship(spark, serving_folder(scored, champion(scored.root)))
    udf = explaining_udf((name,), scored.score, scored.explain, 1)
    rows = (
        tables.read_frame(spark, scored.root, "reviews")
        .where("review_id in ('poison', 'no-headline')")
        .withColumn("model_version", lit(name))
    )
    columns = ("review_id", "review_month", "text_hash", "model_version", "review_headline", "review_body")
    found = {row.review_id: row for row in rows.select(udf(struct(*columns)).alias("it")).select("it.*").collect()}
    assert found["no-headline"].error is None and found["no-headline"].words[0].attribution_rank == 1
    assert found["poison"].words[0].attribution_rank == 0 and found["poison"].nodes is None and found["poison"].error


def test_the_reviews_of_a_task_are_explained_together_however_they_arrive(
    spark: Any, scored: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow batches of two rows; the model is asked for once a buffer, in the arithmetic that the config names."""
    from jobs.scoring import ship as shipped

    asked = spark.sparkContext.accumulator(0)

    def counted(name: str, settings: Any, threads: int, beside: Any = ()) -> Any:
        asked.add(1)
        assert (settings.engine, settings.precision) == ("torch", "bfloat16")
        return shipped.worker_scorer(name, settings, threads, beside)

    monkeypatch.setattr("jobs.scoring.udfs.worker_scorer", counted)
    name = ship(spark, serving_folder(scored, champion(scored.root)))
    network = scored.score.model_copy(update={"engine": "torch"})
    reviews = tables.read_frame(spark, scored.root, "reviews").limit(12).withColumn("model_version", lit(name))
    rows = reviews.select(struct(*KEY, *TEXT).alias("review")).repartition(1)
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "2")
    try:
        for rows_per_task, buffers in ((12, 1), (5, 2)):
            settings = scored.explain.model_copy(update={"precision": "bfloat16", "rows_per_task": rows_per_task})
            udf = explaining_udf((name,), network, settings, 1)
            asked.value = 0
            assert len(rows.select(udf("review").alias("it")).select("it.*").collect()) == 12
            assert asked.value == buffers
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", before)


def test_a_changed_text_is_explained_anew_and_its_old_words_go(spark: Any, scored: Config, tmp_path: Path) -> None:
    _, before, _ = explain(spark, bounded(scored))
    night = [
        line(
            review_id="no-headline", review_date="2015-06-15", review_headline="", review_body="terrible awful refund"
        ),
        line(review_id="html", review_date="2015-06-15", review_body="great love perfect"),
    ]
    run_ingest(spark, scored, [str(write_source(tmp_path / "night.tsv", night))], lambda _: None)
    run_score(spark, scored, lambda _: None)
    _, after, _ = explain(spark, bounded(scored))
    assert {row["word"] for row in after if row["review_id"] == "no-headline"} == {"terrible", "awful", "refund"}
    assert "html" not in flagged(scored) and not [row for row in after if row["review_id"] == "html"]
    others = {"no-headline", "html"}
    assert untouched(after, others) == untouched(before, others)


def test_a_routed_review_is_explained_by_its_model_at_that_models_threshold(spark: Any, trained: Config) -> None:
    """The second model gets an active threshold that all reach, so every routed review with a word is explained, and by
    it alone.
    """
    second = with_second_model(trained)
    first = champion(trained.root)["model_version"]
    run_score(spark, trained, lambda _: None)
    flag_everything(trained, second)
    run_score(spark, routed(trained, {"KITCHEN": second}), lambda _: None)
    reviews = by_id(tables.read_arrow(trained.root, "reviews"))
    kitchen = {key for key, row in reviews.items() if row["product_category"] == "Kitchen"}
    scores = {
        (row["review_id"], row["model_version"]): row
        for row in tables.read_arrow(trained.root, "review_scores").to_pylist()
    }
    lowest = lowest_active_threshold(trained.root, first)["threshold"]
    own = {
        key
        for key in reviews.keys() - kitchen
        if (scores[key, first]["probability"] or 0) >= lowest and scores[key, first]["token_count"] > 2
    }
    summary, rows, _ = explain(spark, bounded(trained, months=3))
    found = {(row["review_id"], row["model_version"]) for row in rows}
    months = sorted({row["review_month"] for row in reviews.values()})[-3:]
    wanted = {key for key in own | kitchen if reviews[key]["review_month"] in months}
    assert found == {(key, second if key in kitchen else first) for key in wanted} and kitchen & wanted and own & wanted
    assert summary.explained == len(wanted)
    before = versions(trained)
    again, _, _ = explain(spark, bounded(trained, months=3))
    assert again.explained == 0 and versions(trained) == before


def untouched(rows: list[dict[str, Any]], others: set[str]) -> list[dict[str, Any]]:
    kept = [row for row in rows if row["review_id"] not in others]
    return sorted(kept, key=lambda row: (row["review_id"], row["attribution_rank"]))


def test_the_months_of_the_test_split_are_counted_from_the_newest_review(
    spark: Any, trained: Config, tmp_path: Path
) -> None:
    """The test split begins in May 2015; its reviews are of May to July, and live ones of October come on top."""
    assert with_test_months(trained).explain.months == 3
    run_ingest(
        spark,
        trained,
        [str(write_source(tmp_path / "night.tsv", [line(review_id="live", review_date="2015-10-02")]))],
        lambda _: None,
    )
    assert with_test_months(trained).explain.months == 4

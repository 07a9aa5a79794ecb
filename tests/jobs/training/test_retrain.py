"""Retraining on real Spark tables: new reviews join the training, and both models stand side by side
on both periods.
"""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.lake.labelled import with_live
from jobs.registry.bundles import local_bundle
from jobs.registry.models import champion, registered
from jobs.scoring.score import run_score
from jobs.training.retrain import FEWEST_LIVE, live_ends, run_retrain
from model.data.reviews import COLUMNS
from model.errors import ReviewriskError
from model.files import read_json
from tests.support.raw_files import write_source
from tests.support.tiny_models import planted_review, planted_reviews, reviews_table
from tests.support.trained_root import raw_line

FIRST = datetime.date(2015, 9, 1)


def live_rows(count: int) -> list[dict[str, Any]]:
    generator = random.Random(11)
    return [
        planted_review("live", number, FIRST + datetime.timedelta(days=number * 60 // count), generator)
        for number in range(count)
    ]


def test_live_reviews_are_cut_by_time_and_the_rest_stays() -> None:
    stored = planted_reviews(40, 20, 10).to_pylist()
    table = reviews_table([*stored, *live_rows(300)])
    train_end, validation_end = live_ends(table)
    rows = with_live(table, (train_end, validation_end)).to_pylist()
    assert [row["split"] for row in rows[:70]] == [row["split"] for row in stored]
    for row in rows[70:]:
        expected = (
            "train"
            if row["review_date"] <= train_end
            else "validation"
            if row["review_date"] <= validation_end
            else "test"
        )
        assert row["split"] == expected
    counts = [sum(row["split"] == split for row in rows[70:]) for split in ("train", "validation", "test")]
    assert counts == pytest.approx([180, 60, 60], abs=10)


def test_too_few_or_too_dense_new_reviews_are_an_error() -> None:
    with pytest.raises(
        ReviewriskError, match=f"at least {FEWEST_LIVE} labelled reviews after the test split, and there are 150"
    ):
        live_ends(reviews_table(live_rows(150)))
    one_day = [row | {"review_date": FIRST} for row in live_rows(300)]
    with pytest.raises(ReviewriskError, match="too few days"):
        live_ends(reviews_table(one_day))


def test_a_bundle_knows_each_review_by_the_hash_that_ingest_gave_its_text(built: Config) -> None:
    stored = {row["review_id"]: row["text_hash"] for row in tables.read_arrow(built.root, "reviews").to_pylist()}
    predictions = pq.read_table(local_bundle(built, champion(built.root)) / "predictions.parquet").to_pylist()
    assert len(predictions) > 100
    assert [row["text_hash"] for row in predictions] == [stored[row["review_id"]] for row in predictions]


def test_a_challenger_is_trained_from_the_base_and_shown_beside_the_champion(
    spark: Any, trained: Config, tmp_path: Path
) -> None:
    night = write_source(tmp_path / "night.tsv.gz", [raw_line(row) for row in live_rows(300)])
    run_ingest(spark, trained, [str(night)], lambda _: None)
    run_score(spark, trained, lambda _: None)
    before = champion(trained.root)
    printed: list[str] = []
    version = run_retrain(trained, printed.append)
    row = registered(trained.root, version)
    assert (
        row["status"] == "candidate" and champion(trained.root)["model_version"] == before["model_version"] != version
    )
    assert row["train_rows"] > before["train_rows"]
    text = "\n".join(printed)
    assert "old period" in text and "new period" in text and f"beside the champion {before['model_version']}" in text
    bundle = trained.root.local_path / row["bundle_path"]
    test = pq.read_table(bundle / "predictions.parquet", filters=[("part", "==", "test")]).to_pylist()
    ids = {
        name: {one["review_id"] for one in test if (one["review_date"] >= FIRST) == is_new}
        for name, is_new in (("old", False), ("new", True))
    }
    assert ids["old"] and ids["new"]
    reviews = {one["review_id"]: one for one in tables.read_arrow(trained.root, "reviews", COLUMNS).to_pylist()}
    assert {reviews[one]["split"] for one in ids["old"]} == {"test"} and {
        reviews[one]["split"] for one in ids["new"]
    } == {"live"}
    assert min(reviews[one]["review_date"] for one in ids["new"]) > FIRST + datetime.timedelta(days=40), (
        "the latest reviews alone are tested on"
    )
    with pytest.raises(
        ReviewriskError,
        match="at least 200 labelled reviews with product_category=kitchen after the test split, and there are 75",
    ):
        run_retrain(trained.with_only("product_category=kitchen"), lambda _: None)
    assert read_json(bundle / "metrics.json")["training"]["start"]["lora_b_norm"] == 0, (
        "from the base, not from the last adapter"
    )

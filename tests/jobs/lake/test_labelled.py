"""Labelled reviews of a root: the same rows whether they are read whole or a month at a time. No Spark."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.labelled import StoredReviews, labelled, newest_labelled, stored_reviews, with_live
from jobs.registry import publish
from jobs.training.retrain import live_ends, run_retrain
from jobs.training.train import run_train
from model.data.reviews import (
    COLUMNS,
    SPLITS,
    PreparedData,
    data_version,
    draw,
    drop_texts_of,
    labelled_reviews,
    prepare,
)
from model.data.row_filter import chosen_rows
from model.errors import ReviewriskError
from model.settings import ModelSettings, RowSettings, TrainingSettings
from tests.support.tiny_models import planted_reviews
from tests.support.warehouse_rows import review, write_root

TEXTS = {"review_headline", "review_body"}


def stored(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    row = {**row, **changes}
    return review(**{**row, "review_month": row["review_date"].replace(day=1)})


@pytest.fixture
def root(config: Config) -> Config:
    """Planted reviews of all splits, 300 of them live; every seventh has three stars, and some training rows have the
    text of a validation or test row.
    """
    rows = planted_reviews(600, 240, 120).to_pylist()
    later = [row for row in rows if row["split"] != "train"]
    for number, row in enumerate(rows):
        if row["split"] == "train" and number % 11 == 0:
            row |= {name: later[number % len(later)][name] for name in TEXTS}
        if number % 7 == 0:
            row["star_rating"] = 3
    live = [
        row | {"split": "live", "review_id": f"live-{place}", "review_date": datetime.date(2015, 9, 1 + place // 12)}
        for place, row in enumerate(planted_reviews(300, 0, 0, seed=8).to_pylist())
    ]
    write_root(config.root.local_path, {"reviews": [stored(row) for row in (*rows, *live)]})
    return config


def settings(max_rows: int | None, only: str | None = None) -> ModelSettings:
    return ModelSettings(training=TrainingSettings(max_rows=max_rows), rows=RowSettings(only=only))


def same(one: PreparedData, other: PreparedData) -> bool:
    """Whether every field is equal."""
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in _flat(pairs))


def _flat(pairs: Any) -> Any:
    for a, b in pairs:
        if isinstance(a, tuple):
            yield from _flat(zip(a, b, strict=True))
        else:
            yield a, b


@pytest.mark.parametrize("drawn", ["no limit", "100", "all but one", "all", "more"])
@pytest.mark.parametrize("only", [None, "product_category=furniture", "product_category=unknown"])
def test_a_training_reads_the_rows_that_it_drew_of_whole_splits(root: Config, drawn: str, only: str | None) -> None:
    """The other side is how it was done before: every text at once, then the draw."""
    whole = chosen_rows(tables.read_arrow(root.root, "reviews", COLUMNS), RowSettings(only=only))
    parts = {split: labelled_reviews(whole, split) for split in SPLITS}
    unique = drop_texts_of(parts["train"], [*parts["validation"].texts, *parts["test"].texts])
    limits = {"no limit": None, "100": 100, "all but one": len(unique) - 1, "all": len(unique), "more": 100_000}
    chosen = settings(limits[drawn], only)
    before = draw(unique, limits[drawn], chosen.training.seed)
    data = prepare(stored_reviews(root.root, COLUMNS, SPLITS, chosen.rows), chosen)
    assert data.train.review_ids == before.review_ids
    assert data.train.texts == before.texts and data.train.labels.tolist() == before.labels.tolist()
    assert data.data_version == data_version(parts)
    assert data.rows["train_duplicates_dropped"] == len(parts["train"]) - len(unique) > 0
    assert same(data, prepare(tables.read_arrow(root.root, "reviews", COLUMNS), chosen))


def test_texts_are_read_a_month_at_a_time(root: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = tables.read_arrow, []

    def read_arrow(place: Any, name: str, columns: Any = None, *rest: Any) -> pa.Table:
        rows = real(place, name, columns, *rest)
        if columns is None or TEXTS & {*columns}:
            read.append({row["review_date"].replace(day=1) for row in rows.to_pylist()})
            assert 3 not in rows["star_rating"].to_pylist()
        return rows

    monkeypatch.setattr(tables, "read_arrow", read_arrow)
    prepare(stored_reviews(root.root, COLUMNS, SPLITS, RowSettings()), settings(100))
    assert len(read) > 10 and {len(months) for months in read} == {1}


def test_live_reviews_join_the_splits_by_their_dates(root: Config) -> None:
    source = stored_reviews(root.root, COLUMNS, (*SPLITS, "live"), RowSettings())
    ends = live_ends(source.places)
    source = dataclasses.replace(source, places=with_live(source.places, ends), live_ends=ends)
    whole = with_live(tables.read_arrow(root.root, "reviews", COLUMNS), ends)
    assert same(prepare(source, settings(100)), prepare(whole, settings(100)))
    [train, *_] = (prepare(source, settings(None)).train,)
    assert sum(one.startswith("live-") for one in train.review_ids) > 100


def test_a_source_is_of_one_version_of_the_table(root: Config) -> None:
    source = stored_reviews(root.root, COLUMNS, SPLITS, RowSettings())
    before = prepare(source, settings(100))
    tables.replace_rows(root.root, "reviews", "run", lambda rows: rows.slice(0, 3))
    assert same(prepare(source, settings(100)), before)


def test_no_labelled_review_is_one_sentence_that_names_the_splits(config: Config) -> None:
    rows = [review("a", star_rating=3, split="train"), review("b", star_rating=5, split="live")]
    write_root(config.root.local_path, {"reviews": rows})
    with pytest.raises(
        ReviewriskError, match="has no labelled reviews in train, test: run `reviewrisk ingest` into it"
    ):
        labelled(config.root, COLUMNS, ["train", "test"])
    with pytest.raises(ReviewriskError, match="has no labelled reviews in train, validation, test: run"):
        stored_reviews(config.root, COLUMNS, SPLITS, RowSettings())
    assert labelled(config.root, ["review_id"], None).to_pylist() == [{"review_id": "b"}]


def test_the_newest_reviews_are_read_with_their_texts_and_no_others(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = {"a": 9, "b": 7, "c": 9, "d": 8, "e": 1}
    rows = [
        review(name, review_date=datetime.date(2015, 6, day), split="test", review_body=f"text {name}")
        for name, day in days.items()
    ]
    others = [
        review("three", review_date=datetime.date(2015, 6, 20), split="test", star_rating=3),
        review("train", review_date=datetime.date(2015, 6, 20), split="train"),
    ]
    write_root(config.root.local_path, {"reviews": [*rows, *others]})
    real, read = tables.read_arrow, []

    def read_arrow(place: Any, name: str, columns: Any = None, *rest: Any) -> pa.Table:
        found = real(place, name, columns, *rest)
        read.append(({*columns} >= TEXTS, found.num_rows))
        return found

    monkeypatch.setattr(tables, "read_arrow", read_arrow)
    newest = newest_labelled(config.root, ("review_headline", "review_body"), ["validation", "test"], 3)
    assert newest["review_body"].to_pylist() == ["text a", "text c", "text d"]
    assert newest.column_names == ["review_headline", "review_body"]
    assert read == [(False, 5), (True, 3)]


class Reached(Exception):
    """The reviews have come to where they are used."""


@pytest.mark.parametrize("command", ["train", "retrain", "merge"])
def test_training_retraining_and_combining_read_no_text_before_the_draw(
    root: Config, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in for training and combining is reached with reviews that are to be read in portions."""
    real, read, given = tables.read_arrow, [], []

    def read_arrow(place: Any, name: str, columns: Any = None, *rest: Any) -> pa.Table:
        read.extend([name] if columns is None or TEXTS & {*columns} else [])
        return real(place, name, columns, *rest)

    def used(*arguments: Any, **_: Any) -> None:
        given.extend(one for one in arguments if isinstance(one, StoredReviews))
        raise Reached

    monkeypatch.setattr(tables, "read_arrow", read_arrow)
    monkeypatch.setattr("model.training.pipeline.fit", used)
    monkeypatch.setattr("model.merging.merged_adapter.make_combined_model", used)
    monkeypatch.setattr("model.merging.combine.make_recipe", lambda: None)
    monkeypatch.setattr("model.merging.combine.combined_rows", lambda _: RowSettings())
    monkeypatch.setattr("jobs.training.retrain.champion", lambda _: {"model_version": "m-1"})
    commands = {"train": run_train, "retrain": run_retrain, "merge": lambda *to: publish._combine(to[0], (), (), to[1])}
    with pytest.raises(Reached):
        commands[command](root, lambda _: None)
    assert "reviews" not in read and len(given) == 1

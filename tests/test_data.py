"""Labels, splits by time, duplicates, and the shape of batches."""

from __future__ import annotations

import datetime
import random
from typing import Any

import numpy as np
import pytest
import torch

from model.data import (
    LabelledReviews,
    TokenisedReviews,
    batches,
    class_weights,
    cut_by_time,
    data_version,
    draw,
    drop_texts_of,
    evaluation_order,
    labelled_reviews,
    prepare,
    tokenise,
    training_order,
)
from model.errors import ReviewriskError
from model.settings import TrainingSettings
from tests.tiny_models import planted_review, planted_reviews, reviews_table, tiny_tokenizer

DAY = datetime.date(2015, 1, 1)


def row(review_id: str, stars: int, body: str | None, split: str = "train", day: int = 0, headline: str | None = None) -> dict[str, Any]:
    date = DAY + datetime.timedelta(days=day)
    return planted_review(split, 0, date, random.Random(0), review_id=review_id, star_rating=stars, review_body=body, review_headline=headline)


def reviews_on(days: list[int], labels: list[int] | None = None) -> LabelledReviews:
    """One review per entry, on these days."""
    dates = np.datetime64(DAY) + np.array(days)
    texts = [f"text {number}" for number in range(len(days))]
    return LabelledReviews(texts, [None] * len(days), list(texts), texts, np.array(labels or [0, 1] * (len(days) // 2), dtype=np.int64), dates)


def test_stars_become_labels_and_three_stars_none() -> None:
    rows = [row(f"r{stars}", stars, f"body {stars}", day=5 - stars, headline="So") for stars in (1, 2, 3, 4, 5)] + [row("other", 1, "x", "test")]
    found = labelled_reviews(reviews_table(rows), "train")
    assert found.review_ids == ["r5", "r4", "r2", "r1"]  # by date
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.texts[0] == "So. body 5"
    assert (found.headlines[0], found.bodies[0], found.dates[0]) == ("So", "body 5", np.datetime64("2015-01-01"))


def test_order_of_the_table_does_not_matter() -> None:
    table = planted_reviews(60, 60, 30)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    first, second = prepare(table, TrainingSettings()), prepare(shuffled, TrainingSettings())
    assert first.data_version == second.data_version
    assert first.train.review_ids == second.train.review_ids


def test_texts_of_validation_and_test_are_dropped_from_training_and_counted() -> None:
    training = [
        row("a", 1, "it broke"),
        row("b", 5, "it &amp; stands"),
        row("c", 5, "lovely"),
        row("d", 1, "awful"),
        row("e", 4, "it broke"),
        row("f", 3, "fine"),
    ]
    validation = [row(f"v{day}", 1 + 4 * (day % 2), f"words {day}", "validation", day) for day in range(12)] + [row("w", 5, "lovely", "validation", 12)]
    test = [row("t1", 1, "it broke", "test"), row("t2", 5, "it & stands", "test"), row("t3", 5, "new", "test"), row("t4", 5, "fine", "test")]
    data = prepare(reviews_table([*training, *validation, *test, row("g", 5, "nice"), row("l", 1, "x", "live")]), TrainingSettings())
    assert data.train.review_ids == ["d", "g"]
    assert data.test_in_train.tolist() == [True, True, False, False]  # "fine" had 3 stars in training, so it never was a labelled row of it
    assert data.rows == {
        "train_split": 6,
        "train_duplicates_dropped": 4,
        "train": 2,
        "validation": 13,
        "validation_stopping": 6,
        "validation_fitting": 4,
        "validation_choosing": 3,
        "test": 4,
        "test_in_train_split": 2,
    }


def test_validation_is_cut_in_order_of_time_and_no_day_is_split() -> None:
    days = sorted(random.Random(1).choices(range(40), k=200))
    parts = cut_by_time(reviews_on(days))
    assert sum(map(len, parts)) == 200
    assert [abs(len(part) - wanted) <= 5 for part, wanted in zip(parts, (100, 50, 50), strict=True)] == [True] * 3
    assert parts[0].dates[-1] < parts[1].dates[0]
    assert parts[1].dates[-1] < parts[2].dates[0]


def test_a_day_is_split_where_cuts_between_days_would_be_far_off() -> None:
    parts = cut_by_time(reviews_on([0] * 2 + [1] * 38))
    assert [len(part) for part in parts] == [20, 10, 10]


def test_part_of_validation_with_one_class_is_an_error_that_says_which() -> None:
    with pytest.raises(ReviewriskError, match=r"part 3 of 3 of the validation split .*50%/25%/25%.* has 10 labelled rows, 2015-01-31 to 2015-02-09, 0 of them"):
        cut_by_time(reviews_on(list(range(40)), [0, 1] * 15 + [0] * 10))


@pytest.mark.parametrize(("split", "stars"), [("train", 5), ("validation", 1), ("test", 5)])
def test_split_with_one_class_is_an_error(split: str, stars: int) -> None:
    rows = [{**line, "star_rating": stars} if line["split"] == split else line for line in planted_reviews(40, 40, 20).to_pylist()]
    with pytest.raises(ReviewriskError, match=f"the {split} split has .* labelled rows"):
        prepare(reviews_table(rows), TrainingSettings())


def test_missing_split_is_an_error() -> None:
    rows = [line for line in planted_reviews(40, 40, 20).to_pylist() if line["split"] != "test"]
    with pytest.raises(ReviewriskError, match="the test split has 0 labelled rows"):
        prepare(reviews_table(rows), TrainingSettings())


def test_draw_is_seeded_and_keeps_the_order() -> None:
    reviews = reviews_on(list(range(1000)))
    drawn = draw(reviews, 100, seed=1)
    assert len(drawn) == 100
    assert np.all(np.diff(drawn.dates.astype(np.int64)) > 0)
    assert drawn.texts == draw(reviews, 100, seed=1).texts != draw(reviews, 100, seed=2).texts
    assert draw(reviews, None, seed=1) is draw(reviews, 1000, seed=1) is reviews


def test_data_version_follows_every_column_that_matters() -> None:
    base = reviews_on([0, 1, 2, 3])
    changed = [
        reviews_on([0, 1, 2, 4]),
        reviews_on([0, 1, 2, 3], [0, 1, 1, 1]),
        drop_texts_of(base, ["text 3"]),
    ]
    versions = {data_version({"train": part}) for part in [base, *changed]} | {data_version({"test": base})}
    assert len(versions) == 5
    assert data_version({"train": reviews_on([0, 1, 2, 3])}) in versions


def tokenised(lengths: list[int]) -> TokenisedReviews:
    """Row k has `lengths[k]` tokens, all k + 1, and label k % 2."""
    return TokenisedReviews([np.full(length, number + 1, dtype=np.int32) for number, length in enumerate(lengths)], np.arange(len(lengths)) % 2)


def test_tokenised_rows_are_cut_at_the_limit() -> None:
    data = tokenise(LabelledReviews(["a"], [None], [None], ["chair " * 50], np.array([1]), np.array([DAY], dtype="datetime64[D]")), tiny_tokenizer(), 32)
    assert data.lengths.tolist() == [32]


def test_every_row_stands_in_one_batch_of_the_common_shape() -> None:
    data = tokenised([*np.random.default_rng(0).integers(2, 60, 103).tolist(), 64])
    made = list(batches(data, training_order(data.lengths, 8, seed=1, epoch=1), 8, pad_id=0, weights=np.ones(2, dtype=np.float32)))
    assert {batch.input_ids.shape[0] for batch in made} == {8}
    assert {batch.input_ids.shape[1] % 16 for batch in made} == {0}
    assert sorted(position for batch in made for position in batch.positions) == list(range(104))
    for batch in made:
        longest = int(data.lengths[batch.positions].max())
        assert batch.input_ids.shape[1] - longest < 16
        for line, position in enumerate(batch.positions):
            assert batch.input_ids[line][batch.attention_mask[line] == 1].tolist() == data.token_ids[position].tolist()
            assert batch.labels[line] == data.labels[position]
    assert sum(float(batch.weights.sum()) for batch in made) == 104  # fillers weigh nothing


def test_no_batch_is_longer_than_the_longest_text() -> None:
    data = tokenised([50, 3])
    (batch,) = batches(data, evaluation_order(data.lengths, 2), 2, 0, np.ones(2, dtype=np.float32))
    assert batch.input_ids.shape == (2, 50)


def test_fillers_of_the_last_batch_attend_to_one_token_and_weigh_nothing() -> None:
    data = tokenised([4])
    (batch,) = batches(data, [np.array([0])], 3, pad_id=9, weights=np.array([2, 5], dtype=np.float32))
    assert batch.weights.tolist() == [2, 0, 0]
    assert batch.attention_mask.sum(dim=1).tolist() == [4, 1, 1]
    assert torch.equal(batch.input_ids[1:], torch.full((2, 4), 9))


def test_batches_group_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 257, 3200)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in training_order(lengths, 32, seed=1, epoch=1))
    assert padded < 1.06 * lengths.sum()


def test_order_differs_between_epochs_and_seeds_and_is_the_same_again() -> None:
    lengths = np.full(100, 7)
    orders = [np.concatenate(training_order(lengths, 10, seed, epoch)).tolist() for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert orders[0] == orders[1]
    assert orders[0] not in (orders[2], orders[3])


def test_class_weights_are_those_of_the_reference() -> None:
    labels = np.array([1] * 163 + [0] * 837)
    np.testing.assert_allclose(class_weights(labels, "balanced"), [1000 / 1674, 1000 / 326], rtol=1e-6)  # 0.60 and 3.07
    np.testing.assert_array_equal(class_weights(labels, "none"), [1, 1])

"""Labels, splits by time, duplicates, and what class weights add to the log-odds."""

from __future__ import annotations

import datetime
import random
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.data.batches import training_order
from model.data.reviews import (
    LabelledReviews,
    class_weights,
    cut_by_time,
    data_version,
    draw,
    drop_texts_of,
    labelled_reviews,
    prepare,
    prior_shift,
)
from model.errors import ReviewriskError
from model.settings import ModelSettings, TextSettings
from tests.support.tiny_models import planted_review, planted_reviews, reviews_table

DAY = datetime.date(2015, 1, 1)


def row(
    review_id: str, stars: int, body: str | None, split: str = "train", day: int = 0, headline: str | None = None
) -> dict[str, Any]:
    date = DAY + datetime.timedelta(days=day)
    return planted_review(
        split,
        0,
        date,
        random.Random(0),
        review_id=review_id,
        star_rating=stars,
        review_body=body,
        review_headline=headline,
    )


def reviews_on(days: list[int], labels: list[int] | None = None) -> LabelledReviews:
    """One review per entry, on these days."""
    texts = [f"text {number}" for number in range(len(days))]
    return labelled(texts, labels or [0, 1] * (len(days) // 2), np.datetime64(DAY) + np.array(days))


def labelled(texts: list[str], labels: list[int], dates: Any) -> LabelledReviews:
    """Reviews whose texts are their ids too, without headline."""
    nobody = [None] * len(texts)
    is_verified = np.zeros(len(texts), dtype=np.bool_)
    return LabelledReviews(
        texts,
        list(texts),
        ["unknown"] * len(texts),
        is_verified,
        nobody,
        list(texts),
        texts,
        np.array(labels, dtype=np.int64),
        dates,
    )


def test_stars_become_labels_and_three_stars_none() -> None:
    rows = [row(f"r{stars}", stars, f"body {stars}", day=5 - stars, headline="So") for stars in (1, 2, 3, 4, 5)] + [
        row("other", 1, "x", "test")
    ]
    found = labelled_reviews(reviews_table(rows), "train")
    assert found.review_ids == ["r5", "r4", "r2", "r1"]  # by date
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.texts[0] == "So. body 5"
    assert (found.headlines[0], found.bodies[0], found.dates[0]) == ("So", "body 5", np.datetime64("2015-01-01"))


def test_category_is_in_lower_case_and_only_a_known_purchase_is_verified() -> None:
    fields = [("Furniture", True), ("FURNITURE", False), (None, None)]
    rows = [
        {**row(f"r{n}", 1, "x"), "product_id": f"p{n}", "product_category": name, "verified_purchase": known}
        for n, (name, known) in enumerate(fields)
    ]
    found = labelled_reviews(reviews_table(rows), "train")
    assert found.categories == ["furniture", "furniture", "unknown"]
    assert found.is_verified.tolist() == [True, False, False]
    assert found.product_ids == ["p0", "p1", "p2"]
    assert found.take(np.array([2, 0])).categories == ["unknown", "furniture"]
    assert found.take(np.array([2, 0])).is_verified.tolist() == [False, True]


@pytest.mark.parametrize(
    ("mode", "text"), [("keep", "One Star. broke, 1 star"), ("mask_ratings", "broke,"), ("drop", "broke, 1 star")]
)
def test_texts_are_read_as_the_settings_say(mode: Any, text: str) -> None:
    found = labelled_reviews(reviews_table([row("a", 1, "broke, 1 star", headline="One Star")]), "train", mode)
    assert [" ".join(known.split()) for known in found.texts] == [text]
    table = planted_reviews(60, 60, 30)
    data = prepare(table, ModelSettings(text=TextSettings(headline=mode)))
    assert data.test.texts == labelled_reviews(table, "test", mode).texts
    assert data.test.headlines == labelled_reviews(table, "test").headlines


def test_order_of_the_table_does_not_matter() -> None:
    table = planted_reviews(60, 60, 30)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    first, second = prepare(table, ModelSettings()), prepare(shuffled, ModelSettings())
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
    validation = [row(f"v{day}", 1 + 4 * (day % 2), f"words {day}", "validation", day) for day in range(12)] + [
        row("w", 5, "lovely", "validation", 12)
    ]
    test = [
        row("t1", 1, "it broke", "test"),
        row("t2", 5, "it & stands", "test"),
        row("t3", 5, "new", "test"),
        row("t4", 5, "fine", "test"),
    ]
    test = [
        {**line, "product_id": "new" if line["review_id"] == "t3" else "product-0"}
        for line in [*test, row("t5", 5, "AWFUL!", "test")]
    ]
    data = prepare(
        reviews_table([*training, *validation, *test, row("g", 5, "nice"), row("l", 1, "x", "live")]), ModelSettings()
    )
    assert data.train.review_ids == ["d", "g"]
    # "fine" had 3 stars in training, so it never was a labelled row of it
    assert data.test_overlap.exact.tolist() == [True, True, False, False, False]
    assert data.test_overlap.near.tolist() == [False, False, False, False, True]
    assert data.test_product_is_new.tolist() == [False, False, True, False, False]
    assert data.rows == {
        "train_split": 6,
        "train_duplicates_dropped": 4,
        "train": 2,
        "validation": 13,
        "validation_stopping": 6,
        "validation_calibration": 7,
        "test": 5,
        "test_in_train_split": 2,
        "test_near_train_split": 1,
        "test_of_new_products": 1,
    }


def test_validation_is_cut_in_order_of_time_and_no_day_is_split() -> None:
    days = sorted(random.Random(1).choices(range(40), k=200))
    parts = cut_by_time(reviews_on(days))
    assert sum(map(len, parts)) == 200
    assert [abs(len(part) - wanted) <= 5 for part, wanted in zip(parts, (100, 100), strict=True)] == [True] * 2
    assert parts[0].dates[-1] < parts[1].dates[0]


def test_a_day_is_split_where_cuts_between_days_would_be_far_off() -> None:
    parts = cut_by_time(reviews_on([0] * 2 + [1] * 38))
    assert [len(part) for part in parts] == [20, 20]


def test_part_of_validation_with_one_class_is_an_error_that_says_which() -> None:
    with pytest.raises(
        ReviewriskError,
        match=(
            r"part 2 of 2 of the validation split .*50%/50%.* has 20 labelled rows, 2015-01-21 to 2015-02-09, 0 of them"
        ),
    ):
        cut_by_time(reviews_on(list(range(40)), [0, 1] * 10 + [0] * 20))


@pytest.mark.parametrize(("split", "stars"), [("train", 5), ("validation", 1), ("test", 5)])
def test_split_with_one_class_is_an_error(split: str, stars: int) -> None:
    rows = [
        {**line, "star_rating": stars} if line["split"] == split else line
        for line in planted_reviews(40, 40, 20).to_pylist()
    ]
    with pytest.raises(ReviewriskError, match=f"the {split} split has .* labelled rows"):
        prepare(reviews_table(rows), ModelSettings())


def test_missing_split_is_an_error() -> None:
    rows = [line for line in planted_reviews(40, 40, 20).to_pylist() if line["split"] != "test"]
    with pytest.raises(ReviewriskError, match="the test split has 0 labelled rows"):
        prepare(reviews_table(rows), ModelSettings())


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


def test_class_weights_are_those_of_the_reference() -> None:
    labels = np.array([1] * 163 + [0] * 837)
    np.testing.assert_allclose(class_weights(labels, "balanced"), [1000 / 1674, 1000 / 326], rtol=1e-6)  # 0.60 and 3.07
    np.testing.assert_array_equal(class_weights(labels, "none"), [1, 1])
    np.testing.assert_array_equal(class_weights(labels, "oversampled"), [1, 1])


def test_prior_shift_is_the_log_of_the_ratio_of_the_weights() -> None:
    labels = np.array([1] * 163 + [0] * 837)
    weights = class_weights(labels, "balanced").astype(np.float64)
    assert prior_shift(labels, "balanced") == pytest.approx(np.log(weights[1] / weights[0]), rel=1e-6)
    assert prior_shift(labels, "oversampled") == prior_shift(labels, "balanced") == pytest.approx(1.636, abs=1e-3)
    assert prior_shift(1 - labels, "oversampled") == pytest.approx(-1.636, abs=1e-3)
    assert prior_shift(labels, "none") == 0


@pytest.mark.parametrize("weighting", ["balanced", "oversampled"])
def test_prior_shift_is_what_weighting_adds_to_a_logistic_regression(weighting: str) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40_000, 2))
    labels = (generator.random(40_000) < 1 / (1 + np.exp(3 - features @ [1.0, -0.5]))).astype(np.int64)
    plain = LogisticRegression(C=np.inf, tol=1e-8).fit(features, labels)
    rows, weights = np.arange(40_000), class_weights(labels, weighting)[labels]
    if weighting == "oversampled":
        rows = np.concatenate(training_order(np.full(40_000, 5), 32, seed=1, epoch=1, oversampled=labels))
    shifted = LogisticRegression(C=np.inf, tol=1e-8).fit(features[rows], labels[rows], sample_weight=weights[rows])
    moved = shifted.decision_function(features).mean() - plain.decision_function(features).mean()
    assert prior_shift(labels, weighting) > 2
    assert moved == pytest.approx(prior_shift(labels, weighting), abs=0.06)

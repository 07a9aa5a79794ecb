from __future__ import annotations

from dataclasses import replace

import pytest

from model.data.folds import Folds, cut_folds, development_reviews, drawn_by_product
from model.data.reviews import LabelledReviews
from model.errors import ReviewriskError
from tests.support.tiny_models import planted_reviews


@pytest.fixture(scope="module")
def reviews() -> LabelledReviews:
    return development_reviews(planted_reviews(), "keep")


def parts(folds: Folds) -> list[LabelledReviews]:
    return [folds.training, folds.early_stopping, *folds.validation]


def test_only_training_and_validation_rows_are_used_whatever_else_the_table_holds(reviews: LabelledReviews) -> None:
    assert {review_id.split("-")[0] for review_id in reviews.review_ids} == {"train", "validation"}
    assert len(reviews) == 640
    assert development_reviews(planted_reviews(test=0), "keep").review_ids == reviews.review_ids


def test_parts_share_no_product_and_hold_no_more_rows_than_asked_for(reviews: LabelledReviews) -> None:
    folds = cut_folds(reviews, 3, 70, 17)
    products = [set(part.product_ids) for part in parts(folds)]
    assert sum(map(len, products)) == len(set.union(*products)) == 40
    assert [len(fold) for fold in folds.validation] == [64, 64, 64], "four products of sixteen rows"
    assert (len(folds.early_stopping), len(folds.training), folds.duplicates_dropped) == (32, 640 - 3 * 64 - 32, 0)


def test_half_of_all_rows_are_left_to_train_on(reviews: LabelledReviews) -> None:
    folds = cut_folds(reviews, 3, 10_000, 17)
    assert len(folds.training) >= 320
    assert all(64 < len(fold) <= 640 // 7 for fold in folds.validation)


def test_another_seed_cuts_other_folds_and_the_same_seed_the_same(reviews: LabelledReviews) -> None:
    one, again, other = (cut_folds(reviews, 2, 70, seed) for seed in (17, 17, 18))
    assert one.data_version == again.data_version != other.data_version
    assert set(one.validation[0].product_ids) != set(other.validation[0].product_ids)
    assert set(one.validation[0].product_ids).isdisjoint(one.validation[1].product_ids)


def test_a_text_stands_in_the_last_of_its_parts_alone(reviews: LabelledReviews) -> None:
    plain = cut_folds(reviews, 2, 70, 17)
    place = {product: number for number, part in enumerate(parts(plain)) for product in part.product_ids}
    firsts = [
        reviews.product_ids.index(next(product for product in place if place[product] == number)) for number in range(4)
    ]
    texts = ["the same" if row in firsts else text for row, text in enumerate(reviews.texts)]
    texts[firsts[0] + 1] = texts[firsts[1] + 1] = "in training alone, or not"
    folds = cut_folds(replace(reviews, texts=texts), 2, 70, 17)
    assert [part.texts.count("the same") for part in parts(folds)] == [0, 0, 0, 1]
    assert folds.duplicates_dropped >= 3
    seen = [text for part in parts(folds) for text in set(part.texts)]
    assert len(seen) == len(set(seen))


def test_rows_that_do_not_suffice_for_both_classes_are_refused(reviews: LabelledReviews) -> None:
    with pytest.raises(ReviewriskError, match=r"Satisfied or dissatisfied reviews are missing from"):
        cut_folds(reviews, 3, 8, 17)


def test_products_that_do_not_fit_are_passed_over(reviews: LabelledReviews) -> None:
    chosen = reviews.take(drawn_by_product(reviews, 40, 1))
    assert sorted({product: chosen.product_ids.count(product) for product in set(chosen.product_ids)}.values()) == [
        16,
        16,
    ]

"""The rows that all cells read, and the checksum that follows from them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from model.data.reviews import LabelledReviews, labelled_reviews
from model.errors import ReviewriskError
from model.evaluation.calibrators import fit_calibrator
from model.evaluation.cross_fitting import out_of_fold
from model.evaluation.views import calibration_rows
from model.experiments.compare.inputs import Cell, Inputs, prepare_inputs, rows_for, scored_rows
from model.settings import ModelSettings
from tests.support.tiny_models import planted_reviews


def test_the_drawn_test_rows_are_whole_products_and_no_more_than_asked_for(
    inputs: Inputs, settings: ModelSettings
) -> None:
    every = labelled_reviews(planted_reviews(), "test")
    test = inputs.data.test
    assert 60 < len(test) <= 90
    assert len(inputs.data.test_overlap.exact) == len(inputs.data.test_product_is_new) == len(test)
    sizes = {product: every.product_ids.count(product) for product in set(every.product_ids)}
    assert {product: test.product_ids.count(product) for product in set(test.product_ids)}.items() <= sizes.items()
    again = prepare_inputs(planted_reviews(), None, None, settings, 90)
    assert again.data.test.review_ids == test.review_ids
    assert again.checksum != inputs.checksum


def test_the_shifted_population_has_the_rows_of_every_split(inputs: Inputs) -> None:
    assert inputs.shifted is not None
    assert {review_id.split("-")[0] for review_id in inputs.shifted.review_ids} == {"train", "validation", "test"}


def test_too_few_rows_for_both_classes_are_refused(settings: ModelSettings, inputs: Inputs) -> None:
    with pytest.raises(ReviewriskError, match=r"reviews are missing from the drawn test rows \(\d\)"):
        prepare_inputs(planted_reviews(), None, None, settings, 4)
    with pytest.raises(ReviewriskError, match="a draw of 1 training rows"):
        rows_for(Cell("tfidf", 1), inputs.data, 17)


def test_a_smaller_draw_is_part_of_a_larger_one(inputs: Inputs) -> None:
    small, large = (set(rows_for(Cell("tfidf", rows), inputs.data, 17).train.review_ids) for rows in (100, 200))
    assert len(small) == 100 and small < large


def test_validation_is_judged_by_calibrators_that_did_not_see_the_product(inputs: Inputs) -> None:
    """The calibrator of the cell was fitted on these very rows."""
    labels = inputs.data.calibration.labels
    logits = {
        "calibration": np.random.default_rng(1).normal(2.0 * labels, 2.0),
        "as_is": np.random.default_rng(2).normal(2.0 * inputs.data.test.labels, 2.0),
    }
    rows = calibration_rows(logits["calibration"], inputs.data)
    calibrator = fit_calibrator("beta", 0.0, rows.logit, rows.label)
    scored, products = scored_rows("validation", logits, calibrator, 0.5, inputs)
    assert products.tolist() == inputs.data.calibration.product_ids
    np.testing.assert_array_equal(scored.probability, out_of_fold("beta", 0.0, rows))
    assert not np.allclose(scored.probability, calibrator.apply(rows.logit), atol=1e-3)
    on_test, products = scored_rows("as_is", logits, calibrator, 0.5, inputs)
    assert products.tolist() == inputs.data.test.product_ids
    np.testing.assert_array_equal(on_test.probability, calibrator.apply(logits["as_is"]))


def with_another_first(values: Any) -> Any:
    """The column with another value in its first row."""
    if isinstance(values, list):
        return ["another", *values[1:]]
    return np.concatenate([~values[:1] if values.dtype == np.bool_ else values[:1] + 1, values[1:]])


def changed(reviews: LabelledReviews) -> list[LabelledReviews]:
    """The reviews, in each with another value in one column."""
    return [
        replace(reviews, **{field.name: with_another_first(getattr(reviews, field.name))}) for field in fields(reviews)
    ]


def test_the_checksum_follows_every_value_that_a_cell_reads(inputs: Inputs) -> None:
    data, shifted, pairs = inputs.data, inputs.shifted, inputs.pairs
    assert shifted is not None and pairs is not None
    others = [
        replace(data, **{part: one})
        for part in ("train", "early_stopping", "calibration", "test")
        for one in changed(getattr(data, part))
    ]
    others += [
        replace(
            data,
            test_overlap=replace(data.test_overlap, **{name: with_another_first(getattr(data.test_overlap, name))}),
        )
        for name in ("exact", "near")
    ]
    others += [replace(data, test_product_is_new=with_another_first(data.test_product_is_new))]
    others += [replace(data, rows={**data.rows, "test": 0}), replace(data, data_version="another")]
    others += [
        replace(data, test=replace(data.test, headlines=[headline, *data.test.headlines[1:]]))
        for headline in ("", "None", "null")
    ]
    every = [
        inputs,
        *(replace(inputs, data=one) for one in others),
        *(replace(inputs, shifted=one) for one in changed(shifted)),
    ]
    another = replace(pairs[0], b=replace(pairs[0].b, body="another"))
    every += [
        replace(inputs, shifted=None),
        replace(inputs, pairs=None),
        replace(inputs, pairs=[another, *pairs[1:]]),
    ]
    assert len({one.checksum for one in every}) == len(every) == 1 + 5 * 9 + 2 + 1 + 2 + 3 + 3

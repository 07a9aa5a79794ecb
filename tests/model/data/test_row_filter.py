"""Reviews of one category or marketplace alone: which are taken, as every reader of them takes them, and what is said
where they are too few.
"""

from __future__ import annotations

import pytest

from model.data.reviews import prepare
from model.data.row_filter import chosen_rows
from model.errors import ReviewriskError
from model.settings import ModelSettings, RowSettings
from tests.support.tiny_models import planted_reviews, reviews_table

VALUES = ["Furniture", " FURNITURE  ", "furniture", "\tfurniture", "Kitchen", "", "  ", None, "UNKNOWN"]


@pytest.mark.parametrize("column", ["product_category", "marketplace"])
@pytest.mark.parametrize(
    ("value", "places"), [("Furniture", [0, 1, 2]), ("kitchen ", [4]), ("", [5, 6, 7, 8]), ("Unknown", [5, 6, 7, 8])]
)
def test_a_value_is_compared_as_routes_compare_it(column: str, value: str, places: list[int]) -> None:
    table = reviews_table([{"review_id": str(place), column: written} for place, written in enumerate(VALUES)])
    found = chosen_rows(table, RowSettings(only=f"{column}={value}"))
    assert found.equals(table.take(places))
    assert chosen_rows(table, RowSettings()) is table


def test_a_value_that_no_review_has_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(
        ReviewriskError,
        match=(
            r"Of 760 reviews none has product_category=sofas .*; the commonest values are furniture \(380\), .*unknown"
            r" \(190\)"
        ),
    ):
        prepare(planted_reviews(), ModelSettings(rows=RowSettings(only="product_category=Sofas")))


def test_training_validation_and_test_rows_are_all_of_the_value() -> None:
    reviews = planted_reviews()
    data = prepare(reviews, ModelSettings(rows=RowSettings(only="product_category=furniture")))
    for part in (data.train, data.early_stopping, data.calibration, data.test):
        assert set(part.categories) == {"furniture"}
    assert (data.rows["train_split"], data.rows["validation"], data.rows["test"]) == (200, 120, 60)
    assert data.data_version != prepare(reviews, ModelSettings()).data_version


def test_too_few_rows_of_the_value_are_said_with_their_number() -> None:
    rows = [
        row
        for row in planted_reviews().to_pylist()
        if row["product_category"] != "Kitchen" or (row["split"] == "train" and row["star_rating"] < 3)
    ]
    kitchen = sum(row["product_category"] == "Kitchen" for row in rows)
    message = (
        rf"the train split has {kitchen} labelled rows.* Only reviews with product_category=kitchen count .* are"
        rf" {kitchen} in train, 0 in validation, 0 in test"
    )
    with pytest.raises(ReviewriskError, match=message):
        prepare(reviews_table(rows), ModelSettings(rows=RowSettings(only="product_category=kitchen")))

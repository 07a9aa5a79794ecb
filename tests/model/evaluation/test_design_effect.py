"""How many independent rows reviews of some products count as, by hand and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from model.evaluation.design_effect import effective_rows


def counted(wrong: list[int], products: list[int]) -> float:
    return effective_rows(np.array(wrong, dtype=np.bool_), np.array(products, dtype=np.intp), 0.95)


@pytest.mark.parametrize("products", [[0], [0, 1], [0, 1, 2, 3], [3, 0, 9, 4]])
def test_rows_of_as_many_products_count_in_full(products: list[int]) -> None:
    assert counted([1, 0, 1, 0][: len(products)], products) == len(products)


def test_no_row_and_a_single_product_count_for_nothing() -> None:
    assert counted([], []) == 0
    assert counted([1, 0], [0, 0]) == 0
    assert counted([1, 0, 1], [5, 5, 5]) == 0


def test_products_that_are_wholly_right_or_wrong_count_once_each_by_hand() -> None:
    """Six products of two rows, three of them wrong. Residuals are ±1/2, a product's sum ±1, by 1 - 2 / 12 ±6/5; the
    rows' are ±1/2 by 1 - 1 / 12, ±6/11. The effect is 6 · 36/25 / (12 · 36/121) = 121/50.
    """
    found = counted([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    students = student.ppf(0.95, 11) / student.ppf(0.95, 5)
    assert found == pytest.approx(12 * 50 / 121 * students**2)


def test_products_that_are_more_alike_than_chance_would_have_it_do_not_count_for_more_than_their_rows() -> None:
    students = student.ppf(0.95, 11) / student.ppf(0.95, 5)
    assert counted([1, 0] * 6, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]) == pytest.approx(12 * students**2)


def test_where_all_rows_are_alike_each_product_counts_once() -> None:
    for alike in (0, 1):
        found = counted([alike] * 12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
        assert found == pytest.approx(6 * (student.ppf(0.95, 11) / student.ppf(0.95, 5)) ** 2)


def test_of_products_with_unequal_rows_as_many_count_as_the_effective_number() -> None:
    """Rows 4, 1, 1: 36 / 18 = 2 products."""
    students = student.ppf(0.95, 5) / student.ppf(0.95, 1)
    assert counted([0] * 6, [0, 0, 0, 0, 1, 2]) == pytest.approx(2 * students**2)

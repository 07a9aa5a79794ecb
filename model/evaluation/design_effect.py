"""How many independent rows the rows of some products are worth: reviews of one product resemble each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student


def effective_rows(wrong: NDArray[np.bool_], products: NDArray[np.intp], confidence: float) -> float:
    """The number of independent rows that tell as much about the share of `wrong` as these do, for a one-sided limit.

    `products` numbers each row's product, from 0. It is rows / design effect (Kish 1965, "Survey Sampling", section
    8.2): the variance of the share when whole products are drawn, by that when single rows are, and at least 1. Each
    product is held against the share among all others (the jackknife, without which few products look too much alike).
    The quotient is made smaller by the squared ratio of Student's quantiles, with the degrees of freedom of products
    for those of rows (Korn and Graubard 1998, Survey Methodology 24, 193-201); of products with unequal rows there are
    as many as the effective number, rows squared by the sum of squares. Where all rows are alike nothing tells how much
    products differ, and each counts once.

    Rows of as many products count in full, exactly; rows of a single product count for nothing.
    """
    rows, sizes = len(wrong), np.bincount(products)
    if rows == np.count_nonzero(sizes):
        return float(rows)
    number_of_products = rows**2 / float(np.sum(sizes.astype(np.float64) ** 2))
    if number_of_products == 1:
        return 0.0
    residual = wrong - wrong.mean()
    left_out = np.bincount(products, residual) / (1 - sizes / rows)
    by_row = float(np.sum((residual / (1 - 1 / rows)) ** 2))
    effect = max(1.0, float(np.sum(left_out**2)) / by_row) if by_row else rows / number_of_products
    students = student.ppf(confidence, rows - 1) / student.ppf(confidence, number_of_products - 1)
    return float(rows / effect * students**2)

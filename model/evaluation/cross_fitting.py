"""Calibrators chosen by cross-fitting: every row is judged by a calibrator that never saw a review of its product.

Reviews of one product resemble each other, and what customers write changes with time. So a fold has whole products,
and products of about the same time: block cross-validation, which both kinds of dependence ask for (Roberts et al.
2017, Ecography 40, 913-929). Folds follow from the products and dates of the rows alone, so that whoever has a bundle's
predictions.parquet has the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibrators import (
    LADDER,
    Calibrator,
    FloatArray,
    LabelArray,
    Method,
    fit_calibrator,
    probability_losses,
)

MOST_FOLDS = 10
FoldNumbers = NDArray[np.intp]


@dataclass(frozen=True)
class CalibrationRows:
    """Labelled rows that neither training nor early stopping saw, with each row's product and day."""

    logit: FloatArray
    label: LabelArray
    products: NDArray[Any]
    dates: NDArray[np.datetime64]

    @property
    def days(self) -> int:
        """Days from the first row's to the last one's, both counted."""
        return int((self.dates.max() - self.dates.min()).astype("timedelta64[D]").astype(int)) + 1


@dataclass(frozen=True)
class CalibratorChoice:
    """The chosen calibrator, fitted on all rows, and by what it was chosen: the number of folds, each method's
    out-of-fold log-loss in nats, and the standard error of that less the chosen one's. Without folds the latter two are
    empty.
    """

    calibrator: Calibrator
    folds: int
    log_loss: dict[Method, float]
    standard_error: dict[Method, float]

    def __str__(self) -> str:
        """In a line for the terminal."""
        if self.folds == 1:
            return f"Calibrator: {self.calibrator.method}; its rows are of too few products to be cut into folds"
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in self.log_loss.items())
        cut = f"{self.folds} folds of whole products"
        return f"Calibrator: {self.calibrator.method}; log-loss out of fold: {losses} ({cut})"


def choose_calibrator(method: Literal["auto"] | Method, shift: float, rows: CalibrationRows) -> CalibratorChoice:
    """The given method, or for `auto` the one that `best_method` takes, fitted on all rows.

    Where class weights have moved the log-odds, `auto` leaves `none` out: that it must be wrong is known beforehand.
    Rows that allow no folds (see `folds_of`) cannot tell methods apart: then `auto` takes prior_shift, of which nothing
    is fitted.
    """
    fold = folds_of(rows)
    folds = len(np.unique(fold))
    if folds == 1:
        return CalibratorChoice(_fitted("prior_shift" if method == "auto" else method, shift, rows), 1, {}, {})
    losses: dict[Method, FloatArray] = {
        name: probability_losses(_out_of_fold(name, shift, rows, fold), rows.label) for name in LADDER
    }
    if method == "auto":
        candidates = {name: loss for name, loss in losses.items() if name != "none" or shift == 0}
        method = best_method(candidates, rows.products)
    return CalibratorChoice(
        _fitted(method, shift, rows),
        folds,
        {name: float(loss.mean()) for name, loss in losses.items()},
        {name: standard_error(loss - losses[method], rows.products) for name, loss in losses.items()},
    )


def out_of_fold(method: Method, shift: float, rows: CalibrationRows) -> FloatArray:
    """Each row's probability by a calibrator of this method that was fitted on the other folds.

    Where the rows allow no folds (see `folds_of`) it is that of the calibrator fitted on all rows.
    """
    return _out_of_fold(method, shift, rows, folds_of(rows))


def folds_of(rows: CalibrationRows) -> FoldNumbers:
    """Each row's fold, from 0: as many folds as can be, at most MOST_FOLDS, so that a calibrator can be fitted without
    any one of them, which takes both classes. All rows are in fold 0 where not even two folds leave both.
    """
    for folds in range(MOST_FOLDS, 1, -1):
        fold = product_folds(rows.products, rows.dates, folds)
        satisfied, dissatisfied = (np.bincount(fold[rows.label == label], minlength=folds) for label in (0, 1))
        if satisfied.max() < satisfied.sum() and dissatisfied.max() < dissatisfied.sum():
            return fold
    return np.zeros(len(rows.label), dtype=np.intp)


def product_folds(products: NDArray[Any], dates: NDArray[np.datetime64], folds: int) -> FoldNumbers:
    """Each row's fold, from 0 to folds - 1: products in order of the day of their middle review (of equal ones by
    name), cut into parts of about as many rows. No product is in two folds; a large one may leave folds without rows.
    """
    names, product, sizes = np.unique(products, return_inverse=True, return_counts=True)
    by_product = np.lexsort((dates, product))
    middle = dates[by_product][np.cumsum(sizes) - sizes + (sizes - 1) // 2]
    in_time = np.argsort(middle, kind="stable")
    centre = np.cumsum(sizes[in_time]) - sizes[in_time] / 2
    fold = np.empty(len(names), dtype=np.intp)
    fold[in_time] = centre * folds / len(product)
    return fold[product]


def best_method(losses: Mapping[Method, FloatArray], products: NDArray[Any]) -> Method:
    """Of the methods with a formula the one with the least mean loss (of equal ones the first), or isotonic where its
    loss is less by more than one standard error. `losses` has each row's.

    One standard error is the margin of Breiman et al. 1984 ("Classification and Regression Trees", section 3.4.3) for
    the larger of two models. It is not asked of temperature and beta: one or three numbers cost little on hundreds of
    rows, and the error is so wide there that methods of no parameter, which are wrong by ten times as much, lie within
    it (docs/benchmarks.md, "Choosing the calibrator").
    """
    mean = {name: float(loss.mean()) for name, loss in losses.items()}
    best = min((name for name in losses if name != "isotonic"), key=mean.__getitem__)
    margin = standard_error(losses[best] - losses["isotonic"], products)
    return "isotonic" if mean[best] - mean["isotonic"] > margin else best


def standard_error(value: FloatArray, products: NDArray[Any]) -> float:
    """Standard error of the mean of rows that may resemble others of their product: robust to clusters (Cameron and
    Miller 2015, Journal of Human Resources 50, 317-372). Rows need two products.
    """
    product = np.unique(products, return_inverse=True)[1]
    sums = np.bincount(product, value - value.mean())
    return math.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums)) / len(value)


def _fitted(method: Method, shift: float, rows: CalibrationRows) -> Calibrator:
    return fit_calibrator(method, shift, rows.logit, rows.label)


def _out_of_fold(method: Method, shift: float, rows: CalibrationRows, fold: FoldNumbers) -> FloatArray:
    numbers = np.unique(fold)
    if len(numbers) == 1:
        return _fitted(method, shift, rows).apply(rows.logit)
    probability = np.empty(len(rows.logit))
    for number in numbers:
        here = fold == number
        calibrator = fit_calibrator(method, shift, rows.logit[~here], rows.label[~here])
        probability[here] = calibrator.apply(rows.logit[here])
    return probability

"""Folds of whole products in order of time, the standard error that counts products, and the method that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from model.evaluation.calibrators import LADDER, Calibrator, Method, fit_calibrator, probability_losses
from model.evaluation.cross_fitting import (
    CalibrationRows,
    best_method,
    choose_calibrator,
    folds_of,
    out_of_fold,
    product_folds,
    standard_error,
)
from tests.model.evaluation.test_calibrators import beta_log_odds, labels_of, log_odds

FIRST_DAY = np.datetime64("2015-01-01")


def days(*numbers: int) -> np.ndarray:
    return FIRST_DAY + np.array(numbers)


def rows_of(logit: Any, label: Any, products: Any = None) -> CalibrationRows:
    """Rows of one day each, in order, and of a product each where none are given."""
    number = len(label)
    products = [f"P{row:05d}" for row in range(number)] if products is None else products
    return CalibrationRows(
        np.asarray(logit, dtype=np.float64), np.asarray(label), np.asarray(products), FIRST_DAY + np.arange(number)
    )


# ---- folds


def test_products_are_cut_in_order_of_their_middle_review_into_parts_of_as_many_rows() -> None:
    products = np.array(["d", "a", "b", "b", "c", "a", "b", "d", "c", "c"])
    on = days(7, 1, 2, 2, 0, 30, 3, 8, 5, 6)  # middle reviews: a day 1, b day 2, c day 5, d day 7
    in_two = {"a": 0, "b": 0, "c": 1, "d": 1}
    assert product_folds(products, on, 2).tolist() == [in_two[name] for name in products]
    in_four = {"a": 0, "b": 1, "c": 2, "d": 3}
    assert product_folds(products, on, 4).tolist() == [in_four[name] for name in products]


def test_products_of_one_day_are_taken_by_name_and_a_large_one_leaves_folds_without_rows() -> None:
    assert product_folds(np.array(["b", "a", "c", "b"]), days(4, 4, 4, 4), 2).tolist() == [1, 0, 1, 1]
    assert product_folds(np.array(["a"] * 8 + ["b", "c"]), days(*range(10)), 5).tolist() == [2] * 8 + [4, 4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 10))
def test_no_product_is_in_two_folds_whatever_the_order_of_the_rows(rows: list[tuple[str, int]], folds: int) -> None:
    products, on = np.array([name for name, _ in rows]), days(*(day for _, day in rows))
    fold = product_folds(products, on, folds)
    assert all(len(set(fold[products == name])) == 1 for name in products)
    assert set(fold) <= set(range(folds))
    shuffled = np.random.default_rng(len(rows)).permutation(len(rows))
    np.testing.assert_array_equal(product_folds(products[shuffled], on[shuffled], folds), fold[shuffled])


def test_a_fold_may_lack_a_class_but_what_is_left_without_it_may_not() -> None:
    many = rows_of(np.zeros(40), [0] * 20 + [1] * 20)
    assert folds_of(many).tolist() == [row // 4 for row in range(40)]
    # the two dissatisfied products stand beside each other in time: of 10, 9 or 8 folds one has both
    beside = rows_of(np.zeros(20), [0, 0, 1, 1] + [0] * 16)
    cuts = [product_folds(beside.products, beside.dates, folds)[2:4] for folds in (10, 9, 8, 7)]
    assert [len(set(cut)) for cut in cuts] == [1, 1, 1, 2]
    np.testing.assert_array_equal(folds_of(beside), product_folds(beside.products, beside.dates, 7))
    two_products = rows_of(np.zeros(6), [0, 1, 0, 0, 1, 0], list("aaabbb"))
    found = folds_of(two_products).tolist()
    assert found == [found[0]] * 3 + [found[3]] * 3 and found[0] != found[3]


@pytest.mark.parametrize(
    ("label", "products"),
    [
        ([1, 1, 0, 0, 0], list("aabcd")),  # every dissatisfied review is of one product
        ([0, 0, 1, 1, 1], list("aabcd")),  # every satisfied one is
        ([0, 1, 0, 1], list("aaaa")),
    ],
)
def test_without_folds_auto_fits_nothing_and_a_given_method_its_own_rows(label: list[int], products: list[str]) -> None:
    rows = rows_of([3.0, 1.0, -1.0, -2.0, 0.5][: len(label)], label, products)
    assert set(folds_of(rows)) == {0}
    choice = choose_calibrator("auto", 0.7, rows)
    assert (choice.calibrator, choice.folds) == (Calibrator("prior_shift", 0.7), 1)
    assert choice.log_loss == choice.standard_error == {}
    given_method = choose_calibrator("temperature", 0.7, rows)
    assert given_method.calibrator == fit_calibrator("temperature", 0.7, rows.logit, rows.label)
    np.testing.assert_array_equal(out_of_fold("temperature", 0.7, rows), given_method.calibrator.apply(rows.logit))


# ---- probabilities out of fold


@pytest.mark.parametrize("method", LADDER)
def test_a_rows_probability_is_of_the_calibrator_of_the_other_folds(method: Method) -> None:
    logit = log_odds(200, 1)
    rows = rows_of(logit, labels_of(logit / 2, 1), [f"P{row % 40:02d}" for row in range(200)])
    found, fold = out_of_fold(method, 0.3, rows), folds_of(rows)
    for number in range(10):
        here = fold == number
        alone = fit_calibrator(method, 0.3, logit[~here], rows.label[~here])
        np.testing.assert_array_equal(found[here], alone.apply(logit[here]))


@pytest.mark.parametrize("method", ["temperature", "beta", "isotonic"])
def test_a_products_own_labels_do_not_move_its_probabilities(method: Method) -> None:
    logit = log_odds(200, 1)
    rows = rows_of(logit, labels_of(logit / 2, 1), [f"P{row % 20:02d}" for row in range(200)])
    own = rows.products == "P07"
    turned = rows_of(logit, np.where(own, 1 - rows.label, rows.label), rows.products)
    before, after = out_of_fold(method, 0.3, rows), out_of_fold(method, 0.3, turned)
    np.testing.assert_array_equal(before[own], after[own])
    assert (before != after).sum() > 100, "those of other folds are moved"


# ---- the choice


def test_the_standard_error_counts_products() -> None:
    differences = np.array([1.0, 1.0, 0.0, 0.0])
    assert standard_error(differences, np.array(list("aabb"))) == 0.5
    # sqrt(4 / 3 · (4 · 0.5²)) / 4
    assert standard_error(differences, np.array(list("abcd"))) == pytest.approx(np.sqrt(4 / 3) / 4)
    assert standard_error(differences, np.array(list("bccc"))) == pytest.approx(np.sqrt(2 * 2 * 0.5**2) / 4)


@pytest.mark.parametrize(
    ("less", "chosen"),
    [
        ((1.0, 0.0), "temperature"),  # less by 0.5, with a standard error of 0.5
        ((1.0, 0.25), "isotonic"),  # by 0.625, with one of 0.375
        ((1.0, -0.25), "temperature"),  # by 0.375, with one of 0.625
    ],
)
def test_steps_are_taken_where_they_gain_more_than_one_standard_error(less: tuple[float, float], chosen: str) -> None:
    loss = np.array([1.25, 1.5])
    losses: dict[Method, np.ndarray] = {
        "prior_shift": loss + 1,
        "temperature": loss,
        "beta": loss + 2,
        "isotonic": loss - less,
    }
    assert best_method(losses, np.array(["a", "b"])) == chosen


def test_of_the_formulas_the_least_loss_is_taken_however_close_and_of_equal_ones_the_first() -> None:
    loss, products = np.array([1.0, 2.0, 1.0]), np.array(["a", "b", "c"])
    losses: dict[Method, np.ndarray] = {
        "none": loss,
        "prior_shift": loss,
        "temperature": loss + np.array([-0.5, 0.5, 0.01]),
        "beta": loss + np.array([-0.5, 0.5, -0.01]),
        "isotonic": loss + 1,
    }
    assert best_method(losses, products) == "beta"
    assert best_method({**losses, "beta": loss}, products) == "none"


def test_none_is_left_out_where_class_weights_have_moved_the_log_odds() -> None:
    """The rows were made without the shift that the weights are said to have made."""
    logit = log_odds(600, 1)
    rows = rows_of(logit, labels_of(logit, 1))
    weighted = choose_calibrator("auto", 3.0, rows)
    assert min(weighted.log_loss, key=weighted.log_loss.__getitem__) == "none"
    assert weighted.calibrator.method == "beta"
    assert choose_calibrator("none", 3.0, rows).calibrator == Calibrator()
    assert choose_calibrator("auto", 0.0, rows).calibrator.method in ("none", "temperature", "beta")


def test_each_methods_loss_is_of_its_probabilities_out_of_fold_and_the_chosen_one_is_fitted_on_all_rows() -> None:
    logit = log_odds(600, 1)
    rows = rows_of(logit, labels_of((logit - 1.5) / 2.5, 1), [f"P{row % 60:02d}" for row in range(600)])
    choice = choose_calibrator("auto", 1.5, rows)
    assert list(choice.log_loss) == list(choice.standard_error) == list(LADDER)
    assert choice.folds == 10
    losses = {}
    for method in LADDER:
        probability = out_of_fold(method, 1.5, rows)
        losses[method] = probability_losses(probability, rows.label)
        assert choice.log_loss[method] == pytest.approx(log_loss(rows.label, probability))
    chosen = choice.calibrator.method
    assert choice.standard_error == {
        name: standard_error(loss - losses[chosen], rows.products) for name, loss in losses.items()
    }
    assert chosen == best_method({name: losses[name] for name in LADDER[1:]}, rows.products)
    assert choice.calibrator == fit_calibrator(chosen, 1.5, logit, rows.label)


@pytest.mark.parametrize("method", LADDER)
def test_a_given_method_is_obeyed(method: Method) -> None:
    logit = log_odds(400, 1)
    for power in (1, 3):
        rows = rows_of(logit, labels_of(power * logit, 1))
        choice = choose_calibrator(method, 0.5, rows)
        assert choice.calibrator == fit_calibrator(method, 0.5, logit, rows.label)
        assert list(choice.log_loss) == list(LADDER)


TRUTHS: dict[str, tuple[float, Any]] = {
    "none": (0.0, lambda logit: logit),
    "prior_shift": (1.5, lambda logit: logit - 1.5),
    "temperature": (1.5, lambda logit: (logit - 1.5) / 2.5),
    "beta": (1.5, lambda logit: beta_log_odds(logit - 1.5, 0.4, 1.6, 0.5)),
    "isotonic": (1.5, lambda logit: np.where(logit < 1, -4.0, np.where(logit < 2, 0.0, 0.5))),
}


@pytest.mark.parametrize("expected", LADDER)
def test_auto_does_what_the_method_that_made_the_rows_would_do(expected: Method) -> None:
    """Beta can do what all below it do, and may be taken for them: then it does next to the same."""
    shift, true = TRUTHS[expected]
    new = log_odds(50_000, 99) + shift
    label = labels_of(true(new), 99)
    for seed in range(6):
        logit = log_odds(4000, seed) + shift
        rows = rows_of(logit, labels_of(true(logit), seed), [f"P{row % 700:03d}" for row in range(4000)])
        chosen = choose_calibrator("auto", shift, rows).calibrator
        assert chosen.method == expected if expected in ("beta", "isotonic") else chosen.method != "isotonic"
        right = fit_calibrator(expected, shift, rows.logit, rows.label)
        lost = probability_losses(chosen.apply(new), label) - probability_losses(right.apply(new), label)
        assert lost.mean() < 0.001


def later_half(shift: float, rows: CalibrationRows) -> Method:
    """What `auto` took before: fitted on the earlier half, the least log-loss on the later one."""
    half = len(rows.label) // 2
    losses = {}
    for method in LADDER:
        calibrator = fit_calibrator(method, shift, rows.logit[:half], rows.label[:half])
        losses[method] = probability_losses(calibrator.apply(rows.logit[half:]), rows.label[half:]).mean()
    return min(LADDER, key=losses.__getitem__)


@pytest.mark.parametrize(("seed", "noisy_winner"), [(13, "none"), (8, "prior_shift"), (5, "isotonic")])
def test_a_method_that_the_later_half_preferred_by_chance_is_not_taken(seed: int, noisy_winner: str) -> None:
    """60 rows for which temperature is right."""
    shift, true = TRUTHS["temperature"]
    logit = log_odds(60, seed) + shift
    rows = rows_of(logit, labels_of(true(logit), seed))
    assert later_half(shift, rows) == noisy_winner
    assert choose_calibrator("auto", shift, rows).calibrator.method == "temperature"

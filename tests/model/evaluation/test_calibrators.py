"""Calibrators on simulated reviews whose true log-odds are known, and what calibrator.json may hold."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from model.data.batches import repeat_rarer_class
from model.data.reviews import class_weights, prior_shift
from model.errors import ReviewriskError
from model.evaluation.calibrators import (
    LADDER,
    Calibrator,
    Method,
    fit_calibrator,
    probability_losses,
    sigmoid,
)
from tests.model.evaluation.test_calibration_error import ece

EVERY_RUNG = (
    Calibrator(),
    Calibrator("prior_shift", 1.5),
    Calibrator("temperature", 1.5, (2.5,)),
    Calibrator("beta", -0.5, (0.7, 1.4, -0.3)),
    Calibrator("isotonic", 1.5, (), (-2.0, 0.0, 3.0), (0.01, 0.2, 0.97)),
)


def log_odds(rows: int, seed: int) -> np.ndarray:
    """True log-odds of dissatisfaction, mostly low, as reviews have them."""
    return np.random.default_rng(seed).normal(-2.0, 2.5, rows)


def labels_of(true: np.ndarray, seed: int) -> np.ndarray:
    return (np.random.default_rng([seed, 1]).random(len(true)) < expit(true)).astype(np.int64)


def beta_log_odds(logit: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * np.log(expit(logit)) - b * np.log(expit(-logit)) + c


# ---- each method finds what made the rows


@pytest.mark.parametrize("weighting", ["balanced", "oversampled"])
def test_prior_shift_is_what_class_weights_and_oversampling_add_to_the_log_odds(weighting: str) -> None:
    """A logistic model that is trained weighted has the true log-odds plus the shift, so one that is trained plainly is
    met again.
    """
    generator = np.random.default_rng(1)
    features = generator.normal(size=(60_000, 2))
    labels = labels_of(features @ [1.5, -1.0] - 2.5, 1)
    shift = prior_shift(labels, weighting)
    assert shift == pytest.approx(np.log((labels == 0).sum() / (labels == 1).sum()))
    rows, weights = np.arange(len(labels)), class_weights(labels, weighting)
    if weighting == "oversampled":
        rows = repeat_rarer_class(labels, generator)
    else:
        assert shift == pytest.approx(np.log(weights[1] / weights[0]), abs=1e-6)
    weighted = LogisticRegression(C=1e6).fit(features[rows], labels[rows], sample_weight=weights[labels[rows]])
    true = features @ [1.5, -1.0] - 2.5
    corrected = fit_calibrator("prior_shift", shift, weighted.decision_function(features), labels).apply(
        weighted.decision_function(features)
    )
    # 60,000 rows leave a standard error of about 0.02 on each coefficient, and features lie within 4; untouched, the
    # gap is `shift` (over 1.5)
    np.testing.assert_allclose(np.log(corrected / (1 - corrected)), true, atol=0.2)
    assert np.abs(weighted.decision_function(features) - true).min() > 1


def test_without_class_weights_there_is_no_shift() -> None:
    assert prior_shift(np.array([0, 0, 0, 1]), "none") == 0
    logit = log_odds(10, 1)
    np.testing.assert_array_equal(
        fit_calibrator("prior_shift", 0.0, logit, labels_of(logit, 1)).apply(logit), sigmoid(logit)
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_behind_a_shift(temperature: float) -> None:
    true = log_odds(50_000, 2)
    calibrator = fit_calibrator("temperature", 1.2, true * temperature + 1.2, labels_of(true, 2))
    assert calibrator.parameters == (pytest.approx(temperature, rel=0.03),)  # the standard error is about 1%
    np.testing.assert_allclose(calibrator.apply(true * temperature + 1.2), expit(true), atol=0.01)


@pytest.mark.parametrize("parameters", [(0.5, 1.5, -0.5), (1.6, 0.7, 0.4), (1.0, 1.0, 0.0)])
def test_beta_parameters_are_found_behind_a_shift(parameters: tuple[float, float, float]) -> None:
    logit = np.random.default_rng(3).normal(0, 2.5, 100_000)
    labels = labels_of(beta_log_odds(logit, *parameters), 3)
    calibrator = fit_calibrator("beta", -0.7, logit - 0.7, labels)
    # the largest standard error is about 0.025
    np.testing.assert_allclose(calibrator.parameters, parameters, atol=0.08)


def test_beta_is_the_logistic_regression_on_both_logarithms() -> None:
    """Kull et al. 2017, section 4: a, b, c are the coefficients of ln p and -ln(1 - p) and the constant."""
    logit = log_odds(3000, 4)
    labels = labels_of(beta_log_odds(logit, 0.8, 1.3, 0.2), 4)
    both = np.column_stack([np.log(expit(logit)), -np.log(expit(-logit))])
    regression = LogisticRegression(C=1e9, tol=1e-9, max_iter=1000).fit(both, labels)
    np.testing.assert_allclose(
        fit_calibrator("beta", 0.0, logit, labels).parameters,
        [*regression.coef_[0], regression.intercept_[0]],
        atol=2e-3,
    )


def test_beta_never_falls_though_the_rows_do() -> None:
    logit = log_odds(2000, 5)
    calibrator = fit_calibrator("beta", 0.0, logit, labels_of(-logit, 5))
    assert min(calibrator.parameters[:2]) == 0
    assert np.all(np.diff(calibrator.apply(np.linspace(-30, 30, 200))) >= 0)


def test_isotonic_is_scikit_learns_kept_away_from_certainty() -> None:
    logit = log_odds(500, 6)
    labels = labels_of(2 * logit + 1, 6)
    calibrator = fit_calibrator("isotonic", 0.8, logit + 0.8, labels)
    least, everywhere = 1 / 502, np.linspace(-15, 10, 301)
    expected = (
        IsotonicRegression(out_of_bounds="clip", y_min=least, y_max=1 - least).fit(logit, labels).predict(everywhere)
    )
    np.testing.assert_allclose(calibrator.apply(everywhere + 0.8), expected, atol=1e-12)
    assert (calibrator.y[0], calibrator.y[-1]) == (pytest.approx(least), pytest.approx(1 - least))
    assert np.isfinite(probability_losses(calibrator.apply(np.array([-1000.0, 1000.0])), np.array([1, 0])).mean())


def test_isotonic_mends_a_shape_that_no_formula_has() -> None:
    logit, later = log_odds(8000, 7), log_odds(8000, 8)

    def steps(values: np.ndarray) -> np.ndarray:
        return np.log(
            np.select([values < -2, values < 1], [0.02, 0.4], 0.7)
            / np.select([values < -2, values < 1], [0.98, 0.6], 0.3)
        )

    errors = {
        method: ece(
            fit_calibrator(method, 0.0, logit, labels_of(steps(logit), 7)).apply(later), labels_of(steps(later), 8), 10
        )
        for method in LADDER
    }
    assert errors["isotonic"] < 0.03 < 0.05 < min(error for method, error in errors.items() if method != "isotonic")


@pytest.mark.parametrize(
    ("calibrator", "logit"),
    list(zip(EVERY_RUNG, (2.0, 0.5, 0.5 / 2.5, beta_log_odds(np.array(2.5), 0.7, 1.4, -0.3), None), strict=True)),
    ids=LADDER,
)
def test_every_method_by_its_formula(calibrator: Calibrator, logit: float | None) -> None:
    expected = np.interp(2.0 - 1.5, (0.0, 3.0), (0.2, 0.97)) if logit is None else expit(logit)
    assert calibrator.apply(np.array([2.0])) == pytest.approx([expected])


@pytest.mark.parametrize("calibrator", EVERY_RUNG, ids=LADDER)
def test_logits_of_single_precision_are_computed_with_in_double(calibrator: Calibrator) -> None:
    single = np.array([0.1, 2.7], dtype=np.float32)
    for function in (calibrator.apply, sigmoid):
        np.testing.assert_array_equal(function(single), function(single.astype(np.float64)))
        assert function(single).dtype == np.float64
    labels = np.array([1, 0])
    assert fit_calibrator(calibrator.method, 0.3, single, labels) == fit_calibrator(
        calibrator.method, 0.3, single.astype(np.float64), labels
    )


# ---- what every method keeps to


@pytest.mark.parametrize("calibrator", EVERY_RUNG, ids=LADDER)
def test_no_logit_overflows_and_nan_stays_nan(calibrator: Calibrator) -> None:
    with np.errstate(all="raise", under="ignore"), warnings.catch_warnings(action="error"):
        found = calibrator.apply(np.array([-1000.0, -30.0, 0.0, 30.0, 1000.0]))
        assert np.isnan(calibrator.apply(np.array([np.nan, 0.0]))).tolist() == [True, False]
    assert np.all((found >= 0) & (found <= 1)) and np.all(np.diff(found) >= 0)
    assert found[0] < 0.02 and found[-1] > 0.96


def test_nan_stays_nan_where_all_rows_had_one_logit() -> None:
    calibrator = fit_calibrator("isotonic", 0.0, np.zeros(6), np.array([0, 1, 0, 0, 0, 1]))
    np.testing.assert_allclose(calibrator.apply(np.array([np.nan, -5.0, 5.0])), [np.nan, 1 / 3, 1 / 3])


@pytest.mark.parametrize("method", LADDER)
def test_fitting_survives_logits_of_a_thousand(method: Method) -> None:
    logit = np.array([-1000.0, -900.0, 2.0, 900.0, 1000.0, -3.0] * 5)
    calibrator = fit_calibrator(method, 0.0, logit, np.array([0, 0, 1, 1, 1, 1] * 5))
    assert np.isfinite(calibrator.apply(logit)).all()
    assert Calibrator.from_json(calibrator.to_json()) == calibrator


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LADDER), st.floats(-3, 3), st.integers(0, 10_000))
def test_a_fitted_calibrator_never_turns_an_order_round(method: Method, shift: float, seed: int) -> None:
    logit = log_odds(60, seed)
    calibrator = fit_calibrator(method, shift, logit, np.r_[labels_of(logit, seed), 0, 1][2:])
    assert np.all(np.diff(calibrator.apply(np.linspace(-40, 40, 400))) >= -1e-15)  # rounding aside


def test_sigmoid_and_log_loss_are_exact_in_the_tails() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-40.0, 0.0, 40.0])), expit([-40.0, 0.0, 40.0]), rtol=1e-14)
    assert probability_losses(np.array([0.9, 0.2]), np.array([1, 0])).mean() == pytest.approx(
        log_loss([1, 0], [0.9, 0.2])
    )
    for wrong in (0.0, 1.0):
        [loss] = probability_losses(np.array([wrong]), np.array([1 - int(wrong)]))
        assert loss == pytest.approx(-np.log(1e-15), rel=1e-3)


# ---- calibrator.json


@pytest.mark.parametrize("calibrator", EVERY_RUNG, ids=LADDER)
def test_a_calibrator_survives_json_exactly(calibrator: Calibrator) -> None:
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_fitted_knots_survive_json_exactly(seed: int) -> None:
    logit = np.round(log_odds(40, seed), 1)
    calibrator = fit_calibrator("isotonic", 0.3, logit, np.r_[labels_of(logit, seed), 0, 1][2:])
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator


@pytest.mark.parametrize(
    "broken",
    [
        {"method": "platt"},
        {"shift": 0.5},  # `none` leaves logits as they are
        {"shift": float("nan")},
        {"shift": "near nought"},
        {"method": "temperature"},
        {"method": "temperature", "parameters": [0.0]},
        {"method": "temperature", "parameters": [-1.0]},
        {"method": "temperature", "parameters": [float("inf")]},
        {"method": "temperature", "parameters": [1.0, 1.0]},
        {"method": "beta", "parameters": [1.0, 1.0]},
        {"method": "beta", "parameters": [-0.1, 1.0, 0.0]},
        {"method": "beta", "parameters": [1.0, 1.0, float("nan")]},
        {"method": "isotonic"},
        {"method": "isotonic", "x": [0, 0], "y": [0.1, 0.2]},
        {"method": "isotonic", "x": [0, 1], "y": [0.2, 0.1]},
        {"method": "isotonic", "x": [0, 1], "y": [-0.1, 0.2]},
        {"method": "isotonic", "x": [0, 1], "y": [0.1, 1.2]},
        {"method": "isotonic", "x": [0, 1], "y": [0.1]},
        {"method": "isotonic", "x": [0, float("nan")], "y": [0.1, 0.2]},
        {"method": "isotonic", "x": None, "y": [0.1, 0.2]},
        {"method": None},
    ],
    ids=str,
)
def test_what_is_no_rising_map_into_probabilities_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ReviewriskError, match="no valid calibrator"):
        Calibrator.from_json({**Calibrator().to_json(), **broken})


@pytest.mark.parametrize(
    "whole",
    [
        {"method": "temperature", "parameters": [1e-9]},
        {"method": "beta", "parameters": [0, 0, -3]},
        {"method": "isotonic", "x": [0], "y": [0.5]},
        {"method": "isotonic", "x": [0, 1], "y": [0, 1]},
        {"method": "isotonic", "x": [0, 1], "y": [0.5, 0.5]},
    ],
    ids=str,
)
def test_a_map_at_the_very_limits_is_taken(whole: dict[str, Any]) -> None:
    assert Calibrator.from_json({**Calibrator().to_json(), **whole}).method == whole["method"]


@pytest.mark.parametrize(
    "broken",
    [
        {"method": "temperature", "parameters": [0]},
        {"method": "temperature", "parameters": [1, 1]},
        {"method": "beta", "parameters": [1, -1e-9, 0]},
        {"method": "beta", "parameters": [-1e-9, 1, 0]},
        {"method": "isotonic", "x": [], "y": []},
        {"method": "isotonic", "x": [1, 1], "y": [0.1, 0.2]},
        {"method": "none", "shift": 1e-9},
    ],
    ids=str,
)
def test_a_map_just_beyond_the_limits_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ReviewriskError, match="no valid calibrator"):
        Calibrator.from_json({**Calibrator().to_json(), **broken})


def test_fitted_numbers_reach_their_bounds_and_no_farther() -> None:
    """Separable rows want all the steepness there is, rows that contradict the logit none."""
    logit, label = np.linspace(-3, 3, 200), (np.linspace(-3, 3, 200) > 0).astype(np.int64)
    assert fit_calibrator("temperature", 0.0, logit, label).parameters == pytest.approx((0.05,))
    assert fit_calibrator("temperature", 0.0, logit, 1 - label).parameters == pytest.approx((20.0,))
    assert fit_calibrator("beta", 0.0, logit, label).parameters[:2] == pytest.approx((20.0, 20.0))
    assert fit_calibrator("beta", 0.0, logit, 1 - label).parameters[:2] == pytest.approx((0.0, 0.0))


@pytest.mark.parametrize("rows", [2, 8])
def test_isotonic_values_keep_one_row_of_n_plus_two_away_from_certainty(rows: int) -> None:
    calibrator = fit_calibrator("isotonic", 0.0, np.arange(rows) * 1.0, (np.arange(rows) >= rows / 2).astype(np.int64))
    assert (calibrator.y[0], calibrator.y[-1]) == (1 / (rows + 2), 1 - 1 / (rows + 2))


def test_a_calibrator_of_another_format_is_refused() -> None:
    with pytest.raises(ReviewriskError, match=r"no valid calibrator \(KeyError: 'parameters'\): copy the bundle again"):
        Calibrator.from_json({"method": "none", "x": [], "y": []})

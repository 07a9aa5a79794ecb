"""Calibrators, their choice, and the calibration error, each against a number worked out by hand or by scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from model.calibration import Calibrator, choose_calibrator, expected_calibration_error, fit_isotonic, probability_log_loss, reliability_table
from model.errors import ReviewriskError

PROBABILITY = np.array([0.05, 0.15, 0.95, 0.85, 1.0, 0.0])
LABEL = np.array([0, 1, 1, 1, 1, 0])


def sample(rows: int, seed: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Raw probabilities and labels whose true probability is raw ** power."""
    generator = np.random.default_rng(seed)
    raw = generator.random(rows)
    return raw, (generator.random(rows) < raw**power).astype(np.int64)


def test_expected_calibration_error_by_hand() -> None:
    # two bins: [0, .5) has 0.05, 0.15, 0.0 -> mean 1/15, observed 1/3; [.5, 1] has 0.95, 0.85, 1.0 -> mean 14/15, observed 1
    assert expected_calibration_error(PROBABILITY, LABEL, 2) == pytest.approx(0.5 * (1 / 3 - 1 / 15) + 0.5 * (1 - 14 / 15))


def test_reliability_table_has_every_bin_once() -> None:
    table = reliability_table(PROBABILITY, LABEL, 4)
    assert [(row["lower"], row["upper"], row["rows"]) for row in table] == [(0, 0.25, 3), (0.25, 0.5, 0), (0.5, 0.75, 0), (0.75, 1, 3)]
    assert (table[1]["mean_probability"], table[1]["observed_share"]) == (None, None)
    assert (table[3]["mean_probability"], table[3]["observed_share"]) == (pytest.approx(14 / 15), 1)


def test_isotonic_is_scikit_learns_kept_away_from_certainty() -> None:
    raw, label = sample(500, 1, 2.0)
    calibrator = fit_isotonic(raw, label)
    least = 1 / 502
    expected = IsotonicRegression(out_of_bounds="clip", y_min=least, y_max=1 - least).fit(raw, label).predict(np.linspace(0, 1, 301))
    np.testing.assert_allclose(calibrator.apply(np.linspace(0, 1, 301)), expected, atol=1e-12)
    assert calibrator.y[0] == pytest.approx(least)
    assert math.isfinite(probability_log_loss(calibrator.apply(np.array([0.0, 1.0])), np.array([1, 0])))


def test_isotonic_never_turns_an_order_round_and_mends_the_error() -> None:
    calibrator = fit_isotonic(*sample(4000, 1, 3.0))
    raw, label = sample(4000, 2, 3.0)
    assert np.all(np.diff(calibrator.apply(np.sort(raw))) >= 0)
    assert expected_calibration_error(calibrator.apply(raw), label, 10) < 0.04 < 0.2 < expected_calibration_error(raw, label, 10)


def test_calibrator_survives_json_exactly() -> None:
    calibrator = fit_isotonic(*sample(300, 1, 2.0))
    again = Calibrator.from_json(json.loads(json.dumps(calibrator.to_json())))
    assert again == calibrator
    assert Calibrator.from_json(Calibrator().to_json()) == Calibrator()


@pytest.mark.parametrize(
    "broken", [{"method": "isotonic", "x": [], "y": []}, {"method": "isotonic", "x": [0, 0], "y": [0, 1]}, {"method": "platt", "x": [0], "y": [0]}]
)
def test_knots_that_are_no_rising_map_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ReviewriskError, match="no valid calibrator"):
        Calibrator.from_json(broken)


def test_nan_stays_nan() -> None:
    assert np.isnan(fit_isotonic(*sample(100, 1, 2.0)).apply(np.array([np.nan]))).all()


@pytest.mark.parametrize(("power", "expected"), [(3.0, "isotonic"), (1.0, "none")])
def test_auto_takes_isotonic_only_where_it_lowers_log_loss_on_the_choosing_slice(power: float, expected: str) -> None:
    fitting, choosing = sample(400, 1, power), sample(400, 2, power)
    choice = choose_calibrator("auto", fitting, choosing)
    assert choice.calibrator.method == expected
    assert choice.log_loss["none"] == pytest.approx(log_loss(choosing[1], choosing[0]))
    assert (choice.log_loss["isotonic"] < choice.log_loss["none"]) == (expected == "isotonic")


@pytest.mark.parametrize("method", ["none", "isotonic"])
def test_a_given_method_is_obeyed(method: str) -> None:
    for power in (1.0, 3.0):
        assert choose_calibrator(method, sample(200, 1, power), sample(200, 2, power)).calibrator.method == method  # type: ignore[arg-type]

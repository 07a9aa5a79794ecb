"""Calibrators: maps from a model's logit to the probability that its scores are to be read as.

The ladder, from what is known to what must be learned. Every method after the first begins with the prior shift.

none         sigmoid(z)
prior_shift  sigmoid(z - s); s = ln(w1 / w0) is what class weights w added to the log-odds (Elkan 2001, theorem 2), so
             nothing is fitted
temperature  sigmoid((z - s) / T) (Guo et al. 2017, arXiv 1706.04599)
beta         sigmoid(a ln p - b ln(1 - p) + c) with p = sigmoid(z - s) and a, b >= 0 (Kull et al. 2017)
isotonic     any rising step map (Zadrozny and Elkan 2002): the fallback where no formula fits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import ReviewriskError

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.int64]
Method = Literal["none", "prior_shift", "temperature", "beta", "isotonic"]
LADDER: tuple[Method, ...] = get_args(Method)
# Bounds of the fitted numbers: a separable sample would drive them to infinity.
_TEMPERATURES = (0.05, 20.0)
_SLOPES = (0.0, 20.0)


@dataclass(frozen=True)
class Calibrator:
    """A map from logit to probability that never falls: the method, the prior shift, and temperature's (T,) or beta's
    (a, b, c) in `parameters`, or isotonic's knots (x: logit less shift, rising; y: probability, not falling).
    """

    method: Method = "none"
    shift: float = 0.0
    parameters: tuple[float, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, logit: FloatArray) -> FloatArray:
        """Calibrated probabilities, same shape; NaN stays NaN."""
        shifted = np.asarray(logit, dtype=np.float64) - self.shift
        if self.method == "temperature":
            return sigmoid(shifted / self.parameters[0])
        if self.method == "beta":
            return sigmoid(_beta_logit(shifted, np.asarray(self.parameters)))
        if self.method == "isotonic":
            # a single knot would give NaN its value
            return np.where(np.isnan(shifted), np.nan, np.interp(shifted, self.x, self.y))
        return sigmoid(shifted)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as JSON holds it."""
        return {
            "method": self.method,
            "shift": self.shift,
            "parameters": list(self.parameters),
            "x": list(self.x),
            "y": list(self.y),
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Calibrator:
        """The calibrator that `to_json` described. Raises ReviewriskError where it is none, or a map that falls or
        leaves [0, 1].
        """
        try:
            numbers = {name: tuple(map(float, value[name])) for name in ("parameters", "x", "y")}
            found = Calibrator(value["method"], float(value["shift"]), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ReviewriskError(
                f"calibrator.json holds no valid calibrator ({type(error).__name__}: {error}): copy the bundle again."
            ) from None
        if not _is_valid(found):
            raise ReviewriskError(
                f"calibrator.json holds no valid calibrator (method {found.method!r}, {len(found.x)} knots): copy the"
                " bundle again."
            )
        return found


def _is_valid(calibrator: Calibrator) -> bool:
    parameters, x, y = calibrator.parameters, np.asarray(calibrator.x), np.asarray(calibrator.y)
    if calibrator.method not in LADDER or not np.all(np.isfinite([calibrator.shift, *parameters, *x, *y])):
        return False
    if calibrator.method == "temperature":
        return len(parameters) == 1 and parameters[0] > 0
    if calibrator.method == "beta":
        return len(parameters) == 3 and min(parameters[:2]) >= 0
    if calibrator.method == "isotonic":
        return len(x) == len(y) >= 1 and bool(
            np.all(np.diff(x) > 0) and np.all(np.diff(y) >= 0) and y[0] >= 0 and y[-1] <= 1
        )
    return calibrator.method != "none" or calibrator.shift == 0


def fit_calibrator(method: Method, shift: float, logit: FloatArray, label: LabelArray) -> Calibrator:
    """The calibrator of one method. Rows need both classes where something is fitted; `shift`: see `prior_shift`."""
    shifted = np.asarray(logit, dtype=np.float64) - shift
    if method == "none":
        return Calibrator()
    if method == "prior_shift":
        return Calibrator(method, shift)
    if method == "temperature":
        [temperature] = _minimise(lambda value: _log_loss(shifted / value[0], label), [1.0], [_TEMPERATURES])
        return Calibrator(method, shift, (temperature,))
    if method == "beta":
        found = _minimise(
            lambda value: _log_loss(_beta_logit(shifted, value), label),
            [1.0, 1.0, 0.0],
            [_SLOPES, _SLOPES, (None, None)],
        )
        return Calibrator(method, shift, found)
    return _fit_isotonic(shift, shifted, label)


def sigmoid(logit: FloatArray) -> FloatArray:
    """1 / (1 + exp(-z)), without overflow."""
    return np.asarray(np.exp(-_softplus(-np.asarray(logit, dtype=np.float64))), dtype=np.float64)


def probability_losses(probability: FloatArray, label: LabelArray) -> FloatArray:
    """Each row's negative log-likelihood in nats; probabilities are kept 1e-15 away from 0 and 1."""
    kept = np.clip(probability, 1e-15, 1 - 1e-15)
    return np.asarray(-np.where(label == 1, np.log(kept), np.log1p(-kept)))


def _fit_isotonic(shift: float, shifted: FloatArray, label: LabelArray) -> Calibrator:
    """Values are kept within [1/(n + 2), 1 - 1/(n + 2)], as a finite sample proves no certainty: log-loss stays
    finite.
    """
    # here, as scoring processes apply calibrators and need no scikit-learn
    from sklearn.isotonic import IsotonicRegression

    least = 1.0 / (len(label) + 2)
    regression = IsotonicRegression(y_min=least, y_max=1 - least).fit(shifted, label)
    return Calibrator(
        "isotonic", shift, (), tuple(map(float, regression.X_thresholds_)), tuple(map(float, regression.y_thresholds_))
    )


def _beta_logit(shifted: FloatArray, parameters: FloatArray) -> FloatArray:
    """a ln p - b ln(1 - p) + c where p = sigmoid(shifted)."""
    a, b, c = parameters
    return np.asarray(-a * _softplus(-shifted) + b * _softplus(shifted) + c, dtype=np.float64)


def _log_loss(logit: FloatArray, label: LabelArray) -> float:
    """Mean negative log-likelihood of sigmoid(logit), in nats, exact in both tails."""
    return float(np.mean(_softplus(np.where(label == 1, -logit, logit))))


def _softplus(value: FloatArray) -> FloatArray:
    """ln(1 + exp(value)), without overflow."""
    with np.errstate(invalid="ignore"):  # NaN is no news
        return np.asarray(np.logaddexp(0.0, value), dtype=np.float64)


def _minimise(loss: Any, start: list[float], bounds: list[tuple[float | None, float | None]]) -> tuple[float, ...]:
    from scipy.optimize import minimize

    return tuple(map(float, minimize(loss, start, method="L-BFGS-B", bounds=bounds).x))

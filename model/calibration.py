"""Calibrators of the raw probability, the expected calibration error and the reliability table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import ReviewriskError

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.int64]


@dataclass(frozen=True)
class Calibrator:
    """A map from raw to calibrated probability: none, or isotonic as straight lines between knots (x rising, y not falling)."""

    method: Literal["none", "isotonic"] = "none"
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, raw_probability: FloatArray) -> FloatArray:
        """Calibrated probabilities, same shape; outside the knots the nearest knot's; NaN stays NaN."""
        raw = np.asarray(raw_probability, dtype=np.float64)
        if self.method == "none":
            return raw.copy()
        return np.asarray(np.interp(raw, self.x, self.y), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as JSON holds it."""
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Calibrator:
        """The calibrator that `to_json` described. Raises ReviewriskError where the knots make no rising map into [0, 1]."""
        x, y = tuple(map(float, value["x"])), tuple(map(float, value["y"]))
        is_map = len(x) == len(y) >= 1 and bool(np.all(np.diff(x) > 0) and np.all(np.diff(y) >= 0) and y[0] >= 0 and y[-1] <= 1)
        if value["method"] not in ("none", "isotonic") or (value["method"] == "isotonic" and not is_map):
            raise ReviewriskError(f"calibrator.json holds no valid calibrator (method {value['method']!r}, {len(x)} knots): copy the bundle again.")
        return Calibrator(value["method"], x, y)


@dataclass(frozen=True)
class CalibratorChoice:
    """The chosen calibrator and the log-loss of each candidate on the choosing slice, in nats."""

    calibrator: Calibrator
    log_loss: dict[str, float]


def fit_isotonic(raw_probability: FloatArray, label: LabelArray) -> Calibrator:
    """Isotonic regression of the label on the raw probability (Zadrozny and Elkan 2002).

    Values are kept within [1/(n + 2), 1 - 1/(n + 2)], as a finite sample proves no certainty: log-loss stays finite.
    """
    from sklearn.isotonic import IsotonicRegression  # here, as scoring processes apply calibrators and need no scikit-learn

    least = 1.0 / (len(label) + 2)
    regression = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(raw_probability, label)
    return Calibrator("isotonic", tuple(map(float, regression.X_thresholds_)), tuple(map(float, regression.y_thresholds_)))


def choose_calibrator(
    method: Literal["auto", "none", "isotonic"], fitting: tuple[FloatArray, LabelArray], choosing: tuple[FloatArray, LabelArray]
) -> CalibratorChoice:
    """The calibrator of the given method; `auto` takes isotonic where it lowers log-loss on the choosing slice, else none.

    `fitting` and `choosing` are (raw probability, label) of disjoint rows.
    """
    candidates = {"none": Calibrator(), "isotonic": fit_isotonic(*fitting)}
    losses = {name: probability_log_loss(candidate.apply(choosing[0]), choosing[1]) for name, candidate in candidates.items()}
    if method == "auto":
        method = "isotonic" if losses["isotonic"] < losses["none"] else "none"
    return CalibratorChoice(candidates[method], losses)


def probability_log_loss(probability: FloatArray, label: LabelArray) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept 1e-15 away from 0 and 1."""
    kept = np.clip(probability, 1e-15, 1 - 1e-15)
    return float(-np.mean(np.where(label == 1, np.log(kept), np.log1p(-kept))))


def reliability_table(probability: FloatArray, label: LabelArray, bins: int) -> list[dict[str, Any]]:
    """One row per equal-width bin of the probability: lower, upper, rows, mean_probability, observed_share (None where no rows)."""
    number = np.minimum((probability * bins).astype(np.int64), bins - 1)  # a probability of 1 belongs to the last bin
    table = []
    for index in range(bins):
        inside = number == index
        rows = int(inside.sum())
        table.append(
            {
                "lower": index / bins,
                "upper": (index + 1) / bins,
                "rows": rows,
                "mean_probability": float(probability[inside].mean()) if rows else None,
                "observed_share": float(label[inside].mean()) if rows else None,
            }
        )
    return table


def expected_calibration_error(probability: FloatArray, label: LabelArray, bins: int) -> float:
    """ECE (Naeini et al. 2015): mean over rows of |observed share - mean probability| of the row's equal-width bin."""
    filled = [row for row in reliability_table(probability, label, bins) if row["rows"]]
    return float(sum(row["rows"] * abs(row["observed_share"] - row["mean_probability"]) for row in filled) / len(label))

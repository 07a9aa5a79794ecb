"""What scores are worth: calibrated and cut on validation, then held against other models' on the same test rows, in
every view of them.

Views of the test rows, each an answer to one way in which a figure can flatter:

as_is                  all rows, as the model reads them
without_headline       bodies alone: a headline "One Star" is the label read back
ratings_masked         phrases that state the rating taken out of headline and body
no_default_headline    only rows whose headline is not the shop's default ("Five Stars")
without_train_texts    only rows whose text does not stand in the training split, exactly or nearly
unseen_products        only rows of products without a review in the training split
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.reviews import LabelledReviews, PreparedData, prior_shift
from model.errors import ReviewriskError
from model.evaluation.calibrators import LADDER, Calibrator, FloatArray, fit_calibrator
from model.evaluation.cross_fitting import CalibrationRows, CalibratorChoice, choose_calibrator, out_of_fold
from model.evaluation.metrics import DRAWS, Groups, Intervals, Scored, bootstrap, intervals, metrics
from model.evaluation.thresholds import FittedThreshold, check_names, fit_thresholds
from model.settings import ModelSettings
from model.text.compose import HeadlineMode, text_hash
from model.text.rating_phrases import is_default_headline

BoolArray = NDArray[np.bool_]
# How the rows of a view are read, where not as the model was trained to.
READ_AS: dict[str, HeadlineMode] = {"without_headline": "drop", "ratings_masked": "mask_ratings"}
VIEWS = ("as_is", "without_headline", "ratings_masked", "no_default_headline", "without_train_texts", "unseen_products")
_THRESHOLD_FIGURES = ("f1", "precision", "recall", "flagged_share")
_SLICE_FIGURES = ("auc", "average_precision", "f1", "ece_debiased", "brier")
_SLICE_DRAWS = 300
FEWEST_TO_RANK = 30  # a slice with fewer rows of a class is shown, but is not called the worst
_LENGTH_LIMITS = (100, 300, 1000)
_LENGTH_NAMES = (
    f"under {_LENGTH_LIMITS[0]} characters",
    *(f"{low} to {high - 1} characters" for low, high in pairwise(_LENGTH_LIMITS)),
    f"{_LENGTH_LIMITS[-1]} characters and more",
)
_ERRORS_SHOWN = 20
_IMPROBABLE = 0.05
# The slices of PreparedData in a bundle's predictions.parquet. Bundles of earlier versions have "fitting" and
# "choosing", the earlier and the later half of "calibration".
_STORED_PARTS = ("calibration", "test")
_METHOD_FIGURES = ("log_loss", "brier", "ece", "ece_debiased")


@dataclass(frozen=True)
class Logits:
    """One model's log-odds on the rows that calibration and evaluation need; `test_read_as` has the test rows read as
    in READ_AS.
    """

    calibration: FloatArray
    test: FloatArray
    test_read_as: dict[str, FloatArray]


@dataclass(frozen=True)
class CalibratedModel:
    """A model's calibrator and thresholds, as validation chose them, its logits, and its prior shift (see
    `data.prior_shift`).
    """

    choice: CalibratorChoice
    thresholds: list[FittedThreshold]
    default: FittedThreshold
    logits: Logits
    shift: float

    def scored(self, data: PreparedData, view: str = "as_is") -> Scored:
        """The test rows of a view, as this model scores and decides them."""
        logit = self.logits.test_read_as.get(view, self.logits.test)
        assert self.default.threshold is not None
        every = Scored(logit, self.choice.calibrator.apply(logit), data.test.labels, self.default.threshold)
        return every.take(rows_of(view, data))


def calibrate(
    logits: Logits, data: PreparedData, settings: ModelSettings, weighting: str | None = None
) -> CalibratedModel:
    """The calibrator that the calibration slice of validation has, and the thresholds of its out-of-fold probabilities.

    `weighting` is the class weighting that the model was trained with (None: that of the settings). Raises
    ReviewriskError where the default threshold cannot be had from these rows.
    """
    shift = prior_shift(data.train.labels, weighting or settings.training.class_weighting)
    rows = calibration_rows(logits.calibration, data)
    choice = choose_calibrator(settings.calibration.method, shift, rows)
    thresholds = _fitted_thresholds(choice.calibrator, rows, settings)
    return CalibratedModel(choice, thresholds, _default(thresholds, settings), logits, shift)


def calibration_rows(logit: FloatArray, data: PreparedData) -> CalibrationRows:
    """The rows of the calibration slice with a model's log-odds of them."""
    reviews = data.calibration
    return CalibrationRows(logit, reviews.labels, np.asarray(reviews.product_ids), reviews.dates)


def rows_of(view: str, data: PreparedData) -> BoolArray:
    """Which test rows a view has."""
    if view == "no_default_headline":
        return ~default_headlines(data.test)
    if view == "without_train_texts":
        return ~data.test_overlap.either
    if view == "unseen_products":
        return data.test_product_is_new
    return np.ones(len(data.test), dtype=np.bool_)


def default_headlines(reviews: LabelledReviews) -> BoolArray:
    """Which reviews have the shop's default headline."""
    return np.fromiter(
        (is_default_headline(headline) for headline in reviews.headlines), dtype=np.bool_, count=len(reviews)
    )


def audit(models: dict[str, CalibratedModel], data: PreparedData, settings: ModelSettings) -> dict[str, dict[str, Any]]:
    """Per view: rows, positives, per model the intervals of every figure, and `majority`, the figures of the training
    share for all.

    With models `model` and `tfidf`, also `gain`: their difference by a paired bootstrap. All intervals draw whole
    products.
    """
    found = {}
    bins, confidence, seed = settings.calibration.bins, settings.thresholds.confidence, settings.training.seed
    for view in VIEWS:
        rows = rows_of(view, data)
        groups = np.asarray(data.test.product_ids)[rows]
        scored = {name: calibrated.scored(data, view) for name, calibrated in models.items()}
        entry: dict[str, Any] = {"rows": int(rows.sum()), "positives": int(data.test.labels[rows].sum())}
        scored["majority"] = _majority(data, rows)
        resampled = dict(zip(scored, bootstrap(list(scored.values()), bins, groups, seed), strict=True))
        entry |= {name: one.intervals(confidence) for name, one in resampled.items()}
        if {"model", "tfidf"} <= scored.keys():
            entry["gain"] = resampled["model"].less(resampled["tfidf"], confidence)
        found[view] = entry
    return found


def threshold_rows(calibrated: CalibratedModel, data: PreparedData, settings: ModelSettings) -> list[dict[str, Any]]:
    """One row of `model_thresholds` per threshold that could be had: its value, purpose and figures on test with
    intervals.
    """
    return _threshold_rows(
        calibrated.thresholds, calibrated.default, calibrated.scored(data), np.asarray(data.test.product_ids), settings
    )


def refit_thresholds(
    predictions: pa.Table, calibrator: Calibrator, settings: ModelSettings
) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
    """(rows as `threshold_rows` gives them, {name: reason} of those that cannot be had) from a bundle's
    `prediction_table` alone.

    With other settings (another cost, another guarantee) this is all it takes: nothing is scored anew.
    """
    validation, test = (predictions.filter(of(predictions["part"], "test")) for of in (pc.not_equal, pc.equal))
    columns = ("model_logit", "label", "product_id", "review_date")
    thresholds = _fitted_thresholds(
        calibrator, CalibrationRows(*(validation[name].to_numpy() for name in columns)), settings
    )
    default = _default(thresholds, settings)
    assert default.threshold is not None
    logit = test["model_logit"].to_numpy()
    scored = Scored(logit, calibrator.apply(logit), test["label"].to_numpy(), default.threshold)
    rows = _threshold_rows(thresholds, default, scored, test["product_id"].to_numpy(), settings)
    return rows, {fitted.threshold_name: fitted.reason for fitted in thresholds if fitted.threshold is None}


def _fitted_thresholds(calibrator: Calibrator, rows: CalibrationRows, settings: ModelSettings) -> list[FittedThreshold]:
    """The thresholds of the rows' out-of-fold probabilities: those of the calibrator that these very rows fitted would
    part them better than it parts new rows.
    """
    probability = out_of_fold(calibrator.method, calibrator.shift, rows)
    return fit_thresholds(probability, rows.label, rows.products, rows.days, settings.thresholds)


def _threshold_rows(
    thresholds: list[FittedThreshold], default: FittedThreshold, scored: Scored, groups: Groups, settings: ModelSettings
) -> list[dict[str, Any]]:
    rows = []
    for fitted in thresholds:
        if fitted.threshold is None:
            continue
        at = Scored(scored.logit, scored.probability, scored.label, fitted.threshold)
        f1, *shares = _intervals(at, groups, settings, _THRESHOLD_FIGURES).items()
        row: dict[str, Any] = {
            "threshold_name": fitted.threshold_name,
            "threshold": fitted.threshold,
            "purpose": fitted.purpose,
            "is_default": fitted is default,
            "is_active": fitted.threshold_name in settings.thresholds.active,
            "f1": f1[1]["value"] or 0.0,
        }
        for name, found in shares:
            row |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
        rows.append(row)
    return rows


def calibration_figures(calibrated: CalibratedModel, data: PreparedData, settings: ModelSettings) -> dict[str, Any]:
    """The chosen method, the prior shift, the number of folds, and of each method what the choice went by (None without
    folds, see `CalibratorChoice`) and figures on test, fitted on the whole calibration slice.
    """
    choice, logits = calibrated.choice, calibrated.logits
    methods = {}
    for method in LADDER:
        fitted = fit_calibrator(method, calibrated.shift, logits.calibration, data.calibration.labels)
        scored = Scored(logits.test, fitted.apply(logits.test), data.test.labels, 0.5)
        found = metrics(scored, settings.calibration.bins)
        methods[method] = {
            "out_of_fold_log_loss": choice.log_loss.get(method),
            "standard_error": choice.standard_error.get(method),
            **{f"test_{name}": found[name] for name in _METHOD_FIGURES},
        }
    not_set = {fitted.threshold_name: fitted.reason for fitted in calibrated.thresholds if fitted.threshold is None}
    return {
        "method": choice.calibrator.method,
        "prior_shift": calibrated.shift,
        "folds": choice.folds,
        "rungs": methods,  # as metrics.json has called them from the first
        "thresholds_not_set": not_set,
    }


def slices(calibrated: CalibratedModel, data: PreparedData, settings: ModelSettings) -> dict[str, Any]:
    """Figures of parts of the test rows: {"by": {dimension: [{slice, rows, positives, f1, auc, ece …}]}, "worst": the
    one of least F1}.
    """
    scored, groups = calibrated.scored(data), np.asarray(data.test.product_ids)
    found: dict[str, list[dict[str, Any]]] = {}
    for dimension, of in _DIMENSIONS.items():
        names = np.asarray(of(data.test))
        found[dimension] = [
            _slice(name, scored.take(names == name), groups[names == name], settings) for name in _in_order(names)
        ]
    ranked = [
        {"dimension": dimension, **row}
        for dimension, rows in found.items()
        for row in rows
        if len(rows) > 1 and min(row["positives"], row["rows"] - row["positives"]) >= FEWEST_TO_RANK
    ]
    return {"by": found, "worst": min(ranked, key=lambda row: row["f1"]["value"]) if ranked else None}


def error_lists(models: dict[str, CalibratedModel], data: PreparedData) -> dict[str, list[dict[str, Any]]]:
    """At most 20 test rows each, by id alone, the surest first: `confident_errors`, the network's wrong decisions that
    gave the label the least probability; `likely_wrong_labels`, rows whose label every model gives a probability below
    0.05.
    """
    network = models["model"].scored(data)
    is_wrong = (network.probability >= network.threshold) != (network.label == 1)
    of_label = {name: _probability_of_label(calibrated.scored(data)) for name, calibrated in models.items()}
    most_of_any = np.max(list(of_label.values()), axis=0)
    return {
        "confident_errors": [_by_id(row, data, network) for row in _least(of_label["model"], is_wrong, network)],
        "likely_wrong_labels": [
            _by_id(row, data, network) for row in _least(most_of_any, most_of_any < _IMPROBABLE, network)
        ],
    }


def prediction_table(models: dict[str, CalibratedModel], data: PreparedData) -> pa.Table:
    """Every row that thresholds were fitted on or figures are of: part, review_id, product_id, review_date, text_hash,
    label and each model's logit.

    It has no text, but its hash, which tells whether two models have seen the same one. So thresholds can be refitted,
    and models compared row by row, without scoring anything anew.
    """
    tables = []
    for part in _STORED_PARTS:
        reviews: LabelledReviews = getattr(data, part)
        logits = {f"{model}_logit": getattr(calibrated.logits, part) for model, calibrated in models.items()}
        columns: dict[str, Any] = {
            "part": pa.array([part] * len(reviews)),
            "review_id": pa.array(reviews.review_ids, pa.string()),
            "product_id": pa.array(reviews.product_ids, pa.string()),
            "review_date": pa.array(reviews.dates, pa.date32()),
            "text_hash": pa.array(map(text_hash, reviews.headlines, reviews.bodies), pa.string()),
            "label": pa.array(reviews.labels, pa.int64()),
            **{column: pa.array(logit, pa.float64()) for column, logit in logits.items()},
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _default(thresholds: list[FittedThreshold], settings: ModelSettings) -> FittedThreshold:
    """The default threshold. Raises ReviewriskError where it, or every active one, is none of these or could not be
    had.
    """
    check_names(settings.thresholds)
    named = {fitted.threshold_name: fitted for fitted in thresholds}
    chosen = named[settings.thresholds.default]
    if chosen.threshold is None:
        raise ReviewriskError(
            f"The default threshold {chosen.threshold_name} cannot be fitted ({chosen.reason}): set"
            " model.thresholds.default to another."
        )
    active = [named[name] for name in settings.thresholds.active]
    if active and all(fitted.threshold is None for fitted in active):
        raise ReviewriskError(
            f"No active threshold can be fitted ({active[0].threshold_name}: {active[0].reason}): add another to"
            " model.thresholds.active."
        )
    return chosen


def _majority(data: PreparedData, rows: BoolArray) -> Scored:
    """The training rows' share of dissatisfied for every row; at 0.5 it decides for the majority."""
    labels = data.test.labels[rows]
    share = float(data.train.labels.mean())
    return Scored(np.zeros(len(labels)), np.full(len(labels), share), labels, 0.5)


def _in_order(names: NDArray[Any]) -> list[str]:
    """The names of a dimension's slices, those of lengths from short to long, others by the alphabet."""
    return sorted(
        {str(name) for name in names},
        key=lambda name: (_LENGTH_NAMES.index(name) if name in _LENGTH_NAMES else 0, name),
    )


def _slice(name: str, scored: Scored, groups: Groups, settings: ModelSettings) -> dict[str, Any]:
    found = _intervals(scored, groups, settings, _SLICE_FIGURES, _SLICE_DRAWS)
    return {"slice": name, "rows": len(scored.label), "positives": int(scored.label.sum()), **found}


def _intervals(
    scored: Scored, groups: Groups, settings: ModelSettings, names: tuple[str, ...], draws: int = DRAWS
) -> Intervals:
    """The named figures, in this order, with intervals as the settings have them."""
    confidence, seed = settings.thresholds.confidence, settings.training.seed
    found = intervals(scored, settings.calibration.bins, groups, confidence, seed, draws, names)
    return {name: found[name] for name in names}


def _length_names(reviews: LabelledReviews) -> list[str]:
    return [_LENGTH_NAMES[int(np.searchsorted(_LENGTH_LIMITS, len(text), side="right"))] for text in reviews.texts]


_DIMENSIONS: dict[str, Callable[[LabelledReviews], Any]] = {
    "month": lambda reviews: reviews.dates.astype("datetime64[M]").astype(str),
    "text length": _length_names,
    "category": lambda reviews: reviews.categories,
    "verified purchase": lambda reviews: np.where(reviews.is_verified, "yes", "no"),
    "default headline": lambda reviews: np.where(default_headlines(reviews), "yes", "no"),
}


def _probability_of_label(scored: Scored) -> FloatArray:
    return np.where(scored.label == 1, scored.probability, 1 - scored.probability)


def _least(value: FloatArray, rows: BoolArray, scored: Scored) -> list[int]:
    """Positions of the least values among these rows, in order; of equal ones those first whose logit is farther from
    their label.
    """
    towards_label = np.where(scored.label == 1, scored.logit, -scored.logit)
    return [int(row) for row in np.lexsort((towards_label, value)) if rows[row]][:_ERRORS_SHOWN]


def _by_id(row: int, data: PreparedData, scored: Scored) -> dict[str, Any]:
    return {
        "review_id": data.test.review_ids[row],
        "label": int(scored.label[row]),
        "probability": float(scored.probability[row]),
    }

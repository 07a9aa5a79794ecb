"""What is said of a model's scores, on prepared reviews with simulated log-odds: each figure against the rows that it
must be of.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.lake.schemas import MODEL_THRESHOLDS
from model.data.reviews import PreparedData, prepare, prior_shift
from model.errors import ReviewriskError
from model.evaluation.calibrators import LADDER, Calibrator, sigmoid
from model.evaluation.cross_fitting import CalibrationRows, choose_calibrator, out_of_fold
from model.evaluation.metrics import FIGURES, Scored, difference_intervals, intervals, metrics
from model.evaluation.thresholds import fit_thresholds
from model.evaluation.views import (
    READ_AS,
    VIEWS,
    CalibratedModel,
    Logits,
    audit,
    calibrate,
    calibration_figures,
    error_lists,
    prediction_table,
    refit_thresholds,
    rows_of,
    slices,
    threshold_rows,
)
from model.settings import CalibrationSettings, ModelSettings, ThresholdSettings
from model.text.compose import text_hash
from tests.support.tiny_models import planted_reviews, reviews_table

SETTINGS = ModelSettings()


def corpus() -> pa.Table:
    """Planted reviews; of the test rows, two have a text of the training split and two nearly one, and headlines are of
    every kind.
    """
    rows = planted_reviews(200, 1200, 600).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    headlines = ["One Star", " five stars ", "Five stars!", None, "Broke", "Three Stars"]
    for number, row in enumerate(row for row in rows if row["split"] == "test"):
        row["review_headline"] = headlines[number % len(headlines)]
        if number < 4:
            copied = train[number]
            row.update(
                review_headline=copied["review_headline"],
                review_body=copied["review_body"] + ("!!" if number >= 2 else ""),
            )
    return reviews_table(rows)


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return prepare(corpus(), SETTINGS)


def simulated(data: PreparedData, seed: int, noise: float = 1.0) -> Logits:
    """Log-odds that know the label, with the class weights' shift in them; of other readings of test
    with more noise.
    """
    generator = np.random.default_rng(seed)
    shift = prior_shift(data.train.labels, "balanced")

    def of(labels: np.ndarray, more: float = 0.0) -> np.ndarray:
        return np.where(labels == 1, 1.5, -1.5) + generator.normal(0, noise + more, len(labels)) + shift

    read_as = {view: of(data.test.labels, 0.5 * place) for place, view in enumerate(READ_AS, start=1)}
    return Logits(of(data.calibration.labels), of(data.test.labels), read_as)


@pytest.fixture(scope="module")
def models(data: PreparedData) -> dict[str, CalibratedModel]:
    return {
        "model": calibrate(simulated(data, 1), data, SETTINGS),
        "tfidf": calibrate(simulated(data, 2, noise=1.6), data, SETTINGS, "balanced"),
    }


def with_thresholds(**changes: Any) -> ModelSettings:
    return SETTINGS.model_copy(update={"thresholds": ThresholdSettings(**changes)})


# ---- decided on validation


def test_calibrator_and_thresholds_are_those_of_the_later_half_of_validation_out_of_fold(data: PreparedData) -> None:
    logits = simulated(data, 1)
    calibrated = calibrate(logits, data, with_thresholds(reviews_per_day=2))
    assert calibrated.shift == prior_shift(data.train.labels, "balanced") != 0
    reviews = data.calibration
    rows = CalibrationRows(logits.calibration, reviews.labels, np.array(reviews.product_ids), reviews.dates)
    choice = choose_calibrator("auto", calibrated.shift, rows)
    assert calibrated.choice == choice
    days = len(np.unique(reviews.dates))  # planted reviews leave no day out
    probability = out_of_fold(choice.calibrator.method, calibrated.shift, rows)
    assert not np.array_equal(probability, choice.calibrator.apply(logits.calibration))
    settings = ThresholdSettings(reviews_per_day=2)
    assert calibrated.thresholds == fit_thresholds(probability, reviews.labels, rows.products, days, settings)
    assert calibrated.default is calibrated.thresholds[0]


def test_the_shift_is_of_the_weighting_that_the_model_was_trained_with(data: PreparedData) -> None:
    unweighted = SETTINGS.model_copy(
        update={"training": SETTINGS.training.model_copy(update={"class_weighting": "none"})}
    )
    assert calibrate(simulated(data, 1), data, unweighted).shift == 0
    assert calibrate(simulated(data, 1), data, unweighted, "balanced").shift == prior_shift(
        data.train.labels, "balanced"
    )


@pytest.mark.parametrize("method", LADDER)
def test_the_settings_choose_the_method(data: PreparedData, method: Any) -> None:
    chosen = SETTINGS.model_copy(update={"calibration": CalibrationSettings(method=method)})
    assert calibrate(simulated(data, 1), data, chosen).choice.calibrator.method == method


@pytest.mark.parametrize("changes", [{"default": "f1"}, {"active": ("f1_max", "cost_1_5")}, {"default": "review_low"}])
def test_a_name_that_the_settings_do_not_give_is_an_error(data: PreparedData, changes: dict[str, Any]) -> None:
    with pytest.raises(
        ReviewriskError,
        match=r"model\.thresholds names '.*', but these settings give f1_max, cost_5_1, precision_90, recall_90\.",
    ):
        calibrate(simulated(data, 1), data, with_thresholds(**changes))


def test_a_default_that_cannot_be_fitted_is_an_error_with_its_reason(data: PreparedData) -> None:
    useless = simulated(data, 1, noise=20.0)
    with pytest.raises(
        ReviewriskError,
        match=r"The default threshold precision_90 cannot be fitted \(no threshold proves this precision on 6\d\d",
    ):
        calibrate(useless, data, with_thresholds(default="precision_90"))
    with pytest.raises(
        ReviewriskError,
        match=r"No active threshold can be fitted \(precision_90: no threshold proves .*model\.thresholds\.active",
    ):
        calibrate(useless, data, with_thresholds(active=("precision_90",)))
    assert (
        calibrate(useless, data, with_thresholds(active=("precision_90", "f1_max"))).default.threshold_name == "f1_max"
    )


def test_another_default_decides(data: PreparedData) -> None:
    calibrated = calibrate(simulated(data, 1), data, with_thresholds(default="recall_97", recall=0.97))
    assert calibrated.default.threshold_name == "recall_97"
    used, default, first = calibrated.scored(data).threshold, calibrated.default, calibrated.thresholds[0]
    assert used == default.threshold < first.threshold  # type: ignore[operator]


# ---- views


def test_views_have_the_rows_that_they_say(data: PreparedData) -> None:
    ids = np.array(data.test.review_ids)
    left_out = {view: set(ids[~rows_of(view, data)].tolist()) for view in VIEWS}
    assert left_out["as_is"] == left_out["without_headline"] == left_out["ratings_masked"] == set()
    stored = {row["review_id"]: row for row in corpus().to_pylist() if row["split"] == "test"}
    defaults = {"one star", "three stars", "five stars"}
    assert left_out["no_default_headline"] == {
        name
        for name, row in stored.items()
        if row["review_headline"] and row["review_headline"].strip().lower() in defaults
    }
    assert {"test-0", "test-1", "test-2", "test-3"} <= left_out["without_train_texts"] and len(
        left_out["without_train_texts"]
    ) < 10
    seen = {row["product_id"] for row in corpus().to_pylist() if row["split"] == "train"}
    assert left_out["unseen_products"] == {name for name, row in stored.items() if row["product_id"] in seen}
    assert len(stored) - len(left_out["unseen_products"]) == 75


def test_a_view_that_reads_otherwise_scores_what_was_read_so(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    network = models["model"]
    for view in VIEWS:
        scored = network.scored(data, view)
        rows = rows_of(view, data)
        logit = network.logits.test_read_as.get(view, network.logits.test)[rows]
        np.testing.assert_array_equal(scored.logit, logit)
        np.testing.assert_array_equal(scored.probability, network.choice.calibrator.apply(logit))
        np.testing.assert_array_equal(scored.label, data.test.labels[rows])
    assert not np.array_equal(network.scored(data, "without_headline").logit, network.scored(data).logit)


@pytest.fixture(scope="module")
def audited(data: PreparedData, models: dict[str, CalibratedModel]) -> dict[str, dict[str, Any]]:
    return audit(models, data, SETTINGS)


def test_the_audit_has_every_figure_of_every_model_in_every_view(
    data: PreparedData, audited: dict[str, dict[str, Any]]
) -> None:
    assert tuple(audited) == VIEWS
    for view, found in audited.items():
        rows = rows_of(view, data)
        assert (found["rows"], found["positives"]) == (rows.sum(), data.test.labels[rows].sum())
        assert list(found) == ["rows", "positives", "model", "tfidf", "majority", "gain"]
        assert all(tuple(found[model]) == FIGURES for model in ("model", "tfidf", "majority", "gain"))
    json.dumps(audited, allow_nan=False)


@pytest.mark.parametrize("view", ["ratings_masked", "unseen_products"])
def test_intervals_are_of_the_views_rows_and_draw_whole_products(
    data: PreparedData, models: dict[str, CalibratedModel], audited: dict[str, dict[str, Any]], view: str
) -> None:
    products = np.array(data.test.product_ids)[rows_of(view, data)]
    network, tfidf = (models[name].scored(data, view) for name in ("model", "tfidf"))
    assert audited[view]["model"] == intervals(network, 10, products, 0.95, SETTINGS.training.seed)
    assert audited[view]["gain"] == difference_intervals(network, tfidf, 10, products, 0.95, SETTINGS.training.seed)
    assert audited[view]["model"] != intervals(network, 10, np.arange(len(products)), 0.95, SETTINGS.training.seed)


def test_the_gain_is_paired(
    data: PreparedData, models: dict[str, CalibratedModel], audited: dict[str, dict[str, Any]]
) -> None:
    alike = audit({"model": models["model"], "tfidf": models["model"]}, data, SETTINGS)
    assert all(
        estimate == {"value": 0, "low": 0, "high": 0} for found in alike.values() for estimate in found["gain"].values()
    )
    gain = audited["as_is"]["gain"]["auc"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert "gain" not in audit({"model": models["model"]}, data, SETTINGS)["as_is"]


def test_the_majority_knows_the_training_share_and_nothing_else(
    data: PreparedData, audited: dict[str, dict[str, Any]]
) -> None:
    found = {name: estimate["value"] for name, estimate in audited["as_is"]["majority"].items()}
    share = data.train.labels.mean()
    assert share < 0.5
    assert (found["auc"], found["f1"], found["precision"], found["flagged_share"]) == (0.5, 0, None, 0)
    assert found["brier"] == pytest.approx(np.mean((share - data.test.labels) ** 2))
    assert found["ece"] == pytest.approx(abs(share - data.test.labels.mean()))


# ---- thresholds


def test_threshold_rows_have_the_figures_of_test_at_each_threshold(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    chosen = with_thresholds(default="cost_5_1", active=("f1_max", "recall_90"), precision=0.999)
    calibrated = calibrate(models["model"].logits, data, chosen)
    rows = threshold_rows(calibrated, data, chosen)
    # precision_99_9 cannot be had
    assert [row["threshold_name"] for row in rows] == ["f1_max", "cost_5_1", "recall_90"]
    assert [row["is_default"] for row in rows] == [False, True, False]
    assert [row["is_active"] for row in rows] == [True, False, True]
    for row in rows:
        scored = calibrated.scored(data)
        at = metrics(dataclasses.replace(scored, threshold=row["threshold"]), 10)
        assert {name: row[name] for name in ("precision", "recall", "f1", "flagged_share")} == {
            name: at[name] for name in ("precision", "recall", "f1", "flagged_share")
        }
        assert all(
            row[f"{name}_low"] < row[name] < row[f"{name}_high"] for name in ("precision", "recall", "flagged_share")
        )
    assert set(rows[0]) | {"model_version", "run_id"} == set(MODEL_THRESHOLDS.schema.names)


def test_every_method_is_shown_with_what_it_does_on_test(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    found = calibration_figures(models["model"], data, with_thresholds(precision=0.999))
    assert list(found["rungs"]) == list(LADDER)
    assert (found["method"], found["prior_shift"]) == (models["model"].choice.calibrator.method, models["model"].shift)
    as_is = metrics(models["model"].scored(data), 10)
    chosen = found["rungs"][found["method"]]
    assert chosen == {
        "out_of_fold_log_loss": models["model"].choice.log_loss[found["method"]],
        "standard_error": models["model"].choice.standard_error[found["method"]],
    } | {f"test_{name}": as_is[name] for name in ("log_loss", "brier", "ece", "ece_debiased")}
    raw = Scored(models["model"].logits.test, sigmoid(models["model"].logits.test), data.test.labels, 0.5)
    assert found["rungs"]["none"]["test_log_loss"] == metrics(raw, 10)["log_loss"]
    assert found["folds"] == models["model"].choice.folds == 10
    least = min(one["out_of_fold_log_loss"] for one in found["rungs"].values())
    assert 0 <= chosen["out_of_fold_log_loss"] - least <= chosen["standard_error"]


def test_what_could_not_be_set_is_named_with_its_reason(data: PreparedData, models: dict[str, CalibratedModel]) -> None:
    strict = with_thresholds(precision=0.999)
    found = calibration_figures(calibrate(models["model"].logits, data, strict), data, strict)
    assert list(found["thresholds_not_set"]) == ["precision_99_9"]
    assert "validation rows" in found["thresholds_not_set"]["precision_99_9"]
    assert calibration_figures(models["model"], data, SETTINGS)["thresholds_not_set"] == {}


# ---- slices


def test_slices_are_whole_and_have_the_figures_of_their_rows(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    found = slices(models["model"], data, SETTINGS)["by"]
    assert list(found) == ["month", "text length", "category", "verified purchase", "default headline"]
    for rows in found.values():
        assert sum(row["rows"] for row in rows) == len(data.test)
        assert sum(row["positives"] for row in rows) == data.test.labels.sum()
    assert [row["slice"] for row in found["month"]] == ["2015-05", "2015-06", "2015-07"]
    assert [row["slice"] for row in found["category"]] == ["furniture", "kitchen", "unknown"]
    assert [(row["slice"], row["rows"]) for row in found["verified purchase"]] == [("no", 240), ("yes", 360)]
    kitchen = np.array(data.test.categories) == "kitchen"
    expected = metrics(models["model"].scored(data).take(kitchen), 10)
    shown = found["category"][1]
    assert (shown["rows"], shown["positives"]) == (expected["rows"], expected["positives"])
    for name in ("auc", "average_precision", "f1", "ece_debiased", "brier"):
        assert shown[name]["value"] == expected[name]
        assert shown[name]["low"] <= expected[name] <= shown[name]["high"]


def test_text_lengths_stand_in_their_order(data: PreparedData, models: dict[str, CalibratedModel]) -> None:
    lengths = np.resize([10, 99, 100, 299, 300, 999, 1000, 5000], len(data.test))
    longer = dataclasses.replace(data, test=dataclasses.replace(data.test, texts=["x" * length for length in lengths]))
    found = slices(models["model"], longer, SETTINGS)["by"]["text length"]
    names = ["under 100 characters", "100 to 299 characters", "300 to 999 characters", "1000 characters and more"]
    assert [(row["slice"], row["rows"]) for row in found] == [(name, 150) for name in names]


def test_the_worst_slice_is_named_and_small_ones_are_not_ranked(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    logits = models["model"].logits
    kitchen, march = np.array(data.test.categories) == "kitchen", np.arange(len(data.test)) < 20
    spoiled = dataclasses.replace(
        logits, test=np.where(kitchen, logits.test * 0.2 + 1, np.where(march, -logits.test, logits.test))
    )
    dates = np.where(march, np.datetime64("2015-03-01"), data.test.dates)
    earlier = dataclasses.replace(data, test=dataclasses.replace(data.test, dates=dates))
    found = slices(dataclasses.replace(models["model"], logits=spoiled), earlier, SETTINGS)
    assert found["by"]["month"][0]["slice"] == "2015-03"
    assert (found["worst"]["dimension"], found["worst"]["slice"]) == ("category", "kitchen")
    # but it has fewer than 30 rows of a class
    assert found["by"]["month"][0]["f1"]["value"] < found["worst"]["f1"]["value"]


# ---- errors


def test_errors_are_listed_by_id_alone_the_surest_first(data: PreparedData, models: dict[str, CalibratedModel]) -> None:
    surely = {
        name: dataclasses.replace(calibrated.logits, test=calibrated.logits.test.copy())
        for name, calibrated in models.items()
    }
    first, second, third = (int(row) for row in np.flatnonzero(data.test.labels)[[3, 9, 20]])
    for row, size in ((first, 12.0), (second, 16.0), (third, 14.0)):
        surely["model"].test[row] = -size
        surely["tfidf"].test[row] = -size if row != third else size  # TF-IDF finds the third row's label likely
    spoiled = {name: dataclasses.replace(calibrated, logits=surely[name]) for name, calibrated in models.items()}
    found = error_lists(spoiled, data)
    ids = data.test.review_ids
    assert [row["review_id"] for row in found["confident_errors"][:3]] == [ids[second], ids[third], ids[first]]
    assert [row["review_id"] for row in found["likely_wrong_labels"][:2]] == [ids[second], ids[first]]
    assert ids[third] not in {row["review_id"] for row in found["likely_wrong_labels"]}
    scored = {name: calibrated.scored(data) for name, calibrated in spoiled.items()}
    where = {review_id: position for position, review_id in enumerate(ids)}
    wrong = (scored["model"].probability >= scored["model"].threshold) != (data.test.labels == 1)
    assert len(found["confident_errors"]) == 20 and wrong.sum() > 20
    for row in found["confident_errors"]:
        assert set(row) == {"review_id", "label", "probability"}
        assert wrong[where[row["review_id"]]]
    of_label = [row["probability"] if row["label"] else 1 - row["probability"] for row in found["confident_errors"]]
    assert of_label == sorted(of_label)
    for row in found["likely_wrong_labels"]:
        for one in scored.values():
            probability = one.probability[where[row["review_id"]]]
            assert (probability if row["label"] else 1 - probability) < 0.05


def test_of_errors_that_a_calibrator_ties_the_logit_says_which_are_surest(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    tied = Calibrator("isotonic", 0.0, (), (-1.0, 1.0), (0.1, 0.9))
    stepped = dataclasses.replace(models["model"], choice=dataclasses.replace(models["model"].choice, calibrator=tied))
    shown = error_lists({"model": stepped, "tfidf": models["tfidf"]}, data)["confident_errors"]
    logit = dict(zip(data.test.review_ids, models["model"].logits.test, strict=True))
    surest = [
        logit[row["review_id"]] if row["label"] else -logit[row["review_id"]]
        for row in shown
        if row["probability"] in (0.1, 0.9)
    ]
    assert len(surest) > 5 and surest == sorted(surest)


def test_a_model_without_errors_has_empty_lists(data: PreparedData, models: dict[str, CalibratedModel]) -> None:
    right = np.where(data.test.labels == 1, 9.0, -9.0)
    perfect = {
        name: dataclasses.replace(calibrated, logits=dataclasses.replace(calibrated.logits, test=right))
        for name, calibrated in models.items()
    }
    assert error_lists(perfect, data) == {"confident_errors": [], "likely_wrong_labels": []}


# ---- predictions


def test_the_prediction_table_is_whole_and_has_no_text(data: PreparedData, models: dict[str, CalibratedModel]) -> None:
    found = prediction_table(models, data)
    assert found.column_names == [
        "part",
        "review_id",
        "product_id",
        "review_date",
        "text_hash",
        "label",
        "model_logit",
        "tfidf_logit",
    ]
    assert found.num_rows == len(data.calibration) + len(data.test)
    stored = {row["review_id"]: row for row in corpus().to_pylist()}
    rows = found.to_pylist()
    for row in rows:
        review = stored[row["review_id"]]
        assert (row["product_id"], row["review_date"], row["label"]) == (
            review["product_id"],
            review["review_date"],
            int(review["star_rating"] <= 2),
        )
        assert isinstance(row["review_date"], datetime.date)
        assert row["text_hash"] == text_hash(review["review_headline"], review["review_body"])
        assert (review["split"] == "test") == (row["part"] == "test")
    for part in ("calibration", "test"):
        here = [row for row in rows if row["part"] == part]
        assert [row["review_id"] for row in here] == getattr(data, part).review_ids
        for name, calibrated in models.items():
            assert [row[f"{name}_logit"] for row in here] == getattr(calibrated.logits, part).tolist()


def test_thresholds_are_refitted_from_the_predictions_alone(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    predictions, calibrator = prediction_table(models, data), models["model"].choice.calibrator
    assert calibrator.method in ("temperature", "beta", "isotonic"), "something is fitted"
    before, not_set = refit_thresholds(predictions, calibrator, SETTINGS)
    assert (before, not_set) == (threshold_rows(models["model"], data, SETTINGS), {})
    after, _ = refit_thresholds(predictions, calibrator, with_thresholds(cost_false_negative=30))
    assert [row for row in after if row not in before] == [after[1]]
    assert (after[1]["threshold_name"], after[1]["threshold"] < before[1]["threshold"]) == ("cost_30_1", True)
    assert refit_thresholds(predictions, calibrator, with_thresholds(precision=0.999))[1].keys() == {"precision_99_9"}


def test_predictions_of_earlier_bundles_give_the_same_thresholds(
    data: PreparedData, models: dict[str, CalibratedModel]
) -> None:
    """They have two names for the two halves of what is one part now."""
    predictions, calibrator = prediction_table(models, data), models["model"].choice.calibrator
    parts, half = predictions["part"].to_pylist(), len(data.calibration) // 2
    earlier = pa.array(
        ["fitting"] * half + ["choosing"] * (len(data.calibration) - half) + parts[len(data.calibration) :]
    )
    renamed = predictions.set_column(0, "part", earlier)
    assert refit_thresholds(renamed, calibrator, SETTINGS) == refit_thresholds(predictions, calibrator, SETTINGS)

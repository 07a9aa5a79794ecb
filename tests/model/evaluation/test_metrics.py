"""Figures against scikit-learn, weights against repeated rows, and what bootstrap intervals cover in
simulated worlds.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as peers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from model.evaluation.calibration_error import PooledRows
from model.evaluation.metrics import (
    FIGURES,
    Bootstrap,
    RankedRows,
    Scored,
    bootstrap,
    difference_intervals,
    figures,
    intervals,
    metrics,
    resamples,
)
from tests.model.evaluation.test_calibration_error import ece

LOGIT = np.array([2.0, 0.4, -0.4, -2.0])
PROBABILITY = np.array([0.9, 0.6, 0.4, 0.1])
LABEL = np.array([1, 0, 1, 0])
# Bins are cut on the rows as given, so only figures without bins of equal mass are those of repeated rows.
WITHOUT_MASS_BINS = [name for name in FIGURES if name not in ("ece_equal_mass", "ece_debiased", "ece_noise_floor")]


def scored(logit: np.ndarray, label: np.ndarray, threshold: float = 0.5) -> Scored:
    return Scored(logit, expit(logit), label, threshold)


@pytest.mark.parametrize("rows", [np.array([0, 2]), np.array([True, False, True, False])])
def test_rows_are_taken_by_place_or_mask(rows: np.ndarray) -> None:
    taken = Scored(LOGIT, PROBABILITY, LABEL, 0.4).take(rows)
    columns = taken.logit.tolist(), taken.probability.tolist(), taken.label.tolist(), taken.threshold
    assert columns == ([2.0, -0.4], [0.9, 0.4], [1, 1], 0.4)


def test_all_figures_by_hand() -> None:
    found = metrics(Scored(LOGIT, PROBABILITY, LABEL, 0.5), bins=10)
    assert found == {
        "rows": 4,
        "positives": 2,
        "auc": 0.75,  # of the four pairs, 0.4 against 0.6 is the wrong way round
        "average_precision": pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3),
        "f1": 0.5,
        "macro_f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "flagged_share": 0.5,
        "ece": pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4),
        "ece_equal_mass": pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4),
        # one row a bin: its observed share, 0 or 1, has no variance
        "ece_debiased": pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4),
        "ece_noise_floor": pytest.approx(math.sqrt(2 / math.pi) * (2 * math.sqrt(0.09) + 2 * math.sqrt(0.24)) / 4),
        "brier": pytest.approx((0.1**2 + 0.6**2 + 0.6**2 + 0.1**2) / 4),
        "brier_calibration": pytest.approx((0.1**2 + 0.6**2 + 0.6**2 + 0.1**2) / 4 - 2 / 4 * 0.25),
        "brier_refinement": pytest.approx(2 / 4 * 0.25),  # the isotonic fit gives both middle rows 1/2
        "log_loss": pytest.approx(-(2 * math.log(0.9) + 2 * math.log(0.4)) / 4),
    }


@settings(max_examples=70, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 1)), min_size=2, max_size=50),
    st.sampled_from([0.02, 0.3, 0.5, 0.9]),
)
def test_figures_are_scikit_learns_ties_included(rows: list[tuple[int, int]], threshold: float) -> None:
    logit, label = np.array([row[0] / 2 for row in rows]), np.r_[np.array([row[1] for row in rows]), 0, 1][2:]
    found = metrics(scored(logit, label, threshold), 10)
    probability, flagged = expit(logit), (expit(logit) >= threshold).astype(int)
    assert found["auc"] == pytest.approx(peers.roc_auc_score(label, logit))
    assert found["average_precision"] == pytest.approx(peers.average_precision_score(label, logit))
    assert found["f1"] == pytest.approx(peers.f1_score(label, flagged))
    assert found["macro_f1"] == pytest.approx(peers.f1_score(label, flagged, average="macro"))
    assert found["recall"] == pytest.approx(peers.recall_score(label, flagged))
    assert found["precision"] == (pytest.approx(peers.precision_score(label, flagged)) if flagged.any() else None)
    assert found["brier"] == pytest.approx(peers.brier_score_loss(label, probability))
    assert found["log_loss"] == pytest.approx(peers.log_loss(label, probability))
    assert found["flagged_share"] == pytest.approx(flagged.mean())
    assert found["ece"] == pytest.approx(ece(probability, label, 10))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40))
def test_weights_say_how_often_a_row_is_there(rows: list[tuple[int, int, int]]) -> None:
    logit, label, times = (np.array(column) for column in zip(*[*rows, (1, 1, 1)], strict=True))
    weighted = figures(scored(logit / 2, label), 10, np.stack([times, 2 * times]).astype(np.float64))
    repeated = metrics(scored(np.repeat(logit / 2, times), np.repeat(label, times)), 10)
    for name in WITHOUT_MASS_BINS:
        for found in weighted[name]:
            assert (None if np.isnan(found) else found) == (
                None if repeated[name] is None else pytest.approx(repeated[name], abs=1e-12)
            )


def test_a_resample_of_whole_products_has_the_figures_of_its_rows_in_the_bins_of_all_rows() -> None:
    generator = np.random.default_rng(1)
    logit = generator.normal(size=200)
    rows = scored(logit, (generator.random(200) < expit(logit)).astype(np.int64))
    every = figures(rows, 5, np.ones((1, 200)))
    for name, value in figures(rows, 5, np.full((1, 200), 3.0)).items():
        if name not in ("ece_debiased", "ece_noise_floor"):  # thrice the rows have less noise
            assert value[0] == pytest.approx(every[name][0])
    assert figures(rows, 5, np.full((1, 200), 4.0))["ece_noise_floor"][0] == pytest.approx(
        every["ece_noise_floor"][0] / 2
    )


def test_the_logit_ranks_where_calibration_ties_rows() -> None:
    tied = Scored(np.array([2.0, -1.0, 0.5, -2.0]), np.array([0.5, 0.5, 0.5, 0.1]), LABEL, 0.5)
    found = metrics(tied, 10)
    assert (found["auc"], found["average_precision"], found["precision"]) == (1, 1, pytest.approx(2 / 3))


def test_one_class_and_no_row_have_none_where_nothing_is_defined() -> None:
    satisfied = metrics(Scored(LOGIT[2:], PROBABILITY[2:], np.array([0, 0]), 0.5), 10)
    assert [name for name, value in satisfied.items() if value is None] == [
        "auc",
        "average_precision",
        "f1",
        "macro_f1",
        "precision",
        "recall",
    ]
    assert (satisfied["rows"], satisfied["positives"], satisfied["flagged_share"]) == (2, 0, 0)
    dissatisfied = metrics(Scored(LOGIT[:2], PROBABILITY[:2], np.array([1, 1]), 0.5), 10)
    assert (dissatisfied["auc"], dissatisfied["macro_f1"], dissatisfied["f1"]) == (None, None, 1)
    none = Scored(LOGIT[:0], PROBABILITY[:0], LABEL[:0], 0.5)
    empty = metrics(none, 10)
    assert empty.pop("rows") == empty.pop("positives") == 0
    assert set(empty) == set(FIGURES) and set(empty.values()) == {None}
    assert intervals(none, 10, np.array([]), 0.95, 1)["f1"] == {"value": None, "low": None, "high": None}
    assert difference_intervals(none, none, 10, np.array([]), 0.95, 1)["f1"] == {
        "value": None,
        "low": None,
        "high": None,
    }


@pytest.mark.parametrize("label", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_what_is_not_defined_is_none_without_a_warning(label: list[int], threshold: float) -> None:
    weights = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 2, 1]], dtype=np.float64)
    with warnings.catch_warnings(action="error"):
        found = figures(Scored(LOGIT, PROBABILITY, np.array(label), threshold), 10, weights)
    for name in ("auc", "average_precision"):
        assert np.isnan(found[name]).tolist() == [len({*label}) == 1, len({*label[:2]}) == 1, len({*label[2:]}) == 1]
    for name in ("f1", "recall"):
        assert np.isnan(found[name]).tolist() == [not any(label), not any(label[:2]), not any(label[2:])]


def test_a_row_on_the_threshold_is_flagged_and_one_of_no_probability_costs_a_bounded_loss() -> None:
    found = metrics(Scored(np.array([0.0, 1.0]), np.array([0.0, 0.5]), np.array([1, 1]), 0.5), 10)
    assert (found["flagged_share"], found["recall"]) == (0.5, 0.5)
    assert found["log_loss"] == pytest.approx((-math.log(1e-15) - math.log(0.5)) / 2)
    # no satisfied row, and one that is not flagged: there is no F1 of the satisfied
    assert (found["f1"], found["macro_f1"]) == (pytest.approx(2 / 3), None)


# ---- the bootstrap


def world(
    generator: np.random.Generator, products: int, rows_each: int, spread: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true log-odds, label, product): reviews of one product share a part of their log-odds, `spread` wide, that the
    score also has.
    """
    product = np.repeat(np.arange(products), rows_each)
    true = generator.normal(-1, spread, products)[product] + generator.normal(0, 1, len(product))
    return true, (generator.random(len(true)) < expit(true)).astype(np.int64), product


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    [weights] = resamples(groups, 500, seed=0)
    assert weights.shape == (500, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    np.testing.assert_array_equal(weights[:, 0] + weights[:, 1] + weights[:, 3], np.full(500, 3))
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    assert weights[:, 3].max() >= 2 and weights[:, 3].min() == 0


def test_intervals_hold_the_value_and_are_the_same_again_whatever_fits_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true, label, product = world(np.random.default_rng(2), 40, 5)
    rows = scored(true, label, 0.4)
    first = intervals(rows, 10, product, 0.95, seed=7, draws=200)
    point = metrics(rows, 10)
    assert list(first) == list(FIGURES)
    for name, estimate in first.items():
        assert estimate["value"] == point[name]
        if name != "ece_noise_floor":  # a resample has fewer different rows, not less noise
            assert estimate["low"] <= estimate["value"] <= estimate["high"], name  # type: ignore[operator]
    monkeypatch.setattr("model.evaluation.metrics._NUMBERS_AT_ONCE", 3000)
    assert intervals(rows, 10, product, 0.95, seed=7, draws=200) == first
    assert intervals(rows, 10, product, 0.95, seed=8, draws=200) != first
    narrow = intervals(rows, 10, product, 0.5, seed=7, draws=200)["f1"]
    assert first["f1"]["low"] < narrow["low"] < narrow["high"] < first["f1"]["high"]  # type: ignore[operator]


def test_rows_are_sorted_once_and_the_figures_are_those_of_sorting_them_for_each_portion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.evaluation.metrics._NUMBERS_AT_ONCE", 900)  # portions of 3 resamples
    sorted_rows = []
    for kind in (RankedRows, PooledRows):
        made = kind.of
        monkeypatch.setattr(kind, "of", lambda *rows, made=made: sorted_rows.append(len(rows[0])) or made(*rows))
    true, label, product = world(np.random.default_rng(2), 60, 5)
    for rows in (scored(true, label, 0.4), Scored(true.round(1), expit(true).round(2), label, 0.4)):
        expected = [figures(rows, 10, weights) for weights in resamples(product, 20, seed=7)]
        assert (len(expected), sorted_rows) == (7, [300] * 14)
        sorted_rows.clear()
        [found] = bootstrap([rows], 10, product, seed=7, draws=20)
        assert sorted_rows == [300, 300]
        sorted_rows.clear()
        for name in FIGURES:  # to the last digit
            np.testing.assert_array_equal(found.samples[name], np.concatenate([part[name] for part in expected]))


def test_figures_that_are_not_asked_for_are_left_out_and_the_others_stay_the_same() -> None:
    true, label, product = world(np.random.default_rng(2), 40, 5)
    first, second = scored(true, label, 0.4), scored(true / 2, label, 0.4)
    every, gain = (
        intervals(first, 10, product, 0.95, 7, 50),
        difference_intervals(first, second, 10, product, 0.95, 7, 50),
    )
    for name in FIGURES:
        assert intervals(first, 10, product, 0.95, 7, 50, (name,)) == {name: every[name]}
        assert difference_intervals(first, second, 10, product, 0.95, 7, 50, (name,)) == {name: gain[name]}
    [found] = bootstrap([first], 10, product, 7, 50, ("f1", "auc"))
    assert list(found.point) == list(found.samples) == ["auc", "f1"]


def test_intervals_are_wider_where_reviews_of_one_product_agree() -> None:
    true, label, product = world(np.random.default_rng(3), 60, 15, spread=3.0)
    # a score that knows nothing: its errors go by product
    rows = scored(np.random.default_rng(4).normal(-1, 1, len(true)), label)
    by_product, by_row = (
        intervals(rows, 10, groups, 0.95, 1, draws=400) for groups in (product, np.arange(len(product)))
    )
    widths = {
        name: [found[name]["high"] - found[name]["low"] for found in (by_product, by_row)]  # type: ignore[operator]
        for name in ("brier", "log_loss", "precision", "ece_equal_mass")
    }
    assert all(clustered > 1.3 * single for clustered, single in widths.values()), widths


def test_rows_of_a_single_product_have_no_interval() -> None:
    true, label, _ = world(np.random.default_rng(5), 30, 1)
    found = intervals(scored(true, label), 10, np.zeros(30), 0.95, 1)
    assert all(
        estimate["value"] is not None and (estimate["low"], estimate["high"]) == (None, None)
        for estimate in found.values()
    )


def test_rows_of_two_products_have_intervals() -> None:
    true, label, _ = world(np.random.default_rng(5), 30, 1)
    found = intervals(scored(true, label), 10, np.arange(30) % 2, 0.95, 1, draws=50)
    assert all(estimate["low"] is not None for estimate in found.values())


def test_an_interval_takes_nine_tenths_of_the_resamples_and_errors_no_limit_below_zero() -> None:
    values = np.r_[np.linspace(0.2, 0.4, 9), np.nan]
    whole = Bootstrap({"f1": 0.4}, {"f1": values}).intervals(0.5)["f1"]  # not moved, as chance moves it neither way
    assert (whole["low"], whole["high"]) == (pytest.approx(0.25), pytest.approx(0.35))
    [of_one] = Bootstrap({"f1": 0.4}, {"f1": np.array([0.3])}).intervals(0.5).values()
    assert of_one == {"value": 0.4, "low": 0.3, "high": 0.3}
    fewer = Bootstrap({"f1": 0.3}, {"f1": np.r_[values, np.nan]}).intervals(0.5)["f1"]
    assert fewer == {"value": 0.3, "low": None, "high": None}
    moved = Bootstrap({"ece": 0.01}, {"ece": values}).intervals(0.5)["ece"]  # 0.25 to 0.35, less the bias of 0.29
    assert (moved["low"], moved["high"]) == (0, pytest.approx(0.06))
    nothing = Bootstrap({"ece": 0.01}, {"ece": np.zeros(10)})
    assert Bootstrap({"ece": 0.0}, {"ece": np.zeros(10)}).less(nothing, 0.5)["ece"]["low"] == pytest.approx(-0.01)


def test_a_figure_that_many_resamples_do_not_have_has_no_interval() -> None:
    label = np.r_[1, np.zeros(29, dtype=np.int64)]  # about a third of the resamples miss the one dissatisfied row
    found = intervals(scored(np.linspace(1, -3, 30), label), 10, np.arange(30), 0.95, 1, draws=300)
    assert (found["recall"]["value"], found["recall"]["low"], found["auc"]["low"]) == (1, None, None)
    assert found["brier"]["low"] is not None


@pytest.fixture(scope="module")
def coverage() -> dict[str, float]:
    """Share of 200 simulated test splits whose 95% interval holds the truth, which 400,000 products tell; `gain …` is
    of two models.
    """
    # precision, recall and F1 at 0.3; the second model is the first with noise on its logit
    noise = 1.0
    generator = np.random.default_rng(6)
    true, label, _ = world(generator, 200_000, 4)
    truth = [metrics(scored(logit, label, 0.3), 10) for logit in (true, true + generator.normal(0, noise, len(true)))]
    names = ("auc", "average_precision", "f1", "macro_f1", "precision", "recall", "brier", "log_loss")
    held = dict.fromkeys([*names, *(f"gain {name}" for name in names)], 0.0)
    for repeat in range(200):
        true, label, product = world(generator, 100, 4)
        first, second = scored(true, label, 0.3), scored(true + generator.normal(0, noise, len(true)), label, 0.3)
        alone = intervals(first, 10, product, 0.95, repeat, draws=200)
        gain = difference_intervals(first, second, 10, product, 0.95, repeat, draws=200)
        for name in names:
            held[name] += (alone[name]["low"] <= truth[0][name] <= alone[name]["high"]) / 200
            held[f"gain {name}"] += (gain[name]["low"] <= truth[0][name] - truth[1][name] <= gain[name]["high"]) / 200
    return held


def test_intervals_hold_the_truth_about_as_often_as_they_say(coverage: dict[str, float]) -> None:
    # 200 repeats: standard error 1.5%; percentile intervals of 100 products are known to be a little too narrow
    assert all(0.89 <= share <= 0.99 for share in coverage.values()), coverage
    assert np.mean(list(coverage.values())) == pytest.approx(0.945, abs=0.02)


def test_intervals_of_calibration_errors_hold_the_true_error() -> None:
    """Moved back by the bootstrap's own bias they do; percentiles as they are lie above 0 nearly always, also for a
    perfect model.
    """
    generator = np.random.default_rng(10)
    for shift, fewest_from_zero in ((0.0, 30), (0.5, 0)):
        below, above, from_zero = 0, 0, 0
        for repeat in range(60):
            true = generator.normal(-2, 2, 600)
            label = (generator.random(600) < expit(true - shift)).astype(np.int64)
            found = intervals(scored(true, label), 10, np.arange(600), 0.95, repeat, draws=150)["ece_debiased"]
            number = np.argsort(np.argsort(true)) // 60
            truth = np.abs(np.bincount(number, expit(true) - expit(true - shift))).sum() / 600
            below += found["high"] < truth
            above += found["low"] > max(truth, 0.01)
            from_zero += found["low"] == 0
        assert max(below, above) <= 6  # 1.5 to 2.5 of 60 are due
        assert from_zero >= fewest_from_zero


# ---- differences


def test_a_model_gains_exactly_nothing_over_itself() -> None:
    true, label, product = world(np.random.default_rng(8), 40, 5)
    found = difference_intervals(scored(true, label), scored(true, label), 10, product, 0.95, 1, draws=100)
    assert all(estimate == {"value": 0, "low": 0, "high": 0} for estimate in found.values())


def test_the_difference_is_paired_and_turns_its_sign_with_the_order() -> None:
    generator = np.random.default_rng(9)
    true, label, product = world(generator, 60, 5)
    better, worse = scored(true, label), scored(true + generator.normal(0, 0.7, len(true)), label)
    gain = difference_intervals(better, worse, 10, product, 0.95, 1, draws=400)
    loss = difference_intervals(worse, better, 10, product, 0.95, 1, draws=400)
    for name in ("auc", "brier", "f1", "ece"):
        assert gain[name]["value"] == pytest.approx(metrics(better, 10)[name] - metrics(worse, 10)[name])
        assert (loss[name]["low"], loss[name]["high"]) == (
            pytest.approx(-gain[name]["high"]),
            pytest.approx(-gain[name]["low"]),
        )  # type: ignore[operator]
    alone = [intervals(one, 10, product, 0.95, 1, draws=400)["auc"] for one in (better, worse)]
    unpaired = np.hypot(*(estimate["high"] - estimate["low"] for estimate in alone))  # type: ignore[operator]
    assert gain["auc"]["high"] - gain["auc"]["low"] < 0.6 * unpaired  # type: ignore[operator]

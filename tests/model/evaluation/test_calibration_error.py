"""Calibration errors by hand, and what they are on average over many simulated models whose true error is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from model.evaluation.calibration_error import (
    BinCounts,
    bin_numbers,
    brier_parts,
    calibration_error,
    count_bins,
    debiased_calibration_error,
    noise_floor,
    reliability_table,
)

PROBABILITY = np.array([0.05, 0.15, 0.95, 0.85, 1.0, 0.0])
LABEL = np.array([0, 1, 1, 1, 1, 0])
ROWS = 1000
# As a good model's: most rows near 0, some near 1, few between. Every row's probability is the middle of its bin of
# ten.
SPREAD = np.random.default_rng(0).choice(
    np.arange(10) / 10 + 0.05, size=ROWS, p=[0.6, 0.12, 0.05, 0.03, 0.02, 0.02, 0.02, 0.03, 0.04, 0.07]
)


def counts_of_draws(true: np.ndarray, draws: int, seed: int) -> BinCounts:
    """The ten bins of SPREAD for many sets of labels that are drawn with the true probabilities, one set per leading
    index.
    """
    labels = (np.random.default_rng(seed).random((draws, ROWS)) < true).astype(np.float64)
    member = np.eye(10)[bin_numbers(SPREAD, 10, "width")]
    weight = np.tile(member.sum(axis=0), (draws, 1))
    return BinCounts(weight, np.tile(SPREAD @ member, (draws, 1)), labels @ member)


def ece(probability: np.ndarray, label: np.ndarray, bins: int) -> float:
    """The expected calibration error over bins of equal width."""
    return float(calibration_error(count_bins(probability, label, bin_numbers(probability, bins, "width")))[0])


# ---- by hand


def test_expected_calibration_error_by_hand() -> None:
    # two bins: [0, .5) has 0.05, 0.15, 0.0 -> mean 1/15, observed 1/3; [.5, 1] has 0.95, 0.85, 1.0 -> mean 14/15,
    # observed 1
    assert ece(PROBABILITY, LABEL, 2) == pytest.approx(0.5 * (1 / 3 - 1 / 15) + 0.5 * (1 - 14 / 15))


def test_bins_weigh_by_their_rows() -> None:
    probability, label = np.array([0.1, 0.1, 0.1, 0.9]), np.array([0, 0, 0, 0])
    assert ece(probability, label, 10) == pytest.approx(0.75 * 0.1 + 0.25 * 0.9)


def test_reliability_table_has_every_bin_once() -> None:
    table = reliability_table(PROBABILITY, LABEL, 4)
    assert [(row["lower"], row["upper"], row["rows"]) for row in table] == [
        (0, 0.25, 3),
        (0.25, 0.5, 0),
        (0.5, 0.75, 0),
        (0.75, 1, 3),
    ]
    assert (table[1]["mean_probability"], table[1]["observed_share"]) == (None, None)
    assert (table[3]["mean_probability"], table[3]["observed_share"]) == (pytest.approx(14 / 15), 1)


def test_bins_of_equal_mass_have_equally_many_rows() -> None:
    probability = np.random.default_rng(1).random(1000) ** 4
    np.testing.assert_array_equal(np.bincount(bin_numbers(probability, 10, "mass")), [100] * 10)
    assert np.bincount(bin_numbers(probability, 10, "width")).max() > 500
    order = np.argsort(probability)
    assert np.all(np.diff(bin_numbers(probability, 10, "mass")[order]) >= 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), min_size=1, max_size=40), st.integers(2, 12))
def test_equal_probabilities_share_a_bin(values: list[float], bins: int) -> None:
    probability = np.array(values)
    for kind in ("width", "mass"):
        number = bin_numbers(probability, bins, kind)
        assert number.min() >= 0 and number.max() < bins
        assert all(len(set(number[probability == value])) == 1 for value in values)


def test_an_empty_bin_has_no_gap_and_no_share() -> None:
    counts = count_bins(np.array([0.1, 0.9]), np.array([0, 1]), np.array([0, 2]))
    assert counts.gap.tolist() == [[pytest.approx(0.1), 0, pytest.approx(-0.1)]]
    assert counts.share.tolist() == [[0.5, 0, 0.5]]


@pytest.mark.parametrize("rows", [0, 2])
def test_no_row_and_rows_of_the_first_bin_alone_are_one_bin(rows: int) -> None:
    counts = count_bins(np.full(rows, 0.5), np.ones(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64))
    assert (counts.weight.tolist(), counts.probability.tolist()) == ([[rows]], [[rows / 2]])
    assert (counts.label.tolist(), counts.gap.tolist()) == ([[rows]], [[-0.5 if rows else 0]])


def test_weights_count_rows_again() -> None:
    counts = count_bins(
        np.array([0.1, 0.2, 0.9]),
        np.array([0, 1, 1]),
        np.array([0, 0, 1]),
        np.array([[2.0, 0.0, 3.0], [1.0, 1.0, 0.0]]),
    )
    np.testing.assert_allclose(counts.weight, [[2, 3], [2, 0]])
    np.testing.assert_allclose(counts.probability, [[0.2, 2.7], [0.3, 0]])
    np.testing.assert_allclose(counts.label, [[0, 3], [1, 0]])
    np.testing.assert_allclose(calibration_error(counts), [2 / 5 * 0.1 + 3 / 5 * 0.1, abs(0.15 - 0.5)])


@pytest.mark.parametrize("figure", [calibration_error, debiased_calibration_error, noise_floor])
def test_leading_axes_of_any_number_are_resamples(figure: Callable[[BinCounts], np.ndarray]) -> None:
    rows, probability, label = np.array([40.0, 0.0, 10.0]), np.array([8.0, 0.0, 9.0]), np.array([12.0, 0.0, 5.0])
    alone = figure(BinCounts(rows, probability, label))
    assert alone.shape == () and alone > 0
    for leading in ((1,), (4,), (2, 3)):
        found = figure(BinCounts(*(np.tile(sums, (*leading, 1)) for sums in (rows, probability, label))))
        np.testing.assert_allclose(found, np.full(leading, alone))


# ---- over many simulated models


def test_noise_floor_is_the_mean_error_of_perfect_models() -> None:
    counts = counts_of_draws(SPREAD, 3000, 1)
    plain = calibration_error(counts).mean()
    assert plain > 0.02  # a perfect model on 1,000 rows does not show 0
    # the mean of 3,000 draws is known within 0.5%; the normal for the binomial of bins with 20 rows costs about 1%
    assert noise_floor(counts)[0] == pytest.approx(plain, rel=0.02)


def test_noise_floor_of_bins_that_hold_different_probabilities_is_a_little_too_high() -> None:
    generator = np.random.default_rng(2)
    probability = generator.beta(0.2, 0.8, ROWS)
    number = bin_numbers(probability, 10, "mass")
    labels = (generator.random((2000, ROWS)) < probability).astype(np.int64)
    plain = np.mean([calibration_error(count_bins(probability, label, number))[0] for label in labels])
    floor = noise_floor(count_bins(probability, labels[0], number))[0]
    assert 1.0 < floor / plain < 1.06


def test_debiased_error_is_that_of_kumar_and_others() -> None:
    """Kumar et al. 2019, section 5, as their library computes it: twice the plug-in error less the mean error of labels
    drawn anew.
    """
    generator = np.random.default_rng(3)
    label = (generator.random(ROWS) < SPREAD**1.2).astype(np.int64)
    counts = count_bins(SPREAD, label, bin_numbers(SPREAD, 10, "width"))
    rows, share = counts.weight[0], counts.share[0]
    observed, mean = counts.label[0] / rows, counts.probability[0] / rows
    redrawn = generator.normal(observed, np.sqrt(observed * (1 - observed) / rows), size=(200_000, 10))
    expected = 2 * (share * np.abs(observed - mean)).sum() - (share * np.abs(redrawn - mean)).sum(axis=1).mean()
    # 200,000 draws: a standard error of 2e-5
    assert debiased_calibration_error(counts)[0] == pytest.approx(expected, abs=1e-4)


def test_debiased_error_takes_off_four_tenths_of_what_a_perfect_model_shows() -> None:
    """A gap that is all noise has mean size f; drawn anew around it, f sqrt(2): 2 f - f sqrt(2) is left, and nowhere
    can it be less than 0.
    """
    counts = counts_of_draws(SPREAD, 2000, 4)
    plain, debiased = calibration_error(counts), debiased_calibration_error(counts)
    assert plain.min() > 0.004
    assert debiased.mean() / plain.mean() == pytest.approx(2 - np.sqrt(2), abs=0.03)
    assert (debiased <= plain + 1e-12).all() and (debiased >= 0).all()
    assert (debiased < plain / 2).mean() > 0.25


@pytest.mark.parametrize(("shift", "tolerance"), [(0.02, 0.3), (0.05, 0.05), (0.15, 0.02)])
def test_debiased_error_of_a_miscalibrated_model_is_near_the_true_one(shift: float, tolerance: float) -> None:
    """Every bin's true gap is `shift` (less where 1 is in the way). Bins of 20 rows have noise of 0.1, that of 600 rows
    of 0.01: gaps of 0.02 drown in it, and the nearer they are to nothing the more of the noise is left.
    """
    true = np.minimum(SPREAD + shift, 1.0)
    counts = counts_of_draws(true, 2000, 5)
    truth = float(np.mean(true - SPREAD))
    plain, debiased = calibration_error(counts).mean(), debiased_calibration_error(counts).mean()
    assert debiased == pytest.approx(truth, rel=tolerance)
    assert abs(debiased - truth) < 0.6 * abs(plain - truth) + 0.001


def test_debiased_error_of_many_rows_is_the_true_one() -> None:
    generator = np.random.default_rng(6)
    probability = generator.beta(0.3, 1.2, 400_000)
    label = (generator.random(400_000) < np.clip(probability * 0.8 + 0.03, 0, 1)).astype(np.int64)
    number = bin_numbers(probability, 10, "mass")
    truth = sum(abs(float((probability[number == bin_] * 0.2 - 0.03).mean())) / 10 for bin_ in range(10))
    # standard error 0.0006
    assert debiased_calibration_error(count_bins(probability, label, number))[0] == pytest.approx(truth, abs=2e-3)


# ---- the Brier score


def test_brier_parts_by_hand() -> None:
    # 0.6 stands above 0.4 with the lower share: both become 1/2; 0.1 and 0.9 become their shares, 0 and 1
    calibration, refinement = brier_parts(np.array([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0]))
    assert refinement.tolist() == [pytest.approx(2 / 4 * 0.25)]
    assert calibration.tolist() == [pytest.approx((2 * 0.1**2 + 2 * 0.6**2) / 4 - 2 / 4 * 0.25)]


@pytest.mark.parametrize(
    ("probability", "label", "calibration", "refinement"),
    [
        ([0.3], [0], 0.3**2, 0),
        ([0.3], [1], 0.7**2, 0),
        ([0.3, 0.2, 0.2], [0, 0, 0], (0.3**2 + 2 * 0.2**2) / 3, 0),
        ([0.3, 0.2, 0.2], [1, 1, 1], (0.7**2 + 2 * 0.8**2) / 3, 0),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 0.25**2, 0.25 * 0.75),
    ],
)
def test_one_row_one_class_and_one_probability_have_parts(
    probability: list[float], label: list[int], calibration: float, refinement: float
) -> None:
    found = brier_parts(np.array(probability), np.array(label))
    assert [part.tolist() for part in found] == [[pytest.approx(calibration)], [pytest.approx(refinement)]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40))
def test_brier_parts_are_those_of_scikit_learns_isotonic_fit(rows: list[tuple[int, int, int]]) -> None:
    steps, label, times = (np.array(column) for column in zip(*[*rows, (5, 1, 1)], strict=True))
    probability = steps / 12
    calibration, refinement = brier_parts(probability, label, np.stack([times, 2 * times]).astype(np.float64))
    repeated, labels = np.repeat(probability, times), np.repeat(label, times)
    fit = IsotonicRegression().fit_transform(repeated, labels)
    np.testing.assert_allclose(refinement, [np.mean((fit - labels) ** 2)] * 2, atol=1e-12)
    np.testing.assert_allclose(calibration + refinement, [np.mean((repeated - labels) ** 2)] * 2, atol=1e-15)
    assert (calibration >= 0).all() and (refinement >= 0).all()


def test_brier_parts_of_a_spread_distribution_add_up_and_bending_moves_the_calibration_part_alone() -> None:
    probability = np.random.default_rng(7).beta(0.1, 0.5, ROWS)
    label = (np.random.default_rng(8).random(ROWS) < probability).astype(np.int64)
    as_is, moved = brier_parts(probability, label), brier_parts(probability**3, label)
    for (calibration, refinement), values in ((as_is, probability), (moved, probability**3)):
        assert calibration[0] + refinement[0] == pytest.approx(brier_score_loss(label, values), abs=1e-15)
    assert as_is[1] == moved[1]
    assert 0 < as_is[0][0] < 0.1 * as_is[1][0] < moved[0][0]


def test_a_perfect_model_shows_a_calibration_part_that_more_rows_take_away() -> None:
    generator = np.random.default_rng(9)
    shown = []
    for rows in (500, 8000):
        probability = generator.beta(0.2, 0.8, rows)
        parts = [brier_parts(probability, (generator.random(rows) < probability).astype(np.int64)) for _ in range(50)]
        calibration, refinement = np.mean(parts, axis=0).ravel()
        # of 25,000 labels: a standard error of 1.3%
        assert calibration + refinement == pytest.approx(np.mean(probability * (1 - probability)), rel=0.04)
        shown.append(calibration)
    assert 0.0005 < shown[1] < shown[0] / 4 < 0.0025

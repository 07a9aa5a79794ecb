"""The threshold of the greatest F1, against every threshold tried by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from model.errors import ReviewriskError
from model.thresholds import f1_max_threshold, threshold_figures


def test_threshold_lies_midway_between_the_last_flagged_and_the_next_lower_probability() -> None:
    probability, label = np.array([0.1, 0.3, 0.4, 0.8, 0.9]), np.array([0, 0, 1, 1, 1])
    assert f1_max_threshold(probability, label) == pytest.approx(0.35)


def test_where_all_are_flagged_it_lies_between_zero_and_the_lowest() -> None:
    assert f1_max_threshold(np.array([0.2, 0.6]), np.array([1, 1])) == pytest.approx(0.1)


def test_of_equal_f1_the_highest_threshold_is_taken() -> None:
    probability, label = np.array([0.2, 0.5, 0.6, 0.9]), np.array([1, 0, 0, 1])
    # flagging {0.9} and flagging all four both give F1 = 2/3
    assert f1_max_threshold(probability, label) == pytest.approx(0.75)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_greater_f1(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probability = np.round(generator.random(200), 2)  # many ties, as after isotonic calibration
    label = (generator.random(200) < probability**2).astype(np.int64)
    best = max(f1_score(label, probability >= threshold) for threshold in np.unique(probability))
    found = f1_max_threshold(probability, label)
    assert f1_score(label, probability >= found) == pytest.approx(best)
    assert np.abs(probability - found).min() > 0.004  # no row sits on the threshold


def test_no_dissatisfied_row_is_an_error() -> None:
    with pytest.raises(ReviewriskError, match="none of the rows is dissatisfied"):
        f1_max_threshold(np.array([0.2, 0.6]), np.array([0, 0]))


def test_figures_by_hand() -> None:
    figures = threshold_figures("f1_max", 0.5, np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 0, 1, 0]))
    assert (figures.threshold_name, figures.threshold) == ("f1_max", 0.5)
    assert (figures.precision, figures.recall, figures.f1, figures.flagged_share) == (0.5, 0.5, 0.5, 0.5)


def test_precision_of_no_flagged_row_is_none() -> None:
    figures = threshold_figures("f1_max", 0.95, np.array([0.9, 0.1]), np.array([1, 0]))
    assert (figures.precision, figures.recall, figures.f1, figures.flagged_share) == (None, 0, 0, 0)

"""What counts as deciding like the reference: every limit, met exactly and missed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from model.scoring.parity import Parity, missed_limits, parity
from model.scoring.scorer import Scores
from model.settings import ParitySettings

LIMITS = ParitySettings(rows=100)
EQUAL = Parity(100, 0, 0.0, 0.0, {"f1_max": 0}, 0.0, 1.0)


def scores(*probabilities: float) -> Scores:
    found = Scores.empty(len(probabilities))
    found.probability[:] = probabilities
    found.logit[:] = np.log(found.probability / (1 - found.probability))
    return found


def test_the_differences_are_counted_by_hand() -> None:
    reference = scores(0.1, 0.2, 0.5, 0.8, float("nan"))
    found = parity(reference, scores(0.1, 0.3, 0.4, 0.8, 0.5), np.array([0, 0, 1, 1, 1]), {"low": 0.25, "f1": 0.5})
    assert (found.rows, found.unscored) == (4, 1)
    # |logit(0.3) - logit(0.2)| = 0.539, |logit(0.4) - logit(0.5)| = 0.405
    assert found.greatest_difference == pytest.approx(0.539, abs=5e-4)
    assert found.mean_difference == pytest.approx((0.539 + 0.405) / 4, abs=5e-4)
    assert found.flipped == {"low": 1, "f1": 1}, "0.5 is at its threshold, and so flagged"
    # bins of one row each: |gap| 0.1, 0.2, 0.5, 0.2 before and 0.1, 0.3, 0.6, 0.2 after
    assert found.ece_change == pytest.approx((1.2 - 1.0) / 4)
    assert found.rank_correlation == pytest.approx(1.0)


def test_ranks_that_change_places_lower_the_correlation() -> None:
    found = parity(scores(0.1, 0.2, 0.3), scores(0.1, 0.3, 0.2), np.array([0, 0, 1]), {})
    assert found.rank_correlation == pytest.approx(0.5)


def test_rows_that_neither_scores_do_not_count() -> None:
    nothing = float("nan")
    found = parity(scores(0.1, 0.9, nothing), scores(0.1, 0.9, nothing), np.array([0, 1, 1]), {"f1": 0.5})
    assert (found.rows, found.unscored, found.flipped) == (2, 0, {"f1": 0})
    with pytest.raises(ValueError, match="only 1 rows are scored by both"):
        parity(scores(0.1, nothing), scores(0.1, nothing), np.array([0, 1]), {})


@pytest.mark.parametrize(
    ("met", "missed", "said"),
    [
        ({"rows": 100}, {"rows": 99}, r"it was compared on 99 reviews only \(rows 100\)"),
        ({"unscored": 0}, {"unscored": 1}, "1 reviews have a score of only one of the two"),
        ({"ece_change": 0.001}, {"ece_change": 0.0011}, r"ECE changes by \+0.0011 \(max_ece_change 0.001\)"),
        ({"ece_change": -0.001}, {"ece_change": -0.0011}, "ECE changes by -0.0011"),
        ({"mean_difference": 0.05}, {"mean_difference": 0.051}, "logits differ by 0.051 on average"),
        ({"rank_correlation": 0.999}, {"rank_correlation": 0.9989}, "correlation is 0.99890"),
        ({"rank_correlation": 1.0}, {"rank_correlation": float("nan")}, "correlation is nan"),
        ({"mean_difference": 0.0}, {"mean_difference": float("nan")}, "logits differ by nan"),
    ],
)
def test_a_limit_may_be_met_exactly(met: dict[str, Any], missed: dict[str, Any], said: str) -> None:
    assert missed_limits(dataclasses.replace(EQUAL, **met), LIMITS) == []
    (problem,) = missed_limits(dataclasses.replace(EQUAL, **missed), LIMITS)
    assert re.search(said, problem)


def test_flips_count_at_every_threshold() -> None:
    many = dataclasses.replace(EQUAL, rows=2000, flipped={"f1_max": 4, "recall_90": 4})
    assert missed_limits(many, LIMITS) == []
    (problem,) = missed_limits(dataclasses.replace(many, flipped={"f1_max": 0, "recall_90": 5}), LIMITS)
    assert problem.startswith("5 of 2,000 decisions at recall_90 are flipped (max_flipped_share 0.002)")

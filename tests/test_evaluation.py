"""Figures on labelled rows, by hand; what is not defined is None."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.evaluation import metrics, metrics_by_overlap

PROBABILITY = np.array([0.9, 0.6, 0.4, 0.1])
LABEL = np.array([1, 0, 1, 0])


def test_all_figures_by_hand() -> None:
    figures = metrics(PROBABILITY, LABEL, threshold=0.5, bins=10)
    assert figures == {
        "rows": 4,
        "positives": 2,
        "auc": 0.75,  # of the four pairs, 0.4 against 0.6 is the wrong way round
        "average_precision": pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3),
        "f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "flagged_share": 0.5,
        "ece": pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4),
        "brier": pytest.approx((0.1**2 + 0.6**2 + 0.6**2 + 0.1**2) / 4),
        "log_loss": pytest.approx(-(2 * math.log(0.9) + 2 * math.log(0.4)) / 4),
    }


def test_ranking_figures_come_from_the_raw_probability_where_calibration_ties_rows() -> None:
    tied = np.array([0.5, 0.5, 0.5, 0.1])
    figures = metrics(tied, LABEL, 0.5, 10, ranking=np.array([0.9, 0.3, 0.4, 0.1]))
    assert (figures["auc"], figures["average_precision"]) == (1, 1)
    assert metrics(tied, LABEL, 0.5, 10)["auc"] == 0.75


def test_one_class_and_no_row_have_none_where_nothing_is_defined() -> None:
    satisfied = metrics(PROBABILITY[2:], np.array([0, 0]), 0.5, 10)
    assert [name for name, value in satisfied.items() if value is None] == ["auc", "average_precision", "f1", "precision", "recall"]
    assert (satisfied["rows"], satisfied["positives"], satisfied["flagged_share"]) == (2, 0, 0)
    dissatisfied = metrics(PROBABILITY[:2], np.array([1, 1]), 0.5, 10)
    assert (dissatisfied["auc"], dissatisfied["f1"]) == (None, 1)
    empty = metrics(PROBABILITY[:0], LABEL[:0], 0.5, 10)
    assert empty.pop("rows") == empty.pop("positives") == 0
    assert set(empty.values()) == {None}


def test_rows_whose_text_stands_in_training_are_left_out_of_the_second_figures() -> None:
    in_train = np.array([False, True, False, False])
    figures = metrics_by_overlap(PROBABILITY, LABEL, 0.5, 10, PROBABILITY, in_train)
    assert figures["as_is"] == metrics(PROBABILITY, LABEL, 0.5, 10)
    assert figures["without_train_texts"] == metrics(PROBABILITY[[0, 2, 3]], LABEL[[0, 2, 3]], 0.5, 10)
    assert figures["without_train_texts"]["auc"] == 1

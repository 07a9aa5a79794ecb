"""The baseline learns from training rows only, and its prior shift undoes its class weights."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from model.data.reviews import prior_shift
from model.evaluation.baseline import TFIDF_WEIGHTING, fit_tfidf


def test_tfidf_reads_pairs_of_words() -> None:
    texts = ["not good at all", "good", "bad", "not bad at all"] * 10
    labels = np.array([1, 0, 1, 0] * 10)
    flagged = fit_tfidf(texts, labels).decision_function(["not good at all", "good", "bad", "not bad at all"]) > 0
    assert flagged.tolist() == [True, False, True, False]


def test_tfidf_knows_no_word_that_stands_in_one_text_only() -> None:
    model = fit_tfidf(["broken chair", "broken table", "nice chair", "nice unicorn"], np.array([1, 1, 0, 0]))
    assert set(model[0].get_feature_names_out()) == {"broken", "nice", "chair"}


def test_tfidf_is_not_drawn_to_the_larger_class() -> None:
    model = fit_tfidf(["broken again"] * 2 + ["nice chair"] * 18, np.array([1, 1] + [0] * 18))
    assert 0.3 < expit(model.decision_function(["unicorn"]))[0] < 0.7


def test_without_the_prior_shift_of_its_weighting_it_says_the_training_share() -> None:
    texts = ["the chair", "the table", "the sofa"] * 400  # words that tell nothing
    labels = (np.arange(1200) % 10 == 0).astype(np.int64)
    logit = fit_tfidf(texts, labels).decision_function(texts)
    assert abs(expit(logit).mean() - 0.5) < 0.02
    np.testing.assert_allclose(expit(logit - prior_shift(labels, TFIDF_WEIGHTING)).mean(), labels.mean(), atol=0.01)

"""The two baselines learn from training rows only."""

from __future__ import annotations

import numpy as np

from model.baseline import fit_tfidf, majority_probability, tfidf_probability


def test_majority_gives_every_row_the_training_share() -> None:
    np.testing.assert_array_equal(majority_probability(np.array([0, 0, 0, 1]), 3), [0.25, 0.25, 0.25])


def test_tfidf_reads_pairs_of_words() -> None:
    texts = ["not good at all", "good", "bad", "not bad at all"] * 10
    labels = np.array([1, 0, 1, 0] * 10)
    model = fit_tfidf(texts, labels)
    flagged = tfidf_probability(model, ["not good at all", "good", "bad", "not bad at all"]) > 0.5
    assert flagged.tolist() == [True, False, True, False]


def test_tfidf_knows_no_word_that_stands_in_one_text_only() -> None:
    model = fit_tfidf(["broken chair", "broken table", "nice chair", "nice unicorn"], np.array([1, 1, 0, 0]))
    assert set(model[0].get_feature_names_out()) == {"broken", "nice", "chair"}


def test_tfidf_probability_is_not_drawn_to_the_larger_class() -> None:
    texts = ["broken again"] * 2 + ["nice chair"] * 18
    model = fit_tfidf(texts, np.array([1, 1] + [0] * 18))
    unknown = tfidf_probability(model, ["unicorn"])
    assert 0.3 < unknown[0] < 0.7

"""The baseline learns from training rows only, its prior shift undoes its class weights, and what is kept of it says
the same.
"""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load, save
from scipy.special import expit

from model.data.reviews import prior_shift
from model.evaluation.baseline import TFIDF_WEIGHTING, StoredBaseline, fit_tfidf
from tests.support.tiny_models import planted_reviews


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


def test_what_is_kept_of_it_says_the_same() -> None:
    """In words it knows, once and often, beside and between unknown ones, in any case, script and length."""
    rows = planted_reviews().to_pylist()
    model = fit_tfidf([row["review_body"] for row in rows], np.array([int(row["star_rating"] <= 2) for row in rows]))
    odd = ["", "unicorn", "A!", "love", "Love LOVE love, love", "\u6905\u5b50 nice \ud83d", "broke broken " * 5000]
    odd += ["caf\u00e9 nice unicorn chair", "the\x00chair\u2028it"]
    texts = [*odd, *(row["review_body"] for row in rows[:300])]
    kept = StoredBaseline.from_arrays(load(save(StoredBaseline.of(model).to_arrays())))
    expected = model.decision_function(texts)
    np.testing.assert_allclose([kept.logit(text) for text in texts], expected, rtol=0, atol=1e-9)
    assert np.ptp(expected) > 2


def test_what_is_kept_of_it_names_no_word() -> None:
    kept = StoredBaseline.of(fit_tfidf(["broken chair", "nice chair"] * 2, np.array([1, 0] * 2))).to_arrays()
    assert {name: array.dtype.kind for name, array in kept.items()} == {
        "keys": "i",
        "idf": "f",
        "weight": "f",
        "intercept": "f",
    }
    assert (np.diff(kept["keys"]) > 0).all() and len(kept["keys"]) == 5

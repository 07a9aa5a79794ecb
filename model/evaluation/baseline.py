"""What the network is held against: TF-IDF with logistic regression on the same rows, and what a bundle keeps of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from model.evaluation.calibrators import FloatArray, LabelArray

TFIDF_WEIGHTING = "balanced"
_WORDS_AND_PAIRS = (1, 2)


def fit_tfidf(texts: Sequence[str], labels: LabelArray) -> Pipeline:
    """Logistic regression, classes balanced (see TFIDF_WEIGHTING), on TF-IDF of words and pairs of words that stand in
    at least two texts.
    """
    vectorizer = TfidfVectorizer(ngram_range=_WORDS_AND_PAIRS, sublinear_tf=True, min_df=2)
    return make_pipeline(vectorizer, LogisticRegression(C=10, class_weight=TFIDF_WEIGHTING, max_iter=1000)).fit(
        texts, labels
    )


@dataclass(frozen=True)
class StoredBaseline:
    """What `fit_tfidf` gave, as arrays alone: each term's hash (`keys`, rising), inverse document frequency and weight.

    It names no word of a review, and a million terms take 24 MB, where a dictionary of them takes 120.
    """

    keys: NDArray[np.int64]
    idf: FloatArray
    weight: FloatArray
    intercept: float

    @classmethod
    def of(cls, model: Pipeline) -> StoredBaseline:
        """The baseline that `fit_tfidf` gave."""
        vectorizer, regression = model[0], model[1]
        keys = _hashes(vectorizer.get_feature_names_out())
        order = np.argsort(keys)
        weight = regression.coef_[0]
        return cls(keys[order], vectorizer.idf_[order], weight[order], float(regression.intercept_[0]))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> StoredBaseline:
        """The baseline that `to_arrays` described."""
        return cls(arrays["keys"], arrays["idf"], arrays["weight"], float(arrays["intercept"][0]))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The baseline as arrays by name."""
        intercept = np.array([self.intercept])
        return {"keys": self.keys, "idf": self.idf, "weight": self.weight, "intercept": intercept}

    def logit(self, text: str) -> float:
        """The text's log-odds of dissatisfaction, those of scikit-learn's decision_function but for the order of sums.

        No other text plays a part in it, so it is the same to the last bit in any batch.
        """
        counts = Counter(_terms()(text))
        keys = _hashes(counts)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        is_known = self.keys[places] == keys
        times = np.fromiter(counts.values(), np.float64, len(counts))[is_known]
        if not len(times):
            return self.intercept
        value = (1 + np.log(times)) * self.idf[places[is_known]]
        weighed = (value * self.weight[places[is_known]]).sum()
        return self.intercept + float(weighed / np.sqrt((value * value).sum()))


@cache
def _terms() -> Callable[[str], list[str]]:
    """What cuts a text into the baseline's terms: lower-case words of two letters and more, and pairs of them."""
    terms: Callable[[str], list[str]] = TfidfVectorizer(ngram_range=_WORDS_AND_PAIRS).build_analyzer()
    return terms


def _hashes(terms: Iterable[str]) -> NDArray[np.int64]:
    """64 bits of each term: beside a million known ones, one unknown term in 18 trillion passes for one of them."""
    digests = (hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest() for term in terms)
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)

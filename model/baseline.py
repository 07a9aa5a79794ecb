"""What the network is held against: the majority class, and TF-IDF with logistic regression, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from model.calibration import FloatArray, LabelArray


def majority_probability(train_labels: LabelArray, rows: int) -> FloatArray:
    """The training rows' share of dissatisfied, for every one of `rows` rows; at a threshold of 0.5 it decides for the majority."""
    return np.full(rows, float(train_labels.mean()))


def fit_tfidf(texts: Sequence[str], labels: LabelArray) -> Pipeline:
    """Logistic regression, classes balanced, on TF-IDF of words and pairs of words that stand in at least two texts."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    return make_pipeline(vectorizer, LogisticRegression(C=10, class_weight="balanced", max_iter=1000)).fit(texts, labels)


def tfidf_probability(model: Pipeline, texts: Sequence[str]) -> FloatArray:
    """The raw (class-balanced, uncalibrated) probability of dissatisfied per text."""
    return np.asarray(model.predict_proba(texts)[:, 1], dtype=np.float64)

"""What the network is held against: TF-IDF with logistic regression, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from model.evaluation.calibrators import LabelArray

TFIDF_WEIGHTING = "balanced"


def fit_tfidf(texts: Sequence[str], labels: LabelArray) -> Pipeline:
    """Logistic regression, classes balanced (see TFIDF_WEIGHTING), on TF-IDF of words and pairs of words that stand in
    at least two texts.
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    return make_pipeline(vectorizer, LogisticRegression(C=10, class_weight=TFIDF_WEIGHTING, max_iter=1000)).fit(
        texts, labels
    )

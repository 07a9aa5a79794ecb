"""What runs in Spark's workers: shipped models applied to batches of reviews, as iterator pandas UDFs.

The keys travel with the rows and come back in the result, so nothing depends on the order of rows. Both UDFs are marked
non-deterministic: Spark then evaluates them once a row, however often fields of the result are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jobs.config import ExplainSettings, ScoreSettings
from jobs.scoring.incremental import KEY
from jobs.scoring.ship import worker_scorer
from model.scoring.ahead import READ_AHEAD, ahead
from model.scoring.engines.interface import BASELINE

if TYPE_CHECKING:
    from pyspark.sql import Column

    from model.explanation.word_attributions import Explanation
    from model.scoring.engines.interface import EngineKind
    from model.scoring.faults import Failure
    from model.scoring.scorer import Reading, Scorer, Scores

SCORE = (
    "review_id string, review_month date, text_hash string, model_version string, logit double, raw_probability double,"
    " probability double, token_count int, is_truncated boolean, has_rating_phrase boolean, error string,"
    " engine string, precision string"
)
EXPLANATION = (
    "review_id string, review_month date, text_hash string, model_version string, nodes int, convergence_delta double,"
    " is_converged boolean, error string, words array<struct<attribution_rank int, word string, field string,"
    " char_start int, char_end int, attribution double, word_kind string, phrase string>>"
)

# What stands in for the words of a review that has none, so that it is known and not tried in every run.
NO_WORDS = {
    "attribution_rank": 0,
    "word": None,
    "field": None,
    "char_start": None,
    "char_end": None,
    "attribution": None,
    "word_kind": None,
    "phrase": None,
}


def scoring_udf(
    settings: Mapping[str, ScoreSettings],
    rows_per_buffer: int,
    threads: int,
    cuts: Mapping[str, float | None] | None = None,
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(review_id, review_month, text_hash, model_version, review_headline, review_body)
    to one struct (SCORE).

    Each row is scored by the model of its `model_version`, which is one of those shipped: `settings` has the engine of
    each, `cuts` the log-odds up to which its baseline lets reviews skip the network (None: never). Where they compute
    on a GPU, the next texts are read meanwhile.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    depth = READ_AHEAD if any(one.device == "cuda" for one in settings.values()) else 0

    def read(batches: Iterator[pd.DataFrame]) -> Iterator[tuple[pd.DataFrame, Scorer, Reading]]:
        for buffer in buffered(batches, rows_per_buffer):
            for version, rows in buffer.groupby("model_version"):
                scorer = worker_scorer(str(version), settings[str(version)], threads, tuple(settings))
                texts = zip(rows["review_headline"], rows["review_body"], strict=True)
                yield rows, scorer, scorer.read(list(texts), cut=(cuts or {}).get(str(version)))

    def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows, scorer, reading in ahead(read(batches), depth):
            yield _scores_frame(rows, scorer.compute(reading), scorer.engine.kind)

    udf: Callable[[Column], Column] = pandas_udf(score, SCORE).asNondeterministic()  # type: ignore[call-overload]
    return udf


def _scores_frame(rows: pd.DataFrame, scores: Scores, kind: EngineKind) -> pd.DataFrame:
    """The rows' keys with their scores and what computed them, column by column as SCORE."""
    result = rows[list(KEY)].copy()
    for column in ("logit", "raw_probability", "probability", "token_count", "is_truncated", "has_rating_phrase"):
        result[column] = getattr(scores, column)
    result["error"] = scores.error
    for place, column in enumerate(("engine", "precision")):
        result[column] = np.where(scores.by_baseline, BASELINE[place], kind[place])
    return result.astype({"logit": "Float64", "raw_probability": "Float64", "probability": "Float64"})


def buffered(batches: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """The stream's batches joined into frames of at least `rows` rows (the last may be shorter), so that texts of like
    length meet.
    """
    waiting: list[pd.DataFrame] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= rows:
            yield pd.concat(waiting, ignore_index=True)
            waiting, count = [], 0
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def explaining_udf(
    versions: tuple[str, ...], scoring: ScoreSettings, settings: ExplainSettings, threads: int
) -> Callable[[Column], Column]:
    """An iterator pandas UDF: struct(KEY, review_headline, review_body) to one struct (EXPLANATION).

    A review that fails has the row of rank 0.

    Each review is explained by the model of its `model_version`, which is one of the shipped `versions`. A task's
    reviews are explained together, so that those of like length meet.
    """
    from pyspark.sql.pandas.functions import pandas_udf

    def explain_batches(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from model.explanation.word_attributions import explain_each, gradient_precision

        network = scoring.model_copy(update={"precision": gradient_precision(settings)})
        for buffer in buffered(batches, settings.rows_per_task):
            for version, rows in buffer.groupby("model_version"):
                scorer = worker_scorer(str(version), network, threads, versions)
                texts = (rows["review_headline"].tolist(), rows["review_body"].tolist())
                yield _explanations_frame(rows, explain_each(scorer, *texts, settings))

    made: Any = pandas_udf(explain_batches, EXPLANATION)  # type: ignore[call-overload]
    udf: Callable[[Column], Column] = made.asNondeterministic()
    return udf


def _explanations_frame(rows: pd.DataFrame, explanations: Sequence[Explanation | Failure]) -> pd.DataFrame:
    """The rows' keys with their explanations, column by column as EXPLANATION."""
    from model.scoring.faults import Failure

    done = [None if isinstance(explanation, Failure) else explanation for explanation in explanations]
    words = [
        [asdict(word) for word in explanation.words] if explanation and explanation.words else [dict(NO_WORDS)]
        for explanation in done
    ]
    errors = [found.error if isinstance(found, Failure) else _why_no_words(found) for found in explanations]
    computed = {
        "nodes": pd.Series([explanation.nodes if explanation else None for explanation in done], dtype="Int32"),
        "convergence_delta": pd.Series(
            [explanation.convergence_delta if explanation else None for explanation in done], dtype="Float64"
        ),
        "is_converged": pd.Series([bool(explanation and explanation.is_converged) for explanation in done]),
        "error": pd.Series(errors, dtype=object),
        "words": pd.Series(words, dtype=object),
    }
    return pd.concat([rows[list(KEY)].reset_index(drop=True), pd.DataFrame(computed)], axis=1)


def _why_no_words(explanation: Explanation) -> str | None:
    return None if explanation.words else "no word stands in what the model reads of the text"

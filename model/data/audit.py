"""What the labelled rows are like before anything is trained on them: class balance, token lengths, duplicates and
contradictory labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from model.data.reviews import LabelledReviews, PreparedData
from model.network.backbone import encode

PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True)
class LengthSummary:
    """Tokens per text ([CLS] and [SEP] included, before truncation) of `rows` texts; `percentiles` are those of
    PERCENTILES.
    """

    rows: int
    mean: float
    percentiles: tuple[int, ...]
    max_length: int
    truncated_share: float


@dataclass(frozen=True)
class DuplicateAudit:
    """Exact duplicates of the text as the model reads it, in the splits as stored.

    `train_repeats`: training rows whose text stood in an earlier training row. The next three: rows of the first split
    whose text also stands in the second. `contradictory_texts` have rows of both labels, `contradictory_rows` in all
    splits together.
    """

    train_repeats: int
    train_in_validation: int
    train_in_test: int
    validation_in_test: int
    contradictory_texts: int
    contradictory_rows: int


def class_balance(data: PreparedData) -> dict[str, tuple[int, int]]:
    """(satisfied, dissatisfied) rows of each part that a training run reads, training without the duplicates that are
    dropped.
    """
    parts = {
        "training": data.train,
        "validation, early-stopping slice": data.early_stopping,
        "validation, calibration slice": data.calibration,
        "test": data.test,
    }
    return {name: (int((part.labels == 0).sum()), int((part.labels == 1).sum())) for name, part in parts.items()}


def length_summary(reviews: LabelledReviews, tokenizer: PreTrainedTokenizerFast, max_length: int) -> LengthSummary:
    """How long the texts are in tokens, and which share of them is truncated."""
    _, full = encode(tokenizer, reviews.texts, max_length)
    lengths = np.array(full)
    percentiles = np.percentile(lengths, PERCENTILES, method="inverted_cdf")
    return LengthSummary(
        rows=len(lengths),
        mean=float(lengths.mean()),
        percentiles=tuple(int(value) for value in percentiles),
        max_length=max_length,
        truncated_share=float((lengths > max_length).mean()),
    )


def duplicate_audit(stored: Mapping[str, LabelledReviews]) -> DuplicateAudit:
    """The duplicates within and between the splits train, validation and test, by the whole text."""
    texts = {split: set(part.texts) for split, part in stored.items()}
    labels: dict[str, set[int]] = {}
    for part in stored.values():
        for text, label in zip(part.texts, part.labels.tolist(), strict=True):
            labels.setdefault(text, set()).add(label)
    contradictory = {text for text, found in labels.items() if len(found) > 1}
    return DuplicateAudit(
        train_repeats=len(stored["train"]) - len(texts["train"]),
        train_in_validation=_rows_in(stored["train"], texts["validation"]),
        train_in_test=_rows_in(stored["train"], texts["test"]),
        validation_in_test=_rows_in(stored["validation"], texts["test"]),
        contradictory_texts=len(contradictory),
        contradictory_rows=sum(_rows_in(part, contradictory) for part in stored.values()),
    )


def _rows_in(reviews: LabelledReviews, texts: set[str]) -> int:
    return sum(text in texts for text in reviews.texts)

"""Rows cut by product: so that no product, and no text, stands on two sides of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.reviews import LabelledReviews, data_version, drop_texts_of, labelled_reviews
from model.errors import ReviewriskError
from model.text.compose import HeadlineMode

_DEVELOPMENT = ("train", "validation")


@dataclass(frozen=True)
class Folds:
    """Parts without a product or a text in common: rows to train on, early-stopping rows, and validation folds, each to
    compare models on once.

    `duplicates_dropped` are rows left out because their text also stands in a later part (in the order of the fields).
    """

    training: LabelledReviews
    early_stopping: LabelledReviews
    validation: tuple[LabelledReviews, ...]
    duplicates_dropped: int

    @property
    def data_version(self) -> str:
        """A fingerprint of every row and of the part that it is in."""
        return data_version(
            {
                "train": self.training,
                "stopping": self.early_stopping,
                **{f"fold {place}": fold for place, fold in enumerate(self.validation)},
            }
        )


def development_reviews(reviews: pa.Table, mode: HeadlineMode) -> LabelledReviews:
    """The labelled reviews of the training and validation splits together, whatever else the table (of data.COLUMNS)
    holds.
    """
    chosen = reviews.filter(pc.is_in(reviews["split"], value_set=pa.array(_DEVELOPMENT)))
    return labelled_reviews(chosen, None, mode)


def cut_folds(reviews: LabelledReviews, folds: int, validation_rows: int, seed: int) -> Folds:
    """So many validation folds of at most so many rows each, and half as many early-stopping rows; the other products
    train.

    Whole products go to each part in an order that the seed draws; at least half of all rows are left to train on. A
    text that stands in several parts is kept in the last of them. Raises ReviewriskError where a part has not both
    classes.
    """
    most = min(validation_rows, len(reviews) // (2 * folds + 1))
    rest, parts = np.arange(len(reviews), dtype=np.intp), []
    for place in range(folds + 1):
        chosen = drawn_by_product(reviews.take(rest), most if place < folds else most // 2, (seed, place))
        parts.append(reviews.take(rest[chosen]))
        rest = np.delete(rest, chosen)
    *validation, early_stopping = parts
    training, early_stopping, *validation = _each_text_once([reviews.take(rest), early_stopping, *validation])
    for part, what in [
        (training, "the rows to train on"),
        (early_stopping, "the early-stopping rows"),
        *((fold, "a fold of validation rows") for fold in validation),
    ]:
        check_both_classes(part, what)
    kept = len(training) + len(early_stopping) + sum(map(len, validation))
    return Folds(training, early_stopping, tuple(validation), len(reviews) - kept)


def nested_draw(reviews: LabelledReviews, rows: int, seed: int) -> LabelledReviews:
    """At most so many reviews in order of time, drawn with the seed: a smaller draw is a part of every larger one."""
    order = np.random.default_rng(seed).permutation(len(reviews))
    drawn = reviews.take(np.sort(order[:rows]))
    check_both_classes(drawn, f"a draw of {rows:,} training rows")
    return drawn


def drawn_by_product(reviews: LabelledReviews, most: int | None, seed: int | Sequence[int]) -> NDArray[np.intp]:
    """Positions of at most so many rows, of whole products: taken in random order as long as they fit."""
    if most is None or len(reviews) <= most:
        return np.arange(len(reviews), dtype=np.intp)
    product: NDArray[Any]
    _, product, sizes = np.unique(np.asarray(reviews.product_ids), return_inverse=True, return_counts=True)
    kept, left = np.zeros(len(sizes), dtype=np.bool_), most
    for number in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[number] <= left:
            kept[number], left = True, left - int(sizes[number])
    return np.flatnonzero(kept[product])


def check_both_classes(reviews: LabelledReviews, what: str) -> None:
    """Raises ReviewriskError where satisfied or dissatisfied reviews are missing."""
    if not 0 < int(reviews.labels.sum()) < len(reviews):
        raise ReviewriskError(
            f"Satisfied or dissatisfied reviews are missing from {what} ({len(reviews):,}): raise the option that"
            " limits these rows (--rows, --test-rows, --validation-rows), or ingest more reviews."
        )


def _each_text_once(parts: list[LabelledReviews]) -> list[LabelledReviews]:
    """The parts, each without the texts of those that come after it."""
    later: list[str] = []
    kept: list[LabelledReviews] = []
    for part in reversed(parts):
        kept.insert(0, drop_texts_of(part, later))
        later += part.texts
    return kept

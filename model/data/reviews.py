"""From stored reviews to labelled splits, and what weighting their classes does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.data.overlap import Overlap, OverlapSearch
from model.data.row_filter import chosen_rows, in_words
from model.errors import ReviewriskError
from model.settings import ModelSettings
from model.text.compose import HeadlineMode, model_text

# What a training run reads of `reviews`.
COLUMNS = (
    "review_id",
    "product_id",
    "product_category",
    "marketplace",
    "verified_purchase",
    "review_headline",
    "review_body",
    "star_rating",
    "review_date",
    "split",
)
# Shares of the validation rows in order of time: the early-stopping and calibration slices. The epoch that is kept is
# the one that does best on the first, so its scores look better there than on new rows: calibrator and thresholds come
# from the second alone.
VALIDATION_SHARES = (0.5, 0.5)
SPLITS = ("train", "validation", "test")
_VERSION_DIGITS = 16
_NO_LABELS = np.empty(0, dtype=np.int64)
_NO_DAYS = np.empty(0, dtype="datetime64[D]")


@dataclass(frozen=True)
class LabelledReviews:
    """Reviews with a label, in order of (review_date, review_id). labels: 1 is dissatisfied (1-2 stars), 0 satisfied
    (4-5).

    `texts` is what the model reads; `categories` are in lower case ("unknown" where the source has none); `is_verified`
    is False where the source does not say.
    """

    review_ids: list[str]
    product_ids: list[str]
    categories: list[str]
    is_verified: NDArray[np.bool_]
    headlines: list[str | None]
    bodies: list[str | None]
    texts: list[str]
    labels: NDArray[np.int64]
    dates: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> LabelledReviews:
        """The reviews at these positions, in the positions' order."""
        return LabelledReviews(
            review_ids=[self.review_ids[row] for row in rows],
            product_ids=[self.product_ids[row] for row in rows],
            categories=[self.categories[row] for row in rows],
            is_verified=self.is_verified[rows],
            headlines=[self.headlines[row] for row in rows],
            bodies=[self.bodies[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            labels=self.labels[rows],
            dates=self.dates[rows],
        )


@dataclass(frozen=True)
class PreparedData:
    """Everything a training run reads.

    `test_overlap` marks the test rows whose text stands in the training split as stored, before duplicates were dropped
    from it; `test_product_is_new` those whose product has no review there. `rows` has the row counts of the model card;
    `data_version` is a fingerprint of all labelled rows.
    """

    train: LabelledReviews
    early_stopping: LabelledReviews
    calibration: LabelledReviews
    test: LabelledReviews
    test_overlap: Overlap
    test_product_is_new: NDArray[np.bool_]
    rows: dict[str, int]
    data_version: str


class ReviewSource(Protocol):
    """Reviews that lie somewhere else, read a portion at a time: the same ones every time."""

    def portions(self, split: str) -> Iterator[pa.Table]:
        """The reviews of train, validation or test that are to be used: tables with the columns of COLUMNS, each of
        later days than the one before.
        """
        ...


@dataclass(frozen=True)
class TableSource:
    """A table with the columns of COLUMNS as a source: each split is one portion."""

    reviews: pa.Table

    def portions(self, split: str) -> Iterator[pa.Table]:
        """The split's reviews, in one table."""
        yield self.reviews.filter(pc.equal(self.reviews["split"], split))


def prepare(reviews: pa.Table | ReviewSource, settings: ModelSettings) -> PreparedData:
    """Labelled splits of the reviews, their texts as `settings.text` says.

    Of a table (with the columns of COLUMNS) those that `settings.rows` names are taken; a source has chosen already.
    Three stars have no label and are left out. Texts that also stand in validation or test are dropped from training.
    Of the training rows only those that `settings.training.max_rows` draws are ever held in memory together with their
    texts, beside validation, test and one portion of the source. Raises ReviewriskError where a split, or one of the
    two slices of validation, has no row or a single class.
    """
    source = TableSource(chosen_rows(reviews, settings.rows)) if isinstance(reviews, pa.Table) else reviews
    try:
        return _prepared(source, settings)
    except ReviewriskError as error:
        counts = {split: _labelled_rows(source, split) for split in SPLITS} if settings.rows.only else {}
        raise ReviewriskError(f"{error}{in_words(counts, settings.rows)}") from None


def _prepared(source: ReviewSource, settings: ModelSettings) -> PreparedData:
    mode = settings.text.headline
    validation, test = (
        joined([reviews_of(portion, mode) for portion in source.portions(split)]) for split in SPLITS[1:]
    )
    training = _scan_training(source, mode, validation, test)
    for split, labels, dates in (
        ("train", training.labels, training.days),
        ("validation", validation.labels, validation.dates),
        ("test", test.labels, test.dates),
    ):
        _check_classes(labels, dates, f"the {split} split")
    early_stopping, calibration = cut_by_time(validation)
    unique = np.flatnonzero(training.is_unique)
    drawn = unique[drawn_positions(len(unique), settings.training.max_rows, settings.training.seed)]
    train = _take_training(source, mode, drawn)
    _check_both_classes(train, "the training rows that are left without duplicates of validation and test texts")
    overlap = training.overlap
    new_product = np.array([product not in training.products for product in test.product_ids], dtype=np.bool_)
    rows = {
        "train_split": len(training.labels),
        "train_duplicates_dropped": len(training.labels) - len(unique),
        "train": len(train),
        "validation": len(validation),
        "validation_stopping": len(early_stopping),
        "validation_calibration": len(calibration),
        "test": len(test),
        "test_in_train_split": int(overlap.exact.sum()),
        "test_near_train_split": int(overlap.near.sum()),
        "test_of_new_products": int(new_product.sum()),
    }
    return PreparedData(train, early_stopping, calibration, test, overlap, new_product, rows, training.data_version)


def _labelled_rows(source: ReviewSource, split: str) -> int:
    return sum(len(_labelled(portion)) for portion in source.portions(split))


@dataclass(frozen=True)
class _Training:
    """What is known of the whole training split, in order of time, without its texts.

    `is_unique` marks rows whose text stands neither in validation nor in test; `data_version` is of all three splits.
    """

    labels: NDArray[np.int64]
    days: NDArray[np.datetime64]
    is_unique: NDArray[np.bool_]
    products: set[str | None]
    overlap: Overlap
    data_version: str


def _scan_training(
    source: ReviewSource, mode: HeadlineMode, validation: LabelledReviews, test: LabelledReviews
) -> _Training:
    later = {*validation.texts, *test.texts}
    search, digest, products = OverlapSearch(test.texts), hashlib.sha256(), set[str | None]()
    labels, days, is_unique = [_NO_LABELS], [_NO_DAYS], [np.empty(0, dtype=np.bool_)]
    for portion in source.portions("train"):
        reviews = reviews_of(portion, mode)
        search.add(reviews.texts)
        _update_version(digest, "train", reviews)
        products.update(reviews.product_ids)
        labels.append(reviews.labels)
        days.append(reviews.dates)
        is_unique.append(np.array([text not in later for text in reviews.texts], dtype=np.bool_))
    for split, part in (("validation", validation), ("test", test)):
        _update_version(digest, split, part)
    return _Training(
        labels=np.concatenate(labels),
        days=np.concatenate(days),
        is_unique=np.concatenate(is_unique),
        products=products,
        overlap=search.result(),
        data_version=digest.hexdigest()[:_VERSION_DIGITS],
    )


def _take_training(source: ReviewSource, mode: HeadlineMode, positions: NDArray[np.intp]) -> LabelledReviews:
    """The training rows at these positions of the whole split in order of time; texts of others are not composed."""
    taken, start = [], 0
    for portion in map(_labelled, source.portions("train")):
        here = positions[(positions >= start) & (positions < start + len(portion))] - start
        taken.append(reviews_of(portion.take(here), mode))
        start += len(portion)
    return joined(taken)


def labelled_reviews(reviews: pa.Table, split: str | None, mode: HeadlineMode = "keep") -> LabelledReviews:
    """The reviews of 1, 2, 4 or 5 stars of a split (None: of all), ordered by review_date and review_id whatever the
    table's order.
    """
    chosen = reviews if split is None else reviews.filter(pc.equal(reviews["split"], split))
    return reviews_of(chosen, mode)


def _labelled(reviews: pa.Table) -> pa.Table:
    """The rows of 1, 2, 4 or 5 stars, ordered by review_date and review_id."""
    stars = reviews["star_rating"]
    chosen = reviews.filter(pc.is_in(stars, value_set=pa.array([1, 2, 4, 5], type=stars.type)))
    return chosen.sort_by([("review_date", "ascending"), ("review_id", "ascending")])


def reviews_of(reviews: pa.Table, mode: HeadlineMode) -> LabelledReviews:
    """The table's labelled rows, ordered by review_date and review_id."""
    chosen = _labelled(reviews)
    headlines, bodies = chosen["review_headline"].to_pylist(), chosen["review_body"].to_pylist()
    return LabelledReviews(
        review_ids=chosen["review_id"].to_pylist(),
        product_ids=chosen["product_id"].to_pylist(),
        categories=[
            (category or "").strip().lower() or "unknown" for category in chosen["product_category"].to_pylist()
        ],
        is_verified=chosen["verified_purchase"].fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_),
        headlines=headlines,
        bodies=bodies,
        texts=[model_text(headline, body, mode) for headline, body in zip(headlines, bodies, strict=True)],
        labels=(chosen["star_rating"].to_numpy() <= 2).astype(np.int64),
        dates=chosen["review_date"].to_numpy().astype("datetime64[D]"),
    )


def joined(parts: Sequence[LabelledReviews]) -> LabelledReviews:
    """The reviews of all parts, one after another; of no part none."""
    return LabelledReviews(
        review_ids=[one for part in parts for one in part.review_ids],
        product_ids=[one for part in parts for one in part.product_ids],
        categories=[one for part in parts for one in part.categories],
        is_verified=np.concatenate([np.empty(0, dtype=np.bool_), *(part.is_verified for part in parts)]),
        headlines=[one for part in parts for one in part.headlines],
        bodies=[one for part in parts for one in part.bodies],
        texts=[one for part in parts for one in part.texts],
        labels=np.concatenate([_NO_LABELS, *(part.labels for part in parts)]),
        dates=np.concatenate([_NO_DAYS, *(part.dates for part in parts)]),
    )


def cut_by_time(reviews: LabelledReviews, shares: Sequence[float] = VALIDATION_SHARES) -> list[LabelledReviews]:
    """Consecutive parts in order of time, of about the given shares of rows.

    A cut falls between two days, unless that would move it by more than an eighth of all rows: then it falls inside a
    day. Raises ReviewriskError where a part lacks a class.
    """
    rows = len(reviews)
    day_starts = np.flatnonzero(reviews.dates[1:] != reviews.dates[:-1]) + 1
    cuts = [0]
    for share in np.cumsum(shares)[:-1]:
        target = round(share * rows)
        later = day_starts[day_starts > cuts[-1]]
        nearest = later[np.abs(later - target).argmin()] if len(later) else target
        cuts.append(int(nearest) if abs(nearest - target) <= rows / 8 else target)
    cuts.append(rows)
    parts = [reviews.take(np.arange(start, end)) for start, end in pairwise(cuts)]
    for number, part in enumerate(parts, start=1):
        _check_both_classes(
            part,
            f"part {number} of {len(parts)} of the validation split (cut by time into {_percentages(shares)} of its"
            " rows)",
        )
    return parts


def drop_texts_of(reviews: LabelledReviews, texts: Sequence[str]) -> LabelledReviews:
    """The reviews whose model text is none of the given ones."""
    unwanted = set(texts)
    return reviews.take(
        np.array([row for row, text in enumerate(reviews.texts) if text not in unwanted], dtype=np.intp)
    )


def draw(reviews: LabelledReviews, most: int | None, seed: int) -> LabelledReviews:
    """At most so many reviews, drawn without replacement with the seed, still in order of time."""
    if most is None or len(reviews) <= most:
        return reviews
    return reviews.take(drawn_positions(len(reviews), most, seed))


def drawn_positions(rows: int, most: int | None, seed: int) -> NDArray[np.intp]:
    """At most so many of the positions of so many rows, drawn without replacement with the seed, in order."""
    if most is None or rows <= most:
        return np.arange(rows, dtype=np.intp)
    return np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))


def data_version(splits: dict[str, LabelledReviews]) -> str:
    """16 hexadecimal digits of the sha256 over (split, review_id, date, label, text) of every labelled row."""
    digest = hashlib.sha256()
    for split, part in splits.items():
        _update_version(digest, split, part)
    return digest.hexdigest()[:_VERSION_DIGITS]


def _update_version(digest: hashlib._Hash, split: str, part: LabelledReviews) -> None:
    for review_id, date, label, text in zip(part.review_ids, part.dates, part.labels, part.texts, strict=True):
        digest.update(
            "\x1f".join((split, review_id, str(date), str(label), text)).encode("utf-8", "surrogatepass") + b"\x1e"
        )


def class_weights(labels: NDArray[np.int64], weighting: str) -> NDArray[np.float32]:
    """Weight of class 0 and class 1 in the loss: n / (2 · n_class) for `balanced`, else 1."""
    if weighting != "balanced":
        return np.ones(2, dtype=np.float32)
    return (len(labels) / (2 * np.bincount(labels, minlength=2))).astype(np.float32)


def prior_shift(labels: NDArray[np.int64], weighting: str) -> float:
    """By how much training moves the log-odds of dissatisfaction: ln(weight of class 1 / weight of class 0), natural
    logarithm.

    A model that fits the weighted (or oversampled) rows has the true log-odds plus this constant, which is to be
    subtracted (Elkan 2001, theorem 2; King and Zeng 2001, section 4.1). Balancing by weights and by repetition has the
    same ratio, rows of class 0 by rows of class 1; without either it is 0.
    """
    if weighting == "none":
        return 0.0
    satisfied, dissatisfied = np.bincount(labels, minlength=2)
    return float(np.log(satisfied / dissatisfied))


def _check_both_classes(reviews: LabelledReviews, what: str) -> None:
    _check_classes(reviews.labels, reviews.dates, what)


def _check_classes(labels: NDArray[np.int64], days: NDArray[np.datetime64], what: str) -> None:
    dissatisfied = int(labels.sum())
    if 0 < dissatisfied < len(labels):
        return
    dates = f", {days[0]} to {days[-1]}" if len(days) else ""
    raise ReviewriskError(
        f"Training needs satisfied (4-5 stars) and dissatisfied (1-2 stars) reviews, but {what} has {len(labels)}"
        f" labelled rows{dates}, {dissatisfied} of them dissatisfied: move the split boundaries or ingest more reviews."
    )


def _percentages(shares: Sequence[float]) -> str:
    return "/".join(f"{share:.0%}" for share in shares)

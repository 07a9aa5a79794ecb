"""The labelled reviews of a root: read whole, read a month at a time, or the newest of them. No Spark."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.lake import tables
from jobs.storage import Root
from model.data.row_filter import chosen_rows, rows_with_key
from model.errors import ReviewriskError
from model.settings import RowSettings

# What decides where a labelled review belongs; its texts are read later, a month at a time.
_PLACE = ("product_category", "marketplace", "review_date", "review_month", "split")


@dataclass(frozen=True)
class StoredReviews:
    """The labelled reviews of a root by split, as `model.data.reviews.prepare` reads them: a month at a time, from one
    version of the table.

    `rows` says which reviews are taken. With `live_ends`, the last days of training and validation among the live
    reviews, those join the three splits by their dates. `places` has _PLACE of every row that is taken, its split being
    the one that it is used in.
    """

    root: Root
    version: int
    columns: tuple[str, ...]
    rows: RowSettings
    places: pa.Table
    live_ends: tuple[datetime.date, datetime.date] | None = None

    def portions(self, split: str) -> Iterator[pa.Table]:
        """The split's reviews, one table for each month, in order of time."""
        own = self.places.filter(pc.equal(self.places["split"], split))
        for month in sorted(pc.unique(own["review_month"]).to_pylist()):
            is_used = pc.field("split").isin([split, "live"] if self.live_ends else [split])
            where = _is_labelled() & is_used & (pc.field("review_month") == pa.scalar(month))
            reviews = tables.read_arrow(self.root, "reviews", self.columns, where, self.version)
            if self.rows.column_and_key:
                reviews = rows_with_key(reviews, *self.rows.column_and_key)
            reviews = with_live(reviews, self.live_ends) if self.live_ends else reviews
            yield reviews.filter(pc.equal(reviews["split"], split)).sort_by(
                [("review_date", "ascending"), ("review_id", "ascending")]
            )

    def __len__(self) -> int:
        return int(self.places.num_rows)


def stored_reviews(root: Root, columns: tuple[str, ...], splits: Sequence[str], rows: RowSettings) -> StoredReviews:
    """The labelled reviews of these splits that `rows` names; their texts are not read yet.

    Raises ReviewriskError where the root has none, or none of these.
    """
    version = tables.current_version(root, "reviews")
    places = chosen_rows(labelled(root, _PLACE, splits, version), rows)
    return StoredReviews(root, version, columns, rows, places)


def with_live(reviews: pa.Table, ends: tuple[datetime.date, datetime.date]) -> pa.Table:
    """The reviews with live ones assigned to train, validation and test by date: the first two end with these days."""
    train_end, validation_end = ends
    dates, splits = reviews["review_date"], reviews["split"]
    later = pc.if_else(pc.less_equal(dates, pa.scalar(validation_end)), "validation", "test")
    by_date = pc.if_else(pc.less_equal(dates, pa.scalar(train_end)), "train", later)
    place = reviews.schema.get_field_index("split")
    return reviews.set_column(place, "split", pc.if_else(pc.equal(splits, "live"), by_date, splits))


def labelled(root: Root, columns: Sequence[str], splits: Sequence[str] | None, version: int | None = None) -> pa.Table:
    """The reviews of 1, 2, 4 or 5 stars of these splits (None: of all).

    Raises ReviewriskError where the root has none.
    """
    where = _is_labelled() if splits is None else _is_labelled() & pc.field("split").isin(list(splits))
    reviews = tables.read_arrow(root, "reviews", columns, where, version)
    if reviews.num_rows == 0:
        of = f" in {', '.join(splits)}" if splits else ""
        raise ReviewriskError(f"{root.uri} has no labelled reviews{of}: run `reviewrisk ingest` into it first.")
    return reviews


def newest_labelled(root: Root, columns: Sequence[str], splits: Sequence[str], most: int) -> pa.Table:
    """At most so many of the newest labelled reviews of these splits, newest first; no other texts are read.

    Raises ReviewriskError where the root has none.
    """
    version = tables.current_version(root, "reviews")
    order = [("review_date", "descending"), ("review_id", "ascending")]
    newest = labelled(root, ("review_id", "review_date", "review_month"), splits, version).sort_by(order).slice(0, most)
    where = pc.is_in(pc.field("review_month"), value_set=pc.unique(newest["review_month"])) & pc.is_in(
        pc.field("review_id"), value_set=newest["review_id"].combine_chunks()
    )
    names = list(dict.fromkeys((*columns, "review_id", "review_date")))
    return tables.read_arrow(root, "reviews", names, where, version).sort_by(order).select(list(columns))


def _is_labelled() -> ds.Expression:
    return pc.is_in(pc.field("star_rating"), value_set=pa.array([1, 2, 4, 5], pa.int32()))

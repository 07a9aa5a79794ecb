"""The labelled reviews of a root."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake import tables
from jobs.storage import Root
from model.errors import ReviewriskError


def labelled(root: Root, columns: tuple[str, ...], splits: list[str] | None) -> pa.Table:
    """The reviews of 1, 2, 4 or 5 stars of these splits (None: of all).

    Raises ReviewriskError where the root has none.
    """
    where = pc.is_in(pc.field("star_rating"), value_set=pa.array([1, 2, 4, 5], pa.int32()))
    if splits is not None:
        where = where & pc.field("split").isin(splits)
    reviews = tables.read_arrow(root, "reviews", columns, where)
    if reviews.num_rows == 0:
        raise ReviewriskError(f"{root.uri} has no labelled reviews: run `reviewrisk ingest` into it first.")
    return reviews

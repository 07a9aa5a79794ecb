"""The reviews of one category or marketplace alone, as `model.rows.only` names them."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ReviewriskError
from model.settings import RowSettings, route_key

_VALUES_SHOWN = 5


def chosen_rows(reviews: pa.Table, rows: RowSettings) -> pa.Table:
    """The rows of the reviews that the settings name, in the table's order. Raises ReviewriskError, with the values
    there are, where no row is left.
    """
    if rows.column_and_key is None:
        return reviews
    column, key = rows.column_and_key
    values = reviews[column].unique()
    wanted = [value for value in values.to_pylist() if route_key(value or "") == key]
    chosen = reviews.filter(pc.is_in(reviews[column], value_set=pa.array(wanted, values.type)))
    if chosen.num_rows == 0:
        counts = Counter[str]()
        for value in pc.value_counts(reviews[column]).to_pylist():
            counts[route_key(value["values"] or "")] += value["counts"]
        known = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(_VALUES_SHOWN))
        raise ReviewriskError(
            f"Of {reviews.num_rows:,} reviews none has {rows.only} (model.rows.only, --only); the commonest values are"
            f" {known or 'none'}."
        )
    return chosen


def in_words(chosen: pa.Table, rows: RowSettings) -> str:
    """What an error about too few rows is to say of the choice of rows; nothing where all are taken."""
    if rows.only is None:
        return ""
    has_label = pc.not_equal(chosen["star_rating"], 3)
    counts = {
        split: pc.sum(pc.and_(has_label, pc.equal(chosen["split"], split))).as_py() or 0
        for split in ("train", "validation", "test")
    }
    parts = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    return f" Only reviews with {rows.only} count here (model.rows.only, --only); labelled ones are {parts}."

"""The reviews of one category or marketplace alone, as `model.rows.only` names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

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
    chosen = rows_with_key(reviews, *rows.column_and_key)
    if chosen.num_rows == 0:
        counts = Counter[str]()
        for value in pc.value_counts(reviews[rows.column_and_key[0]]).to_pylist():
            counts[route_key(value["values"] or "")] += value["counts"]
        known = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(_VALUES_SHOWN))
        raise ReviewriskError(
            f"Of {reviews.num_rows:,} reviews none has {rows.only} (model.rows.only, --only); the commonest values are"
            f" {known or 'none'}."
        )
    return chosen


def rows_with_key(reviews: pa.Table, column: str, key: str) -> pa.Table:
    """The rows whose value of the column has this key (see `model.settings.route_key`), in the table's order."""
    values = reviews[column].unique()
    matching = [value for value in values.to_pylist() if route_key(value or "") == key]
    return reviews.filter(pc.is_in(reviews[column], value_set=pa.array(matching, values.type)))


def in_words(labelled: Mapping[str, int], rows: RowSettings) -> str:
    """What an error about too few rows is to say of the choice of rows, with the labelled rows of each split; nothing
    where all are taken.
    """
    if rows.only is None:
        return ""
    parts = ", ".join(f"{count:,} in {split}" for split, count in labelled.items())
    return f" Only reviews with {rows.only} count here (model.rows.only, --only); labelled ones are {parts}."

"""Token ids cut into batches of like length, and padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_LENGTH_STEP = 16


def padded_length(tokens: int, max_length: int) -> int:
    """The length to which a text of so many tokens is padded: a multiple of 16, or the longest that the model reads."""
    return min(-(-tokens // _LENGTH_STEP) * _LENGTH_STEP, max_length)


def length_batches(
    rows: Sequence[tuple[list[int], int]], max_length: int, tokens_per_batch: int, few_shapes: bool = False
) -> Iterator[tuple[int, list[tuple[list[int], int]]]]:
    """(padded length, its rows) for rows of (token ids, position): together all rows, none over `tokens_per_batch`
    padded tokens unless a single row is.

    Rows are sorted by length and ids: their order of arrival does not matter. Every row is padded to its own
    `padded_length`. With `few_shapes`, every batch has a power of two of rows.
    """
    buckets: dict[int, list[tuple[list[int], int]]] = {}
    for row in sorted(rows, key=lambda row: (len(row[0]), row[0])):
        buckets.setdefault(padded_length(len(row[0]), max_length), []).append(row)
    for length, bucket in buckets.items():
        size = max(1, tokens_per_batch // length)
        start = 0
        while start < len(bucket):
            count = min(size, len(bucket) - start)
            if few_shapes:
                count = 1 << (count.bit_length() - 1)
            yield length, bucket[start : start + count]
            start += count


def pad_rows(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, both of shape (rows, length)."""
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask

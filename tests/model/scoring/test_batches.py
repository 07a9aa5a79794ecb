"""Batches of like length: no row lost, none over the budget, padding that is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from model.scoring.batches import length_batches, pad_rows, padded_length


def test_batches_hold_rows_of_like_length_within_the_budget() -> None:
    rows = [([7] * length, position) for position, length in enumerate([100, 3, 17, 16, 40, 16, 64, 5])]
    batches = list(length_batches(rows, max_length=72, tokens_per_batch=40))
    assert [(length, [position for _, position in batch]) for length, batch in batches] == [
        (16, [1, 7]),
        (16, [3, 5]),
        (32, [2]),
        (48, [4]),
        (64, [6]),
        (72, [0]),
    ]
    alike = [([7, position], position) for position in range(7)]
    assert [len(batch) for _, batch in length_batches(alike, 72, 5 * 16)] == [5, 2]
    assert [len(batch) for _, batch in length_batches(alike, 72, 5 * 16, few_shapes=True)] == [4, 2, 1]


@pytest.mark.parametrize(("tokens", "padded"), [(1, 16), (15, 16), (16, 16), (17, 32), (64, 64), (65, 72), (72, 72)])
def test_a_text_is_padded_to_a_multiple_of_16_but_not_beyond_what_the_model_reads(tokens: int, padded: int) -> None:
    assert padded_length(tokens, 72) == padded
    [(length, _)] = length_batches([([7] * tokens, 0)], 72, 4096)
    assert length == padded


def test_the_budget_may_be_met_exactly_and_a_greater_row_stands_alone() -> None:
    rows = [([7] * 16, position) for position in range(4)]
    assert [len(batch) for _, batch in length_batches(rows, 64, 32)] == [2, 2]
    assert [len(batch) for _, batch in length_batches(rows, 64, 31)] == [1, 1, 1, 1]
    assert [len(batch) for _, batch in length_batches(rows, 64, 15)] == [1, 1, 1, 1]


def test_padding_is_masked() -> None:
    ids, mask = pad_rows([[2, 9, 3], [2, 3]], 4, 5)
    assert ids.tolist() == [[2, 9, 3, 5], [2, 3, 5, 5]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)

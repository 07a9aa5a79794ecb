"""Tokenised reviews and the shape and order of their batches."""

from __future__ import annotations

import datetime
import random

import numpy as np
import pytest
import torch

from model.data.batches import (
    TokenisedReviews,
    batches,
    evaluation_order,
    tokenise,
    training_order,
)
from model.data.reviews import labelled_reviews
from tests.support.tiny_models import planted_review, reviews_table, tiny_tokenizer


def tokenised(lengths: list[int]) -> TokenisedReviews:
    """Row k has `lengths[k]` tokens, all k + 1, and label k % 2."""
    return TokenisedReviews(
        [np.full(length, number + 1, dtype=np.int32) for number, length in enumerate(lengths)],
        np.arange(len(lengths)) % 2,
    )


def test_tokenised_rows_are_cut_at_the_limit() -> None:
    long = planted_review("train", 0, datetime.date(2015, 1, 1), random.Random(0), review_body="chair " * 50)
    data = tokenise(labelled_reviews(reviews_table([long]), "train"), tiny_tokenizer(), 32)
    assert data.lengths.tolist() == [32]


def test_every_row_stands_in_one_batch_of_the_common_shape() -> None:
    data = tokenised([*np.random.default_rng(0).integers(2, 60, 103).tolist(), 64])
    made = list(
        batches(
            data, training_order(data.lengths, 8, seed=1, epoch=1), 8, pad_id=0, weights=np.ones(2, dtype=np.float32)
        )
    )
    assert {batch.input_ids.shape[0] for batch in made} == {8}
    assert {batch.input_ids.shape[1] % 16 for batch in made} == {0}
    assert sorted(position for batch in made for position in batch.positions) == list(range(104))
    for batch in made:
        longest = int(data.lengths[batch.positions].max())
        assert batch.input_ids.shape[1] - longest < 16
        for line, position in enumerate(batch.positions):
            assert batch.input_ids[line][batch.attention_mask[line] == 1].tolist() == data.token_ids[position].tolist()
            assert batch.labels[line] == data.labels[position]
    assert sum(float(batch.weights.sum()) for batch in made) == 104  # fillers weigh nothing


def test_no_batch_is_longer_than_the_longest_text() -> None:
    data = tokenised([50, 3])
    (batch,) = batches(data, evaluation_order(data.lengths, 2), 2, 0, np.ones(2, dtype=np.float32))
    assert batch.input_ids.shape == (2, 50)


def test_fillers_of_the_last_batch_attend_to_one_token_and_weigh_nothing() -> None:
    data = tokenised([4])
    (batch,) = batches(data, [np.array([0])], 3, pad_id=9, weights=np.array([2, 5], dtype=np.float32))
    assert batch.weights.tolist() == [2, 0, 0]
    assert batch.attention_mask.sum(dim=1).tolist() == [4, 1, 1]
    assert torch.equal(batch.input_ids[1:], torch.full((2, 4), 9))


def test_batches_group_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 257, 3200)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in training_order(lengths, 32, seed=1, epoch=1))
    assert padded < 1.06 * lengths.sum()


def test_order_differs_between_epochs_and_seeds_and_is_the_same_again() -> None:
    lengths = np.full(100, 7)
    orders = [
        np.concatenate(training_order(lengths, 10, seed, epoch)).tolist()
        for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))
    ]
    assert orders[0] == orders[1]
    assert orders[0] not in (orders[2], orders[3])


@pytest.mark.parametrize("rarer", [0, 1])
def test_oversampling_repeats_the_rarer_class_until_both_are_equal(rarer: int) -> None:
    labels = np.array(([1 - rarer] * 3 + [rarer]) * 24 + [1 - rarer] * 7)
    lengths = np.random.default_rng(0).integers(5, 60, len(labels))
    drawn = []
    for epoch in (1, 2, 2):
        positions = np.concatenate(training_order(lengths, 8, seed=3, epoch=epoch, oversampled=labels))
        times = np.bincount(positions, minlength=len(labels))
        assert set(times[labels != rarer]) == {1}
        assert set(times[labels == rarer]) == {3, 4}  # 24 rows stand for 79: seven once more than the others
        assert times[labels == rarer].sum() == (labels != rarer).sum() == 79
        drawn.append((positions.tolist(), times.tolist()))
    assert drawn[1] == drawn[2]
    assert drawn[0][1] != drawn[1][1]  # another draw in another epoch


def test_classes_of_one_size_are_not_repeated() -> None:
    labels = np.array([0, 1] * 20)
    positions = np.concatenate(training_order(np.full(40, 5), 8, seed=1, epoch=1, oversampled=labels))
    assert sorted(positions) == list(range(40))

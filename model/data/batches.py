"""From labelled reviews to tokenised ones, and from those to batches of texts of like length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from model.data.reviews import LabelledReviews
from model.network.backbone import encode

# On CPU in bf16 every new input shape costs a compiled kernel that stays in memory, so lengths are few and batches
# equally tall.
LENGTH_MULTIPLE = 16
_BATCHES_SORTED_TOGETHER = 50


@dataclass(frozen=True)
class TokenisedReviews:
    """Token ids per review, truncated, with labels; made once and read in every epoch."""

    token_ids: list[NDArray[np.int32]]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per review after truncation."""
        return np.array([len(ids) for ids in self.token_ids], dtype=np.int64)

    def fingerprint(self) -> str:
        """sha256 over all token ids and labels in order."""
        digest = hashlib.sha256(self.labels.tobytes() + self.lengths.tobytes())
        for ids in self.token_ids:
            digest.update(ids.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Batch:
    """One forward pass: input_ids and attention_mask (rows, length), labels and weights (rows,), and the rows'
    positions.

    A last batch is filled up to the common number of rows; the fillers have weight 0 and no position.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    weights: Tensor
    positions: NDArray[np.int64]


def tokenise(reviews: LabelledReviews, tokenizer: PreTrainedTokenizerFast, max_length: int) -> TokenisedReviews:
    """The reviews' texts as token ids, at most `max_length` each."""
    token_ids: list[NDArray[np.int32]] = []
    # bounds the tokenizer's own memory, which is far above that of the ids
    for start in range(0, len(reviews), 10_000):
        ids, _ = encode(tokenizer, reviews.texts[start : start + 10_000], max_length)
        token_ids += [np.array(row, dtype=np.int32) for row in ids]
    return TokenisedReviews(token_ids, reviews.labels)


def training_order(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int, oversampled: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Positions per batch: shuffled, then grouped by length within each 50 batches' rows, the batches shuffled again.

    Given the labels as `oversampled`, rows of the rarer class are repeated until both are equal (see
    `repeat_rarer_class`).
    """
    generator = np.random.default_rng([seed, epoch])
    rows = np.arange(len(lengths)) if oversampled is None else repeat_rarer_class(oversampled, generator)
    order = generator.permutation(rows)
    group = batch_size * _BATCHES_SORTED_TOGETHER
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), group):
        rows = order[start : start + group]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]


def repeat_rarer_class(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Every row's position, and further ones of the rarer class until both have as many.

    Each of its rows is repeated equally often, but for a remainder that is drawn without replacement.
    """
    is_rarer = labels == np.bincount(labels, minlength=2).argmin()
    rarer, others = np.flatnonzero(is_rarer), np.flatnonzero(~is_rarer)
    times, remainder = divmod(len(others), len(rarer))
    return np.concatenate([others, np.tile(rarer, times), generator.choice(rarer, size=remainder, replace=False)])


def evaluation_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Positions per batch, longest first."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def batches(
    data: TokenisedReviews, order: Sequence[NDArray[np.int64]], rows: int, pad_id: int, weights: NDArray[np.float32]
) -> Iterator[Batch]:
    """One Batch of `rows` rows per entry of the order, padded to its longest text rounded up to a multiple of 16.

    No batch is longer than the longest text of all, which the model is known to be able to read.
    """
    lengths = data.lengths
    for positions in order:
        length = min(-(-int(lengths[positions].max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE, int(lengths.max()))
        input_ids = np.full((rows, length), pad_id, dtype=np.int64)
        attention_mask = np.zeros((rows, length), dtype=np.int64)
        attention_mask[:, 0] = 1  # a filler row attends to one [PAD]: attention over nothing would be NaN
        for row, position in enumerate(positions):
            ids = data.token_ids[position]
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        labels = np.zeros(rows, dtype=np.int64)
        labels[: len(positions)] = data.labels[positions]
        row_weights = np.where(np.arange(rows) < len(positions), weights[labels], np.float32(0))
        yield Batch(
            input_ids=torch.from_numpy(input_ids),
            attention_mask=torch.from_numpy(attention_mask),
            labels=torch.from_numpy(labels),
            weights=torch.from_numpy(row_weights),
            positions=positions,
        )

"""The plain recipe's batches, which most tutorials train on: what the training benchmarks hold `reviewrisk train`
against.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.batches import Batch


def padded(batch: Batch, length: int, pad_id: int) -> Batch:
    """The batch with every row padded to `length` tokens."""
    missing = length - batch.input_ids.shape[1]

    def extended(values: Tensor, filler: int) -> Tensor:
        return torch.nn.functional.pad(values, (0, missing), value=filler)

    return replace(batch, input_ids=extended(batch.input_ids, pad_id), attention_mask=extended(batch.attention_mask, 0))


def random_order(rows: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Positions per batch in random order, as a plain data loader has them."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return [order[start : start + batch_size] for start in range(0, rows, batch_size)]

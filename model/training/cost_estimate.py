"""Memory and time of a training run, estimated from a few steps of it on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor

from model.data.batches import Batch, TokenisedReviews, batches, evaluation_order, training_order
from model.network.attention import training_attention
from model.settings import ModelSettings
from model.training.loop import TrainingRun, start_run, train_step, weighted_losses

TIMED_BATCHES = 5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training holds at once, without Python, PyTorch itself and the data.

    parameters: as they are stored. gradients: 4 per trained parameter. moments: AdamW's two, 8 per trained parameter.
    copies: 16 per trained parameter, for the last epoch's state and the best epoch's weights. activations: what the
    backward pass of the longest batch needs, counted while one runs forward. On a CPU, glibc's allocator comes on top:
    with MiniLM, 32 x 256 tokens, the process grew by 1.78 (bfloat16) and 1.94 times the sum without parameters
    (float32), and by 1.07 and 1.06 with MALLOC_MMAP_THRESHOLD_=1000000.
    """

    parameters: int
    gradients: int
    moments: int
    copies: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.moments + self.copies + self.activations


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step and of one batch without gradients, at a few padded lengths of a full batch."""

    lengths: tuple[int, ...]
    training: tuple[float, ...]
    evaluation: tuple[float, ...]
    device: str
    precision: str


def estimate_cost(
    adapted: PeftModel, training: TokenisedReviews, settings: ModelSettings, pad_id: int
) -> tuple[MemoryEstimate, StepTimes]:
    """What training these rows takes in memory, and the seconds of steps on batches spread from its shortest to its
    longest.

    The model's weights move: it is of no use afterwards.
    """
    run = start_run(adapted, training, settings, pad_id, lambda _: None)
    order = training_order(training.lengths, run.settings.batch_size, run.settings.seed, 1, run.oversampled)
    found = padded_lengths(training, order, run.settings.batch_size)
    ranked = np.argsort(found, kind="stable")
    spread = ranked[np.linspace(0, len(ranked) - 1, TIMED_BATCHES).round().astype(int)]
    chosen = {int(found[position]): order[position] for position in spread}
    made = {
        length: next(batches(training, [rows], run.settings.batch_size, pad_id, run.weights))
        for length, rows in chosen.items()
    }
    run.adapted.train()
    with training_attention(run.adapted, run.device):
        memory = _memory(run, made[max(made)])
        training_seconds = tuple(
            _second_time(lambda batch=batch: train_step(run, batch, 0, 1))  # type: ignore[misc]
            for batch in made.values()
        )
    times = StepTimes(
        lengths=tuple(made),
        training=training_seconds,
        evaluation=tuple(_evaluation_seconds(run, batch) for batch in made.values()),
        device=str(run.device),
        precision=str(run.precision).removeprefix("torch."),
    )
    return memory, times


def epoch_seconds(
    times: StepTimes, training: TokenisedReviews, validation: TokenisedReviews, settings: ModelSettings
) -> tuple[float, float]:
    """Seconds of one epoch over the training rows, and of the validation after it: each batch's between the measured
    lengths' times.
    """
    chosen = settings.training
    oversampled = training.labels if chosen.class_weighting == "oversampled" else None
    order = training_order(training.lengths, chosen.batch_size, chosen.seed, 1, oversampled)
    validation_order = evaluation_order(validation.lengths, chosen.batch_size)
    return (
        float(np.interp(padded_lengths(training, order, chosen.batch_size), times.lengths, times.training).sum()),
        float(
            np.interp(
                padded_lengths(validation, validation_order, chosen.batch_size), times.lengths, times.evaluation
            ).sum()
        ),
    )


def padded_lengths(data: TokenisedReviews, order: list[NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """The padded length of each batch of the order."""
    weights = np.ones(2, dtype=np.float32)
    return np.array([batch.input_ids.shape[1] for batch in batches(data, order, rows, 0, weights)], dtype=np.int64)


def saved_bytes(forward: Callable[[], Any], known: set[int]) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass, but for the storages whose addresses are
    `known`.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()  # held until the end, so that no address is used twice
    del result
    return sum(kept.values())


def _memory(run: TrainingRun, longest: Batch) -> MemoryEstimate:
    parameters = list(run.adapted.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    return MemoryEstimate(
        parameters=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        gradients=4 * trained,
        moments=8 * trained,
        copies=16 * trained,
        activations=saved_bytes(lambda: weighted_losses(run.logits(longest), longest), known),
    )


@torch.inference_mode()
def _evaluation_seconds(run: TrainingRun, batch: Batch) -> float:
    run.adapted.eval()
    seconds = _second_time(lambda: run.logits(batch).sum())
    run.adapted.train()
    return seconds


def _second_time(step: Callable[[], Tensor]) -> float:
    """Seconds of the step's second run: the first one of a shape also builds kernels. Reading the result waits for a
    GPU.
    """
    step().tolist()
    started = time.perf_counter()
    step().tolist()
    return time.perf_counter() - started

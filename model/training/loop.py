"""The fine-tuning run: class-weighted or oversampled cross-entropy with AdamW, early stopping, and going on after a
kill.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn

from model.data.batches import Batch, TokenisedReviews, batches, evaluation_order, training_order
from model.data.reviews import class_weights
from model.errors import ReviewriskError
from model.evaluation.metrics import Scored, metrics
from model.files import canonical_json
from model.network.attention import set_encoder_dropout, training_attention
from model.network.classifier import margin
from model.network.hardware import resolve_device, resolve_precision
from model.network.lora import lora_b_norm, trained_base_parameters
from model.progress import Report, step_progress
from model.settings import ModelSettings, TrainingSettings
from model.training.checkpoints import TrainingState, load_state, save_state
from model.training.defaults import resolve

MAX_GRADIENT_NORM = 1.0
_SECONDS_BETWEEN_LINES = 10.0
_POINTS_PER_EPOCH = 20


@dataclass(frozen=True)
class TrainingResult:
    """What the run came to; the model itself holds the best epoch's weights.

    One history entry per epoch: epoch, train_loss, train_losses and gradient_norms (means of 20 stretches of the epoch;
    norms over all trained parameters, before clipping), learning_rate (the epoch's greatest, of all but LoRA+'s B),
    validation_loss, f1 (at 0.5), auc, average_precision, ece, brier. `start` says what stood before the first step:
    lora_b_norm and trained_base_parameters (see `model.network.lora`); it is empty for a network without LoRA.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    device: str
    precision: str
    start: dict[str, Any]


@dataclass(frozen=True)
class TrainingRun:
    """One training run's fixed parts. `oversampled` has the training rows' labels where the rarer class is to be
    repeated.
    """

    adapted: nn.Module
    optimizer: torch.optim.AdamW
    settings: TrainingSettings
    bins: int
    device: torch.device
    precision: torch.dtype
    pad_id: int
    weights: NDArray[np.float32]
    oversampled: NDArray[np.int64] | None
    report: Report

    @property
    def trained(self) -> dict[str, Tensor]:
        return {name: parameter for name, parameter in self.adapted.named_parameters() if parameter.requires_grad}

    def logits(self, batch: Batch) -> Tensor:
        is_bfloat16 = self.precision == torch.bfloat16
        # autocast brings inputs to bfloat16 itself: peft's cast to float32 before it would only be undone
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=is_bfloat16),
            disable_input_dtype_casting(self.adapted, active=is_bfloat16),
        ):
            output: Tensor = self.adapted(
                input_ids=batch.input_ids.to(self.device, non_blocking=True),
                attention_mask=batch.attention_mask.to(self.device, non_blocking=True),
            )
        return output.float()


def train(
    adapted: nn.Module,
    training: TokenisedReviews,
    validation: TokenisedReviews,
    settings: ModelSettings,
    pad_id: int,
    checkpoints: Path,
    report: Report,
) -> TrainingResult:
    """Train in place what takes gradients (adapter and head) and leave the epoch with the best validation average
    precision in it.

    The state at each epoch's end goes under `checkpoints`, which must be this run's own (see `run_fingerprint`): a run
    that was killed goes on after the last finished epoch, with the same result. Raises ReviewriskError where the loss
    is not finite.
    """
    run = start_run(adapted, training, settings, pad_id, report)
    start = (
        {"lora_b_norm": lora_b_norm(adapted), "trained_base_parameters": trained_base_parameters(adapted)}
        if isinstance(adapted, PeftModel)
        else {}
    )
    state = load_state(checkpoints) or TrainingState()
    _restore(run, state)
    if state.epoch:
        report(f"Training goes on after epoch {state.epoch}, which an earlier run finished.")
    report(_TABLE_HEAD)
    for entry in state.history:
        report(_table_line(entry))
    while state.epoch < run.settings.epochs and state.epoch - state.best_epoch < run.settings.patience:
        _one_epoch(run, state, training, validation)
        save_state(checkpoints, state)
        report(_table_line(state.history[-1]))
    _copy_into(run.trained, state.best_weights)
    adapted.eval()
    report(f"Epoch {state.best_epoch} has the best validation average precision; its weights are kept.")
    return TrainingResult(
        state.history, state.best_epoch, str(run.device), str(run.precision).removeprefix("torch."), start
    )


def run_fingerprint(
    settings: ModelSettings, backbone_revision: str, training: TokenisedReviews, validation: TokenisedReviews
) -> str:
    """16 hexadecimal digits that differ wherever another result could follow: the name of the run's
    checkpoint folder.
    """
    described = settings.model_dump(mode="json", exclude={"training": {"threads"}})
    device = resolve_device(settings.training.device)
    hardware = [device.type, str(resolve_precision(settings.training.precision, device))]
    identity = [
        described,
        backbone_revision,
        training.fingerprint(),
        validation.fingerprint(),
        hardware,
        torch.__version__,
    ]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


def learning_rate(step: int, steps: int, warmup_share: float, peak: float) -> float:
    """The rate of a step, the first being 0: rises linearly over the warm-up's steps, then falls to 0 at `steps`."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (steps - step) / max(1, steps - warmup)


def weighted_losses(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """(sum of weight · cross-entropy, sum of weights); their quotient is the class-weighted mean."""
    weights = batch.weights.to(logits.device)
    losses = F.cross_entropy(logits, batch.labels.to(logits.device), reduction="none")
    return (losses * weights).sum(), weights.sum()


def start_run(
    adapted: nn.Module, training: TokenisedReviews, settings: ModelSettings, pad_id: int, report: Report
) -> TrainingRun:
    """The run's fixed parts, with the model on its device and a new optimizer. Settings of None are resolved by the
    number of rows.
    """
    resolved, _ = resolve(settings, len(training))
    device = resolve_device(settings.training.device)
    adapted.to(device)
    set_encoder_dropout(adapted, settings.training.encoder_dropout)
    weighting = settings.training.class_weighting
    return TrainingRun(
        adapted=adapted,
        optimizer=torch.optim.AdamW(_parameter_groups(adapted, resolved), lr=settings.training.learning_rate),
        settings=resolved.training,
        bins=settings.calibration.bins,
        device=device,
        precision=resolve_precision(settings.training.precision, device),
        pad_id=pad_id,
        weights=class_weights(training.labels, weighting),
        oversampled=training.labels if weighting == "oversampled" else None,
        report=report,
    )


def _parameter_groups(adapted: nn.Module, settings: ModelSettings) -> list[dict[str, Any]]:
    """AdamW's groups: LoRA+ gives B a greater peak rate; biases and DoRA's magnitudes do not decay."""
    rate, decay = settings.training.learning_rate, settings.training.weight_decay
    trained = [
        (".lora_B." in name, parameter) for name, parameter in adapted.named_parameters() if parameter.requires_grad
    ]
    groups = [
        {
            "params": [parameter for is_b, parameter in trained if is_b],
            "peak": rate * settings.lora.learning_rate_ratio,
            "weight_decay": decay,
        },
        {
            "params": [parameter for is_b, parameter in trained if not is_b and parameter.ndim > 1],
            "peak": rate,
            "weight_decay": decay,
        },
        {
            "params": [parameter for is_b, parameter in trained if not is_b and parameter.ndim <= 1],
            "peak": rate,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def _one_epoch(
    run: TrainingRun, state: TrainingState, training: TokenisedReviews, validation: TokenisedReviews
) -> None:
    """Train for one epoch, measure, and move the state on."""
    epoch = state.epoch + 1
    entry = {"epoch": epoch, **_train_epoch(run, training, epoch), **_validate(run, validation)}
    state.epoch, state.history = epoch, [*state.history, entry]
    state.weights = {name: tensor.detach().clone() for name, tensor in run.trained.items()}
    state.moments = _moments(run)
    best = state.history[state.best_epoch - 1]["average_precision"] if state.best_epoch else -math.inf
    if entry["average_precision"] > best:
        state.best_epoch, state.best_weights = epoch, state.weights


def _train_epoch(run: TrainingRun, training: TokenisedReviews, epoch: int) -> dict[str, Any]:
    """The epoch's class-weighted mean loss and peak learning rate; the losses and gradient norms of its stretches."""
    torch.manual_seed(int(np.random.SeedSequence([run.settings.seed, epoch]).generate_state(1)[0]))
    order = training_order(training.lengths, run.settings.batch_size, run.settings.seed, epoch, run.oversampled)
    steps, stretch_ends = len(order), _stretch_ends(len(order))
    first, all_steps = (epoch - 1) * steps, run.settings.epochs * steps
    sums, stretches, rows, started = torch.zeros(4, device=run.device), [], 0, time.monotonic()
    run.adapted.train()
    title = f"epoch {epoch}/{run.settings.epochs}"
    with (
        step_progress(title, steps, run.report, _SECONDS_BETWEEN_LINES) as step_done,
        training_attention(run.adapted, run.device),
    ):
        for step, batch in enumerate(
            batches(training, order, run.settings.batch_size, run.pad_id, run.weights), start=1
        ):
            sums += train_step(run, batch, first + step - 1, all_steps)
            if step in stretch_ends:
                stretches.append(_finite(sums, epoch, step))
                sums = torch.zeros(4, device=run.device)
            rows += len(batch.positions)
            step_done(step, _pace(step / steps, rows, time.monotonic() - started, stretches))
    losses, weights, norms, counts = np.array(stretches).T
    return {
        "train_loss": float(losses.sum() / weights.sum()),
        "train_losses": (losses / weights).tolist(),
        "gradient_norms": (norms / counts).tolist(),
        "learning_rate": max(
            learning_rate(step, all_steps, run.settings.warmup_share, run.settings.learning_rate)
            for step in range(first, first + steps)
        ),
    }


def train_step(run: TrainingRun, batch: Batch, step: int, steps: int) -> Tensor:
    """One update; (sum of weighted losses, sum of weights, norm of the gradient before clipping, 1), on the device."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, run.settings.warmup_share, group["peak"])
    loss, weight = weighted_losses(run.logits(batch), batch)
    (loss / weight).backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(list(run.trained.values()), MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return torch.stack([loss.detach(), weight, norm.detach(), torch.ones_like(weight)])


@torch.inference_mode()
def _validate(run: TrainingRun, validation: TokenisedReviews) -> dict[str, Any]:
    """validation_loss and the figures of the raw probability, threshold 0.5."""
    run.adapted.eval()
    order = evaluation_order(validation.lengths, run.settings.batch_size)
    margins, sums = np.empty(len(validation)), torch.zeros(2, device=run.device)
    for batch in batches(validation, order, run.settings.batch_size, run.pad_id, run.weights):
        logits = run.logits(batch)
        sums += torch.stack(weighted_losses(logits, batch))
        margins[batch.positions] = margin(logits).double()[: len(batch.positions)].cpu().numpy()
    loss, weight = _finite(sums, None, None)
    probability = torch.sigmoid(torch.from_numpy(margins)).numpy()
    figures = metrics(Scored(margins, probability, validation.labels, 0.5), run.bins)
    return {
        "validation_loss": loss / weight,
        **{name: figures[name] for name in ("f1", "auc", "average_precision", "ece", "brier")},
    }


def _finite(sums: Tensor, epoch: int | None, step: int | None) -> list[float]:
    """The sums, the first of which is the loss's; raises ReviewriskError where that is not finite."""
    values: list[float] = sums.tolist()
    if not math.isfinite(values[0]):
        where = f"in epoch {epoch}, step {step}" if epoch else "on validation"
        raise ReviewriskError(
            f"The loss is {values[0]} {where}: lower model.training.learning_rate, or set model.training.precision to"
            " float32."
        )
    return values


def _stretch_ends(steps: int) -> set[int]:
    points = min(_POINTS_PER_EPOCH, steps)
    return {math.ceil(steps * (point + 1) / points) for point in range(points)}


def _moments(run: TrainingRun) -> dict[str, Tensor]:
    state = run.optimizer.state
    return {
        f"{which}/{name}": value.detach().clone()
        for name, tensor in run.trained.items()
        for which, value in state[tensor].items()
    }


def _restore(run: TrainingRun, state: TrainingState) -> None:
    """Put a saved state's weights and moments into the model and the optimizer; a new state changes nothing."""
    if not state.epoch:
        return
    _copy_into(run.trained, state.weights)
    for name, tensor in run.trained.items():
        if f"step/{name}" not in state.moments:
            continue  # a weight that no gradient reaches
        moments = {which: state.moments[f"{which}/{name}"] for which in ("step", "exp_avg", "exp_avg_sq")}
        # AdamW keeps its step counter on the CPU.
        run.optimizer.state[tensor] = {
            which: value if which == "step" else value.to(run.device) for which, value in moments.items()
        }


def _copy_into(parameters: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


_COLUMNS = ("train_loss", "validation_loss", "f1", "auc", "average_precision", "ece", "brier")
_TABLE_HEAD = "epoch " + " ".join(f"{name:>{max(7, len(name))}}" for name in _COLUMNS)


def _table_line(entry: dict[str, Any]) -> str:
    return f"{entry['epoch']:>5} " + " ".join(f"{entry[name]:>{max(7, len(name))}.4f}" for name in _COLUMNS)


def _pace(share: float, rows: int, seconds: float, stretches: list[list[float]]) -> str:
    """Rows per second, the latest stretch's loss and the time left in the epoch, of which `share` is done."""
    loss = f", loss {stretches[-1][0] / stretches[-1][1]:.4f}" if stretches else ""
    return f"{rows / seconds:.0f} rows/s{loss}, {seconds / share * (1 - share) / 60:.1f} min left"

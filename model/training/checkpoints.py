"""The state of a training run at the end of an epoch, on disk as data, so that a killed run goes on from there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from model.files import put_folder, read_json, temporary_folder_beside, write_json


@dataclass
class TrainingState:
    """What a run needs to go on after `epoch` finished epochs.

    `weights` and `best_weights` hold the trained parameters by name; `moments` AdamW's step, exp_avg and exp_avg_sq as
    "<which>/<name>". No random state is needed: each epoch seeds itself from the run's seed and its own number.
    """

    epoch: int = 0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)


_TENSORS = ("weights", "best_weights", "moments")


def save_state(folder: Path, state: TrainingState) -> None:
    """Write folder/epoch-NNNN whole or not at all, then drop the older ones."""
    target = folder / f"epoch-{state.epoch:04d}"
    with temporary_folder_beside(target) as written:
        for name in _TENSORS:
            tensors = getattr(state, name)
            save_file(
                {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
                written / f"{name}.safetensors",
            )
        write_json(
            written / "state.json", {"epoch": state.epoch, "best_epoch": state.best_epoch, "history": state.history}
        )
        put_folder(written, target)
    for older in _saved(folder)[:-1]:
        shutil.rmtree(older)


def load_state(folder: Path) -> TrainingState | None:
    """The latest saved state, on the CPU; None where there is none."""
    saved = _saved(folder)
    if not saved:
        return None
    fields: dict[str, Any] = read_json(saved[-1] / "state.json")
    fields.update((name, load_file(saved[-1] / f"{name}.safetensors")) for name in _TENSORS)
    return TrainingState(**fields)


def drop_states(folder: Path) -> None:
    """Remove the run's folder with all its states."""
    shutil.rmtree(folder, ignore_errors=True)


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*")) if folder.is_dir() else []

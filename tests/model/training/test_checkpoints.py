"""The saved state of a run comes back as it was, and half a state is none."""

from __future__ import annotations

from pathlib import Path

import torch

from model.training.checkpoints import TrainingState, drop_states, load_state, save_state


def state(epoch: int) -> TrainingState:
    """A state whose tensors tell its epoch."""
    return TrainingState(
        epoch=epoch,
        best_epoch=1,
        history=[{"epoch": number, "auc": 0.1 * number} for number in range(1, epoch + 1)],
        weights={"head.weight": torch.full((2, 3), float(epoch))},
        best_weights={"head.weight": torch.ones(2, 3)},
        moments={"step/head.weight": torch.tensor(7.0 * epoch), "exp_avg/head.weight": torch.full((2, 3), 0.5)},
    )


def test_no_state_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "run") is None


def test_latest_state_comes_back_and_older_ones_go(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_state(tmp_path, state(epoch))
    found = load_state(tmp_path)
    assert found is not None
    assert (found.epoch, found.best_epoch, found.history) == (2, 1, state(2).history)
    for name in ("weights", "best_weights", "moments"):
        saved, expected = getattr(found, name), getattr(state(2), name)
        assert set(saved) == set(expected)
        assert all(torch.equal(saved[key], expected[key]) for key in expected)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002"]


def test_half_written_state_is_not_seen(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    half = tmp_path / ".epoch-0002.abcdef"  # what a kill in the middle of writing leaves
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    found = load_state(tmp_path)
    assert found is not None
    assert found.epoch == 1


def test_states_are_plain_data(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}
    drop_states(tmp_path)
    assert not tmp_path.exists()

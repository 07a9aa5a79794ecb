"""Both pictures are PNG files with something drawn on them, also for one epoch and for empty bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from model.evaluation.calibration_error import reliability_table
from model.evaluation.plots import loss_curves, reliability_diagram


def drawn(path: Path) -> float:
    """Share of the picture's pixels that are not white."""
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 400
    return float((pixels[..., :3].min(axis=-1) < 0.95).mean())


@pytest.mark.parametrize("epochs", [1, 3])
def test_loss_curves(epochs: int, tmp_path: Path) -> None:
    history: list[dict[str, Any]] = [
        {
            "epoch": epoch,
            "train_loss": 0.6 / epoch,
            "train_losses": [0.7 / epoch, 0.5 / epoch],
            "validation_loss": 0.65 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    loss_curves(history, best_epoch=epochs, path=tmp_path / "curves.png")
    assert drawn(tmp_path / "curves.png") > 0.01


def test_reliability_diagram_with_empty_bins(tmp_path: Path) -> None:
    probability, label = np.array([0.05, 0.1, 0.9, 0.95]), np.array([0, 1, 1, 1])
    tables = {
        "network": reliability_table(probability, label, 10),
        "baseline": reliability_table(probability / 2, label, 10),
    }
    reliability_diagram(tables, tmp_path / "reliability.png")
    assert drawn(tmp_path / "reliability.png") > 0.01

"""The two pictures of a bundle: loss curves and reliability diagram, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Told apart by people who do not see red and green apart (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def loss_curves(history: list[dict[str, Any]], best_epoch: int, path: Path) -> None:
    """Draw training loss (20 points an epoch) and validation loss over the epochs; the kept epoch is marked."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        points = [
            (entry["epoch"] - 1 + (number + 1) / len(entry["train_losses"]), loss)
            for entry in history
            for number, loss in enumerate(entry["train_losses"])
        ]
        axes.plot(
            *zip(*points, strict=True), color=_COLOURS[0], linewidth=1, alpha=0.6, label="training, within the epoch"
        )
        epochs = [entry["epoch"] for entry in history]
        axes.plot(
            epochs, [entry["train_loss"] for entry in history], "o-", color=_COLOURS[0], label="training, whole epoch"
        )
        axes.plot(
            epochs,
            [entry["validation_loss"] for entry in history],
            "s-",
            color=_COLOURS[1],
            label="validation (early-stopping slice)",
        )
        axes.axvline(best_epoch, color="0.4", linestyle=":", label="kept: best average precision")
        axes.set(
            xlabel="epoch",
            ylabel="class-weighted cross-entropy (nats)",
            title="Loss",
            xlim=(0, len(history) + 0.1),
            ylim=(0, None),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        _save(figure, path)


def reliability_diagram(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw observed share against mean probability per bin, one line per named table, above the bins'
    rows (log scale).
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.5, 7), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot((0, 1), (0, 1), color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated")
        for number, (name, table) in enumerate(tables.items()):
            filled = [row for row in table if row["rows"]]
            colour, marker = _COLOURS[number % len(_COLOURS)], "os^"[number % 3]
            upper.plot(
                [row["mean_probability"] for row in filled],
                [row["observed_share"] for row in filled],
                marker=marker,
                color=colour,
                label=name,
            )
            width = 1 / len(table) / (len(tables) + 0.5)
            lower.bar(
                [row["lower"] + (number + 0.25) * width for row in table],
                [row["rows"] for row in table],
                width,
                align="edge",
                color=colour,
            )
        upper.set(
            ylabel="observed share of dissatisfied", title="Reliability on the test split", xlim=(0, 1), ylim=(0, 1)
        )
        upper.legend(loc="upper left")
        lower.set(xlabel="predicted probability of dissatisfied", ylabel="rows", yscale="log", ylim=(0.8, None))
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the PNG without pyplot, whose state is shared by the whole process."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)

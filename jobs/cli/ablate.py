"""`reviewrisk ablate`: which LoRA setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobs.cli.options import conf_option, head, load, minutes_option, output_option
from model.experiments.ablate.grid import Sweep

_DEFAULT = Sweep()
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _several(option: str, name: str, default: tuple[Any, ...], kind: Any = str, help: str | None = None) -> _Decorator:
    """An option that may be given several times."""
    return click.option(option, name, multiple=True, type=kind, default=default, show_default=True, help=help)


def _count(option: str, default: int, least: int, help: str) -> _Decorator:
    """An option that is a whole number."""
    return click.option(option, default=default, show_default=True, type=click.IntRange(min=least), help=help)


@click.command()
@conf_option
@_several("--rank", "ranks", _DEFAULT.ranks, click.IntRange(min=1))
@_several("--targets", "targets", _DEFAULT.targets, help="What model.lora.targets takes; several joined by commas.")
@_several("--layers", "layers", _DEFAULT.layers, help="all, upper or lower (half), or numbers: 0,1,2.")
@_several("--learning-rate", "learning_rates", _DEFAULT.learning_rates, click.FloatRange(min=0, min_open=True))
@_count("--rows", _DEFAULT.rows, least=100, help="Training rows of the last round.")
@_count("--validation-rows", _DEFAULT.validation_rows, least=100, help="Maximum number of validation rows per round.")
@_count("--rounds", _DEFAULT.rounds, least=1, help="Rounds of successive halving, each judged on rows of its own.")
@_count(
    "--eta",
    _DEFAULT.eta,
    least=2,
    help="After each round the best 1/ETA of the settings go on, with ETA times the rows.",
)
@minutes_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Cuts the rows and seeds the trainings; default: the config's model.training.seed.",
)
@output_option
def ablate(
    conf: Path | None,
    ranks: tuple[int, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    learning_rates: tuple[float, ...],
    rows: int,
    validation_rows: int,
    rounds: int,
    eta: int,
    minutes: float | None,
    seed: int | None,
    output: Path | None,
) -> None:
    """Find LoRA settings: every combination of rank, targets, layers and learning rate (each may be given several
    times) on few rows, the best of them on more. Judged on rows of the training and validation splits; test is not
    read. Finished trainings are kept.
    """
    from jobs.training.ablate import run_ablate

    config = load(conf)
    head("ablate")
    chosen = config.model.training.seed if seed is None else seed
    sweep = Sweep(ranks, targets, layers, learning_rates, rows, validation_rows, rounds, eta, chosen)
    for line in run_ablate(config, sweep, minutes, output, click.echo):
        click.echo(line)

"""`reviewrisk ablate`: which LoRA setting."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.common import conf_option, head, load
from model.experiments.ablate.grid import Sweep

_DEFAULT = Sweep()
_RATE = click.FloatRange(min=0, min_open=True)


@click.command()
@conf_option
@click.option("--rank", "ranks", multiple=True, type=click.IntRange(min=1), default=_DEFAULT.ranks, show_default=True)
@click.option(
    "--targets",
    multiple=True,
    default=_DEFAULT.targets,
    show_default=True,
    help="What model.lora.targets takes; several joined by commas.",
)
@click.option(
    "--layers",
    multiple=True,
    default=_DEFAULT.layers,
    show_default=True,
    help="all, upper or lower (half), or numbers: 0,1,2.",
)
@click.option(
    "--learning-rate", "learning_rates", multiple=True, type=_RATE, default=_DEFAULT.learning_rates, show_default=True
)
@click.option(
    "--rows",
    default=_DEFAULT.rows,
    show_default=True,
    type=click.IntRange(min=100),
    help="Training rows of the last rung.",
)
@click.option(
    "--validation-rows",
    default=_DEFAULT.validation_rows,
    show_default=True,
    type=click.IntRange(min=100),
    help="Most rows a rung judges on.",
)
@click.option(
    "--rungs",
    default=_DEFAULT.rungs,
    show_default=True,
    type=click.IntRange(min=1),
    help="Rounds, each on rows of its own.",
)
@click.option(
    "--eta",
    default=_DEFAULT.eta,
    show_default=True,
    type=click.IntRange(min=2),
    help="1 in so many goes on, to so many times the rows.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    help="Begin no new training after so many minutes; the same command goes on later.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Cuts the rows and seeds the trainings; default: the config's model.training.seed.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file to write the tables to.")
def ablate(
    conf: Path | None,
    ranks: tuple[int, ...],
    targets: tuple[str, ...],
    layers: tuple[str, ...],
    learning_rates: tuple[float, ...],
    rows: int,
    validation_rows: int,
    rungs: int,
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
    sweep = Sweep(ranks, targets, layers, learning_rates, rows, validation_rows, rungs, eta, chosen)
    for line in run_ablate(config, sweep, minutes, output, click.echo):
        click.echo(line)

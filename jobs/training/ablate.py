"""Find LoRA settings by successive halving on the training and validation splits. Test is not read. Reads through
pyarrow: no Spark.
"""

from __future__ import annotations

from pathlib import Path

from jobs.config import Config
from jobs.lake.labelled import labelled
from jobs.training.machine import machine_lines
from model.errors import needs_extra
from model.experiments.ablate.grid import Sweep
from model.progress import Report, progress


def run_ablate(config: Config, sweep: Sweep, minutes: float | None, output: Path | None, log: Report) -> list[str]:
    """Lines of Markdown: every round, the winner with its corrected figure, the frontier and lines for the config; also
    written to `output`.

    Cells are kept under <scratch>/ablate: a run that was stopped, or that `minutes` ended, goes on there when the same
    command is given again.
    """
    with needs_extra("train", "Sweeping"):
        from model.data.reviews import COLUMNS
        from model.experiments.ablate.ablation import run_ablation
        from model.experiments.ablate.page import page
        from model.experiments.cells import PACKAGES
        from model.experiments.pages import write_page
    with progress("reading the reviews", log):
        reviews = labelled(config.root, COLUMNS, ["train", "validation"])
    ablation = run_ablation(reviews, config.model, sweep, config.scratch / "ablate", minutes, log)
    with progress("resampling for the corrected figure and the gains", log):
        lines = page(ablation, command_line(sweep), machine_lines(config.model.training, PACKAGES))
    if output is not None:
        write_page(lines, output)
        log(f"The sweep is in {output}")
    return lines


def command_line(sweep: Sweep) -> str:
    """The command that makes the same sweep of the same config, every option spelled out."""
    several = {
        "--rank": sweep.ranks,
        "--targets": sweep.targets,
        "--layers": sweep.layers,
        "--learning-rate": sweep.learning_rates,
    }
    single = {
        "--rows": sweep.rows,
        "--validation-rows": sweep.validation_rows,
        "--rounds": sweep.rounds,
        "--eta": sweep.eta,
        "--seed": sweep.seed,
    }
    options = [f"{name} {value}" for name, values in several.items() for value in values]
    return " ".join(["reviewrisk ablate", *options, *(f"{name} {value}" for name, value in single.items())])

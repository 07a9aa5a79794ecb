"""Hold methods against each other on the corpus and say what is worth its cost. Reads through pyarrow: no Spark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.config import Config
from jobs.lake.labelled import labelled
from jobs.storage import parse_root
from jobs.training.machine import machine_lines
from model.errors import ReviewriskError, needs_extra
from model.progress import Report, progress


@dataclass(frozen=True)
class Wanted:
    """What is to be compared.

    `rows`: training rows of each method. `shifted`: a second root, all of whose labelled reviews are a population that
    no method was trained or fitted on. `test_rows`: the most test rows, and the most of the shifted population.
    `curve_rows`: a greatest size of the learning curve beyond `rows`. `methods`: those of
    `model.experiments.methods.METHODS` to run beside TF-IDF, which all are held against; empty: all. `pairs`: a file of
    minimal pairs. `parallel` cells run beside each other, and none is begun after `minutes`.
    """

    rows: int
    shifted: str | None = None
    test_rows: int | None = None
    curve_rows: int | None = None
    methods: tuple[str, ...] = ()
    pairs: Path | None = None
    minutes: float | None = None
    parallel: int = 1

    def command_line(self) -> str:
        """The command that makes the same comparison of the same config; files and folders by their last name alone."""
        options = [f"--shifted-root {Path(self.shifted).name}" if self.shifted else "", f"--rows {self.rows}"]
        options += [
            f"--test-rows {self.test_rows}" if self.test_rows else "",
            f"--curve-rows {self.curve_rows}" if self.curve_rows else "",
        ]
        options += [
            *(f"--method {name}" for name in self.methods),
            f"--parallel {self.parallel}" if self.parallel > 1 else "",
        ]
        options.append(f"--pairs {self.pairs.name}" if self.pairs else "")
        return " ".join(["reviewrisk compare", *filter(None, options)])


def run_compare(config: Config, wanted: Wanted, output: Path | None, report: Report) -> list[str]:
    """Lines of Markdown that compare the methods, and TF-IDF with LoRA at smaller sizes; also written to `output`.

    Cells are kept under <scratch>/compare: a run that was stopped, or whose minutes ended, goes on there when the same
    command is given again. Raises ReviewriskError for a method there is not, a curve that cannot be, and, once the page
    is written (or reported, without `output`), where a cell crashed.
    """
    with needs_extra("train", "Comparing"):
        from model.data.reviews import COLUMNS
        from model.experiments.compare.comparison import PACKAGES, planned_cells, prepare_inputs, run_cells
        from model.experiments.compare.page import page
        from model.experiments.compare.rule import Comparison
        from model.experiments.methods import check_methods
    check_methods(wanted.methods)
    if wanted.curve_rows is not None and (
        wanted.curve_rows <= wanted.rows or (wanted.methods and "lora_all" not in wanted.methods)
    ):
        raise ReviewriskError(
            f"--curve-rows {wanted.curve_rows} must be more than --rows {wanted.rows}, and lora_all one of the methods:"
            " the curve is of it."
        )
    with progress("reading the reviews", report):
        reviews = labelled(config.root, COLUMNS, ["train", "validation", "test"])
        other = labelled(parse_root(wanted.shifted, config.storage), COLUMNS, None) if wanted.shifted else None
    with progress("preparing the rows", report):
        inputs = prepare_inputs(reviews, other, wanted.pairs, config.model, wanted.test_rows)
    cells = planned_cells(wanted.rows, inputs, wanted.curve_rows, wanted.methods)
    outcomes = run_cells(
        cells, inputs, config.model, config.scratch / "compare", wanted.minutes, report, wanted.parallel
    )
    with progress("resampling for paired gains", report):
        made = Comparison(outcomes, inputs, config.model, min(wanted.rows, len(inputs.data.train)))
        lines = page(made, wanted.command_line(), machine_lines(config.model.training, PACKAGES))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        report(f"The comparison is in {output}")
    missing = [outcome for outcome in outcomes if outcome.figures is None]
    for outcome in missing:
        report(f"  {outcome.cell}: {outcome.not_run}")
    if failed := sum(outcome.failed for outcome in missing):
        for line in lines if output is None else []:
            report(line)
        raise ReviewriskError(
            f"{failed} of {len(outcomes)} cells failed (above); the same command tries them again and keeps the others."
        )
    return lines

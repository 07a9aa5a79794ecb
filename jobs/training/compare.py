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
class ComparisonOptions:
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


def run_compare(config: Config, options: ComparisonOptions, output: Path | None, log: Report) -> list[str]:
    """Lines of Markdown that compare the methods, and TF-IDF with LoRA at smaller sizes; also written to `output`.

    Cells are kept under <scratch>/compare: a run that was stopped, or whose minutes ended, goes on there when the same
    command is given again. Raises ReviewriskError for a method there is not, a curve that cannot be, and, once the page
    is written (or reported, without `output`), where a cell crashed.
    """
    with needs_extra("train", "Comparing"):
        from model.data.reviews import COLUMNS
        from model.experiments.cells import PACKAGES
        from model.experiments.compare.comparison import planned_cells, run_comparison
        from model.experiments.compare.inputs import prepare_inputs
        from model.experiments.compare.page import page
        from model.experiments.compare.rule import Comparison
        from model.experiments.methods import check_methods
        from model.experiments.pages import write_page
    check_methods(options.methods)
    has_no_curve = bool(options.methods) and "lora_all" not in options.methods
    if options.curve_rows is not None and (options.curve_rows <= options.rows or has_no_curve):
        raise ReviewriskError(
            f"--curve-rows {options.curve_rows} needs a value above --rows {options.rows}, and lora_all among the"
            " methods that --method names, because the curve is drawn for lora_all."
        )
    with progress("reading the reviews", log):
        reviews = labelled(config.root, COLUMNS, ["train", "validation", "test"])
        other = labelled(parse_root(options.shifted, config.storage), COLUMNS, None) if options.shifted else None
    with progress("preparing the rows", log):
        inputs = prepare_inputs(reviews, other, options.pairs, config.model, options.test_rows)
    cells = planned_cells(options.rows, inputs, options.curve_rows, options.methods)
    outcomes = run_comparison(
        cells, inputs, config.model, config.scratch / "compare", options.minutes, log, options.parallel
    )
    with progress("resampling for paired gains", log):
        made = Comparison(outcomes, inputs, config.model, min(options.rows, len(inputs.data.train)))
        lines = page(made, options.command_line(), machine_lines(config.model.training, PACKAGES))
    if output is not None:
        write_page(lines, output)
        log(f"The comparison is in {output}")
    for outcome in outcomes:
        if outcome.figures is None:
            log(f"  {outcome.cell}: {outcome.in_words}")
    if failed := sum(outcome.has_failed for outcome in outcomes):
        for line in lines if output is None else []:
            log(line)
        raise ReviewriskError(
            f"{failed} of {len(outcomes)} cells failed (above); the same command tries them again and keeps the others."
        )
    return lines

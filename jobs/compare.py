"""Hold methods against each other on the corpus and say what is worth its cost. Reads through pyarrow: no Spark."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs import tables
from jobs.config import Config
from jobs.machine import machine_lines
from jobs.storage import Root, parse_root
from model.errors import ReviewriskError, install_extra
from model.progress import Report, progress


def run_compare(
    config: Config,
    shifted: str | None,
    rows: int,
    test_rows: int | None,
    minutes: float | None,
    output: Path | None,
    pairs: Path | None,
    report: Report,
    curve_rows: int | None = None,
    parallel: int = 1,
) -> list[str]:
    """Lines of Markdown that compare every method at `rows` training rows, and TF-IDF with LoRA at smaller sizes; also written to `output`.

    `shifted` is a second root, all of whose labelled reviews are a population that no method was trained or fitted on. `test_rows` is the
    most test rows, and the most of the shifted population. Cells are kept under <scratch>/compare: a run that was stopped, or that
    `minutes` ended, goes on there when the same command is given again. `curve_rows` is a greatest size of the learning curve beyond
    `rows`; `parallel` cells run beside each other. Raises ReviewriskError, once the page is written, where a cell crashed.
    """
    try:
        from model.comparison import PACKAGES, planned_cells, prepare_inputs, run_cells
        from model.comparison_page import page
        from model.comparison_rule import Comparison
        from model.data import COLUMNS
    except ImportError as error:
        raise ReviewriskError(f"Comparing needs the packages of training ({error.name} is missing): {install_extra('train')}.") from None
    with progress("reading the reviews", report):
        reviews = _labelled(config.root, COLUMNS, ["train", "validation", "test"])
        other = _labelled(parse_root(shifted, config.storage), COLUMNS, None) if shifted else None
    with progress("preparing the rows", report):
        inputs = prepare_inputs(reviews, other, pairs, config.model, test_rows)
    outcomes = run_cells(planned_cells(rows, inputs, curve_rows), inputs, config.model, config.scratch / "compare", minutes, report, parallel)
    with progress("resampling for paired gains", report):
        made = Comparison(outcomes, inputs, config.model, min(rows, len(inputs.data.train)))
        lines = page(made, _command(shifted, rows, test_rows, pairs, curve_rows), machine_lines(config.model.training, PACKAGES))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
        report(f"The comparison is in {output}")
    missing = [outcome for outcome in outcomes if outcome.figures is None]
    for outcome in missing:
        report(f"  {outcome.cell}: {outcome.not_run}")
    if failed := sum(outcome.failed for outcome in missing):
        raise ReviewriskError(f"{failed} of {len(outcomes)} cells failed (above); the same command tries them again and keeps the others.")
    return lines


def _labelled(root: Root, columns: tuple[str, ...], splits: list[str] | None) -> pa.Table:
    where = pc.is_in(pc.field("star_rating"), value_set=pa.array([1, 2, 4, 5], pa.int32()))
    if splits is not None:
        where = where & pc.field("split").isin(splits)
    reviews = tables.read_arrow(root, "reviews", columns, where)
    if reviews.num_rows == 0:
        raise ReviewriskError(f"{root.uri} has no labelled reviews to compare on: run `reviewrisk ingest` into it first.")
    return reviews


def _command(shifted: str | None, rows: int, test_rows: int | None, pairs: Path | None, curve_rows: int | None) -> str:
    options = [f"--shifted-root {Path(shifted).name}" if shifted else "", f"--rows {rows}"]
    options += [f"--test-rows {test_rows}" if test_rows else "", f"--curve-rows {curve_rows}" if curve_rows else "", f"--pairs {pairs.name}" if pairs else ""]
    return " ".join(["reviewrisk compare", *filter(None, options)])

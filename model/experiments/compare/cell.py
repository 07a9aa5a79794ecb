"""One cell of a comparison, in the process that `comparison.run_cells` starts for it: fit, calibrate, judge, and write
its file.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from model.data.reviews import PreparedData
from model.errors import ReviewriskError
from model.evaluation.baseline import TFIDF_WEIGHTING
from model.evaluation.calibrators import Calibrator, FloatArray
from model.evaluation.metrics import intervals
from model.evaluation.minimal_pairs import load_pairs
from model.evaluation.views import READ_AS, Logits, calibrate
from model.experiments.compare.comparison import (
    CELL_VERSION,
    PACKAGES,
    POPULATIONS,
    Cell,
    Inputs,
    read_inputs,
    rows_for,
    scored_rows,
)
from model.experiments.compare.fits import Score, Task, fit_method
from model.experiments.methods import METHODS, Method
from model.files import read_json, write_json
from model.network.hardware import cpu_threads
from model.progress import Report, progress
from model.settings import ModelSettings
from model.text.compose import HeadlineMode, model_text
from model.training.checkpoints import drop_states
from model.training.defaults import resolve

Figures = dict[str, Any]
CANNOT_RUN = 2


def run_cell(cell: Cell, inputs: Inputs, settings: ModelSettings, work: Path, report: Report) -> Figures:
    """The cell's figures as JSON holds them. `work` is this cell's own folder, for the checkpoints of its training.

    parameters: trained ones, `adapter` (in the encoder) and `head`. training: epochs, rows per second (early stopping's
    validation in the time; None where an earlier run did all), growth of the process's peak memory in MiB, and how it
    was trained. populations: of each of comparison.POPULATIONS the rows, positives and every figure with its interval,
    at the calibrator and threshold that validation chose. logits: what they follow from, and the log-odds of the
    minimal pairs. cost: seconds per 1,000 test rows of the plain classifier, of the network as trained (`unmerged`) and
    merged. forgetting: on test rows and on the shifted population, see `model.experiments.forgetting`. seconds: of the
    whole cell. None for what a method lacks.
    """
    method, started = METHODS[cell.method], time.monotonic()
    with cpu_threads(settings.training.threads) as threads:
        data = rows_for(cell, inputs.data, settings.training.seed)
        own, _ = resolve(method.settings(settings), len(data.train))
        fitted = fit_method(Task(method, data, inputs.shifted, own, work, report))
        with progress("scoring", report):
            logits = cell_logits(fitted.score, data, inputs, settings.text.headline)
        with progress("resampling for intervals", report):
            judged = _judged(method, logits, data, inputs, own)
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    described = {
        "version": CELL_VERSION,
        "method": cell.method,
        "rows": len(data.train),
        "dissatisfied": int(data.train.labels.sum()),
    }
    return {
        **described,
        "run_on": {"threads": threads, **versions},
        **fitted.figures(),
        **judged,
        "seconds": time.monotonic() - started,
    }


def main(spec_path: Path) -> int:
    """Run the cell that the file describes and write its figures, whole or not at all, to the place it names.

    CANNOT_RUN where it cannot be run here; refused.json beside the file then says why.
    """
    _end_with_parent()
    spec, work = read_json(spec_path), spec_path.parent
    settings, place = ModelSettings.model_validate(spec["settings"]), Path(spec["place"])
    try:
        with progress("reading the rows", _say):
            inputs = read_inputs(Path(spec["inputs"]))
        figures = run_cell(Cell(**spec["cell"]), inputs, settings, work / "training", _say)
    except ReviewriskError as error:
        write_json(work / "refused.json", str(error))
        return CANNOT_RUN
    unfinished = work / "figures.json"
    write_json(unfinished, figures)
    unfinished.replace(place)
    drop_states(work)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _end_with_parent() -> None:
    """Standard input is a pipe that the parent holds and never writes to: at its end the parent is gone, and so is this
    process's use.
    """

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock this thread would still hold when the process ends
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cell_logits(score: Score, data: PreparedData, inputs: Inputs, mode: HeadlineMode) -> dict[str, FloatArray]:
    """The log-odds of every row that a cell is judged on: validation's two later parts, test read as it is and as in
    READ_AS, the shifted population, and the minimal pairs' texts (a and b of each pair, one after the other). `score`
    gets each distinct text once: most reviews state no rating, and are the same text when ratings are masked.
    """
    texts = {"fitting": data.calibration.texts, "choosing": data.selection.texts, "as_is": data.test.texts}
    for view, read_as in READ_AS.items():
        texts[view] = [
            model_text(headline, body, read_as)
            for headline, body in zip(data.test.headlines, data.test.bodies, strict=True)
        ]
    if inputs.shifted is not None:
        texts["shifted"] = inputs.shifted.texts
    if inputs.pairs is not None:
        texts["pairs"] = [
            model_text(side.headline, side.body, mode) for pair in load_pairs(inputs.pairs) for side in (pair.a, pair.b)
        ]
    places = {text: place for place, text in enumerate(dict.fromkeys(chain.from_iterable(texts.values())))}
    logits = np.asarray(score(list(places)), dtype=np.float64)
    return {name: logits[[places[text] for text in each]] for name, each in texts.items()}


def _judged(
    method: Method, logits: dict[str, FloatArray], data: PreparedData, inputs: Inputs, settings: ModelSettings
) -> Figures:
    """calibrator, threshold, and per population its figures; the logits."""
    calibrator, threshold = _calibrated(method, logits, data, settings)
    found = {}
    for name in POPULATIONS if inputs.shifted is not None else POPULATIONS[:-1]:
        scored, groups = scored_rows(name, logits, calibrator, threshold, inputs)
        figures = intervals(
            scored, settings.calibration.bins, groups, settings.thresholds.confidence, settings.training.seed
        )
        found[name] = {"rows": len(scored.label), "positives": int(scored.label.sum()), "figures": figures}
    kept = {name: values.tolist() for name, values in logits.items()}
    return {"calibrator": calibrator.to_json(), "threshold": threshold, "populations": found, "logits": kept}


def _calibrated(
    method: Method, logits: dict[str, FloatArray], data: PreparedData, settings: ModelSettings
) -> tuple[Calibrator, float]:
    if method.kind == "majority":  # one probability for all, which is the majority's decision at 0.5
        return Calibrator(), 0.5
    calibrated = calibrate(
        Logits(logits["fitting"], logits["choosing"], logits["as_is"], {}),
        data,
        settings,
        None if method.kind == "network" else TFIDF_WEIGHTING,
    )
    assert calibrated.default.threshold is not None
    return calibrated.choice.calibrator, calibrated.default.threshold


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

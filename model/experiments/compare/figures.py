"""The figures of one cell of a comparison: fit the method, calibrate it, and measure it on every population."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np

from model.data.reviews import PreparedData
from model.evaluation.baseline import TFIDF_WEIGHTING
from model.evaluation.calibrators import Calibrator, FloatArray
from model.evaluation.metrics import intervals
from model.evaluation.views import READ_AS, Logits, calibrate
from model.experiments.cells import PACKAGES, Figures
from model.experiments.compare.fits import Score, Task, fit_method
from model.experiments.compare.inputs import Cell, Inputs, rows_for, scored_rows
from model.experiments.methods import METHODS, Method
from model.network.hardware import cpu_threads
from model.progress import Report, progress
from model.settings import ModelSettings
from model.text.compose import HeadlineMode, model_text
from model.training.defaults import resolve


def run_cell(cell: Cell, inputs: Inputs, settings: ModelSettings, work: Path, log: Report) -> Figures:
    """The cell's figures as JSON holds them. `work` is this cell's own folder, for the checkpoints of its training.

    parameters: trained ones, `adapter` (in the encoder) and `head`. training: epochs, rows per second (early stopping's
    validation in the time; None where an earlier run did all), growth of the process's peak memory in MiB, and how it
    was trained. populations: of each of inputs.POPULATIONS the rows, positives and every figure with its interval, at
    the calibrator and threshold that validation chose. logits: what they follow from, and the log-odds of the minimal
    pairs. cost: seconds per 1,000 test rows of the plain classifier, of the network as trained (`unmerged`) and merged.
    forgetting: on test rows and on the shifted population, see `model.experiments.forgetting`. seconds: of the whole
    cell. None for what a method lacks.
    """
    method, started = METHODS[cell.method], time.monotonic()
    with cpu_threads(settings.training.threads) as threads:
        data = rows_for(cell, inputs.data, settings.training.seed)
        own, _ = resolve(method.settings(settings), len(data.train))
        fitted = fit_method(Task(method, data, inputs.shifted, own, work, log))
        with progress("scoring", log):
            logits = cell_logits(fitted.score, data, inputs, settings.text.headline)
        with progress("resampling for intervals", log):
            measured = _measured(method, logits, data, inputs, own)
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "method": cell.method,
        "rows": len(data.train),
        "dissatisfied": int(data.train.labels.sum()),
        "run_on": {"threads": threads, **versions},
        **fitted.figures(),
        **measured,
        "seconds": time.monotonic() - started,
    }


def cell_logits(score: Score, data: PreparedData, inputs: Inputs, mode: HeadlineMode) -> dict[str, FloatArray]:
    """The log-odds of every row that a cell is judged on: validation's calibration slice, test read as it is and as in
    READ_AS, the shifted population, and the minimal pairs' texts (a and b of each pair, one after the other). `score`
    gets each distinct text once: most reviews state no rating, and are the same text when ratings are masked.
    """
    texts = {"calibration": data.calibration.texts, "as_is": data.test.texts}
    for view, read_as in READ_AS.items():
        texts[view] = [
            model_text(headline, body, read_as)
            for headline, body in zip(data.test.headlines, data.test.bodies, strict=True)
        ]
    if inputs.shifted is not None:
        texts["shifted"] = inputs.shifted.texts
    if inputs.pairs is not None:
        texts["pairs"] = [
            model_text(side.headline, side.body, mode) for pair in inputs.pairs for side in (pair.a, pair.b)
        ]
    places = {text: place for place, text in enumerate(dict.fromkeys(chain.from_iterable(texts.values())))}
    logits = np.asarray(score(list(places)), dtype=np.float64)
    return {name: logits[[places[text] for text in each]] for name, each in texts.items()}


def _measured(
    method: Method, logits: dict[str, FloatArray], data: PreparedData, inputs: Inputs, settings: ModelSettings
) -> Figures:
    """calibrator, threshold, and per population its figures; the logits."""
    calibrator, threshold = _calibrator_and_threshold(method, logits, data, settings)
    populations = {}
    for name in inputs.populations:
        scored, groups = scored_rows(name, logits, calibrator, threshold, inputs)
        figures = intervals(
            scored, settings.calibration.bins, groups, settings.thresholds.confidence, settings.training.seed
        )
        populations[name] = {"rows": len(scored.label), "positives": int(scored.label.sum()), "figures": figures}
    kept = {name: values.tolist() for name, values in logits.items()}
    return {"calibrator": calibrator.to_json(), "threshold": threshold, "populations": populations, "logits": kept}


def _calibrator_and_threshold(
    method: Method, logits: dict[str, FloatArray], data: PreparedData, settings: ModelSettings
) -> tuple[Calibrator, float]:
    if method.kind == "majority":  # one probability for all, which is the majority's decision at 0.5
        return Calibrator(), 0.5
    validation = Logits(logits["calibration"], logits["as_is"], {})
    calibrated = calibrate(validation, data, settings, None if method.kind == "network" else TFIDF_WEIGHTING)
    assert calibrated.default.threshold is not None
    return calibrated.choice.calibrator, calibrated.default.threshold

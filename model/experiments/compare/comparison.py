"""Methods held side by side on the same rows: each method at each training size is a cell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from model.experiments.cells import Outcome, Runner, arithmetic, deadline_after, fingerprint, identifying_settings
from model.experiments.compare.figures import run_cell
from model.experiments.compare.inputs import Cell, Inputs
from model.experiments.methods import METHODS, Method
from model.network.backbone import load_backbone
from model.network.hardware import cpu_threads
from model.progress import Report, progress
from model.settings import ModelSettings

CELL_VERSION = 6  # one more whenever the code would give a cell other figures
_CURVE_METHODS = ("tfidf", "lora_all")
_CURVE_HALVINGS = 4
_FEWEST_ROWS = 100


def planned_cells(rows: int, inputs: Inputs, curve_rows: int | None = None, chosen: Collection[str] = ()) -> list[Cell]:
    """All cells in the order in which they are run: the methods at `rows` training rows, the learning curve after the
    last one that it is of.

    The curve has `curve_rows`, or as many as there are, and `rows` halved up to four times. With `chosen`, of all
    methods only these and TF-IDF, and the curve only where LoRA on all linear layers is one of them.
    """
    available = len(inputs.data.train)
    rows = min(rows, available)
    sizes = [
        *([min(curve_rows, available)] if curve_rows else []),
        *(rows // 2**times for times in range(_CURVE_HALVINGS, 0, -1)),
    ]
    names = [name for name in METHODS if not chosen or name in chosen or name == _CURVE_METHODS[0]]
    if not set(_CURVE_METHODS) <= set(names):
        return [Cell(name, rows) for name in names]
    curve = [Cell(method, size) for method in _CURVE_METHODS for size in sizes if size >= _FEWEST_ROWS]
    first = 1 + max(map(names.index, _CURVE_METHODS))
    methods = [Cell(name, rows) for name in names]
    return list(dict.fromkeys([*methods[:first], *curve, *methods[first:]]))


def run_comparison(
    cells: Sequence[Cell],
    inputs: Inputs,
    settings: ModelSettings,
    folder: Path,
    minutes: float | None,
    log: Report,
    parallel: int = 1,
) -> list[Outcome[Cell]]:
    """The outcome of each cell, kept in the folder; see `model.experiments.cells` and `figures.run_cell`.

    After `minutes` no further cell is begun. Cells beside each other share the cores, unless settings.training.threads
    says how many threads each has.
    """
    deadline = deadline_after(minutes)
    with progress("loading the backbone", log):
        revision = load_backbone(settings.backbone).revision
    with cpu_threads(None) as cores:
        threads = settings.training.threads or max(1, cores // parallel)
    own = settings.model_copy(update={"training": settings.training.model_copy(update={"threads": threads})})
    identify = partial(cell_fingerprint, inputs_checksum=inputs.checksum, settings=settings, revision=revision)
    return Runner(run_cell, (inputs, own), identify, folder, log, deadline, parallel).outcomes(cells)


def cell_fingerprint(cell: Cell, inputs_checksum: str, settings: ModelSettings, revision: str) -> str:
    """16 hexadecimal digits that differ wherever the cell, the inputs, the settings that matter to its method or the
    packages do; for a method with an encoder also where its `revision`, the kind of device or the arithmetic does.
    """
    method = METHODS[cell.method]
    identity: list[Any] = [CELL_VERSION, asdict(cell), inputs_checksum, _settings_that_matter(method, settings)]
    if method.kind in ("network", "probe"):
        identity += [revision, *arithmetic(settings.training)]
    return fingerprint("compare", *identity)


def _settings_that_matter(method: Method, settings: ModelSettings) -> dict[str, Any]:
    described = identifying_settings(method.settings(settings))
    if method.kind == "network":
        return described if method.lora else {name: value for name, value in described.items() if name != "lora"}
    sections = ("text", "calibration", "thresholds", *(("backbone",) if method.kind == "probe" else ()))
    return {
        **{name: described[name] for name in sections},
        "seed": settings.training.seed,
        "class_weighting": settings.training.class_weighting,
    }

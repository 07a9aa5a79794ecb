"""Methods held side by side on the same rows: each method at each training size is a cell, run in a process of its own
and kept as a file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.data.folds import check_both_classes, drawn_by_product, nested_draw
from model.data.overlap import Overlap
from model.data.reviews import LabelledReviews, PreparedData, labelled_reviews, prepare
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator, FloatArray
from model.evaluation.metrics import Groups, Scored
from model.evaluation.views import VIEWS, rows_of
from model.experiments.methods import METHODS, Method
from model.files import (
    canonical_json,
    file_sha256,
    import_path_of_children,
    read_json,
    temporary_folder_beside,
    write_json,
)
from model.network.backbone import load_backbone
from model.network.hardware import resolve_device, resolve_precision, usable_cores
from model.network.quantisation import check_quantization
from model.progress import Report, progress
from model.settings import ModelSettings

CELL_VERSION = 4  # one more whenever the code would give a cell other figures
PACKAGES = ("torch", "transformers", "peft", "scikit-learn")
_PARTS = ("train", "early_stopping", "calibration", "selection", "test")
_SHIFTED = "shifted"
POPULATIONS = ("validation", *VIEWS, _SHIFTED)
_PAIRS_FILE = "pairs.jsonl"
_CURVE_METHODS = ("tfidf", "lora_all")
_CURVE_HALVINGS = 4
_FEWEST_ROWS = 100


@dataclass(frozen=True)
class Inputs:
    """What all cells read: the splits, the rows of another population, and a file of minimal pairs; `checksum` is of
    all of it.
    """

    data: PreparedData
    shifted: LabelledReviews | None
    pairs: Path | None

    @property
    def checksum(self) -> str:
        """16 hexadecimal digits of the sha256 over all that `write_inputs` writes: every column of every part, what is
        said of them, and the pairs.
        """
        digest = hashlib.sha256()
        for part in _parts(self):
            for name in part.column_names:
                digest.update(canonical_json([name, part[name].cast(pa.string()).to_pylist()]).encode())
        pairs = file_sha256(self.pairs) if self.pairs else None
        digest.update(canonical_json([self.data.rows, self.data.data_version, pairs]).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """One method trained on so many rows."""

    method: str
    rows: int

    def __str__(self) -> str:
        return f"{METHODS[self.method].title}, {self.rows:,} rows"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell: its figures (see `comparison_cell.run_cell`), or why there are none; `failed` where that is
    no reason but a crash.
    """

    cell: Cell
    figures: dict[str, Any] | None
    not_run: str | None = None
    failed: bool = False


def prepare_inputs(
    reviews: pa.Table, shifted: pa.Table | None, pairs: Path | None, settings: ModelSettings, test_rows: int | None
) -> Inputs:
    """The splits with at most `test_rows` test rows, and as many of the labelled rows of `shifted` whatever their
    split.

    Both are drawn by product with the seed, so that intervals that draw whole products stay right. Raises
    ReviewriskError as `prepare` does, and where a class is missing from what was drawn.
    """
    data = prepare(
        reviews, settings.model_copy(update={"training": settings.training.model_copy(update={"max_rows": None})})
    )
    chosen = drawn_by_product(data.test, test_rows, settings.training.seed)
    overlap = Overlap(data.test_overlap.exact[chosen], data.test_overlap.near[chosen])
    data = replace(
        data, test=data.test.take(chosen), test_overlap=overlap, test_product_is_new=data.test_product_is_new[chosen]
    )
    check_both_classes(data.test, "the drawn test rows")
    other = None
    if shifted is not None:
        other = labelled_reviews(shifted, None, settings.text.headline)
        other = other.take(drawn_by_product(other, test_rows, settings.training.seed))
        check_both_classes(other, "the shifted population")
    return Inputs(data, other, pairs)


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


def scored_rows(
    population: str, logits: Mapping[str, FloatArray], calibrator: Calibrator, threshold: float, inputs: Inputs
) -> tuple[Scored, Groups]:
    """The rows of one of POPULATIONS as a cell scores and decides them, and each row's product. `logits` are those that
    a cell keeps.

    validation: the rows that calibrator and threshold were fitted on; the views of `model.evaluation.views`: test rows;
    shifted: all of those.
    """
    data = inputs.data
    parts = [data.test]
    if population == "validation":
        parts, logit = [data.calibration, data.selection], np.concatenate([logits["fitting"], logits["choosing"]])
    elif population == _SHIFTED:
        assert inputs.shifted is not None
        parts, logit = [inputs.shifted], logits[_SHIFTED]
    else:
        logit = logits.get(population, logits["as_is"])
    labels, products = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts]) for name in ("labels", "product_ids")
    )
    scored = Scored(logit, calibrator.apply(logit), labels, threshold)
    if population not in VIEWS:
        return scored, products
    rows = rows_of(population, data)
    return scored.take(rows), products[rows]


def rows_for(cell: Cell, data: PreparedData, seed: int) -> PreparedData:
    """The data with the cell's training rows alone, drawn with the seed: a smaller draw is a part of
    every larger one.
    """
    return replace(data, train=nested_draw(data.train, cell.rows, seed))


def fingerprint(cell: Cell, inputs_checksum: str, settings: ModelSettings, revision: str) -> str:
    """16 hexadecimal digits that differ wherever the cell, the inputs, the settings that matter to its method or the
    versions of PACKAGES do.

    For a method with an encoder also where its `revision`, the kind of device or the arithmetic does. How many threads
    there are, and which processor or GPU it is, is left out: rounding may move last digits with them, and durations do.
    """
    method, packages = METHODS[cell.method], {name: version(name) for name in PACKAGES}
    identity: list[Any] = [
        CELL_VERSION,
        asdict(cell),
        inputs_checksum,
        _settings_that_matter(method, settings),
        packages,
    ]
    if method.kind in ("network", "probe"):
        device = resolve_device(settings.training.device)
        identity += [revision, device.type, str(resolve_precision(settings.training.precision, device))]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


def run_cells(
    cells: Sequence[Cell],
    inputs: Inputs,
    settings: ModelSettings,
    folder: Path,
    minutes: float | None,
    report: Report,
    parallel: int = 1,
) -> list[Outcome]:
    """The outcome of each cell. Finished ones are read from folder/<fingerprint>.json, the others run, `parallel` at a
    time.

    After `minutes` no further cell is started. A cell that is killed leaves nothing but its training's checkpoints,
    from which it goes on. Cells beside each other share the cores, unless settings.training.threads says how many
    threads each has.
    """
    started = time.monotonic()
    with progress("loading the backbone", report):
        revision = load_backbone(settings.backbone).revision
    checksum = inputs.checksum
    source = write_inputs(inputs, folder / "inputs" / checksum)
    threads = settings.training.threads or max(1, usable_cores() // parallel)
    own = settings.model_copy(update={"training": settings.training.model_copy(update={"threads": threads})})

    def outcome(number: int, cell: Cell) -> Outcome:
        place = folder / f"{fingerprint(cell, checksum, settings, revision)}.json"
        label = f"cell {number} of {len(cells)}: {cell}"
        if place.exists():
            report(f"{label}: done before")
            return Outcome(cell, read_json(place))
        if minutes is not None and time.monotonic() - started >= 60 * minutes:
            report(f"{label}: not started, the {minutes:g} minutes are over")
            return Outcome(cell, None, f"not run, as {minutes:g} minutes were over; the same command goes on here")
        report(label)
        mark = f"  [{number}] " if parallel > 1 else "  "
        return _run(cell, source, own, place, lambda line: report(f"{mark}{line}"))

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(outcome, range(1, len(cells) + 1), cells))


def write_inputs(inputs: Inputs, folder: Path) -> Path:
    """The folder, with the rows as Parquet and what is said of them as JSON, for the cells' processes; left alone where
    it stands.
    """
    if folder.exists():
        return folder
    with temporary_folder_beside(folder) as written:
        pq.write_table(pa.concat_tables(_parts(inputs)), written / "rows.parquet")
        if inputs.pairs is not None:
            shutil.copyfile(inputs.pairs, written / _PAIRS_FILE)
        write_json(written / "inputs.json", {"rows": inputs.data.rows, "data_version": inputs.data.data_version})
        written.rename(folder)
    return folder


def read_inputs(folder: Path) -> Inputs:
    """The inputs that `write_inputs` wrote."""
    table, described = pq.read_table(folder / "rows.parquet"), read_json(folder / "inputs.json")
    parts = {name: table.filter(pc.equal(table["part"], name)) for name in (*_PARTS, _SHIFTED)}
    reviews = {name: _reviews(part) for name, part in parts.items()}
    exact, near, new = (
        parts["test"][name].to_numpy(zero_copy_only=False).astype(np.bool_)
        for name in ("exact", "near", "product_is_new")
    )
    data = PreparedData(
        **{name: reviews[name] for name in _PARTS},
        test_overlap=Overlap(exact, near),
        test_product_is_new=new,
        rows=described["rows"],
        data_version=described["data_version"],
    )
    shifted = reviews[_SHIFTED] if len(reviews[_SHIFTED]) else None
    pairs = folder / _PAIRS_FILE
    return Inputs(data, shifted, pairs if pairs.exists() else None)


def _settings_that_matter(method: Method, settings: ModelSettings) -> dict[str, Any]:
    described = method.settings(settings).model_dump(mode="json", exclude={"training": {"threads", "max_rows"}})
    if method.kind == "network":
        return described if method.lora else {name: value for name, value in described.items() if name != "lora"}
    sections = ("text", "calibration", "thresholds", *(("backbone",) if method.kind == "probe" else ()))
    return {
        **{name: described[name] for name in sections},
        "seed": settings.training.seed,
        "class_weighting": settings.training.class_weighting,
    }


def _run(cell: Cell, source: Path, settings: ModelSettings, place: Path, report: Report) -> Outcome:
    """Run one cell in its own process, so that its memory is its own and a crash takes nothing else with it."""
    try:
        check_quantization(METHODS[cell.method].settings(settings).lora.quantization)
    except ReviewriskError as error:
        report(f"not run: {error}")
        return Outcome(cell, None, "not run: needs CUDA and bitsandbytes")
    work = place.parent / "work" / place.stem
    work.mkdir(parents=True, exist_ok=True)
    (work / "refused.json").unlink(missing_ok=True)
    spec = {
        "cell": asdict(cell),
        "inputs": str(source),
        "settings": settings.model_dump(mode="json"),
        "place": str(place),
    }
    write_json(work / "spec.json", spec)
    code = _child(work, report)
    if place.exists():
        return Outcome(cell, read_json(place))
    if (work / "refused.json").exists():
        outcome = Outcome(cell, None, f"not run: {read_json(work / 'refused.json')}")
    else:
        outcome = Outcome(cell, None, f"failed with exit status {code}; {work / 'errors.log'} says more", failed=True)
    report(str(outcome.not_run))
    return outcome


def _child(work: Path, report: Report) -> int:
    """The exit status of the cell's process, whose lines are passed on."""
    command = [sys.executable, "-m", "model.experiments.compare.cell", str(work / "spec.json")]
    # The process ends when its standard input does: it must not outlive us.
    with (
        (work / "errors.log").open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": import_path_of_children()},
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            report(line.rstrip())
        return process.wait()


def _parts(inputs: Inputs) -> list[pa.Table]:
    """Every part of the rows as `write_inputs` writes it."""
    parts = [_part(name, getattr(inputs.data, name), inputs.data if name == "test" else None) for name in _PARTS]
    return parts if inputs.shifted is None else [*parts, _part(_SHIFTED, inputs.shifted, None)]


def _part(name: str, reviews: LabelledReviews, data: PreparedData | None) -> pa.Table:
    rows = len(reviews)
    unknown = pa.nulls(rows, pa.bool_())
    return pa.table(
        {
            "part": pa.array([name] * rows, pa.string()),
            "review_id": pa.array(reviews.review_ids, pa.string()),
            "product_id": pa.array(reviews.product_ids, pa.string()),
            "category": pa.array(reviews.categories, pa.string()),
            "is_verified": pa.array(reviews.is_verified, pa.bool_()),
            "headline": pa.array(reviews.headlines, pa.string()),
            "body": pa.array(reviews.bodies, pa.string()),
            "text": pa.array(reviews.texts, pa.string()),
            "label": pa.array(reviews.labels, pa.int64()),
            "review_date": pa.array(reviews.dates, pa.date32()),
            "exact": pa.array(data.test_overlap.exact, pa.bool_()) if data else unknown,
            "near": pa.array(data.test_overlap.near, pa.bool_()) if data else unknown,
            "product_is_new": pa.array(data.test_product_is_new, pa.bool_()) if data else unknown,
        }
    )


def _reviews(part: pa.Table) -> LabelledReviews:
    return LabelledReviews(
        review_ids=part["review_id"].to_pylist(),
        product_ids=part["product_id"].to_pylist(),
        categories=part["category"].to_pylist(),
        is_verified=part["is_verified"].to_numpy(zero_copy_only=False).astype(np.bool_),
        headlines=part["headline"].to_pylist(),
        bodies=part["body"].to_pylist(),
        texts=part["text"].to_pylist(),
        labels=part["label"].to_numpy(),
        dates=part["review_date"].to_numpy().astype("datetime64[D]"),
    )

"""A sweep over LoRA settings by successive halving: many settings on few rows, the better ones on more, each rung
judged on rows of its own.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from model.data.batches import TokenisedReviews, tokenise
from model.data.folds import Folds, cut_folds, development_reviews, nested_draw
from model.data.reviews import LabelledReviews, data_version, prior_shift
from model.data.row_filter import chosen_rows
from model.errors import ReviewriskError
from model.evaluation.calibrators import FloatArray, sigmoid
from model.evaluation.metrics import Scored, metrics
from model.experiments.ablate.grid import Candidate, Standing, Sweep, candidates, reference, rung_rows, survivors
from model.experiments.compare.comparison import PACKAGES
from model.experiments.methods import read_texts
from model.files import canonical_json, read_json, write_json
from model.network.backbone import Backbone, load_backbone, make_classifier
from model.network.classifier import ReviewClassifier
from model.network.hardware import cpu_threads, resolve_device, resolve_precision
from model.network.lora import attach_adapter, count_parameters
from model.progress import Report, progress
from model.settings import ModelSettings
from model.training.checkpoints import drop_states, load_state
from model.training.defaults import resolve
from model.training.loop import train

CELL_VERSION = 1  # one more whenever the code would give a cell other figures
FIGURES = ("average_precision", "auc", "log_loss")
# as the messages of PyTorch, CUDA and cuBLAS have it
_LACK_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")
Found = dict[str, Any]


class SettingError(ReviewriskError):
    """A setting that cannot be attached, or whose training diverges: tried again, it would fail again."""


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate in a rung: see `run_cell`, or `failed`, the reason why there are no figures."""

    candidate: Candidate
    found: Found

    @property
    def failed(self) -> str | None:
        return self.found.get("failed")

    @property
    def standing(self) -> Standing:
        return Standing(self.candidate, self.found["figures"]["average_precision"], self.found["parameters"]["adapter"])

    @property
    def logit(self) -> NDArray[np.float64]:
        """The log-odds of each of the rung's validation rows."""
        return np.asarray(self.found["logits"], dtype=np.float64)

    def scored(self, rung: Rung, weighting: str) -> Scored:
        """The validation rows as this candidate scores them, the known shift of weighted classes taken back; threshold
        0.5.
        """
        return _scored(self.logit, rung.training, rung.validation, weighting)


@dataclass(frozen=True)
class Rung:
    """Settings that were trained on the same rows and judged on the same others; `waiting` are those that time did not
    suffice for.
    """

    training: LabelledReviews
    validation: LabelledReviews
    outcomes: list[Outcome]
    waiting: list[Candidate]

    @property
    def done(self) -> list[Outcome]:
        """Those with figures."""
        return [outcome for outcome in self.outcomes if outcome.failed is None]

    @property
    def standings(self) -> list[Standing]:
        return [outcome.standing for outcome in self.done]


@dataclass(frozen=True)
class Ablation:
    """The rungs that were begun. It is complete when the last of them has no candidate left waiting."""

    sweep: Sweep
    settings: ModelSettings
    own: Candidate
    folds: Folds
    rows: list[int]
    rungs: list[Rung]

    @property
    def is_complete(self) -> bool:
        return len(self.rungs) == self.sweep.rungs and not self.rungs[-1].waiting


def run_ablation(
    reviews: pa.Table, settings: ModelSettings, sweep: Sweep, folder: Path, minutes: float | None, report: Report
) -> Ablation:
    """Every candidate of the sweep in the first rung, the better ones in the next, and the config's own settings in
    all.

    Of the table (with the columns of data.COLUMNS) only rows of the training and validation splits are used, and of
    them those that `model.rows` names. Finished cells, and the reasons of settings that fail by themselves, are kept as
    folder/<fingerprint>.json and read when the same is asked again; after `minutes` no further one is started. A
    setting that finds too little memory fails without being kept. Raises ReviewriskError where the rows do not suffice,
    the backbone cannot be had (nothing of which is kept), or every candidate of a rung fails.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": sweep.seed})})
    with progress("preparing the rows", report):
        folds = cut_folds(
            development_reviews(chosen_rows(reviews, settings.rows), settings.text.headline),
            sweep.rungs,
            sweep.validation_rows,
            sweep.seed,
        )
        rows = rung_rows(sweep, len(folds.training))
    with progress("loading the backbone", report):
        backbone = load_backbone(settings.backbone, settings.lora.quantization)
    depth = int(backbone.encoder.config.num_hidden_layers)
    own, trying = reference(settings, depth), candidates(sweep, settings, depth)
    report(_plan_line(len(trying), rows, sweep.eta))
    rungs: list[Rung] = []
    with cpu_threads(settings.training.threads):
        for place, fold in enumerate(folds.validation):
            bench = Bench.of(folds, fold, rows[place], settings, backbone, folder, report)
            rungs.append(_run_rung(f"rung {place + 1} of {len(rows)}", trying, bench, deadline))
            if rungs[-1].waiting:
                break
            trying = survivors(rungs[-1].standings, sweep.eta, own)
    return Ablation(sweep, settings, own, folds, rows, rungs)


def fingerprint(candidate: Candidate, settings: ModelSettings, rows: int, rows_checksum: str, revision: str) -> str:
    """16 hexadecimal digits that differ wherever a training's resolved settings, rows, backbone, kind of device,
    arithmetic or packages (PACKAGES) do.

    `rows_checksum` is of all rows that the cell reads (see `data.data_version`), `rows` the number that it trains on,
    `revision` the backbone's. How many threads there are, and which processor or GPU it is, is left out, though
    rounding may move last digits with them.
    """
    resolved, _ = resolve(candidate.settings(settings), rows)
    described = resolved.model_dump(
        mode="json", include={"text", "backbone", "lora", "training"}, exclude={"training": {"threads", "max_rows"}}
    )
    device = resolve_device(settings.training.device)
    hardware = [device.type, str(resolve_precision(settings.training.precision, device))]
    packages = {name: version(name) for name in PACKAGES}
    identity = [CELL_VERSION, described, rows, rows_checksum, revision, hardware, packages]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Bench:
    """What all cells of a rung share."""

    training: LabelledReviews
    validation: LabelledReviews
    tokens: dict[str, TokenisedReviews]
    checksum: str
    settings: ModelSettings
    backbone: Backbone
    folder: Path
    report: Report

    @classmethod
    def of(
        cls,
        folds: Folds,
        fold: LabelledReviews,
        rows: int,
        settings: ModelSettings,
        backbone: Backbone,
        folder: Path,
        report: Report,
    ) -> Bench:
        parts = {
            "training": nested_draw(folds.training, rows, settings.training.seed),
            "stopping": folds.early_stopping,
            "validation": fold,
        }
        with progress("tokenising", report):
            tokens = {name: tokenise(part, backbone.tokenizer, backbone.max_length) for name, part in parts.items()}
        return cls(parts["training"], fold, tokens, data_version(parts), settings, backbone, folder, report)

    def place(self, candidate: Candidate) -> Path:
        """Where the cell is kept."""
        return (
            self.folder
            / f"{fingerprint(candidate, self.settings, len(self.training), self.checksum, self.backbone.revision)}.json"
        )

    def fresh_classifier(self) -> ReviewClassifier:
        """The backbone's own weights with a new head, so that nothing of an earlier cell is left; always the same."""
        quantization, training = self.settings.lora.quantization, self.settings.training
        if quantization == "none":
            untouched = replace(self.backbone, encoder=copy.deepcopy(self.backbone.encoder))
        else:  # packed weights are safer loaded than copied
            untouched = load_backbone(self.settings.backbone, quantization)
        return make_classifier(untouched, training.head_dropout, training.seed)


def run_cell(candidate: Candidate, bench: Bench, work: Path) -> Found:
    """What JSON holds of a candidate that was trained on the rung's rows. `work` is this cell's own folder, for
    checkpoints alone.

    figures: each of FIGURES on the rung's validation rows. parameters: trained ones, `adapter` (in the encoder) and
    `head`. training: epochs, best_epoch, rows per second (the stopping rows' time in it; None where an earlier run did
    all), device, precision. logits: the log-odds of each validation row, by the unmerged network in float32. Raises
    SettingError where LoRA cannot be attached so, or the training diverges, and ReviewriskError as `load_backbone`
    does.
    """
    own, _ = resolve(candidate.settings(bench.settings), len(bench.training))
    classifier, pad_id = bench.fresh_classifier(), int(bench.backbone.tokenizer.pad_token_id)
    try:
        adapted = attach_adapter(classifier, own.lora, own.training.seed)
        counts = count_parameters(adapted)
        known, started = load_state(work), time.monotonic()
        result = train(
            adapted, bench.tokens["training"], bench.tokens["stopping"], own, pad_id, work, _indented(bench.report)
        )
    except ReviewriskError as error:
        raise SettingError(str(error)) from error
    seconds, epochs_here = time.monotonic() - started, len(result.history) - (known.epoch if known else 0)
    with progress("scoring the validation rows", bench.report):
        logit = read_texts(adapted, bench.tokens["validation"], pad_id).margin
    if not np.isfinite(logit).all():
        raise SettingError(
            "A log-odds of the trained model is not a finite number: lower the learning rate, or set"
            " model.training.precision to float32."
        )
    figures = metrics(
        _scored(logit, bench.training, bench.validation, own.training.class_weighting), own.calibration.bins
    )
    return {
        "version": CELL_VERSION,
        "candidate": asdict(candidate),
        "rows": len(bench.training),
        "figures": {name: figures[name] for name in FIGURES},
        "parameters": {"adapter": counts.lora + counts.biases, "head": counts.head},
        "training": {
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "rows_per_second": len(bench.training) * epochs_here / seconds if epochs_here else None,
            "device": result.device,
            "precision": result.precision,
        },
        "logits": logit.tolist(),
    }


def _run_rung(title: str, trying: Sequence[Candidate], bench: Bench, deadline: float | None) -> Rung:
    """Each candidate's cell, one after the other. Raises ReviewriskError where none of them could be trained."""
    outcomes: list[Outcome] = []
    waiting: list[Candidate] = []
    for number, candidate in enumerate(trying, start=1):
        place, label = bench.place(candidate), f"{title}, setting {number} of {len(trying)}: {candidate}"
        if place.exists():
            outcomes.append(Outcome(candidate, read_json(place)))
            failed = outcomes[-1].failed
            bench.report(f"{label}: {'done before' if failed is None else f'failed before: {failed}'}")
        elif deadline is not None and time.monotonic() >= deadline:
            waiting.append(candidate)
        else:
            bench.report(f"{label}; {len(bench.training):,} rows")
            outcomes.append(Outcome(candidate, _cell(candidate, bench, place)))
    rung = Rung(bench.training, bench.validation, outcomes, waiting)
    if waiting:
        bench.report(
            f"{title}: {len(outcomes)} of {len(trying)} settings are done and the time is over; the same command goes"
            " on here"
        )
    elif not rung.done:
        raise ReviewriskError(
            f"{title}: none of {len(trying)} settings could be trained. The first, {outcomes[0].candidate}:"
            f" {outcomes[0].failed}"
        )
    return rung


def _cell(candidate: Candidate, bench: Bench, place: Path) -> Found:
    """The cell's outcome. Where there is too little memory that is the reason, and it is not kept: the memory may be
    another program's now.
    """
    try:
        return _kept_cell(candidate, bench, place)
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        reason = (
            f"too little memory ({' '.join(str(error).split()) or type(error).__name__}); the same command tries it"
            " again, a smaller batch_size needs less"
        )
    gc.collect()  # what the error's frames held, the network among it
    torch.cuda.empty_cache()
    return _failed(candidate, bench, reason)


def _kept_cell(candidate: Candidate, bench: Bench, place: Path) -> Found:
    """The cell's outcome, written whole or not at all to its place; that of a candidate which fails by itself is the
    reason.
    """
    work = bench.folder / "work" / place.stem
    work.mkdir(parents=True, exist_ok=True)
    try:
        found = run_cell(candidate, bench, work / "training")
        shown = ", ".join(f"{name.replace('_', ' ')} {found['figures'][name]:.4f}" for name in FIGURES)
        bench.report(f"  {shown} on {len(bench.validation):,} validation rows")
    except SettingError as error:
        found = _failed(candidate, bench, str(error))
    write_json(work / "cell.json", found)
    (work / "cell.json").replace(place)
    drop_states(work)
    return found


def _failed(candidate: Candidate, bench: Bench, reason: str) -> Found:
    bench.report(f"  failed: {reason}")
    return {"version": CELL_VERSION, "candidate": asdict(candidate), "rows": len(bench.training), "failed": reason}


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether the GPU or the machine had too little: PyTorch has a type of its own for one of the ways to say so."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error).lower() for words in _LACK_OF_MEMORY
    )


def _scored(logit: FloatArray, training: LabelledReviews, validation: LabelledReviews, weighting: str) -> Scored:
    return Scored(logit, sigmoid(logit - prior_shift(training.labels, weighting)), validation.labels, 0.5)


def _plan_line(settings: int, rows: Sequence[int], eta: int) -> str:
    sizes = ", ".join(f"{size:,}" for size in rows)
    return (
        f"{settings} settings, yours among them; {len(rows)} rungs of {sizes} training rows; after each the best 1 in"
        f" {eta} goes on"
    )


def _indented(report: Report) -> Report:
    return lambda line: report(f"  {line}")

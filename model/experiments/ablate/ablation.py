"""A sweep over LoRA settings by successive halving: many settings on few rows, the better ones on more, each round
judged on rows of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.data.batches import tokenise
from model.data.folds import Folds, cut_folds, development_reviews, nested_draw
from model.data.reviews import LabelledReviews, data_version, prior_shift
from model.data.row_filter import chosen_rows
from model.errors import ReviewriskError
from model.evaluation.calibrators import FloatArray, sigmoid
from model.evaluation.metrics import Scored, metrics
from model.experiments.ablate.grid import Candidate, Sweep, Trial, candidates, reference, round_rows, survivors
from model.experiments.cells import (
    Figures,
    ImpossibleError,
    Outcome,
    Runner,
    arithmetic,
    deadline_after,
    fingerprint,
    identifying_settings,
    impossible_where_refused,
)
from model.experiments.methods import read_texts
from model.network.backbone import load_backbone, make_classifier
from model.network.hardware import cpu_threads
from model.network.lora import attach_adapter, count_parameters
from model.network.quantisation import check_quantization
from model.progress import Report, progress
from model.settings import ModelSettings
from model.training.checkpoints import load_state
from model.training.defaults import resolve
from model.training.loop import train

CELL_VERSION = 2  # one more whenever the code would give a cell other figures
FIGURES = ("average_precision", "auc", "log_loss")
_SETTINGS_THAT_MATTER = ("text", "backbone", "lora", "training")


@dataclass(frozen=True)
class RoundRows:
    """What every candidate of a round is trained, stopped and judged on."""

    training: LabelledReviews
    stopping: LabelledReviews
    validation: LabelledReviews

    @property
    def checksum(self) -> str:
        """16 hexadecimal digits that follow from every row and from the part that it is in."""
        parts = {"training": self.training, "stopping": self.stopping, "validation": self.validation}
        return data_version(parts)

    def scored(self, logit: FloatArray, weighting: str) -> Scored:
        """The validation rows with these log-odds, the known shift of weighted classes taken back; threshold 0.5."""
        return Scored(logit, sigmoid(logit - prior_shift(self.training.labels, weighting)), self.validation.labels, 0.5)


@dataclass(frozen=True)
class Round:
    """Settings that were trained on the same rows and judged on the same others."""

    rows: RoundRows
    outcomes: list[Outcome[Candidate]]

    @property
    def done(self) -> list[Outcome[Candidate]]:
        """Those with figures."""
        return [outcome for outcome in self.outcomes if outcome.figures]

    @property
    def failed(self) -> list[Outcome[Candidate]]:
        """Those that could not be trained, or that found too little memory."""
        return [outcome for outcome in self.outcomes if outcome.ending not in ("done", "waiting")]

    @property
    def waiting(self) -> list[Outcome[Candidate]]:
        """Those that time did not suffice for."""
        return [outcome for outcome in self.outcomes if outcome.ending == "waiting"]

    @property
    def trials(self) -> list[Trial]:
        """Each of those with figures, for the arithmetic of successive halving."""
        return [trial(outcome) for outcome in self.done]


@dataclass(frozen=True)
class Ablation:
    """The rounds that were begun. It is complete when the last of them has no candidate left waiting."""

    sweep: Sweep
    settings: ModelSettings
    own: Candidate
    folds: Folds
    rounds: list[Round]

    @property
    def is_complete(self) -> bool:
        return len(self.rounds) == self.sweep.rounds and not self.rounds[-1].waiting


def trial(outcome: Outcome[Candidate]) -> Trial:
    """The trial of an outcome with figures."""
    figures = figures_of(outcome)
    return Trial(outcome.cell, figures["figures"]["average_precision"], figures["parameters"]["adapter"])


def figures_of(outcome: Outcome[Candidate]) -> Figures:
    """The figures of an outcome that has some."""
    assert outcome.figures is not None
    return outcome.figures


def logits_of(outcome: Outcome[Candidate]) -> FloatArray:
    """The log-odds of each of the round's validation rows."""
    return np.asarray(figures_of(outcome)["logits"], dtype=np.float64)


def run_ablation(
    reviews: pa.Table, settings: ModelSettings, sweep: Sweep, folder: Path, minutes: float | None, log: Report
) -> Ablation:
    """Every candidate of the sweep in the first round, the better ones in the next, and the config's own settings in
    all.

    Of the table (with the columns of data.COLUMNS) only rows of the training and validation splits are used, and of
    them those that `model.rows` names. Outcomes are kept in the folder, see `model.experiments.cells`; after `minutes`
    no further training is begun. Raises ReviewriskError where the rows do not suffice, the backbone cannot be had, a
    cell crashes, or every candidate of a round fails.
    """
    deadline = deadline_after(minutes)
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": sweep.seed})})
    with progress("preparing the rows", log):
        development = development_reviews(chosen_rows(reviews, settings.rows), settings.text.headline)
        folds = cut_folds(development, sweep.rounds, sweep.validation_rows, sweep.seed)
        sizes = round_rows(sweep, len(folds.training))
    check_quantization(settings.lora.quantization)
    with progress("loading the backbone", log):
        backbone = load_backbone(settings.backbone)
    depth = int(backbone.encoder.config.num_hidden_layers)
    own, trying = reference(settings, depth), candidates(sweep, settings, depth)
    log(_plan_line(len(trying), sizes, sweep.eta))
    rounds: list[Round] = []
    for place, size in enumerate(sizes):
        training = nested_draw(folds.training, size, settings.training.seed)
        rows = RoundRows(training, folds.early_stopping, folds.validation[place])
        identify = partial(
            candidate_fingerprint, settings=settings, rows=size, checksum=rows.checksum, revision=backbone.revision
        )
        runner = Runner(train_candidate, (rows, settings), identify, folder, log, deadline)
        rounds.append(_run_round(f"round {place + 1} of {len(sizes)}", trying, rows, runner))
        if rounds[-1].waiting:
            break
        trying = survivors(rounds[-1].trials, sweep.eta, own)
    return Ablation(sweep, settings, own, folds, rounds)


def candidate_fingerprint(
    candidate: Candidate, settings: ModelSettings, rows: int, checksum: str, revision: str
) -> str:
    """16 hexadecimal digits that differ wherever a training's resolved settings, rows, backbone, kind of device,
    arithmetic or packages do.

    `checksum` is of all rows that the cell reads, `rows` the number that it trains on, `revision` the backbone's.
    """
    resolved, _ = resolve(candidate.settings(settings), rows)
    described = identifying_settings(resolved)
    matters = {name: described[name] for name in _SETTINGS_THAT_MATTER}
    return fingerprint("ablate", CELL_VERSION, matters, rows, checksum, revision, *arithmetic(settings.training))


def train_candidate(candidate: Candidate, rows: RoundRows, settings: ModelSettings, work: Path, log: Report) -> Figures:
    """What JSON holds of a candidate that was trained on the round's rows. `work` is this cell's own folder, for
    checkpoints alone.

    figures: each of FIGURES on the round's validation rows. parameters: trained ones, `adapter` (in the encoder) and
    `head`. training: epochs, best_epoch, rows per second (the stopping rows' time in it; None where an earlier run did
    all), device, precision. logits: the log-odds of each validation row, by the unmerged network in float32. Raises
    ImpossibleError where LoRA cannot be attached so, or the training diverges, and ReviewriskError as `load_backbone`
    does.
    """
    own, _ = resolve(candidate.settings(settings), len(rows.training))
    with cpu_threads(settings.training.threads):
        backbone = load_backbone(settings.backbone, settings.lora.quantization)
        pad_id = int(backbone.tokenizer.pad_token_id)
        with progress("tokenising", log):
            training, stopping, validation = (
                tokenise(part, backbone.tokenizer, backbone.max_length)
                for part in (rows.training, rows.stopping, rows.validation)
            )
        with impossible_where_refused():
            classifier = make_classifier(backbone, own.training.head_dropout, own.training.seed)
            adapted = attach_adapter(classifier, own.lora, own.training.seed)
            counts = count_parameters(adapted)
            known, started = load_state(work), time.monotonic()
            result = train(adapted, training, stopping, own, pad_id, work, log)
        seconds, epochs_here = time.monotonic() - started, len(result.history) - (known.epoch if known else 0)
        with progress("scoring the validation rows", log):
            logit = read_texts(adapted, validation, pad_id).margin
    figures = _figures(logit, rows, own)
    in_words = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())
    log(f"{in_words} on {len(logit):,} validation rows")
    return {
        "figures": figures,
        "parameters": {"adapter": counts.lora + counts.biases, "head": counts.head},
        "training": {
            "epochs": len(result.history),
            "best_epoch": result.best_epoch,
            "rows_per_second": len(training) * epochs_here / seconds if epochs_here else None,
            "device": result.device,
            "precision": result.precision,
        },
        "logits": logit.tolist(),
    }


def _figures(logit: FloatArray, rows: RoundRows, settings: ModelSettings) -> dict[str, float]:
    """Each of FIGURES on the validation rows."""
    if not np.isfinite(logit).all():
        raise ImpossibleError(
            "A log-odds of the trained model is not a finite number: lower the learning rate, or set"
            " model.training.precision to float32."
        )
    every = metrics(rows.scored(logit, settings.training.class_weighting), settings.calibration.bins)
    return {name: every[name] for name in FIGURES}


def _run_round(title: str, trying: Sequence[Candidate], rows: RoundRows, runner: Runner[Candidate]) -> Round:
    """The outcome of each candidate. Raises ReviewriskError where one met what is no fault of its settings, as those
    that go on would be chosen from the others alone, and where none could be trained.
    """
    made = Round(rows, runner.outcomes(trying, f"{title}, setting"))
    for outcome in made.outcomes:
        if outcome.ending in ("refused", "crashed"):
            raise ReviewriskError(
                f"{title}: {outcome.cell} {outcome.in_words}. The same command tries it again and keeps the others."
            )
    if made.waiting:
        runner.log(
            f"{title}: {len(trying) - len(made.waiting)} of {len(trying)} settings are done and the limit of"
            " --minutes is reached; run the same command again to continue"
        )
    elif not made.done:
        first = made.outcomes[0]
        raise ReviewriskError(
            f"{title}: none of {len(trying)} settings could be trained. The first, {first.cell}: {first.reason}"
        )
    return made


def _plan_line(settings: int, rows: Sequence[int], eta: int) -> str:
    sizes = ", ".join(f"{size:,}" for size in rows)
    return (
        f"{settings} settings, yours among them; {len(rows)} rounds of {sizes} training rows; after each the best 1 in"
        f" {eta} goes on"
    )

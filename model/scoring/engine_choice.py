"""Which engine scores a model on this processor: the fastest of those that decide like the reference."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.errors import ReviewriskError
from model.network.hardware import computes_bfloat16
from model.progress import Report
from model.scoring.engines import openvino_engine
from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.parity import Parity, missed_limits, parity, unmerged_scorer
from model.scoring.scorer import Scorer, find_device
from model.settings import ScoringSettings

_TIMED_ROWS = 256
_TIMED_ROUNDS = 3
_ALL = (
    REFERENCE,
    EngineKind("torch", "bfloat16"),
    EngineKind("openvino", "float32"),
    EngineKind("openvino", "bfloat16"),
)
_ON_GPU = (REFERENCE, EngineKind("torch", "bfloat16"), EngineKind("torch", "float16"))


@dataclass(frozen=True)
class ComparedReviews:
    """The reviews that engines are compared and timed on: labels are 1 where dissatisfied; thresholds by name."""

    headlines: Sequence[str | None]
    bodies: Sequence[str | None]
    label: NDArray[np.int64]
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One engine's parity and speed on this machine; `problems` are the limits it misses, none where it may serve."""

    kind: EngineKind
    parity: Parity
    rows_per_second: float
    problems: list[str]


def candidates(settings: ScoringSettings) -> list[EngineKind]:
    """The kinds that the settings leave open and that this machine has; bfloat16 only where it has instructions for it.

    Raises ReviewriskError where none is left, or there is no GPU to compute on.
    """
    device = find_device(settings.device)
    named = [
        kind
        for kind in (_ON_GPU if device.type == "cuda" else _ALL)
        if settings.engine in ("auto", kind.name) and settings.precision in ("auto", kind.precision)
    ]
    if settings.engine != "auto" and settings.precision != "auto":
        return named
    found = [kind for kind in named if (_is_on_gpu if device.type == "cuda" else _is_here)(kind)]
    if not found:
        raise ReviewriskError(
            f"score.engine {settings.engine} and score.precision {settings.precision} leave no engine that this machine"
            " has: set both to auto, or install the extra 'engines'."
        )
    return found


def try_engines(
    bundle: Path,
    serving: Path,
    kinds: Sequence[EngineKind],
    reviews: ComparedReviews,
    settings: ScoringSettings,
    threads: int,
    report: Report,
) -> list[Trial]:
    """Every kind held against the bundle's adapter + base in float32, and timed with so many threads, one after the
    other.
    """
    texts = reviews.headlines, reviews.bodies
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        report(f"  the reference, {REFERENCE} unmerged, reads {len(reviews.label):,} reviews")
        reference = unmerged_scorer(bundle, serving).score(*texts, score_blank=True)
        trials = []
        for kind in kinds:
            report(f"  {kind} reads them")
            if kind.name == "openvino":
                openvino_engine.compile_graph(serving)
            scorer = Scorer.load(serving, named(settings, kind), threads, settings.device)
            scores = scorer.score(*texts, score_blank=True)
            found = parity(reference, scores, reviews.label, reviews.thresholds)
            trials.append(Trial(kind, found, _speed(scorer, *texts), missed_limits(found, settings.parity)))
            del scorer
            torch.cuda.empty_cache()  # of a GPU, whose memory Spark's workers need next
    finally:
        torch.set_num_threads(before)
    return trials


def fastest(trials: Sequence[Trial]) -> Trial:
    """The fastest trial of an engine that may serve.

    Raises ReviewriskError where none may, naming each one's first missed limit.
    """
    may_serve = [trial for trial in trials if not trial.problems]
    if not may_serve:
        reasons = "; ".join(f"{trial.kind}: {trial.problems[0]}" for trial in trials)
        raise ReviewriskError(
            f"No engine decides like the reference on this machine ({reasons}): set score.engine to torch and"
            " score.precision to float32, or widen the limit in score.parity."
        )
    return max(may_serve, key=lambda trial: trial.rows_per_second)


def named(settings: ScoringSettings, kind: EngineKind) -> ScoringSettings:
    """The settings with this engine named in them, and the batches of its device."""
    return settings.for_device().model_copy(update={"engine": kind.name, "precision": kind.precision})


def _is_on_gpu(kind: EngineKind) -> bool:
    return kind.precision != "bfloat16" or computes_bfloat16(torch.device("cuda"))


def _is_here(kind: EngineKind) -> bool:
    if kind.name == "torch":
        return kind.precision == "float32" or computes_bfloat16(torch.device("cpu"))
    if importlib.util.find_spec("openvino") is None:
        return False
    return kind.precision == "float32" or openvino_engine.computes_bfloat16()


def _speed(scorer: Scorer, headlines: Sequence[str | None], bodies: Sequence[str | None]) -> float:
    """Reviews a second, tokenising included, in the fastest of a few rounds over the first reviews: other work on the
    machine only ever slows a round down.
    """
    rows = len(headlines) if scorer.settings.device == "cuda" else min(len(headlines), _TIMED_ROWS)
    seconds = []
    for _ in range(_TIMED_ROUNDS):
        started = time.perf_counter()
        scorer.score(headlines[:rows], bodies[:rows])
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds)

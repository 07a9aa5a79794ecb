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
from model.network.hardware import computes_bfloat16, computes_int8, cpu_threads
from model.progress import Report
from model.scoring.engines import openvino_engine
from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.parity import Parity, missed_limits, parity, unmerged_scorer
from model.scoring.scorer import Scorer, find_device
from model.settings import ScoringSettings

_TIMED_ROWS = 64
_TIMED_ROUNDS = 3
_ALL = (
    REFERENCE,
    EngineKind("torch", "bfloat16"),
    EngineKind("openvino", "float32"),
    EngineKind("openvino", "bfloat16"),
    EngineKind("openvino", "int8"),
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
    """One engine's speed on this machine and its parity, None where a faster engine may serve and nobody asked for
    more; `problems` are the limits it misses.
    """

    kind: EngineKind
    rows_per_second: float
    parity: Parity | None
    problems: list[str]

    @property
    def may_serve(self) -> bool:
        return self.parity is not None and not self.problems


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
    if named and settings.engine != "auto" and settings.precision != "auto":
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
    every: bool,
    report: Report,
) -> list[Trial]:
    """The kinds, fastest first: each timed with so many threads, then held against the bundle's adapter + base in
    float32 until one may serve, or with `every`, all of them.
    """
    texts = reviews.headlines, reviews.bodies
    with cpu_threads(threads):
        speeds = {}
        for kind in kinds:
            report(f"  {kind} is timed")
            if kind.name == "openvino":
                openvino_engine.compile_graph(serving, kind.precision)
            scorer = Scorer.load(serving, named(settings, kind), threads, settings.device)
            speeds[kind] = _speed(scorer, texts, threads)
            del scorer
            torch.cuda.empty_cache()
    with cpu_threads(None) as cores:
        report(f"  the reference, {REFERENCE} unmerged, reads {len(reviews.label):,} reviews")
        reference = unmerged_scorer(bundle, serving).score(*texts, score_blank=True)
        trials: list[Trial] = []
        for kind in sorted(kinds, key=lambda kind: -speeds[kind]):
            if not every and any(trial.may_serve for trial in trials):
                trials.append(Trial(kind, speeds[kind], None, []))
                continue
            report(f"  {kind} reads them")
            scores = Scorer.load(serving, named(settings, kind), cores, settings.device).score(*texts, score_blank=True)
            found = parity(reference, scores, reviews.label, reviews.thresholds)
            trials.append(Trial(kind, speeds[kind], found, missed_limits(found, settings.parity)))
            torch.cuda.empty_cache()  # of a GPU, whose memory the next one, and then Spark's workers, need
    return trials


def fastest(trials: Sequence[Trial]) -> Trial:
    """The fastest trial of an engine that may serve.

    Raises ReviewriskError where none may, naming each one's first missed limit.
    """
    may_serve = [trial for trial in trials if trial.may_serve]
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
    if kind.precision == "int8":
        return importlib.util.find_spec("nncf") is not None and computes_int8()
    return kind.precision == "float32" or openvino_engine.computes_bfloat16()


def _speed(scorer: Scorer, texts: tuple[Sequence[str | None], Sequence[str | None]], threads: int) -> float:
    """Reviews a second, tokenising included, in the fastest of a few rounds over the first reviews.

    On a CPU it is the time that the process computed, over its threads: what else runs on the machine does not count.
    """
    on_gpu = scorer.settings.device == "cuda"
    headlines, bodies = texts
    rows = len(bodies) if on_gpu else min(len(bodies), _TIMED_ROWS)
    clock = time.perf_counter if on_gpu else time.process_time
    seconds = []
    for _ in range(_TIMED_ROUNDS):
        started = clock()
        scorer.score(headlines[:rows], bodies[:rows])
        seconds.append(clock() - started)
    return rows / min(seconds) * (1 if on_gpu else threads)

"""How each kind of method is fitted for a comparison, and what that took: time, memory, the cost of scoring, and what
was forgotten.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import PreTrainedModel

from model.data.batches import TokenisedReviews, tokenise
from model.data.reviews import LabelledReviews, PreparedData, draw
from model.evaluation.baseline import TFIDF_WEIGHTING, fit_tfidf
from model.evaluation.calibrators import FloatArray
from model.experiments.cells import Figures, impossible_where_refused
from model.experiments.forgetting import embedding_drift, masked_token_loss, probe_loss, probe_task
from model.experiments.memory import PeakMemory
from model.experiments.methods import Kind, Method, Reading, TrainedParameters, read_texts, trained_parameters
from model.network.backbone import Backbone, encode, load_backbone, make_classifier
from model.network.classifier import ReviewClassifier
from model.network.hardware import resolve_device
from model.network.lora import merge_adapter, move_to_base
from model.progress import Report, progress
from model.settings import ModelSettings
from model.training.checkpoints import load_state
from model.training.loop import train

TIMED_ROWS = 96
PROBED_ROWS = 500
_ROUNDS = 3
Score = Callable[[list[str]], FloatArray]


@dataclass(frozen=True)
class Task:
    """One method to fit on data.train. `shifted` is another population to measure forgetting on; `settings` are the
    method's own and resolved; `work` is a folder for checkpoints alone.
    """

    method: Method
    data: PreparedData
    shifted: LabelledReviews | None
    settings: ModelSettings
    work: Path
    log: Report

    @property
    def seed(self) -> int:
        return self.settings.training.seed


@dataclass(frozen=True)
class Fitted:
    """A fitted method: `score` gives texts' log-odds of dissatisfaction, and the rest what it took (see
    `figures.run_cell`).
    """

    score: Score
    parameters: TrainedParameters
    training: Figures | None = None
    cost: Figures | None = None
    forgetting: Figures | None = None

    def figures(self) -> Figures:
        """All but `score`, as JSON holds it."""
        return {
            "parameters": asdict(self.parameters),
            "training": self.training,
            "cost": self.cost,
            "forgetting": self.forgetting,
        }


def fit_method(task: Task) -> Fitted:
    """The task's method, fitted. Raises ReviewriskError where it cannot be on this machine or encoder."""
    return _FITS[task.method.kind](task)


def _fit_majority(task: Task) -> Fitted:
    """The training rows' share of dissatisfied for every row."""
    share = float(task.data.train.labels.mean())
    return Fitted(lambda texts: np.full(len(texts), np.log(share / (1 - share))), TrainedParameters(0, 0))


def _fit_tfidf(task: Task) -> Fitted:
    train = task.data.train
    memory, started = PeakMemory(torch.device("cpu")), time.monotonic()
    with progress("fitting TF-IDF", task.log):
        model = fit_tfidf(train.texts, train.labels)
    training = _training(time.monotonic() - started, len(train), memory.growth(), {})
    timed = _timed_texts(task)
    return Fitted(
        model.decision_function,
        _linear_parameters(model),
        training,
        _seconds({"unmerged": partial(model.decision_function, timed)}, len(timed)),
    )


def _fit_probe(task: Task) -> Fitted:
    """Logistic regression on the frozen encoder's standardised pooled vectors, classes balanced as for TF-IDF."""
    train = task.data.train
    backbone, plain = _load(task)
    memory, started = PeakMemory(torch.device("cpu")), time.monotonic()
    head = make_pipeline(StandardScaler(), LogisticRegression(class_weight=TFIDF_WEIGHTING, max_iter=2000))
    with progress("encoding the training rows and fitting the head", task.log):
        head.fit(_read(plain, backbone, train.texts).pooled, train.labels)
    training = _training(time.monotonic() - started, len(train), memory.growth(), {})

    def score(texts: list[str]) -> FloatArray:
        return np.asarray(head.decision_function(_read(plain, backbone, texts).pooled), dtype=np.float64)

    timed = _timed_texts(task)
    with progress("timing", task.log):
        cost = _seconds(
            {"plain": partial(_read, plain, backbone, timed), "unmerged": partial(score, timed)}, len(timed)
        )
    return Fitted(score, _linear_parameters(head), training, cost)


def _fit_network(task: Task) -> Fitted:
    backbone, fresh = _load(task)
    populations = {"test": task.data.test} | ({"shifted": task.shifted} if task.shifted is not None else {})
    with progress("reading texts before the training", task.log):
        before = {
            name: _Before.of(fresh, backbone, draw(reviews, PROBED_ROWS, task.seed), task.seed)
            for name, reviews in populations.items()
        }
    assert task.method.attach is not None
    network = task.method.attach(fresh, task.settings)
    counts = trained_parameters(network)
    rate = task.settings.training.learning_rate
    task.log(
        f"trains {counts.adapter:,} parameters in the encoder and {counts.head:,} in the head, learning rate {rate:g}"
    )
    training = _train(network, backbone, task)
    with progress("merging and timing", task.log):
        final, cost = _cost(network, backbone, task)
    with progress("measuring what was forgotten", task.log):
        forgetting = {name: _forgetting(final, backbone, each, task.seed) for name, each in before.items()}
    return Fitted(lambda texts: _read(final, backbone, texts).margin, counts, training, cost, forgetting)


_FITS: dict[Kind, Callable[[Task], Fitted]] = {
    "majority": _fit_majority,
    "tfidf": _fit_tfidf,
    "probe": _fit_probe,
    "network": _fit_network,
}


def _load(task: Task) -> tuple[Backbone, ReviewClassifier]:
    """The backbone with a new head, on the device of the training."""
    with progress("loading the backbone", task.log):
        backbone = load_backbone(task.settings.backbone, task.settings.lora.quantization)
        classifier = make_classifier(backbone, task.settings.training.head_dropout, task.seed)
        return backbone, classifier.to(resolve_device(task.settings.training.device))


def _train(network: nn.Module, backbone: Backbone, task: Task) -> Figures:
    training, stopping = (
        tokenise(part, backbone.tokenizer, backbone.max_length) for part in (task.data.train, task.data.early_stopping)
    )
    known = load_state(task.work)
    done_before = known.epoch if known else 0
    memory, started = PeakMemory(resolve_device(task.settings.training.device)), time.monotonic()
    pad_id = int(backbone.tokenizer.pad_token_id)
    with impossible_where_refused():
        result = train(cast(PeftModel, network), training, stopping, task.settings, pad_id, task.work, task.log)
    described = {
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "learning_rate": task.settings.training.learning_rate,
        "device": result.device,
        "precision": result.precision,
        "train_losses": [entry["train_loss"] for entry in result.history],
    }
    rows_here = len(training) * (len(result.history) - done_before)
    return _training(time.monotonic() - started, rows_here, memory.growth(), described)


def _training(seconds: float, rows_here: int, memory: float, described: Figures) -> Figures:
    """`rows_here` are the rows that this process trained on, each epoch's counted, but no repeats by oversampling: a
    run that went on after a kill has fewer than all.
    """
    return {
        "epochs": 1,
        "rows_per_second": rows_here / seconds if rows_here else None,
        "memory_mib": memory,
        **described,
    }


def _cost(network: nn.Module, backbone: Backbone, task: Task) -> tuple[nn.Module, Figures]:
    """The network that scores (merged where it can be), and the timings."""
    full = load_backbone(task.settings.backbone)
    device = next(network.parameters()).device
    final = _merged(network, full, task).to(device) if isinstance(network, PeftModel) else network
    plain = make_classifier(full, 0.0, task.seed).to(device)
    timed = _timed_texts(task)
    networks = {"plain": plain, "unmerged": network} | ({"merged": final} if final is not network else {})
    return final, _seconds({name: partial(_read, each, backbone, timed) for name, each in networks.items()}, len(timed))


def _merged(network: PeftModel, full: Backbone, task: Task) -> ReviewClassifier:
    if task.settings.lora.quantization == "none":
        return merge_adapter(copy.deepcopy(network))
    return merge_adapter(
        move_to_base(network, make_classifier(copy.deepcopy(full), task.settings.training.head_dropout, task.seed))
    )


def _timed_texts(task: Task) -> list[str]:
    return draw(task.data.test, TIMED_ROWS, task.seed).texts


def _seconds(calls: Mapping[str, Callable[[], Any]], rows: int) -> Figures:
    """Median seconds per 1,000 rows of each call.

    They take turns, so that other work on the machine meets all alike.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first call of each pays for what is set up once
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - started) * 1000 / rows)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


@dataclass(frozen=True)
class _Before:
    """What the untrained encoder makes of the probed reviews."""

    reviews: LabelledReviews
    tokens: TokenisedReviews
    reading: Reading
    masked_token: float | None

    @classmethod
    def of(cls, fresh: ReviewClassifier, backbone: Backbone, probed: LabelledReviews, seed: int) -> _Before:
        tokens = tokenise(probed, backbone.tokenizer, backbone.max_length)
        reading = read_texts(fresh, tokens, int(backbone.tokenizer.pad_token_id))
        return cls(probed, tokens, reading, masked_token_loss(fresh.encoder, backbone, tokens, seed))


def _forgetting(final: nn.Module, backbone: Backbone, before: _Before, seed: int) -> Figures:
    """drift; probe: its task, loss before and after; masked_token: loss before and after.

    None for what cannot be had.
    """
    after = read_texts(final, before.tokens, int(backbone.tokenizer.pad_token_id)).pooled
    probe, task = None, probe_task(before.reviews)
    if task is not None:
        name, classes = task
        losses = {
            when: probe_loss(vectors, classes, before.reviews.product_ids)
            for when, vectors in (("before", before.reading.pooled), ("after", after))
        }
        probe = {"task": name, **losses}
    masked = None
    if before.masked_token is not None:
        encoder = cast(PreTrainedModel, final.get_submodule("encoder"))
        masked = {"before": before.masked_token, "after": masked_token_loss(encoder, backbone, before.tokens, seed)}
    return {
        "rows": len(before.reviews),
        "drift": embedding_drift(before.reading.pooled, after),
        "probe": probe,
        "masked_token": masked,
    }


def _read(network: nn.Module, backbone: Backbone, texts: list[str]) -> Reading:
    ids, _ = encode(backbone.tokenizer, texts, backbone.max_length)
    tokens = TokenisedReviews([np.array(row, dtype=np.int32) for row in ids], np.zeros(len(texts), dtype=np.int64))
    return read_texts(network, tokens, int(backbone.tokenizer.pad_token_id))


def _linear_parameters(model: Pipeline) -> TrainedParameters:
    return TrainedParameters(0, model[-1].coef_.size + model[-1].intercept_.size)

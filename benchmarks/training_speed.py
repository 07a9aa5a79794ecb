"""How much faster `reviewrisk train` is than the plain recipe, at what quality, and what each of its steps gives: all
fine-tune the same model on the same rows in one run.

    python benchmarks/training_speed.py --root ROOT [--conf conf/local.yml] [--rows 1600] [--threads 2] [--ends]

The plain recipe is what most tutorials do: every text padded to max_length, rows in random order, float32, the
encoder's own dropout and PyTorch's fused attention. Each further recipe is the one before with one change; the last is
`reviewrisk train` with the config. All have the same LoRA, head, seed, learning rate, class weights, number of steps
and rows; ROOT is a root with ingested reviews, whose test split is not read. Epochs take turns, so that a machine that
speeds up or slows down does so for all; the ratio is that of the rows per second of all epochs together. `--ends`
leaves out the recipes between. Quality is the average precision on the rows that early stopping uses, with a bootstrap
of whole products, and the last recipe's paired difference to the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from recipes import padded, random_order

from jobs.config import load_config
from jobs.lake import tables
from model.data.batches import Batch, TokenisedReviews, batches, evaluation_order, tokenise, training_order
from model.data.reviews import COLUMNS, LabelledReviews, cut_by_time, draw, drop_texts_of, labelled_reviews
from model.evaluation.metrics import Scored, difference_intervals, intervals
from model.network.attention import training_attention
from model.network.backbone import load_backbone, make_classifier
from model.network.classifier import margin
from model.network.hardware import cpu_threads
from model.network.lora import attach_adapter
from model.settings import ModelSettings
from model.training.defaults import resolve
from model.training.loop import TrainingRun, start_run, train_step


@dataclass
class Contestant:
    """A model in training: `epoch` gives the batches of epoch 1, 2, …; `seconds` and `tokens` (padded ones) grow with
    each that is run.
    """

    name: str
    run: TrainingRun
    epoch: Callable[[int], Iterator[Batch]]
    steps: int
    attention: Callable[[], AbstractContextManager[None]]
    seconds: float = 0.0
    tokens: int = 0
    done: int = 0

    def train_epoch(self, number: int, epochs: int) -> None:
        """Train for one epoch of `epochs`."""
        self.run.adapted.train()
        torch.manual_seed(number)
        started = time.perf_counter()
        with self.attention():
            for batch in self.epoch(number):
                train_step(self.run, batch, self.done, epochs * self.steps)
                self.done += 1
                self.tokens += batch.input_ids.numel()
                if self.done % 10 == 0:
                    print(f"  {self.name}: epoch {number}, step {self.done:,} of {epochs * self.steps:,}", flush=True)
        self.seconds += time.perf_counter() - started


def contestants(training: TokenisedReviews, settings: ModelSettings, is_ends: bool) -> list[Contestant]:
    """The plain recipe and (unless `is_ends`) those that lead from it to `reviewrisk train`, each with a model of its
    own; all begin alike.
    """
    chosen, length = settings.training, settings.backbone.max_length
    steps = -(-len(training) // chosen.batch_size)

    def contestant(name: str, is_plain: bool = False, is_fused: bool = True, **overrides: Any) -> Contestant:
        own = settings.model_copy(update={"training": chosen.model_copy(update=overrides)})
        backbone = load_backbone(settings.backbone)
        pad_id = int(backbone.tokenizer.pad_token_id)
        adapted = attach_adapter(
            make_classifier(backbone, chosen.head_dropout, chosen.seed), settings.lora, chosen.seed
        )
        run = start_run(adapted, training, own, pad_id, print)

        def epoch(number: int) -> Iterator[Batch]:
            ordered = random_order(len(training), chosen.batch_size, chosen.seed, number) if is_plain else None
            order = ordered or training_order(training.lengths, chosen.batch_size, chosen.seed, number)
            found = batches(training, order, chosen.batch_size, pad_id, run.weights)
            return (padded(batch, length, pad_id) for batch in found) if is_plain else found

        def attention() -> AbstractContextManager[None]:
            return nullcontext() if is_fused else training_attention(run.adapted, run.device)

        return Contestant(name, run, epoch, steps, attention)

    plain = contestant(
        f"plain: padded to {length}, random order, float32", is_plain=True, precision="float32", encoder_dropout=None
    )
    if is_ends:
        return [plain, contestant("`reviewrisk train`", is_fused=False)]
    return [
        plain,
        contestant("grouped by length", precision="float32", encoder_dropout=None),
        contestant("… in bfloat16, where the hardware has it", encoder_dropout=None),
        contestant("… attention as plain matrix products", is_fused=False, encoder_dropout=None),
        contestant("… encoder_dropout as the config has it: `reviewrisk train`", is_fused=False),
    ]


@torch.inference_mode()
def scored(run: TrainingRun, validation: TokenisedReviews) -> Scored:
    """The validation rows' log-odds, computed in float32 for both."""
    exact = replace(run, precision=torch.float32)
    exact.adapted.eval()
    logit = np.empty(len(validation))
    size = run.settings.batch_size
    for batch in batches(validation, evaluation_order(validation.lengths, size), size, run.pad_id, run.weights):
        logit[batch.positions] = margin(exact.logits(batch)).double()[: len(batch.positions)].numpy()
    return Scored(logit, 1 / (1 + np.exp(-logit)), validation.labels, 0.5)


def read_rows(settings: ModelSettings, reviews: pa.Table, rows: int) -> tuple[LabelledReviews, LabelledReviews]:
    """Training rows, and the validation rows that early stopping uses."""
    stopping = cut_by_time(labelled_reviews(reviews, "validation", settings.text.headline))[0]
    train = drop_texts_of(labelled_reviews(reviews, "train", settings.text.headline), stopping.texts)
    return draw(train, rows, settings.training.seed), stopping


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--conf", type=Path, default=Path("conf/local.yml"))
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ends", action="store_true")
    options = parser.parse_args()
    config = load_config(options.conf)
    config = config.model_copy(update={"paths": config.paths.model_copy(update={"root": str(options.root)})})
    reviews = tables.read_arrow(config.root, "reviews", COLUMNS, pc.field("split").isin(["train", "validation"]))
    train, stopping = read_rows(config.model, reviews, options.rows)
    settings, _ = resolve(config.model, len(train))
    with cpu_threads(options.threads) as threads:
        backbone = load_backbone(settings.backbone)
        training, validation = (tokenise(part, backbone.tokenizer, backbone.max_length) for part in (train, stopping))
        every = contestants(training, settings, options.ends)
        for epoch in range(1, settings.training.epochs + 1):
            for contestant in every:
                contestant.train_epoch(epoch, settings.training.epochs)
        figures = [scored(contestant.run, validation) for contestant in every]
    print_table(every, figures, training, np.asarray(stopping.product_ids), settings, threads)


def print_table(
    every: list[Contestant],
    figures: list[Scored],
    training: TokenisedReviews,
    products: NDArray[np.str_],
    settings: ModelSettings,
    threads: int,
) -> None:
    """The table of docs/benchmarks.md."""
    epochs, bins, seed = settings.training.epochs, settings.calibration.bins, settings.training.seed
    print(
        f"\n{len(training):,} rows of {training.lengths.mean():.0f} tokens, {epochs} epochs, {settings.backbone.name},"
        f" {threads} threads\n"
    )
    print("| recipe | rows/s | ratio | padded tokens a row | average precision on validation |")
    print("|---|---:|---:|---:|---:|")
    for contestant, result in zip(every, figures, strict=True):
        found = intervals(result, bins, products, settings.thresholds.confidence, seed)["average_precision"]
        rows = epochs * len(training)
        speed, ratio = rows / contestant.seconds, every[0].seconds / contestant.seconds
        quality = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        print(f"| {contestant.name} | {speed:.1f} | {ratio:.2f} | {contestant.tokens / rows:.0f} | {quality} |")
    gain = difference_intervals(figures[-1], figures[0], bins, products, settings.thresholds.confidence, seed)[
        "average_precision"
    ]
    print(
        f"\nPaired difference in average precision: {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        f" ({len(products):,} rows)"
    )


if __name__ == "__main__":
    main()

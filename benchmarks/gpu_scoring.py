"""Scoring on a GPU: reviews a second with tokenising, beside the transformers pipeline in the same arithmetic at its
best batch size; and what the network alone makes of the card.

    python benchmarks/gpu_scoring.py [--rows 60000] [--rounds 5] [--dtypes bfloat16 float16] [--tokens 65536]
        [--processes 1 4] [--threads N] [--device cpu --layers 1 --heads 2]

The encoder has DistilBERT's shape and random weights, the texts are those of benchmarks/gpu_training.py: it measures
speed, not quality. The pipeline gets the texts cleaned, in order of arrival and sorted by length, and reads a tenth of
them; its batch size is the best of several. With several processes, each has a model on the card and scores its part,
as tasks do that share a GPU (spark.task.resource.gpu.amount below 1); loading is not counted. A round runs all of an
arithmetic's contestants in turn; figures are medians of the rounds. The network alone computes the scorer's own
batches, which lie on the card already. Its share counts no padding, and is of the fastest matrix product found in the
same arithmetic. Needs torch, transformers and peft; neither Spark nor tables. Runs on a CPU too, with small numbers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
import transformers
from gpu_training import corpus, distilbert, synchronise
from transformers import DistilBertConfig, DistilBertForSequenceClassification, pipeline

from model.evaluation.calibrators import Calibrator
from model.network.backbone import load_backbone, make_classifier
from model.network.hardware import cpu_name, usable_cores
from model.scoring.batches import length_batches, pad_rows
from model.scoring.engines.interface import Precision
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.scorer import Scorer, set_threads
from model.settings import BackboneSettings, ScoringSettings
from model.text.compose import model_text

MAX_LENGTH = 256
PIPELINE_BATCHES = (32, 128, 512, 1024)
Columns = tuple[list[str | None], list[str | None]]


def make_scorer(folder: Path, device: torch.device, precision: Precision, tokens: int, threads: int) -> Scorer:
    """A scorer of the folder's encoder with a new head."""
    set_threads(device, threads)
    backbone = load_backbone(BackboneSettings(name=str(folder), max_length=MAX_LENGTH))
    model = make_classifier(backbone, 0.2, seed=0).eval().requires_grad_(False)
    engine = TorchEngine(model.to(device, getattr(torch, precision)), device, precision)
    settings = ScoringSettings(device="cuda", tokens_per_batch_gpu=tokens).for_device()
    return Scorer(engine, backbone.tokenizer, Calibrator(), "benchmark", MAX_LENGTH, "keep", settings)


def seconds(contestant: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    synchronise(device)
    started = time.perf_counter()
    contestant()
    synchronise(device)
    return time.perf_counter() - started


def score_part(
    folder: Path, device: str, precision: Precision, tokens: int, threads: int, part: Columns, meet: Barrier
) -> None:
    """What one of several processes does: it loads, waits for the others twice, and scores between."""
    scorer = make_scorer(folder, torch.device(device), precision, tokens, threads)
    scorer.score(part[0][:2000], part[1][:2000])
    meet.wait()
    scorer.score(*part)
    meet.wait()


def shared_seconds(processes: int, threads: int, reviews: Columns, *made: object) -> float:
    """Seconds in which so many processes, with equal parts of the threads, score all reviews on one device."""
    context = multiprocessing.get_context("spawn")
    meet = context.Barrier(processes + 1)
    parts = [(reviews[0][start::processes], reviews[1][start::processes]) for start in range(processes)]
    workers = [
        context.Process(target=score_part, args=(*made, max(1, threads // processes), part, meet)) for part in parts
    ]
    for worker in workers:
        worker.start()
    meet.wait(timeout=300)
    started = time.perf_counter()
    meet.wait(timeout=300)
    taken = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return taken


def matrix_rate(device: torch.device, precision: Precision, sizes: Sequence[int]) -> float:
    """FLOP a second of the fastest matrix product found: square ones, and those of the encoder's layers."""
    rates = []
    for rows, inner, columns in [*((size, size, size) for size in sizes), *((8 * sizes[0], 768, 3072),)]:
        left = torch.randn(rows, inner, device=device).to(getattr(torch, precision))
        right = torch.randn(inner, columns, device=device).to(getattr(torch, precision))
        times = 20 if device.type == "cuda" else 3

        def multiply(left: torch.Tensor = left, right: torch.Tensor = right, times: int = times) -> None:
            for _ in range(times):
                torch.mm(left, right)

        multiply()
        taken = min(seconds(multiply, device) for _ in range(5))
        rates.append(2 * rows * inner * columns * times / taken)
    return max(rates)


def useful_flop(lengths: Sequence[int], config: DistilBertConfig) -> float:
    """FLOP of the encoder's matrix products for texts of these lengths, without padding."""
    width, hidden, layers = config.dim, config.hidden_dim, config.n_layers
    weights = 2 * (4 * width * width + 2 * width * hidden)
    return float(sum(layers * (length * weights + 4 * length * length * width) for length in lengths))


def network_alone(scorer: Scorer, reviews: Columns, config: DistilBertConfig, rounds: int) -> tuple[float, float]:
    """(reviews a second, useful FLOP a second) of the network on the first buffers' batches."""
    rows = min(len(reviews[0]), 2 * scorer.settings.rows_per_buffer)
    read = scorer.read(list(zip(reviews[0][:rows], reviews[1][:rows], strict=True))).rows
    batches = [
        [torch.from_numpy(array).to(scorer.device) for array in pad_rows([ids for ids, _ in batch], length, 0)]
        for length, batch in length_batches(read, MAX_LENGTH, scorer.settings.tokens_per_batch)
    ]

    @torch.inference_mode()
    def compute() -> None:
        for ids, mask in batches:
            scorer.model(input_ids=ids, attention_mask=mask)

    compute()
    taken = statistics.median(seconds(compute, scorer.device) for _ in range(rounds))
    return rows / taken, useful_flop([len(ids) for ids, _ in read], config) / taken


def peer(folder: Path, device: torch.device, precision: Precision, texts: list[str]) -> tuple[int, Callable[..., None]]:
    """(best batch size, the pipeline as a function of texts)."""
    config = DistilBertConfig.from_pretrained(folder)
    network = DistilBertForSequenceClassification(config).eval().to(device, getattr(torch, precision))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    ready = pipeline("text-classification", model=network, tokenizer=tokenizer, device=device)

    def classify(some: list[str], batch_size: int) -> None:
        ready(some, batch_size=batch_size, truncation=True, max_length=MAX_LENGTH)

    classify(texts[:64], 32)
    timed = {size: seconds(partial(classify, texts, size), device) for size in PIPELINE_BATCHES}
    best = min(timed, key=lambda size: timed[size])
    return best, lambda some: classify(some, best)


def print_arithmetic(
    folder: Path, device: torch.device, precision: Precision, reviews: Columns, options: argparse.Namespace
) -> None:
    """The table of one arithmetic."""
    rows = len(reviews[0])
    texts = [model_text(*both) for both in zip(*(column[: max(64, rows // 10)] for column in reviews), strict=True)]
    best, classify = peer(folder, device, precision, texts)
    by_length = sorted(texts, key=len)
    contestants: dict[str, tuple[int, Callable[[], object]]] = {
        f"pipeline, batches of {best}": (len(texts), partial(classify, texts)),
        f"pipeline, batches of {best}, texts sorted by length": (len(texts), partial(classify, by_length)),
    }
    scorers = {
        tokens: make_scorer(folder, device, precision, tokens, options.threads) for tokens in sorted(options.tokens)
    }
    for tokens, scorer in scorers.items():
        scorer.score(*(column[:2000] for column in reviews))
        name = f"reviewrisk Scorer, {tokens:,} tokens a batch"
        contestants[name] = (rows, partial(scorer.score, *reviews))
    first = scorers[min(scorers)]
    both = list(zip(*reviews, strict=True))[: first.settings.rows_per_buffer]
    contestants["… its reading alone, without the network"] = (len(both), partial(first.read, both))
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (_, contestant) in contestants.items():
            taken[name].append(seconds(contestant, device))
    speeds = {name: contestants[name][0] / statistics.median(found) for name, found in taken.items()}
    for processes in options.processes:
        if processes > 1:
            made = (folder, str(device), precision, max(options.tokens))
            found = [shared_seconds(processes, options.threads, reviews, *made) for _ in range(options.rounds)]
            speeds[f"reviewrisk Scorer in {processes} processes"] = rows / statistics.median(found)
    base = next(iter(speeds.values()))
    print(f"\n| {precision}, with tokenising | reviews/s | ratio |\n|---|---:|---:|", flush=True)
    for name, speed in speeds.items():
        print(f"| {name} | {speed:,.0f} | {speed / base:.1f} |", flush=True)
    rate = matrix_rate(device, precision, options.sizes)
    print(f"\n| {precision}, the network alone | reviews/s | useful TFLOP/s | of the card |\n|---|---:|---:|---:|")
    for tokens, scorer in scorers.items():
        speed, flop = network_alone(scorer, reviews, DistilBertConfig.from_pretrained(folder), options.rounds)
        print(f"| {tokens:,} tokens a batch | {speed:,.0f} | {flop / 1e12:,.2f} | {flop / rate:.1%} |", flush=True)
    print(f"| the fastest matrix product | | {rate / 1e12:,.2f} | 100% |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32_768, 65_536, 131_072])
    parser.add_argument("--processes", type=int, nargs="+", default=[4])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--sizes", type=int, nargs="+", default=[8192, 16_384])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=12)
    options = parser.parse_args()
    # before there are threads that a fork would miss
    invented = corpus(options.rows, usable_cores())
    reviews: Columns = ([review.headline for review in invented], [review.body for review in invented])
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    with tempfile.TemporaryDirectory() as temporary:
        folder = distilbert(Path(temporary) / "encoder", options.layers, options.heads, 17)
        tokens = [
            len(ids)
            for ids, _ in make_scorer(folder, device, "float32", 4096, options.threads)
            .read([(review.headline, review.body) for review in invented[:2000]])
            .rows
        ]
        print(
            f"{name}; {options.threads} CPU threads; Python {platform.python_version()}, torch {torch.__version__},"
            f" transformers {transformers.__version__}; {len(invented):,} reviews, {statistics.mean(tokens):.0f} tokens"
            f" each (median {statistics.median(tokens):.0f}, at most {max(tokens)}); {options.rounds} rounds",
            flush=True,
        )
        for precision in options.dtypes:
            print_arithmetic(folder, device, precision, reviews, options)


if __name__ == "__main__":
    main()

"""How much the scorer's batching is worth: reviews per second against plain batches of the same model in the same run,
on one thread.

    python benchmarks/score_batching.py [--rows 160] [--source reviews.tsv.gz]

Peers: batches of 32 in order of arrival padded to 256 tokens, and the same padded to the batch's longest text. Every
round runs all of them in turn, so that a machine that speeds up or slows down does so for all; the ratio is the median
over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import csv
import gzip
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from jobs.sample.write import run_sample
from model.evaluation.calibrators import Calibrator
from model.network.backbone import encode, load_backbone, make_classifier
from model.scoring.batches import pad_rows
from model.scoring.engines.interface import Precision
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.scorer import Scorer
from model.settings import BackboneSettings, ScoringSettings
from model.text.compose import model_text

MAX_LENGTH = 256
PLAIN_BATCH = 32


def read_texts(source: Path | None, rows: int) -> tuple[list[str | None], list[str | None]]:
    """Headlines and bodies of the source's first rows, or of synthetic reviews."""
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            source = Path(folder) / "sample.tsv.gz"
            run_sample(source, max(rows, 500), 17)
        text = gzip.decompress(source.read_bytes()).decode("utf-8", "replace")
    lines = [line for line in csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE) if len(line) == 15][
        1 : rows + 1
    ]
    return [line[12] for line in lines], [line[13] for line in lines]


def plain(scorer: Scorer, texts: Sequence[str], fixed: bool) -> None:
    """Batches of 32 in order of arrival, as a first version of a scoring job has them."""
    ids, _ = encode(scorer.tokenizer, texts, MAX_LENGTH)
    with torch.inference_mode():
        for start in range(0, len(ids), PLAIN_BATCH):
            batch = ids[start : start + PLAIN_BATCH]
            length = MAX_LENGTH if fixed else max(map(len, batch))
            scorer.engine.logits(*pad_rows(batch, length, scorer.pad_id)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    headlines, bodies = read_texts(options.source, options.rows)
    texts = [model_text(headline, body) for headline, body in zip(headlines, bodies, strict=True)]
    backbone = load_backbone(BackboneSettings(max_length=MAX_LENGTH))
    model = make_classifier(backbone, 0.2, seed=0).eval().requires_grad_(False)

    def scorer(precision: Precision) -> Scorer:
        engine = TorchEngine(copy.deepcopy(model).to(getattr(torch, precision)), torch.device("cpu"), precision)
        return Scorer(engine, backbone.tokenizer, Calibrator(), "benchmark", MAX_LENGTH, "keep", ScoringSettings())

    exact, half = scorer("float32"), scorer("bfloat16")
    contestants: dict[str, Callable[[], object]] = {
        "plain, padded to 256, float32": lambda: plain(exact, texts, fixed=True),
        "plain, padded to the longest of 32, float32": lambda: plain(exact, texts, fixed=False),
        "reviewrisk Scorer, float32": lambda: exact.score(headlines, bodies),
        "reviewrisk Scorer, bfloat16": lambda: half.score(headlines, bodies),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    half.score(headlines[:200], bodies[:200])  # the first bfloat16 shapes compile
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - started)
    scores = exact.score(headlines, bodies)
    print(
        f"{len(texts):,} reviews, {scores.real_tokens / len(texts):.0f} tokens each, 1 thread, {options.rounds} rounds,"
        " MiniLM"
    )
    print("| engine | reviews/s | ratio to plain, padded to 256 |")
    print("|---|---:|---:|")
    peer = seconds["plain, padded to 256, float32"]
    for name, taken in seconds.items():
        ratio = statistics.median(base / own for base, own in zip(peer, taken, strict=True))
        print(f"| {name} | {len(texts) / statistics.median(taken):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()

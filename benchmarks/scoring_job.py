"""Reviews a second of the whole scoring pass on Spark, against peers in the same run; and how much of the machine's
fastest bfloat16 matrix product the network's useful work comes to.

    python benchmarks/scoring_job.py [--source reviews.tsv.gz] [--bundle ROOT/models/VERSION] [--rounds 5] [--rows 1000]

Ours is the UDF of `reviewrisk score` with each engine that this machine has; the peers are in scoring_peers.py. All
compute one classifier on the same reviews, read at most 256 tokens, and run on local[2] with one thread a task. There
are two networks: DistilBERT's shape with random weights, and the bundled MiniLM, or the bundle where one is given: its
threshold then shows how many decisions flip. No two reviews have one text: no contestant gains from equal texts.

In every round contestants take turns. Each first runs untimed, so that its model is loaded and its kernels are built,
then timed; slow ones get fewer rows. Rates are medians over the rounds, ratios medians of each round's own ratio.
Useful operations are those of the encoder's matrix products for the tokens of the texts, without padding.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scoring_peers as peers
import torch
from invented_reviews import write_reviews
from matrix_product import Fastest, fastest_product
from numpy.typing import NDArray
from scoring_models import (
    MAX_LENGTH,
    Compared,
    bundle_serving,
    compared,
    encoder_folder,
    hub_folder,
    onnx_int8,
    random_serving,
    read_reviews,
    useful_flops,
)
from transformers import DistilBertConfig

from jobs.config import ScoreSettings, SparkSettings
from jobs.scoring.incremental import KEY, TEXT
from jobs.scoring.ship import ship
from jobs.scoring.udfs import scoring_udf
from jobs.spark.session import build_session
from model.network.backbone import BUNDLED_MINILM, encode, load_tokenizer
from model.network.hardware import computes_bfloat16, cpu_capabilities, cpu_name
from model.scoring.engine_choice import candidates, named
from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.engines.openvino_engine import compile_graph
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings

WORKERS = 2
ROWS_PER_TASK = 1000
WARM_ROWS = 64


@dataclass(eq=False)
class Contestant:
    """One way to score: `score` maps the reviews to (review_id, logit).

    `share` of the rows is enough to time it. With `builds_kernels` it is warmed up on all of them: its engine, loaded
    anew in every turn, builds code for each shape that it meets.
    """

    name: str
    precision: str
    score: Callable[[Any], Any]
    share: float = 1.0
    builds_kernels: bool = False
    rates: list[float] = field(default_factory=list)
    logits: pd.Series = field(default_factory=lambda: pd.Series(dtype=float))

    def take_turn(self, spark: Any, reviews: pd.DataFrame) -> None:
        """One pass untimed and one timed over its first rows."""
        part = reviews.iloc[: max(2 * WORKERS, round(self.share * len(reviews)))]
        self._scored(spark, part if self.builds_kernels else part.iloc[:WARM_ROWS])
        started = time.perf_counter()
        found = self._scored(spark, part)
        self.rates.append(len(part) / (time.perf_counter() - started))
        self.logits = found.to_pandas().set_index("review_id")["logit"]

    def _scored(self, spark: Any, part: pd.DataFrame) -> Any:
        tasks = WORKERS * max(1, round(len(part) / (WORKERS * ROWS_PER_TASK)))
        return self.score(spark.createDataFrame(part).repartition(tasks)).toArrow()

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def ratio(self, other: Contestant) -> float:
        """How many times the other's rate, in the same round."""
        return statistics.median(own / their for own, their in zip(self.rates, other.rates, strict=True))


def theirs(serving: Path) -> list[Contestant]:
    """The peers, the slowest first."""
    hub = str(hub_folder(serving, serving.with_name(f"{serving.name}-hub")))
    graph = str(onnx_int8(Path(hub), serving.with_name(f"{serving.name}.onnx")))

    fastest = "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"

    def contestant(name: str, precision: str, udf: Any, share: float) -> Contestant:
        return Contestant(name, precision, lambda frame: frame.select("review_id", udf("text").alias("logit")), share)

    pipe, onnx, cross = (partial(udf, hub) for udf in (peers.pipeline_udf, peers.onnx_udf, peers.cross_encoder_udf))
    return [
        contestant("(a) transformers pipeline, padded to 256", "float32", pipe(MAX_LENGTH, True), 0.05),
        contestant("(b) … sorted by length, padded to the longest of 32", "float32", pipe(MAX_LENGTH, False), 0.4),
        contestant(
            "(c) predict_batch_udf with ONNX Runtime, 32 as they come", "dynamic int8", onnx(graph, MAX_LENGTH, 32), 0.5
        ),
        contestant("(c) … 32 out of 512, sorted by length (× c)", "dynamic int8", onnx(graph, MAX_LENGTH, 512), 1.0),
        contestant("(d) CrossEncoder, torch", fastest, cross(MAX_LENGTH, fastest), 1.0),
    ]


def ours(serving: Path, kind: EngineKind) -> Contestant:
    """The UDF of `reviewrisk score` on one engine."""
    from pyspark.sql import functions as F

    settings = named(ScoreSettings(), kind)
    score = scoring_udf({serving.name: settings}, settings.rows_per_buffer, threads=1)

    def scored(frame: Any) -> Any:
        return frame.select(score(F.struct(*KEY, *TEXT)).alias("score")).select("score.review_id", "score.logit")

    share = 0.3 if kind.precision == "float32" else 1.0
    return Contestant(f"reviewrisk score, {kind.name}", kind.precision, scored, share, kind != REFERENCE)


def run(spark: Any, serving: Path, reviews: pd.DataFrame, rounds: int) -> list[Contestant]:
    """All contestants after so many rounds."""
    kinds = candidates(ScoringSettings())
    for kind in kinds:
        if kind.name == "openvino":
            compile_graph(serving, kind.precision)
    ship(spark, serving)
    every = [*theirs(serving), *(ours(serving, kind) for kind in kinds)]
    for number in range(rounds):
        for contestant in every:
            contestant.take_turn(spark, reviews)
            name = f"{contestant.name}, {contestant.precision}"
            print(f"  round {number + 1}: {name}: {contestant.rates[-1]:,.1f} reviews/s", flush=True)
    return every


def with_keys(reviews: pd.DataFrame, version: str) -> pd.DataFrame:
    """The reviews with the columns that the UDF takes, which are those of the table."""
    month = pd.Timestamp("2015-08-01").date()
    return reviews.assign(review_month=month, text_hash=reviews["review_id"], model_version=version)


def print_table(every: list[Contestant], flops: NDArray[np.float64], product: Fastest, base: Compared) -> None:
    """A row per contestant; `flops`: useful operations of each review."""
    print(
        "\n| contestant | dtype | rows | reviews/s | × a | × b | × c | useful GFLOP/s | of the bf16 product"
        " | logits differ by, at most | flipped | ECE changes by |\n|---|---|" + "---:|" * 10
    )
    for one in every:
        rows = len(one.logits)
        useful = one.rate * flops[:rows].mean()
        span = f"{one.rate:,.1f} ({min(one.rates):,.1f}–{max(one.rates):,.1f})"
        ratios = " | ".join(f"{one.ratio(every[place]):.1f}" for place in (0, 1, 3))
        print(
            f"| {one.name} | {one.precision} | {rows:,} | {span} | {ratios} | {useful / 1e9:,.0f} |"
            f" {useful / product.rate:.0%} | {' | '.join(base.differences(one.logits))} |"
        )


def compare(spark: Any, serving: Path, title: str, reviews: pd.DataFrame, options: argparse.Namespace) -> None:
    """Time all contestants on one network, and print the table."""
    scorer = Scorer.load(serving, named(ScoringSettings(), REFERENCE), threads=WORKERS)
    base = compared(scorer, reviews, options.bundle if title == BUNDLED_MINILM else None)
    _, tokens = encode(load_tokenizer(serving / "tokenizer"), reviews["text"].tolist(), MAX_LENGTH)
    read = np.minimum(np.array(tokens), MAX_LENGTH)
    product = fastest_product(WORKERS)
    every = run(spark, serving, with_keys(reviews, serving.name), options.rounds)
    print(
        f"\n### {title}\n\n{len(reviews):,} reviews of {read.mean():.0f} tokens (95% have at most"
        f" {np.percentile(read, 95):.0f}); {options.rounds} rounds; logits of standard deviation {base.spread:.2g};"
        f" fastest bf16 product, {WORKERS} processes: {product}"
    )
    print_table(every, useful_flops(serving, read), product, base)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, help="a raw file; else invented reviews")
    parser.add_argument("--bundle", type=Path, help="a trained model, whose decisions are compared")
    parser.add_argument(
        "--rows", type=int, default=1000, help="for DistilBERT's shape; MiniLM gets three times as many"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", choices=["distilbert", "minilm"], help="only this one")
    options = parser.parse_args()
    spark = build_session(SparkSettings(master=f"local[{WORKERS}]", options={"spark.task.cpus": "1"}))
    spark.sparkContext.addPyFile(str(peers.__file__))
    wide = [name for name in cpu_capabilities() if name.startswith(("avx2", "avx512_bf16", "avx512_vnni", "amx"))]
    print(f"{cpu_name()} ({', '.join(wide)}); {WORKERS} tasks at once, 1 thread each", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = options.source or write_reviews(work / "reviews.tsv", 5 * options.rows)
        if options.network != "minilm":
            reviews = read_reviews(source, options.rows)
            encoder = encoder_folder(work / "encoder", DistilBertConfig())
            made = random_serving(work / "distilbert", str(encoder))
            compare(spark, made, "DistilBERT's shape", reviews, options)
        if options.network != "distilbert":
            reviews = read_reviews(source, 3 * options.rows)
            serving = work / "minilm"
            made = (
                bundle_serving(serving, options.bundle) if options.bundle else random_serving(serving, BUNDLED_MINILM)
            )
            compare(spark, made, BUNDLED_MINILM, reviews, options)
    spark.stop()


if __name__ == "__main__":
    main()

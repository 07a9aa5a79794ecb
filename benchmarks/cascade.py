"""The cascade on a root's champion: what each limit lets skip the network, what that costs, and how much faster scoring
becomes. In one process, one thread; the limits take turns within each round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from jobs.config import Config, load_config
from jobs.lake import tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold
from jobs.scoring.trade import OFFERED, fitted_cuts
from model.scoring.cascade import Cut
from model.scoring.engine_choice import named
from model.scoring.engines.interface import EngineKind
from model.scoring.engines.openvino_engine import compile_graph
from model.scoring.scorer import Scorer, Scores

HEAD = (
    "max_flipped_share",
    "skip the network",
    "flipped",
    "ECE changes by",
    "of the timed ones skip",
    "of their tokens",
    "3-star ones flipped",
    "reviews/s",
    "× without",
)


def newest_reviews(config: Config, rows: int) -> list[dict[str, Any]]:
    """So many of the newest reviews, those of three stars and identical texts among them, as a night has them."""
    columns = ["review_headline", "review_body", "star_rating", "review_date", "review_id"]
    order = [("review_date", "descending"), ("review_id", "ascending")]
    found: list[dict[str, Any]] = tables.read_arrow(config.root, "reviews", columns).sort_by(order)[:rows].to_pylist()
    return found


def timed(scorer: Scorer, reviews: Sequence[dict[str, Any]], cut: float | None) -> tuple[Scores, float]:
    """The scores, and the seconds that the process computed."""
    started = time.process_time()
    texts = [row["review_headline"] for row in reviews], [row["review_body"] for row in reviews]
    return scorer.score(*texts, cut=cut), time.process_time() - started


def table_row(cut: Cut, scores: Scores, whole: Scores, is_three: Any, threshold: float, speed: str) -> list[str]:
    skipped = scores.by_baseline
    flipped = (scores.probability >= threshold) != (whole.probability >= threshold)
    return [
        f"{cut.max_flipped_share:g}",
        f"{cut.skipped / cut.rows:.1%}",
        ", ".join(f"{name} {count}" for name, count in sorted(cut.flipped.items())),
        f"{cut.ece_change:+.4f}",
        f"{skipped.mean():.1%}",
        f"{1 - scores.real_tokens / whole.real_tokens:.1%}",
        f"{(flipped & skipped & is_three).sum()} of {is_three.sum():,}",
        speed,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conf", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limits", type=float, nargs="+", default=OFFERED)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="bfloat16")
    options = parser.parse_args()
    config = load_config(options.conf)
    row = champion(config.root)
    serving, kind = serving_folder(config, row), EngineKind(options.engine, options.precision)
    if kind.name == "openvino":
        compile_graph(serving, kind.precision)
    scorer = Scorer.load(serving, named(config.score, kind), threads=1)
    reviews = newest_reviews(config, options.rows)
    cuts = [cut for cut in fitted_cuts(config, row, options.limits) if cut.cut is not None]
    wanted: list[float | None] = [None, *(cut.cut for cut in cuts)]
    for cut in wanted:
        timed(scorer, reviews[:200], cut)  # kernels and files are then at hand
    rounds = [[timed(scorer, reviews, cut) for cut in wanted] for _ in range(options.rounds)]
    rates = np.array([[len(reviews) / seconds for _, seconds in one] for one in rounds])
    whole, *others = (scores for scores, _ in rounds[0])
    is_three = np.array([one["star_rating"] == 3 for one in reviews])
    threshold = default_threshold(config.root, row["model_version"])
    print(
        f"{row['model_version']}, {kind}: {cuts[0].rows if cuts else 0:,} labelled test reviews for the trade;"
        f" {len(reviews):,} newest reviews of {whole.token_count.mean():.0f} tokens timed, {options.rounds} rounds,"
        f" medians; three stars at {threshold['threshold_name']}\n"
    )
    print(f"| {' | '.join(HEAD)} |\n|{'---:|' * len(HEAD)}")
    print(f"| none | 0.0% |  |  | 0.0% | 0.0% |  | {_spread(rates[:, 0])} | 1.00 |")
    for place, (cut, scores) in enumerate(zip(cuts, others, strict=True), start=1):
        cells = table_row(cut, scores, whole, is_three, threshold["threshold"], _spread(rates[:, place]))
        print(f"| {' | '.join(cells)} | {median(rates[:, place] / rates[:, 0]):.2f} |")


def _spread(rates: Any) -> str:
    """The median rate, with the slowest and fastest round beside it."""
    return f"{median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"


if __name__ == "__main__":
    main()

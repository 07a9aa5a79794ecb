"""How many gradients along its path an explanation needs, by the way in which their places are chosen.

    python benchmarks/path_quadrature.py --conf conf/demo.yml [--rows 24]

Takes flagged test reviews of the config's root (the champion's, at its default threshold), reads the gradient at a fine
grid of places along each review's path once, and lets every rule integrate a spline through it: no rule has the model
to itself. A review counts as converged where the sum of its attributions misses the change in logit by less than
explain.max_delta.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from jobs.config import Config, load_config
from jobs.lake import tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold
from model.explanation.integrated_gradients import AttributionPath
from model.explanation.quadrature import Quadrature, first_quadrature, refined_quadrature
from model.scoring.scorer import Scorer
from model.text.compose import HeadlineMode, compose

NODES = (8, 12, 16, 20, 24, 32, 48, 64)
GRID = np.unique(np.concatenate([np.linspace(0, 1, 161), np.linspace(0, 1, 64) ** 3]))
FIRST = 16


@dataclass(frozen=True)
class Profile:
    """One review: what its logit changes by along its path, as a function of the place, and in all."""

    change_at: CubicSpline
    change: float

    def misses(self, quadrature: Quadrature) -> float:
        """By how much the quadrature misses the change in logit."""
        return abs(float(quadrature.weights @ self.change_at(quadrature.places)) - self.change)


def gauss_legendre(nodes: int) -> Quadrature:
    """The usual rule, exact for polynomials."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return Quadrature((places + 1) / 2, weights / 2)


def even_midpoints(nodes: int) -> Quadrature:
    """Equal steps, each at its middle."""
    return Quadrature((np.arange(nodes) + 0.5) / nodes, np.full(nodes, 1 / nodes))


def flagged_texts(config: Config, version: str, rows: int, mode: HeadlineMode) -> list[str]:
    """Texts of test reviews that the champion flags, drawn with a fixed seed."""
    threshold = default_threshold(config.root, version)["threshold"]
    scores = tables.read_arrow(config.root, "review_scores", ("review_id", "model_version", "probability")).to_pandas()
    reviews = tables.read_arrow(
        config.root, "reviews", ("review_id", "split", "review_headline", "review_body")
    ).to_pandas()
    flagged = scores[(scores.model_version == version) & (scores.probability >= threshold)]
    found = reviews[reviews.split == "test"].merge(flagged, on="review_id").sort_values("review_id")
    chosen = found.sample(min(rows, len(found)), random_state=1)
    fields = pa.Table.from_pandas(chosen[["review_headline", "review_body"]], preserve_index=False).to_pylist()
    return [compose(row["review_headline"], row["review_body"], mode).text for row in fields]


def profiles(scorer: Scorer, texts: list[str], tokens_per_batch: int) -> list[Profile]:
    """The profile of each text."""
    rows = [encoded.ids for encoded in scorer.encode(texts)]
    path = AttributionPath(scorer.model, scorer.pad_id, scorer.device, tokens_per_batch)
    changes = np.array(path.logits(rows)) - np.array(path.baseline_logits(rows))
    grid = Quadrature(GRID, np.ones_like(GRID))
    found = []
    for row, change in zip(rows, changes, strict=True):
        [products] = path.products([row], [grid])
        found.append(Profile(CubicSpline(GRID, products.sum(axis=1)), float(change)))
        print(f"  {len(found)} of {len(rows)} reviews read", flush=True)
    return found


def refined(profile: Profile, nodes: int) -> Quadrature:
    """The second round of an explanation, after a first of 16."""
    places = first_quadrature(FIRST).places
    return refined_quadrature(nodes, places, profile.change_at(places))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=24)
    options = parser.parse_args()
    config = load_config(options.conf)
    row = champion(config.root)
    scorer = Scorer.load(serving_folder(config, row), config.score)
    found = profiles(
        scorer,
        flagged_texts(config, row["model_version"], options.rows, scorer.headline_mode),
        config.explain.tokens_per_batch,
    )
    rules: dict[str, Callable[[Profile, int], Quadrature]] = {
        "Gauss-Legendre": lambda _, nodes: gauss_legendre(nodes),
        "even midpoints": lambda _, nodes: even_midpoints(nodes),
        "first round: midpoints, denser in the middle": lambda _, nodes: first_quadrature(nodes),
        f"second round: where the first {FIRST} saw change": refined,
    }
    print(f"\n{len(found)} flagged test reviews; converged: |delta| < {config.explain.max_delta}\n")
    print("| places | " + " | ".join(str(nodes) for nodes in NODES) + " |")
    print("|---|" + "---:|" * len(NODES))
    for name, rule in rules.items():
        shares = [
            converged(found, lambda profile, nodes=nodes, rule=rule: rule(profile, nodes), config.explain.max_delta)
            for nodes in NODES
        ]  # type: ignore[misc]
        print(f"| {name} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")


def converged(found: list[Profile], rule: Callable[[Profile], Quadrature], limit: float) -> np.float64:
    """The share of reviews that the rule integrates."""
    hits: NDArray[np.bool_] = np.array([profile.misses(rule(profile)) < limit for profile in found])
    return hits.mean()


if __name__ == "__main__":
    main()

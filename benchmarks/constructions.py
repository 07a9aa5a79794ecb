"""How the champion and TF-IDF do on the synthetic test split, by the construction that each review was made with.

    python benchmarks/constructions.py build/demo

Reads a root that `reviewrisk demo` made (its scores, its champion's bundle, and the sample's side file of causes) and fits TF-IDF on the
very rows that the champion was trained on, with a threshold chosen as the champion's was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import tables
from jobs.registry import champion, default_threshold
from jobs.storage import Root, StorageSettings, parse_root
from jobs.train import COLUMNS
from model.baseline import fit_tfidf, tfidf_probability
from model.data import LabelledReviews, prepare
from model.evaluation import metrics
from model.files import read_json
from model.settings import ModelSettings
from model.thresholds import f1_max_threshold


def constructions(causes: Path) -> dict[str, str]:
    """review_id -> construction, of the sample's side file."""
    rows = [json.loads(line) for line in causes.read_text(encoding="utf-8").splitlines()]
    return {row["review_id"]: row["construction"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    arguments = parser.parse_args()
    root = parse_root(str(arguments.root), StorageSettings())
    model = champion(root)
    settings = ModelSettings.model_validate(read_json(root.local_path / model["bundle_path"] / "settings.json"))
    data = prepare(tables.read_arrow(root, "reviews", COLUMNS, pc.field("split").isin(["train", "validation", "test"])), settings.training)
    tfidf = fit_tfidf(data.train.texts, data.train.labels)
    decided = {
        "champion": (_stored(root, model["model_version"], data.test), default_threshold(root, model["model_version"])["threshold"]),
        "TF-IDF": (
            tfidf_probability(tfidf, data.test.texts),
            f1_max_threshold(tfidf_probability(tfidf, data.choosing.texts), data.choosing.labels),
        ),
    }
    kinds = np.array([constructions(root.local_path / "work/sample/furniture_reviews.causes.jsonl")[review_id] for review_id in data.test.review_ids])
    print("| construction | rows | dissatisfied | " + " | ".join(f"{name} F1" for name in decided) + " |")
    print("|---|---:|---:|" + "---:|" * len(decided))
    for kind in [*sorted(set(kinds)), "all"]:
        inside = (kinds == kind) | (kind == "all")
        labels = data.test.labels[inside]
        cells = [metrics(probability[inside], labels, threshold, 10)["f1"] for probability, threshold in decided.values()]
        print(f"| {kind} | {len(labels):,} | {labels.sum():,} | " + " | ".join("–" if cell is None else f"{cell:.3f}" for cell in cells) + " |")


def _stored(root: Root, version: str, test: LabelledReviews) -> NDArray[np.float64]:
    rows = tables.read_arrow(root, "review_scores", ["review_id", "probability"], pc.field("model_version") == version)
    found = dict(zip(rows["review_id"].to_pylist(), rows["probability"].to_pylist(), strict=True))
    return np.array([found[review_id] for review_id in test.review_ids])


if __name__ == "__main__":
    main()

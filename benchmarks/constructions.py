"""How the champion and TF-IDF do on the synthetic test split, by the construction that each review was made with.

    python benchmarks/constructions.py build/demo

Reads a root that `reviewrisk demo` made: the log-odds of both models in the champion's bundle, and the sample's side
file of causes. TF-IDF was fitted on the very rows that the champion was trained on; the thresholds of both are chosen
on the same validation rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.registry.models import champion
from jobs.storage import StorageSettings, parse_root
from model.evaluation.calibrators import sigmoid
from model.evaluation.metrics import Scored, metrics
from model.evaluation.thresholds import f1_max_threshold

MODELS = {"model": "fine-tuned network", "tfidf": "TF-IDF + logistic regression"}


def scored_test_rows(predictions: pa.Table, name: str) -> Scored:
    """A model's test rows, cut where F1 is best on the later parts of validation. Calibration keeps the order, so it is
    left out.
    """
    later, test = (predictions.filter(chosen(predictions["part"], "test")) for chosen in (pc.not_equal, pc.equal))
    threshold = f1_max_threshold(sigmoid(later[f"{name}_logit"].to_numpy()), later["label"].to_numpy())
    logit = test[f"{name}_logit"].to_numpy()
    return Scored(logit, sigmoid(logit), test["label"].to_numpy(), threshold)


def constructions(causes: Path) -> dict[str, str]:
    """review_id -> construction, of the sample's side file, whose last line is about the whole sample."""
    *rows, _ = [json.loads(line) for line in causes.read_text(encoding="utf-8").splitlines()]
    return {row["review_id"]: row["construction"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    root = parse_root(str(parser.parse_args().root), StorageSettings())
    predictions = pq.read_table(root.local_path / champion(root)["bundle_path"] / "predictions.parquet")
    models = {name: scored_test_rows(predictions, name) for name in MODELS}
    ids = predictions.filter(pc.equal(predictions["part"], "test"))["review_id"].to_pylist()
    by_id = constructions(root.local_path / "work/sample/furniture_reviews.causes.jsonl")
    kinds = np.array([by_id[review_id] for review_id in ids])
    print("| construction | rows | dissatisfied | " + " | ".join(f"{title}: F1" for title in MODELS.values()) + " |")
    print("|---|---:|---:|" + "---:|" * len(MODELS))
    for kind in [*sorted(set(kinds)), "all"]:
        inside = (kinds == kind) | (kind == "all")
        found = {name: metrics(scored.take(inside), 10) for name, scored in models.items()}
        cells = ["–" if one["f1"] is None else f"{one['f1']:.3f}" for one in found.values()]
        print(f"| {kind} | {found['model']['rows']:,} | {found['model']['positives']:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

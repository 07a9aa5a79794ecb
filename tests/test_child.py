"""The child of untrained parents: what its bundle says of how it was made, and the table that shows interference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle import verify_bundle
from model.child import figures_by_category, make_child, side_by_side
from model.evaluation import Scored
from model.merging import load_parent, make_recipe
from tests.adapter_bundles import adapter_bundle
from tests.tiny_models import planted_reviews, tiny_encoder

LABELS = np.array([1, 0, 1, 0, 0, 0])
CATEGORIES = ["sofas", "sofas", "sofas", "sofas", "lamps", "lamps"]


def judged(probability: list[float], threshold: float) -> Scored:
    return Scored(np.log(np.array(probability) / (1 - np.array(probability))), np.array(probability), LABELS, threshold)


def test_each_model_is_judged_at_its_own_threshold_and_a_figure_that_is_not_defined_is_none() -> None:
    models = {"one": judged([0.3, 0.1, 0.4, 0.2, 0.1, 0.1], 0.25), "child": judged([0.9, 0.8, 0.4, 0.2, 0.7, 0.1], 0.5)}
    found = figures_by_category(models, CATEGORIES, bins=5)
    assert {name: (row["rows"], row["positives"]) for name, row in found.items()} == {"all test rows": (6, 2), "lamps": (2, 0), "sofas": (4, 2)}
    assert found["sofas"]["f1"] == {"one": 1.0, "child": 0.5}
    assert found["sofas"]["auc"] == {"one": 1.0, "child": 0.75}
    assert found["lamps"]["auc"] == {"one": None, "child": None}, "there is one class alone"


def by_category(f1_of_child: float) -> dict[str, dict[str, Any]]:
    row = {"rows": 4, "positives": 2, "auc": {"one": None, "two": 0.9, "child": 0.8}}
    return {"all test rows": {**row, "f1": {"one": 0.5, "two": 0.7, "child": 0.75}}, "sofas": {**row, "f1": {"one": None, "two": 0.8, "child": f1_of_child}}}


def test_the_table_names_where_the_child_loses_most_to_its_best_parent() -> None:
    lines = side_by_side(by_category(0.6))
    assert lines[0] == "A is one, B is two:"
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "test rows",
        "rows",
        "dissatisfied",
        "F1 A",
        "F1 B",
        "F1 child",
        "AUC A",
        "AUC B",
        "AUC child",
    ]
    assert [cell.strip() for cell in lines[5].split("|")[1:-1]] == ["sofas", "4", "2", "–", "0.8000", "0.6000", "–", "0.9000", "0.8000"]
    assert lines[-1] == "Interference: the child loses most F1 to its best parent on sofas, 0.2000."
    assert side_by_side(by_category(0.81))[-1].startswith("Nowhere does the child have less F1 than its best parent there")


@pytest.mark.parametrize(("seed", "warned"), [(17, False), (99, True)])
def test_heads_that_began_elsewhere_are_warned_of_on_screen_and_on_the_card(tmp_path: Path, seed: int, warned: bool) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    parents = [load_parent(adapter_bundle(tmp_path, encoder, 1)), load_parent(adapter_bundle(tmp_path, encoder, 2, training_seed=seed))]
    lines: list[str] = []
    child = make_child(
        parents, make_recipe("dare_ties", 2, density=0.4, rank=6, seed=5), planted_reviews(), tmp_path / "models", tmp_path / "work", 1e-3, lines.append
    )
    verify_bundle(child.bundle)
    card = (child.bundle / "README.md").read_text()
    made = f"The adapters of {parents[0].version} (1) and {parents[1].version} (1) are combined by method dare_ties, density 0.4, seed 5 into one of rank 6."
    assert made in lines and made in card
    warning = "The parents' heads began at different random weights (model.training.seed): their mean may be worth nothing."
    assert (warning in lines, warning in card) == (warned, warned)
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == [], "nothing but the bundle is left"

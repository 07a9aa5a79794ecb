"""The child of untrained parents: what its bundle says of how it was made, and of which reviews it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.bundle.bundle import verify_bundle
from model.merging.combine import load_parent, make_recipe
from model.merging.merged_adapter import make_combined_model
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import planted_reviews, tiny_encoder


@pytest.mark.parametrize(("seed", "warned"), [(17, False), (99, True)])
def test_heads_that_began_elsewhere_are_warned_of_on_screen_and_on_the_card(
    tmp_path: Path, seed: int, warned: bool
) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    parents = [
        load_parent(adapter_bundle(tmp_path, encoder, 1)),
        load_parent(adapter_bundle(tmp_path, encoder, 2, training_seed=seed)),
    ]
    lines: list[str] = []
    child = make_combined_model(
        parents,
        {parent.version: 0.5 for parent in parents},
        make_recipe("dare_ties", 2, density=0.4, rank=6, seed=5),
        planted_reviews(),
        tmp_path / "models",
        tmp_path / "work",
        1e-3,
        lines.append,
    )
    verify_bundle(child.bundle)
    card = (child.bundle / "README.md").read_text()
    made = (
        f"The adapters of {parents[0].version} (1) and {parents[1].version} (1) are combined by method dare_ties,"
        " density 0.4, seed 5 into one of rank 6."
    )
    assert made in lines and made in card
    warning = (
        "The parents' heads began at different random weights (model.training.seed): their mean may be worth nothing."
    )
    assert (warning in lines, warning in card) == (warned, warned)
    in_each_view = [line for line in card.split("The network in each view:")[1].splitlines() if line.startswith("| ")][
        1:7
    ]
    assert len(in_each_view) == 6 and all(line.count("|") == 8 for line in in_each_view), (
        "every figure in every view, as on any other card"
    )
    assert "**What the headline is worth**" in card and "| f1_max (default)" in card
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == [], "nothing but the bundle is left"


@pytest.mark.parametrize(("second", "only"), [("furniture", "product_category=furniture"), ("kitchen", None)])
def test_parents_of_the_same_reviews_have_a_child_of_these_and_others_one_of_all(
    tmp_path: Path, second: str, only: str | None
) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    choices = ["product_category=furniture", f"product_category={second}"]
    parents = [
        load_parent(adapter_bundle(tmp_path, encoder, seed, rows_only=choice)) for seed, choice in enumerate(choices)
    ]
    child = make_combined_model(
        parents,
        {parent.version: 0.5 for parent in parents},
        make_recipe("average", 2),
        planted_reviews(),
        tmp_path / "models",
        tmp_path / "work",
        1e-3,
        lambda _: None,
    )
    assert child.settings.rows.only == only
    groups = child.metrics["merge"]["by_category"]
    assert groups.keys() == {"all test rows", "furniture"} | (set() if only else {"kitchen", "unknown"})
    assert child.rows["test"] == groups["all test rows"]["rows"] == (60 if only else 120)
    assert groups["furniture"]["f1"][parents[0].version].keys() == {"value", "low", "high"}
    assert (f"**Only reviews with {only}** were read" in (child.bundle / "README.md").read_text()) == bool(only)

"""Where a combined model lost to its parents: a loss counts only where both classes have rows enough, and is told from
chance by its interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from model.evaluation.metrics import Scored
from model.merging.regression import figures_by_category, interference, side_by_side, widened_high
from model.settings import ModelSettings

# Each product has five dissatisfied and five satisfied rows, but those of lamps one of each; chairs have no
# dissatisfied one.
PRODUCTS = {"sofas": 20, "desks": 8, "lamps": 2, "beds": 20, "chairs": 1}
MISSED, REVERSED, RIGHT = [0.1] + [0.9] * 4 + [0.1] * 5, [0.1] * 5 + [0.9] * 5, [0.9] * 5 + [0.1] * 5


def probabilities(category: str, place: int) -> tuple[list[int], list[float], list[float]]:
    """Labels of one product's rows, and what a parent and the combined model give them."""
    if category == "lamps":  # the child has all of it wrong
        return [1, 0], [0.9, 0.1], [0.1, 0.9]
    if category == "chairs":
        return [0, 0], [0.1, 0.1], [0.1, 0.1]
    parent = MISSED if category == "beds" else RIGHT
    child = {"sofas": MISSED, "desks": REVERSED if place == 0 else RIGHT, "beds": RIGHT}[category]
    return [1] * 5 + [0] * 5, parent, child


def judged(*categories: str) -> dict[str, dict[str, Any]]:
    """The figures of a good parent, of one that flags nothing, and of the combined one, on these categories."""
    rows: list[tuple[str, str, int, float, float]] = []
    for category in categories:
        for place in range(PRODUCTS[category]):
            rows += [
                (category, f"{category}-{place}", *row) for row in zip(*probabilities(category, place), strict=True)
            ]
    names, products, labels, good, child = zip(*rows, strict=True)

    def scored(probability: Any, threshold: float) -> Scored:
        values = np.array(probability)
        return Scored(np.log(values / (1 - values)), values, np.array(labels), threshold)

    models = {"blind": scored([0.1] * len(rows), 0.5), "good": scored(good, 0.25), "child": scored(child, 0.6)}
    return figures_by_category(models, names, np.array(products), ModelSettings())


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return judged("sofas", "lamps", "desks", "beds", "chairs")


def test_each_category_has_its_rows_and_each_model_its_figures_with_intervals(found: dict[str, dict[str, Any]]) -> None:
    counts = {name: (row["rows"], row["positives"]) for name, row in found.items()}
    assert counts == {
        "all test rows": (486, 242),
        "beds": (200, 100),
        "chairs": (2, 0),
        "desks": (80, 40),
        "lamps": (4, 2),
        "sofas": (200, 100),
    }
    assert {model: figure["value"] for model, figure in found["sofas"]["f1"].items()} == {
        "blind": 0.0,
        "good": 1.0,
        "child": pytest.approx(8 / 9),
    }
    assert (
        found["desks"]["f1"]["child"]["low"]
        < found["desks"]["f1"]["child"]["value"]
        == 0.875
        < found["desks"]["f1"]["child"]["high"]
        == 1.0
    )
    assert found["desks"]["auc"]["blind"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    undefined = {"value": None, "low": None, "high": None}
    assert found["chairs"]["auc"]["child"] == found["chairs"]["f1"]["good"] == undefined, "there is one class alone"


def test_the_child_is_held_against_its_best_parent_where_both_classes_have_rows_enough(
    found: dict[str, dict[str, Any]],
) -> None:
    assert [name for name, row in found.items() if row["gain"] is None] == ["chairs", "lamps"]
    assert {row["gain"]["f1"]["parent"] for row in found.values() if row["gain"]} == {"good"}
    sofas, desks = found["sofas"]["gain"]["f1"], found["desks"]["gain"]["f1"]
    assert sofas["value"] == sofas["low"] == sofas["high"] == pytest.approx(-1 / 9), "each product lost as much"
    assert desks["value"] == -0.125 and desks["low"] < -0.125 and desks["high"] == 0.0, (
        "one product lost all of it, and may not be drawn"
    )


def test_the_greatest_loss_beyond_chance_is_named_before_greater_ones_of_few_rows_or_few_products(
    found: dict[str, dict[str, Any]],
) -> None:
    assert (
        interference(found)
        == "Interference: the combined model loses most F1 to its best parent on sofas, -0.111 [-0.111, -0.111]."
    )


def test_twenty_looks_at_nothing_find_a_loss_as_seldom_as_one_does() -> None:
    """Worlds in which no category has lost anything: without the correction two in five of them are said to have
    interference.
    """
    gains = np.random.default_rng(1).normal(size=(2000, 20))
    width = norm.ppf(0.975)
    plain = (gains + width < 0).any(axis=1).mean()
    corrected = np.mean(
        [any(widened_high(gain - width, gain + width, 0.95, 20) < 0 for gain in world) for world in gains]
    )
    assert plain == pytest.approx(1 - 0.975**20, abs=0.04) and corrected == pytest.approx(0.025, abs=0.012)
    assert widened_high(-3.0, 1.0, 0.95, 1) == 1.0, "a single look is not corrected"


def one_loss_among(others: int) -> dict[str, dict[str, Any]]:
    """One parent, whom the combined model equals in so many categories; in four of the 20 products of sofas it misses
    one dissatisfied row.
    """
    products = [("sofas", place, place < 4) for place in range(20)] + [
        (f"other {number}", place, False) for number in range(others) for place in range(6)
    ]
    rows = [
        (category, f"{category}-{place}", *row)
        for category, place, misses in products
        for row in zip(RIGHT, MISSED if misses else RIGHT, strict=True)
    ]
    names, groups, good, child = (np.array(column) for column in zip(*rows, strict=True))
    label = (good > 0.5).astype(np.int64)
    models = {
        name: Scored(np.log(values / (1 - values)), values, label, 0.5)
        for name, values in (("parent", good), ("child", child))
    }
    return figures_by_category(models, names.tolist(), groups, ModelSettings())


@pytest.mark.parametrize(
    ("others", "looks", "said"), [(0, 2, "Interference: "), (7, 9, "No interference beyond chance: ")]
)
def test_a_loss_beyond_chance_in_one_look_may_be_chance_among_many(others: int, looks: int, said: str) -> None:
    found = one_loss_among(others)
    loss = found["sofas"]["gain"]["f1"]
    assert loss["low"] < loss["value"] < loss["high"] < 0, "the interval that is shown is for itself alone"
    assert loss["high_of_all"] == pytest.approx(
        loss["high"] + (norm.isf(0.025 / looks) / norm.isf(0.025) - 1) * (loss["high"] - loss["low"]) / 2
    )
    assert interference(found).startswith(said)
    assert f"With {looks} looks ({looks} sets of rows by 1 parents)" in side_by_side(found)[-2]


def test_a_loss_whose_interval_holds_0_may_be_chance() -> None:
    desks = interference(judged("desks", "beds"))
    assert desks.startswith(
        "No interference beyond chance: the combined model loses most F1 to its best parent on desks, -0.125 ["
    ) and desks.endswith("may be chance.")


def test_without_a_loss_or_without_rows_enough_that_is_said() -> None:
    assert interference(judged("beds")).startswith(
        "No interference is seen: nowhere with 30 rows of each class does the combined model have less F1 than its"
    )
    assert (
        interference(judged("lamps", "chairs"))
        == "Interference cannot be judged: nowhere are there 30 rows of each class."
    )


def test_each_figure_has_a_table_of_all_models_and_the_combined_models_gain(found: dict[str, dict[str, Any]]) -> None:
    lines = side_by_side(found)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert lines[0] == "A is blind, B is good:" and lines[-1] == interference(found)
    assert cells[0] == ["test rows", "rows", "dissatisfied", "F1 A", "F1 B", "F1 combined", "combined - best parent"]
    one, exact = "1.000 [1.000, 1.000]", "0.889 [0.889, 0.889]"
    assert cells[6] == ["sofas", "200", "100", "0.000 [0.000, 0.000]", one, exact, "-0.111 [-0.111, -0.111] (B)"]
    assert [row[-1] for row in cells if row[0] == "lamps"] == ["too few rows"] * 2
    assert [row[0] for row in cells[7:]] == [row[0] for row in cells[:7]] and cells[7][3] == "AUC A"

"""What a combined model lost to its parents, by product category: figures side by side with intervals, and where a loss is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.assessment import FEWEST_TO_RANK
from model.card import interval, signed, table
from model.evaluation import Groups, Scored, difference_intervals, intervals
from model.settings import ModelSettings

ALL_ROWS = "all test rows"
CHILD = "child"
_FIGURES = {"f1": "F1", "auc": "AUC"}


def figures_by_category(scored: dict[str, Scored], categories: Sequence[str], products: Groups, settings: ModelSettings) -> dict[str, dict[str, Any]]:
    """{category: {rows, positives, f1, auc, gain}}, all rows first, then the categories in order of their names.

    f1 (of the dissatisfied class, at each model's own threshold) and auc: {model: {value, low, high}}; what is not defined is None. gain:
    {figure: {parent, value, low, high}}, the child less its best parent there by a paired bootstrap; None where a class has fewer than
    FEWEST_TO_RANK rows, among which chance would name the loss. All intervals draw whole products; one of a single product has none.
    """
    names = np.array(categories)
    groups: dict[str, NDArray[np.bool_]] = {ALL_ROWS: np.ones(len(names), dtype=np.bool_)}
    groups.update({name: names == name for name in sorted(set(categories))})
    return {group: _figures({model: one.take(rows) for model, one in scored.items()}, products[rows], settings) for group, rows in groups.items()}


def side_by_side(by_category: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a table of `figures_by_category` for each figure, and what `interference` says of them."""
    models = list(by_category[ALL_ROWS]["f1"])
    letters = {model: model if model == CHILD else chr(ord("A") + place) for place, model in enumerate(models)}
    lines = [", ".join(f"{letter} is {model}" for model, letter in letters.items() if model != CHILD) + ":"]
    for key, title in _FIGURES.items():
        head = ["test rows", "rows", "dissatisfied", *(f"{title} {letter}" for letter in letters.values()), "child - best parent"]
        rows = [
            [group, f"{row['rows']:,}", f"{row['positives']:,}", *(interval(row[key][model]) for model in models), _gain(row["gain"], key, letters)]
            for group, row in by_category.items()
        ]
        lines += ["", *table(head, rows)]
    return [*lines, "", interference(by_category)]


def interference(by_category: dict[str, dict[str, Any]]) -> str:
    """Where the child loses most F1 to its best parent, in a sentence: of losses beyond chance where there is one, else of all."""
    gains = {group: row["gain"]["f1"] for group, row in by_category.items() if row["gain"]}
    enough = f"{FEWEST_TO_RANK} rows of each class"
    if not gains:
        return f"Interference cannot be judged: nowhere are there {enough}."
    losses = {group: gain for group, gain in gains.items() if gain["value"] < 0}
    if not losses:
        return f"Nowhere with {enough} does the child have less F1 than its best parent there: no interference is seen."
    certain = {group: gain for group, gain in losses.items() if gain["high"] is not None and gain["high"] < 0}
    group, gain = min((certain or losses).items(), key=lambda found: found[1]["value"])
    loss = f"the child loses most F1 to its best parent on {group}, {signed(gain)}"
    return f"Interference: {loss}." if certain else f"No interference beyond chance: {loss}, which may be chance."


def _figures(scored: dict[str, Scored], products: Groups, settings: ModelSettings) -> dict[str, Any]:
    """One group's entry of `figures_by_category`."""
    options = (settings.calibration.bins, products, settings.thresholds.confidence, settings.training.seed)
    every = {model: intervals(one, *options) for model, one in scored.items()}
    label = scored[CHILD].label
    positives = int(label.sum())
    found: dict[str, Any] = {"rows": len(label), "positives": positives}
    found |= {key: {model: figures[key] for model, figures in every.items()} for key in _FIGURES}
    found["gain"] = (
        {key: _gain_over_best(key, scored, found[key], options) for key in _FIGURES} if min(positives, len(label) - positives) >= FEWEST_TO_RANK else None
    )
    return found


def _gain_over_best(key: str, scored: dict[str, Scored], figure: dict[str, dict[str, Any]], options: tuple[int, Groups, float, int]) -> dict[str, Any]:
    best = max((model for model in figure if model != CHILD), key=lambda model: figure[model]["value"])
    return {"parent": best, **difference_intervals(scored[CHILD], scored[best], *options)[key]}


def _gain(gain: dict[str, Any] | None, key: str, letters: dict[str, str]) -> str:
    """A cell such as -0.041 [-0.060, -0.022] (A)."""
    return "too few rows" if gain is None else f"{signed(gain[key])} ({letters[gain[key]['parent']]})"

"""What a combined model lost to its parents, by product category: figures side by side with intervals, and where a loss
is more than chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.calibrators import LabelArray
from model.evaluation.markdown import interval, signed, table
from model.evaluation.metrics import Groups, Scored, difference_intervals, intervals
from model.evaluation.views import FEWEST_TO_RANK
from model.settings import ModelSettings

ALL_ROWS = "all test rows"
COMBINED = "child"  # as metrics.json has called it from the first
_FIGURES = {"f1": "F1", "auc": "AUC"}


def figures_by_category(
    scored: dict[str, Scored], categories: Sequence[str], products: Groups, settings: ModelSettings
) -> dict[str, dict[str, Any]]:
    """{category: {rows, positives, f1, auc, gain}}, all rows first, then the categories in order of their names.

    f1 (of the dissatisfied class, at each model's own threshold) and auc: {model: {value, low, high}}; what is not
    defined is None. gain: {figure: {parent, value, low, high, high_of_all}}, the combined model less its best parent
    there by a paired bootstrap; None where a class has fewer than FEWEST_TO_RANK rows, among which chance would name
    the loss. All intervals draw whole products; one of a single product has none. Each is of the settings' confidence
    for itself alone; high_of_all is the upper limit once all looks are allowed for (see `widened_high`), which are as
    many as there are parents in each group with a gain.
    """
    names = np.array(categories)
    groups: dict[str, NDArray[np.bool_]] = {ALL_ROWS: np.ones(len(names), dtype=np.bool_)}
    groups.update({name: names == name for name in sorted(set(categories))})
    looks = (len(scored) - 1) * sum(_has_enough(scored[COMBINED].label[rows]) for rows in groups.values())
    return {
        group: _figures({model: one.take(rows) for model, one in scored.items()}, products[rows], settings, looks)
        for group, rows in groups.items()
    }


def widened_high(low: float, high: float, confidence: float, looks: int) -> float:
    """The upper limit of an interval that is one of so many, by Bonferroni's correction: at 1 - (1 - confidence) /
    looks.

    Where no true difference is below 0, any of these limits is with a probability of (1 - confidence) / 2 at most. The
    bootstrap's thousand draws do not reach into tails so thin, so the limit is moved out by the normal law, of which
    the half width tells the standard deviation. With one look it is `high` itself.
    """
    alone, together = (NormalDist().inv_cdf(1 - (1 - confidence) / (2 * number)) for number in (1, looks))
    return high + (together / alone - 1) * (high - low) / 2


def side_by_side(by_category: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of Markdown: a table of `figures_by_category` for each figure, and what `interference` says of them."""
    models = list(by_category[ALL_ROWS]["f1"])
    letters = {model: "combined" if model == COMBINED else chr(ord("A") + place) for place, model in enumerate(models)}
    lines = [", ".join(f"{letter} is {model}" for model, letter in letters.items() if model != COMBINED) + ":"]
    for key, title in _FIGURES.items():
        head = [
            "test rows",
            "rows",
            "dissatisfied",
            *(f"{title} {letter}" for letter in letters.values()),
            "combined - best parent",
        ]
        rows = [
            [
                group,
                f"{row['rows']:,}",
                f"{row['positives']:,}",
                *(interval(row[key][model]) for model in models),
                _gain(row["gain"], key, letters),
            ]
            for group, row in by_category.items()
        ]
        lines += ["", *table(head, rows)]
    return [*lines, "", *_legend(by_category, len(models) - 1), interference(by_category)]


def interference(by_category: dict[str, dict[str, Any]]) -> str:
    """Where the combined model loses most F1 to its best parent, in a sentence: of losses beyond chance, all looks
    allowed for, where there is one, else of all.
    """
    gains = {group: row["gain"]["f1"] for group, row in by_category.items() if row["gain"]}
    enough = f"{FEWEST_TO_RANK} rows of each class"
    if not gains:
        return f"Interference cannot be judged: nowhere are there {enough}."
    losses = {group: gain for group, gain in gains.items() if gain["value"] < 0}
    if not losses:
        return (
            f"No interference is seen: nowhere with {enough} does the combined model have less F1 than its best parent"
            " there."
        )
    certain = {
        group: gain for group, gain in losses.items() if gain["high_of_all"] is not None and gain["high_of_all"] < 0
    }
    group, gain = min((certain or losses).items(), key=lambda found: found[1]["value"])
    loss = f"the combined model loses most F1 to its best parent on {group}, {signed(gain)}"
    return f"Interference: {loss}." if certain else f"No interference beyond chance: {loss}, which may be chance."


def _figures(scored: dict[str, Scored], products: Groups, settings: ModelSettings, looks: int) -> dict[str, Any]:
    """One group's entry of `figures_by_category`."""
    options = (settings.calibration.bins, products, settings.thresholds.confidence, settings.training.seed)
    every = {model: intervals(one, *options, names=tuple(_FIGURES)) for model, one in scored.items()}
    label = scored[COMBINED].label
    found: dict[str, Any] = {"rows": len(label), "positives": int(label.sum())}
    found |= {key: {model: figures[key] for model, figures in every.items()} for key in _FIGURES}
    found["gain"] = (
        {key: _gain_over_best(key, scored, found[key], options, looks) for key in _FIGURES}
        if _has_enough(label)
        else None
    )
    return found


def _has_enough(label: LabelArray) -> bool:
    """Whether both classes have FEWEST_TO_RANK rows."""
    positives = int(label.sum())
    return min(positives, len(label) - positives) >= FEWEST_TO_RANK


def _gain_over_best(
    key: str,
    scored: dict[str, Scored],
    figure: dict[str, dict[str, Any]],
    options: tuple[int, Groups, float, int],
    looks: int,
) -> dict[str, Any]:
    best = max((model for model in figure if model != COMBINED), key=lambda model: figure[model]["value"])
    gain = difference_intervals(scored[COMBINED], scored[best], *options, names=(key,))[key]
    low, high, confidence = gain["low"], gain["high"], options[2]
    return {
        "parent": best,
        **gain,
        "high_of_all": None if low is None or high is None else widened_high(low, high, confidence, looks),
    }


def _gain(gain: dict[str, Any] | None, key: str, letters: dict[str, str]) -> str:
    """A cell such as -0.041 [-0.060, -0.022] (A)."""
    return "too few rows" if gain is None else f"{signed(gain[key])} ({letters[gain[key]['parent']]})"


def _legend(by_category: dict[str, dict[str, Any]], parents: int) -> list[str]:
    """How a loss is told from chance; nothing where none is judged."""
    judged = sum(row["gain"] is not None for row in by_category.values())
    if not judged:
        return []
    return [
        f"Each interval is for itself alone. With {judged * parents} looks ({judged} sets of rows by {parents} parents)"
        " chance alone may find a loss, so one counts as beyond chance only where its interval, widened for all of"
        " them (Bonferroni's correction, by the normal law), still lies below 0."
    ]

"""A model's figures beside somebody's published ones: the config's section `reference`."""

from __future__ import annotations

from typing import Any

from jobs.config import PublishedFigures
from model.terminal import align

MISSING = "not measured"
# Title, field of `PublishedFigures`, column of `models`.
_SHARES = (
    ("AUC", "auc", "test_auc"),
    ("F1", "f1", "test_f1"),
    ("ECE", "ece", "test_ece"),
    ("TF-IDF AUC", "baseline_auc", "baseline_auc"),
    ("TF-IDF F1", "baseline_f1", "baseline_f1"),
)
Line = tuple[str, str, str, str, str, str]
# peft counts the frozen copy that it keeps of the head in the total, and a published row count may have 3-star reviews
# in it.
_COUNTS = (
    ("parameters trained", "trainable_parameters", "trainable_parameters"),
    ("parameters in all (here: distinct ones)", "total_parameters", "total_parameters"),
    ("reviews (here: labelled ones used)", "rows", "rows"),
)


def beside_published(published: PublishedFigures | None, row: dict[str, Any]) -> list[str]:
    """Lines of a table: each published figure, that of the model (a row of `models`), the difference, and whether it is
    within the tolerance.

    Empty where the config publishes nothing, or the model is of some reviews alone. A figure that the row lacks is said
    to be not measured; one without a tolerance gets no verdict.
    """
    if published is None or row["row_filter"]:
        return []
    measured = row | {"rows": _sum(row, "train_rows", "validation_rows", "test_rows")}
    lines = [("figure", "published", "this model", "difference", "tolerance", "")]
    lines += [_line(title, published, name, measured[column], ".4f") for title, name, column in _SHARES]
    lines += [_line(title, published, name, measured[column], ",") for title, name, column in _COUNTS]
    head = f"Beside published figures ({published.source}; {published.status}):"
    return [head, *(f"  {line}" for line in align(lines, right=[False, True, True, True, True, False]))]


def _sum(row: dict[str, Any], *names: str) -> int | None:
    values = [row[name] for name in names]
    return None if None in values else sum(values)


def _line(title: str, published: PublishedFigures, name: str, value: float | None, form: str) -> Line:
    expected, tolerance = getattr(published, name), getattr(published, f"tolerance_{name}", None)
    if value is None:
        return (title, f"{expected:{form}}", MISSING, "–", _formatted(tolerance, form), "")
    difference = value - expected
    return (
        title,
        f"{expected:{form}}",
        f"{value:{form}}",
        f"{difference:+{form}}",
        _formatted(tolerance, form),
        _verdict(difference, tolerance),
    )


def _formatted(tolerance: float | None, form: str) -> str:
    return "–" if tolerance is None else f"{tolerance:{form}}"


def _verdict(difference: float, tolerance: float | None) -> str:
    if tolerance is None:
        return ""
    return "within" if round(abs(difference), 9) <= tolerance else "outside"  # 0.998 - 0.996 is not 0.002 in binary

"""Figures and tables as Markdown shows them."""

from __future__ import annotations


def table(head: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines of a Markdown table, padded so that it reads as plain text too; all columns but the first `left` are set to
    the right.
    """
    widths = [max(len(line[place]) for line in [head, *rows]) for place in range(len(head))]

    def joined(cells: list[str]) -> str:
        return (
            "| "
            + " | ".join(f"{cell:{'<' if place < left else '>'}{widths[place]}}" for place, cell in enumerate(cells))
            + " |"
        )

    return [
        joined(head),
        "|" + "|".join("-" * (width + 1) + ("-" if place < left else ":") for place, width in enumerate(widths)) + "|",
        *map(joined, rows),
    ]


def number(value: float | None) -> str:
    """Four digits; a dash for what is not defined."""
    return "–" if value is None else f"{value:.4f}"


def interval(estimate: dict[str, float | None], form: str = ".3f") -> str:
    """A figure with its interval, such as 0.912 [0.895, 0.928]; a dash for what is not defined."""
    if estimate["value"] is None:
        return "–"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:{form}}"
    return f"{estimate['value']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


def signed(estimate: dict[str, float | None]) -> str:
    """A difference with its interval, such as +0.041 [+0.022, +0.060]."""
    return interval(estimate, "+.3f")

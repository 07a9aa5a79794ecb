"""Tables for people: aligned plain lines, and a rich table where there is a terminal. Control characters of a text are
shown escaped, never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console

GAP = "  "
LEAST_WIDTH = 12


def printable(text: str, keep: str = "") -> str:
    """The text with control and other unprintable characters, those of `keep` aside, written as escapes."""
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def align(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """One line per row, the columns two blanks apart and padded to the widest cell (East Asian wide characters take
    two places, combining marks none).
    """
    cells = [[printable(text) for text in row] for row in rows]
    widths = [max(cell_len(row[place]) for row in cells) for place in range(len(right))]
    return [GAP.join(_pad(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() for row in cells]


def _pad(text: str, width: int, to_the_right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if to_the_right else text + blanks


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], console: Console) -> None:
    """Print a table that fits the terminal: long cells are folded, and where there are too many columns for its width
    each row becomes a block of "column  value" lines.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if not _fits([header, *rows], console.width):
        for number, row in enumerate(rows, start=1):
            console.rule(f"row {number:,}", align="left", style="none")
            console.print(Text("\n".join(align(list(zip(header, row, strict=True)), right=[False, False]))))
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, to_the_right in zip(header, right, strict=True):
        table.add_column(Text(printable(name)), justify="right" if to_the_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    console.print(table)


def _fits(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether each column can have its width, or the least one in which folded cells are read."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return sum(min(each, LEAST_WIDTH) + len(GAP) for each in widths) <= width

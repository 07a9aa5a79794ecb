"""Pages of Markdown as the experiments write them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_WIDTH = 120
_AS_THEY_ARE = ("|", "#", "```")  # tables, headings and the fences of code


def markdown_page(sections: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines of Markdown: each heading with the lines under it, `wrapped`."""
    return list(wrapped(line for heading, lines in sections for line in (heading, "", *lines, "")))


def write_page(lines: Sequence[str], output: Path) -> None:
    """Write the page, with the folders that it lies in."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def wrapped(lines: Iterable[str]) -> Iterator[str]:
    """The lines, each of prose (a paragraph or an item of a list) cut so that it ends by column 120. Tables and blocks
    of code are left as they are.
    """
    is_code = False
    for line in lines:
        is_code ^= line.startswith("```")
        if is_code or not line or line.startswith(_AS_THEY_ARE):
            yield line
        else:
            indent = "  " if line.startswith(("* ", "- ")) else ""
            yield from textwrap.wrap(
                line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )

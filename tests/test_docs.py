"""The pages: links lead somewhere, pages and headings that the code names are there, lines end by column 120."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests import ROOT

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [path for path in TRACKED if path.endswith(".md")]
GENERATED = "docs/results/generated/"
PROSE = [path for path in PAGES if not path.startswith(GENERATED)]
CODE = [
    path
    for path in TRACKED
    if path.endswith((".py", ".sql", ".yml", ".toml", ".sh", ".sqlfluff", ".properties")) or path == "Makefile"
]
WIDEST = 120


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(path: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path: str, text: str) -> list[str]:
    """The links of a page, apart from those into the web, that lead nowhere."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        place = (ROOT / path).parent / name if name else ROOT / path
        if not target.startswith(("http://", "https://")) and not (
            place.exists() and (not anchor or anchor in anchors(str(place.resolve().relative_to(ROOT))))
        ):
            dead.append(target)
    return dead


def wide_lines(text: str) -> list[str]:
    """The lines, apart from rows of Markdown tables, that are wider than column 120."""
    return [line for line in text.splitlines() if len(line) > WIDEST and not line.startswith("|")]


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_somewhere(path: str) -> None:
    assert dead_links(path, text_of(path)) == []


@pytest.mark.parametrize("path", [*PROSE, *CODE])
def test_lines_end_by_column_120(path: str) -> None:
    """Of code too, whatever stands at their end: ruff lets a line be wider for a `# type: ignore` or `# noqa`. Pages
    that a run writes are as the run wrote them.
    """
    assert wide_lines(text_of(path)) == []


def test_a_dead_link_and_a_wide_line_are_found() -> None:
    text = "[a](architecture.md#layout) [b](architecture.md#no-such) [c](gone.md) [d](https://example.org/x)"
    assert dead_links("docs/operations.md", text) == ["architecture.md#no-such", "gone.md"]
    assert wide_lines(f"{'a' * 120}\n{'b' * 121}\n| {'c' * 121} |") == ["b" * 121]


@pytest.mark.parametrize("path", [path for path in TRACKED if path.endswith((".py", ".sh", ".yml", "Makefile"))])
def test_every_page_and_heading_that_the_code_names_is_there(path: str) -> None:
    words = re.sub(r"[\"'\s]+", " ", text_of(path))
    for page, heading in re.findall(r"(docs/[\w/-]+\.md)(?:, ([A-Z][\w ]*\w))?", words):
        assert (ROOT / page).exists(), page
        assert not heading or f"# {heading}" in text_of(page), f"{page} has no heading {heading!r}"


@pytest.mark.parametrize("path", [path for path in PROSE if path != "CHANGELOG.md"])
def test_every_file_that_a_page_names_is_there(path: str) -> None:
    named = re.findall(r"`((?:jobs|model|tests|sql|dbt|conf|benchmarks)/[\w/.-]+)`", text_of(path))
    assert [name for name in named if not (ROOT / name).exists()] == []

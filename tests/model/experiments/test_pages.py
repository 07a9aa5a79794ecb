"""Prose of a generated page ends by column 120 and says the same; tables and code are not touched."""

from __future__ import annotations

from model.experiments.pages import markdown_page, wrapped
from tests.support.pages import unwrapped


def test_prose_is_cut_at_column_120_and_items_are_indented_so_that_they_stay_items() -> None:
    words = " ".join(["word"] * 24)  # 119 characters
    assert list(wrapped([f"{words}.", f"{words} a", f"* {words}"])) == [
        f"{words}.",
        words,
        "a",
        f"* {words[:-5]}",
        "  word",
    ]


def test_tables_headings_code_and_empty_lines_stay_as_they_are() -> None:
    long = "a " * 100
    lines = [f"| {long}|", f"### {long}", "", "```", long, "```", "", "short"]
    assert list(wrapped(lines)) == lines


def test_a_page_has_each_heading_with_its_lines_and_reads_as_before_it_was_cut() -> None:
    item, paragraph = "* " + "an item that goes on " * 12, "a paragraph that goes on " * 12
    lines = markdown_page([("## One", [item.strip(), "* next"]), ("### Two", [paragraph.strip(), "", "| a |"])])
    assert max(map(len, lines)) <= 120 < len(item)
    expected = ["## One", "", item.strip(), "* next", "", "### Two", "", paragraph.strip(), "", "| a |", ""]
    assert unwrapped(lines) == expected

"""model.terminal: columns that stay under each other, and a table that fits the terminal."""

from __future__ import annotations

import io

from rich.console import Console

from model.terminal import align, print_table, printable


def printed(width: int, header: list[str], rows: list[list[str]], right: list[bool]) -> list[str]:
    out = io.StringIO()
    print_table(header, rows, right, Console(file=out, width=width, force_terminal=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_columns_stay_aligned_beside_wide_characters_and_combining_marks() -> None:
    assert align([("椅子", "1"), ("cafe\u0301", "20"), ("\x1b[31m", "3"), ("", "")], right=[False, True]) == [
        "椅子       1",
        "cafe\u0301      20",
        "\\x1b[31m   3",
        "",
    ]


def test_what_cannot_be_printed_is_written_as_an_escape() -> None:
    assert printable("a\tb\n\x9b\u202e ü椅") == "a\\tb\\n\\x9b\\u202e ü椅"
    assert printable("a\tb\n", keep="\n") == "a\\tb\n"


def test_a_table_that_fits_is_a_table() -> None:
    assert printed(40, ["name", "[b]n[/b]"], [["[red]desk", "1"], ["a\x1bb", "20"]], [False, True]) == [
        "name        [b]n[/b]",
        "─" * 20,
        "[red]desk          1",
        "a\\x1bb            20",
    ]


def test_a_long_cell_is_folded_and_not_cut() -> None:
    lines = printed(20, ["a", "text"], [["1", "word " * 10 + "x" * 30]], [True, False])
    assert max(map(len, lines)) <= 20
    assert "".join(line[2:].replace(" ", "") for line in lines[2:]).count("x") == 30


def test_a_table_too_wide_for_the_terminal_is_a_block_a_row() -> None:
    names = [f"column_{place}" for place in range(10)]
    lines = printed(40, names, [["1"] * 10, ["2"] * 10], [True] * 10)
    assert len(lines) == 22 and lines[0].startswith("row 1 ─") and lines[11].startswith("row 2 ─")
    assert lines[1:3] == ["column_0  1", "column_1  1"] and lines[-1] == "column_9  2"

"""The model card's tables and words."""

from __future__ import annotations

from model.card import interval, number, table, view_table


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def test_a_table_lines_up_as_plain_text_and_is_markdown() -> None:
    assert table(["model", "F1"], [["network", "0.9"], ["tf", "0.85"]]) == [
        "| model   |   F1 |",
        "|---------|-----:|",
        "| network |  0.9 |",
        "| tf      | 0.85 |",
    ]


def test_what_is_not_defined_is_a_dash_and_a_missing_interval_is_left_out() -> None:
    assert number(None) == interval(estimate(None)) == "–"
    assert number(0.87654) == "0.8765"
    assert interval(estimate(0.5)) == "0.500"
    assert interval(estimate(0.9123, 0.8951, 0.9277)) == "0.912 [0.895, 0.928]"


def test_each_view_has_a_row_with_both_models_and_their_difference() -> None:
    view = {
        "rows": 1200,
        "positives": 30,
        "model": {"f1": estimate(0.9, 0.8, 0.95)},
        "tfidf": {"f1": estimate(0.8, 0.7, 0.85)},
        "gain": {"f1": estimate(0.1, 0.05, 0.15)},
    }
    lines = view_table({"as_is": view, "unseen_products": view}, "f1")
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["as is", "rows of products not in train"]
    assert [cell.strip() for cell in lines[2].split("|")[2:-1]] == ["1,200", "30", "0.900 [0.800, 0.950]", "0.800 [0.700, 0.850]", "0.100 [0.050, 0.150]"]

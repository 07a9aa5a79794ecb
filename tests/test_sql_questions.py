"""sql/adhoc: each worked question has the answer that is counted by hand."""

from __future__ import annotations

import datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from jobs.lake.query import open_warehouse
from jobs.resources import resource_folder
from tests.support.warehouse_rows import Row, built_root

SQL = resource_folder("sql")
MAY, JUNE, AUGUST = (datetime.date(2015, month, 1) for month in (5, 6, 8))


def asked(question: str, **tables: list[Row]) -> list[tuple[Any, ...]]:
    """The answer to a question over a few rows, with the columns that it looks at alone."""
    with duckdb.connect() as connection:
        for name, rows in tables.items():
            connection.register(name, pa.Table.from_pylist(rows))
        [path] = (SQL / "adhoc").glob(f"{question}_*.sql")
        return connection.execute(path.read_text(encoding="utf-8")).fetchall()


def test_the_greatest_mistake_on_unseen_reviews_comes_first() -> None:
    def row(name: str, split: str, probability: float, is_dissatisfied: bool | None) -> Row:
        return {
            "review_id": name,
            "split": split,
            "star_rating": 1 if is_dissatisfied else 5,
            "probability": probability,
            "is_dissatisfied": is_dissatisfied,
            "is_flagged": probability >= 0.5,
        }

    scores = [
        row("missed", "test", 0.375, True),
        row("alarm", "live", 0.875, False),
        row("also", "live", 0.875, False),
        row("right", "test", 0.875, True),
        row("seen", "train", 0.0, True),
        row("three stars", "test", 0.875, None),
    ]
    texts = [{"review_id": row["review_id"], "review_headline": "a", "review_body": "b"} for row in scores]
    found = asked("03", fct_review_scores=scores, reviews=texts)
    assert [(row[0], row[-1]) for row in found] == [("alarm", 0.875), ("also", 0.875), ("missed", 0.625)]


def test_a_threshold_flags_what_equals_it_and_its_precision_is_of_labelled_reviews() -> None:
    def row(probability: float | None, is_dissatisfied: bool | None, split: str = "test") -> Row:
        return {
            "model_version": "m",
            "review_month": MAY,
            "split": split,
            "probability": probability,
            "is_dissatisfied": is_dissatisfied,
        }

    scores = [row(0.5, True), row(0.75, False), row(0.75, None), row(0.25, True), row(None, True)]
    scores += [row(1.0, True, split) for split in ("train", "validation")]
    thresholds = [{"model_version": "m", "threshold_name": "half", "threshold": 0.5, "is_default": True}]
    found = asked("04", fct_review_scores=scores, model_thresholds=thresholds)
    assert found == [("m", MAY, "half", 0.5, True, 3, 1 / 2, 1 / 2)]


def test_a_product_needs_five_reviews_on_either_side_of_the_newest_three_months() -> None:
    def row(product: str | None, month: datetime.date, is_dissatisfied: bool | None) -> Row:
        return {
            "product_id": product,
            "review_month": month,
            "is_dissatisfied": is_dissatisfied,
            "probability": 0.75 if is_dissatisfied else 0.25,
        }

    def product(name: str | None, recent: int, earlier: int) -> list[Row]:
        """All bad in June or later, and all good in May or before."""
        return [row(name, (JUNE, AUGUST)[place % 2], True) for place in range(recent)] + [
            row(name, MAY, False) for _ in range(earlier)
        ]

    scores = product("five", 5, 5) + product("four", 4, 5) + product("new", 5, 4) + product(None, 9, 9)
    scores += product("better", 0, 0) + [row("better", month, month == MAY) for month in (MAY, AUGUST) for _ in "12345"]
    scores.append(row("five", AUGUST, None))
    products = [{"product_id": name, "product_title": name} for name in ("better", "five", "four", "new")]
    assert asked("05", fct_review_scores=scores, dim_products=products) == [
        ("five", "five", 5, 5, 0.0, 1.0, 1.0, 0.5),
        ("better", "better", 5, 5, 1.0, 0.0, -1.0, -0.5),
    ]


def test_words_are_those_that_push_flagged_reviews_of_the_ten_worst_products() -> None:
    def word(review: str, text: str, attribution: float, kind: str | None = "content") -> Row:
        return {"review_id": review, "word_key": text, "word_kind": kind, "attribution": attribution}

    scores = [{"review_id": name, "product_id": "P1", "is_flagged": name != "calm"} for name in ("R1", "R2", "calm")]
    scores.append({"review_id": "R3", "product_id": "P11", "is_flagged": True})
    words = [word("R1", "late", 0.5), word("R2", "late", 0.5), word("R1", "broken", 2.0), word("R1", "!", 9.0)]
    words += [word("R1", "zero", 0.0), word("R2", "sturdy", -3.0), word("calm", "broken", 9.0), word("R3", "late", 1.0)]
    words += [word("R1", text, 0.125) for text in ("d", "c", "b")] + [word("R1", "a", 0.125, None)]
    words += [word("R1", kind, 9.0, kind) for kind in ("rating", "negation", "function")]
    ranks = {"P1": 10, "P11": 11}
    products = [
        {"product_id": name, "product_title": name, "dissatisfaction_rank": rank} for name, rank in ranks.items()
    ]
    found = asked("06", fct_review_scores=scores, fct_token_attributions=words, rpt_dissatisfaction_by_product=products)
    assert [row[3:] for row in found] == [(1, "broken", 1), (2, "late", 2), (3, "a", 1), (4, "b", 1), (5, "c", 1)]


def test_errors_of_either_sign_add_up_and_the_largest_is_of_thirty_reviews() -> None:
    bins = [
        {"split": "test", "labelled_scored_count": count, "gap": gap}
        for count, gap in ((30, -0.5), (30, 0.25), (29, 1.0), (11, 0.0))
    ]
    assert asked("07", rpt_calibration=bins) == [("test", 100, (15 + 7.5 + 29) / 100, 0.5)]


def test_two_models_disagree_on_labelled_unseen_reviews_at_their_default_thresholds() -> None:
    stars = {"gained": 2, "lost": 2, "alarm": 4, "spared": 4, "three": 3, "seen": 1, "one model": 1}
    flags = {"gained": (0, 1), "lost": (1, 0), "alarm": (0, 1), "spared": (1, 0), "three": (0, 1), "seen": (0, 1)}
    reviews = [
        {"review_id": name, "star_rating": rating, "split": "train" if name == "seen" else "live"}
        for name, rating in stars.items()
    ]
    scores = [
        {"review_id": name, "model_version": version, "probability": 0.5 if flagged else 0.25}
        for name, both in flags.items()
        for version, flagged in zip(("old", "new"), both, strict=True)
    ]
    scores.append({"review_id": "one model", "model_version": "new", "probability": 0.5})
    models = [{"model_version": "old", "status": "champion"}, {"model_version": "new", "status": "candidate"}]
    thresholds = [
        {"model_version": version, "threshold": value, "is_default": is_default}
        for version in ("old", "new")
        for value, is_default in ((0.5, True), (0.125, False))
    ]
    found = asked("08", reviews=reviews, review_scores=scores, models=models, model_thresholds=thresholds)
    assert found == [("new", 4, 1, 1, 1, 1)]


@pytest.fixture(scope="module")
def answers() -> dict[str, list[tuple[Any, ...]]]:
    """The answer of every question in sql/adhoc over the built corpus, by the question's number."""
    with open_warehouse(str(built_root())) as connection:
        return {
            path.stem[:2]: connection.execute(path.read_text(encoding="utf-8")).fetchall()
            for path in sorted((SQL / "adhoc").glob("*.sql"))
        }


def test_the_eight_questions_are_answered(answers: dict[str, list[tuple[Any, ...]]]) -> None:
    assert list(answers) == ["01", "02", "03", "04", "05", "06", "07", "08"]
    assert answers["01"] == [("furniture.tsv", "bad_star_rating", 1, 1 / 91, 17)]
    assert [(stars, count) for stars, count, *_ in answers["02"]] == [(1, 8), (2, 2), (3, 2), (4, 18), (5, 6)]
    assert {row[0] for row in answers["03"]} == {"R0600", "R0615", "R0700", "R0715", "R0800", "R0815"}
    assert answers["04"][0] == (
        "minilm-aaaaaaaaaaaa",
        datetime.date(2015, 6, 1),
        "recall_90",
        0.3,
        False,
        7,
        5 / 6,
        1.0,
    )
    assert [row[0] for row in answers["05"]] == ["LAMP", "SOFA"]
    assert answers["06"][0] == (1, "SOFA", "Grey sofa", 1, "broken", 10)
    assert {row[0]: round(row[2], 6) for row in answers["07"]} == dict.fromkeys(
        ("train", "validation", "test", "live"), round(2.7 / 17, 6)
    )
    assert answers["08"] == [("minilm-bbbbbbbbbbbb", 51, 3, 0, 33, 0)]


def test_every_question_begins_with_the_question_and_how_to_read_its_answer() -> None:
    for path in (SQL / "adhoc").glob("*.sql"):
        first, second, *_ = path.read_text(encoding="utf-8").splitlines()
        assert first.startswith("-- ") and first.endswith("?") and second.startswith("-- A row is "), path.name

"""sql/: the DDL is what the schemas say, the checks find what they are for and nothing else."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

from jobs.lake.checks import all_checks, published_checks, run_checks, staged_checks
from jobs.lake.ddl import LONGEST_LINE, write_ddl
from jobs.lake.query import open_warehouse
from jobs.lake.schemas import TABLES
from jobs.resources import resource_folder
from model.scoring.engines.interface import BASELINE, Precision
from tests.support.warehouse_rows import (
    CHAMPION,
    Row,
    arrow_rows,
    attribution,
    built_root,
    corpus,
    job_run,
    model,
    rejected,
    review,
    route,
    score,
    source,
    split,
    threshold,
)

SQL = resource_folder("sql")
BASE: dict[str, Row] = {
    "reviews": review("R1"),
    "rejected_reviews": rejected(),
    "sources": source(),
    "splits": split("test"),
    "models": model(),
    "model_thresholds": threshold(),
    "model_routes": route(),
    "review_scores": score("R1"),
    "token_attributions": attribution("R1"),
    "job_runs": job_run(),
}
MAY = datetime.date(2015, 5, 1)
DAY_BEFORE = datetime.datetime(2015, 8, 31, tzinfo=datetime.UTC)
NAN = float("nan")

# One row for each way in which a value can be wrong: the check that must find it, the base row's change.
FAULTS: list[tuple[str, Row]] = [
    ("reviews__month_is_that_of_the_date", {"review_month": MAY}),
    ("reviews__values_are_in_range", {"star_rating": 0}),
    ("reviews__values_are_in_range", {"star_rating": 6}),
    ("reviews__values_are_in_range", {"split": "holdout"}),
    ("reviews__values_are_in_range", {"helpful_votes": -1}),
    ("reviews__values_are_in_range", {"source_line": 1}),
    ("reviews__values_are_in_range", {"total_votes": -1}),
    ("reviews__values_are_in_range", {"source_order": 0}),
    ("reviews__values_are_in_range", {"review_id": ""}),
    ("reviews__values_are_in_range", {"text_hash": ""}),
    ("rejected_reviews__values_are_in_range", {"reason": "badly"}),
    ("rejected_reviews__values_are_in_range", {"ingest_id": "0" * 16}),
    ("rejected_reviews__values_are_in_range", {"source_line": 0}),
    ("sources__lines_add_up", {"rows_read": 92}),
    ("sources__lines_add_up", {"rows_superseded": -1, "rows_accepted": 91}),
    ("sources__values_are_in_range", {"last_review_date": datetime.date(2015, 3, 31)}),
    ("sources__values_are_in_range", {"source_bytes": -1}),
    ("sources__values_are_in_range", {"source_order": 0}),
    ("splits__values_are_in_range", {"last_date": MAY}),
    ("splits__values_are_in_range", {"split": "holdout"}),
    ("splits__values_are_in_range", {"origin": "guessed"}),
    ("models__values_are_in_range", {"status": "best"}),
    ("models__values_are_in_range", {"test_auc": 1.01}),
    ("models__values_are_in_range", {"test_ece": NAN}),
    ("models__values_are_in_range", {"trainable_parameters": 0}),
    ("models__values_are_in_range", {"beats_baseline": False}),
    ("models__values_are_in_range", {"test_f1_low": 0.95}),
    ("models__values_are_in_range", {"test_average_precision": 1.01}),
    ("models__values_are_in_range", {"test_f1": -0.01}),
    ("models__values_are_in_range", {"test_brier": 1.01}),
    ("models__values_are_in_range", {"baseline_auc": 1.01}),
    ("models__values_are_in_range", {"baseline_f1": 1.01}),
    ("models__values_are_in_range", {"test_f1_ratings_masked": 1.01}),
    ("models__values_are_in_range", {"test_ece_debiased": 1.01}),
    ("models__values_are_in_range", {"test_log_loss": -0.1}),
    ("models__values_are_in_range", {"pooling": "max"}),
    ("models__values_are_in_range", {"calibration": "platt"}),
    ("models__values_are_in_range", {"f1_gain_low": 0.09}),
    ("models__values_are_in_range", {"train_rows": -1}),
    ("models__values_are_in_range", {"validation_rows": -1}),
    ("models__values_are_in_range", {"test_rows": -1}),
    ("models__values_are_in_range", {"max_length": 0}),
    ("models__values_are_in_range", {"lora_rank": 0}),
    ("models__values_are_in_range", {"trainable_parameters": 23_000_001}),
    ("models__champion_has_its_day_of_promotion", {"promoted_at": None}),
    ("model_thresholds__values_are_in_range", {"threshold": 1.5}),
    ("model_thresholds__values_are_in_range", {"precision": -0.1}),
    ("model_thresholds__values_are_in_range", {"recall_high": 0.7}),
    ("model_thresholds__values_are_in_range", {"recall": 1.1}),
    ("model_thresholds__values_are_in_range", {"f1": -0.1}),
    ("model_thresholds__values_are_in_range", {"flagged_share": 1.1}),
    ("model_thresholds__values_are_in_range", {"threshold_name": ""}),
    ("model_thresholds__values_are_in_range", {"precision_low": 0.96}),
    ("model_thresholds__values_are_in_range", {"flagged_share_low": 0.23}),
    ("model_thresholds__one_default_per_model", {"is_default": False}),
    ("model_routes__values_are_in_range", {"route_column": "product_id"}),
    ("model_routes__values_are_in_range", {"route_value": "Kitchen"}),
    ("model_routes__values_are_in_range", {"route_value": "kitchen "}),
    ("model_routes__values_are_in_range", {"route_value": ""}),
    ("review_scores__values_are_in_range", {"probability": 1.000001}),
    ("review_scores__values_are_in_range", {"probability": NAN}),
    ("review_scores__values_are_in_range", {"precision": "float8"}),
    ("review_scores__values_are_in_range", {"precision": "float64"}),
    ("review_scores__values_are_in_range", {"engine": "tfidf"}),
    ("review_scores__values_are_in_range", {"raw_probability": -0.01}),
    ("review_scores__values_are_in_range", {"token_count": -1}),
    ("review_scores__values_are_in_range", {"review_month": datetime.date(2015, 6, 10)}),
    ("review_scores__error_or_probability", {"error": "no text"}),
    ("review_scores__error_or_probability", {"probability": None}),
    ("review_scores__error_or_probability", {"raw_probability": None}),
    ("review_scores__error_or_probability", {"logit": None}),
    ("review_scores__error_or_probability", {"probability": None, "raw_probability": None, "logit": None}),
    ("token_attributions__values_are_in_range", {"char_end": 0}),
    ("token_attributions__values_are_in_range", {"field": "title"}),
    ("token_attributions__values_are_in_range", {"attribution": NAN}),
    ("token_attributions__values_are_in_range", {"review_month": datetime.date(2015, 6, 10)}),
    ("token_attributions__values_are_in_range", {"attribution_rank": 0}),
    ("token_attributions__values_are_in_range", {"error": "failed"}),
    ("token_attributions__values_are_in_range", {"word": None}),
    ("token_attributions__values_are_in_range", {"word_kind": "verb"}),
    ("token_attributions__values_are_in_range", {"phrase": ""}),
    ("token_attributions__values_are_in_range", {"nodes": None}),
    ("token_attributions__values_are_in_range", {"convergence_delta": None}),
    ("token_attributions__values_are_in_range", {"convergence_delta": NAN}),
    ("token_attributions__values_are_in_range", {"nodes": 0}),
    ("token_attributions__values_are_in_range", {"word": ""}),
    ("token_attributions__values_are_in_range", {"char_start": -1}),
    ("token_attributions__values_are_in_range", {"field": None}),
    ("token_attributions__values_are_in_range", {"char_start": None}),
    ("token_attributions__values_are_in_range", {"char_end": None}),
    ("token_attributions__values_are_in_range", {"attribution": None}),
    ("token_attributions__ranks_are_those_of_the_greatest", {"attribution_rank": -1}),
    ("token_attributions__values_are_in_range", {"char_start": 6}),
    ("token_attributions__ranks_are_those_of_the_greatest", {"attribution_rank": 2}),
    ("job_runs__values_are_in_range", {"status": "killed"}),
    ("job_runs__values_are_in_range", {"finished_at": DAY_BEFORE}),
    ("job_runs__values_are_in_range", {"wall_seconds": -1.0}),
    ("job_runs__values_are_in_range", {"status": "failed"}),
    ("job_runs__values_are_in_range", {"details": "{rows: 1"}),
]


def broken(table: str, rows: list[Row]) -> dict[str, int]:
    """The staged checks that rows of a table break, with the number of rows that each shows."""
    with duckdb.connect() as connection:
        connection.register(table, arrow_rows(table, rows))
        return {failure.name: failure.rows for failure in run_checks(connection, staged_checks(TABLES[table]))}


def test_the_ddl_files_are_those_that_the_schemas_give(tmp_path: Path) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in write_ddl(tmp_path)}
    assert {path.name: path.read_text(encoding="utf-8") for path in (SQL / "ddl").glob("*.sql")} == written


def test_a_ddl_file_has_types_needs_comments_and_partitions(tmp_path: Path) -> None:
    write_ddl(tmp_path)
    text = (tmp_path / "token_attributions.sql").read_text(encoding="utf-8")
    assert (
        "    attribution_rank int not null comment\n"
        "        '1 is the greatest absolute attribution; 0 is the one row of a review without words.',\n" in text
    )
    assert max(map(len, text.splitlines())) <= LONGEST_LINE
    assert "    char_end int comment 'One past the word\\'s last character.',\n" in text
    assert "\nusing delta\npartitioned by (model_version, review_month)\n" in text


@pytest.mark.parametrize("table", TABLES)
def test_a_row_with_nothing_wrong_and_no_row_at_all_pass(table: str) -> None:
    assert broken(table, [BASE[table]]) == {}
    assert broken(table, []) == {}


@pytest.mark.parametrize("table", TABLES)
def test_a_key_that_comes_twice_is_found(table: str) -> None:
    assert broken(table, [BASE[table], BASE[table]])[f"{table}__key_is_unique"] == 1


@pytest.mark.parametrize("table", TABLES)
def test_each_required_column_without_a_value_is_found(table: str) -> None:
    required = [column.name for column in TABLES[table].schema if not column.nullable]
    found = {
        name: broken(table, [BASE[table] | {name: None}]).get(f"{table}__required_values_are_there")
        for name in required
    }
    assert found == dict.fromkeys(required, 1)


@pytest.mark.parametrize(("check", "changes"), FAULTS, ids=[f"{check}: {changes}" for check, changes in FAULTS])
def test_a_wrong_value_is_found_by_its_check_alone(check: str, changes: Row) -> None:
    table = check.split("__")[0]
    assert broken(table, [BASE[table] | changes]) == {check: 1}


def test_scores_in_every_precision_of_an_engine_are_stored() -> None:
    every = [
        score(name, engine="tfidf" if name == BASELINE.precision else "torch", precision=name)
        for name in get_args(Precision)
    ]
    assert broken("review_scores", every) == {}


def test_every_staged_check_has_a_row_here_that_it_finds() -> None:
    assert {path.stem for path in (SQL / "checks" / "staged").glob("*.sql")} == {check for check, _ in FAULTS}
    general = {f"{table}__{what}" for table in TABLES for what in ("key_is_unique", "required_values_are_there")}
    named = [check.name for table in TABLES.values() for check in staged_checks(table)]
    assert sorted(named) == sorted(general | {check for check, _ in FAULTS})


ACROSS_ROWS = ("row_count", "all_routes")  # conditions on several rows at once have tests of their own, below


def conditions() -> list[tuple[str, str, str]]:
    """Each condition on one row of a staged check, with the check's name and its query without that condition."""
    found = []
    for path in sorted((SQL / "checks" / "staged").glob("*.sql")):
        query, has_where, where = path.read_text(encoding="utf-8").partition("\nwhere\n")
        each = where.strip().split("\n    or ") if has_where and "\n    and " not in where else []
        for condition in (text for text in each if not any(name in text for name in ACROSS_ROWS)):
            others = " or ".join(f"({other})" for other in each if other is not condition) or "false"
            found.append((path.stem, " ".join(condition.split()), f"{query} where {others}"))
    return found


@pytest.mark.parametrize(("check", "condition", "weaker"), conditions(), ids=lambda text: text[:80])
def test_every_condition_of_a_check_has_a_row_here_that_it_alone_finds(check: str, condition: str, weaker: str) -> None:
    table = check.split("__")[0]
    with duckdb.connect() as connection:
        for changes in (changes for name, changes in FAULTS if name == check):
            connection.register(table, arrow_rows(table, [BASE[table] | changes]))
            if not connection.execute(weaker).fetchall():
                return
    pytest.fail(f"no row of FAULTS needs the condition {condition}")


def test_a_review_without_words_has_one_row_and_no_other() -> None:
    nothing = {
        "attribution_rank": 0,
        "word": None,
        "field": None,
        "char_start": None,
        "char_end": None,
        "attribution": None,
    }
    alone = attribution("R1", **nothing, error="no word", nodes=None, convergence_delta=None, is_converged=False)
    assert broken("token_attributions", [alone, attribution("R2")]) == {}
    assert broken("token_attributions", [alone, attribution("R1")]) == {
        "token_attributions__ranks_are_those_of_the_greatest": 1
    }


def test_routes_by_two_columns_are_found() -> None:
    two = [route(), route("de", route_column="marketplace")]
    assert broken("model_routes", two) == {"model_routes__values_are_in_range": 1}
    assert broken("model_routes", [route(), route("garden")]) == {}


def test_a_failure_says_what_its_rows_mean_and_shows_the_first() -> None:
    with duckdb.connect() as connection:
        connection.register(
            "reviews", arrow_rows("reviews", [review(f"R{place}", star_rating=9) for place in range(12)])
        )
        [failure] = run_checks(connection, staged_checks(TABLES["reviews"])[2:])
    assert (failure.rows, len(failure.sample)) == (12, 5)
    assert failure.meaning == "A row is a review whose stars, split, votes or place in its source are impossible."
    assert failure.sample[0]["star_rating"] == 9


def broken_corpus(**changes: list[Row]) -> set[str]:
    """All checks that the corpus breaks when rows are added to some of its tables."""
    with duckdb.connect() as connection:
        for table, rows in corpus().items():
            connection.register(table, arrow_rows(table, rows + changes.get(table, [])))
        return {failure.name for failure in run_checks(connection, all_checks())}


def test_the_corpus_of_these_tests_breaks_no_check() -> None:
    assert broken_corpus() == set()


LATE = datetime.date(2015, 8, 31)
MORE: Row = {"source_checksum": "b" * 64, "source_order": 2, "rows_rejected": 0}
ADDITIONS: dict[str, dict[str, Any]] = {
    "scores_without_review": {"review_scores": [score("R9999")]},
    "scores_without_model": {"review_scores": [score("R0400", model_version="minilm-cccccccccccc")]},
    "routes_without_model": {"model_routes": [route(model_version="minilm-cccccccccccc")]},
    "attributions_without_score": {"token_attributions": [attribution("R9999")]},
    "more_than_one_champion": {
        "models": [model("minilm-cccccccccccc")],
        "model_thresholds": [threshold("minilm-cccccccccccc")],
    },
    "models_without_one_default_threshold": {"models": [model("minilm-cccccccccccc", status="candidate")]},
    "reviews_outside_their_split": {"reviews": [review("R9999", review_date=LATE, split="train")]},
    "rejected_lines_are_all_kept": {"rejected_reviews": [rejected(source_line=18)]},
    "sources_share_an_order": {
        "sources": [source(source_checksum="b" * 64, rows_rejected=0, rows_read=90, run_id="run-2")]
    },
    "accepted_lines_are_all_stored": {"sources": [source(**MORE, rows_accepted=1, rows_read=1)]},
    "splits_overlap": {
        "splits": [{"split": "later", "first_date": LATE, "last_date": None, "origin": "given", "run_id": "run-ingest"}]
    },
}


@pytest.mark.parametrize("check", ADDITIONS)
def test_what_contradicts_another_table_is_found(check: str) -> None:
    assert broken_corpus(**ADDITIONS[check]) - {"splits__values_are_in_range"} == {check}


EDGES: list[tuple[str, dict[str, Any]]] = [
    (
        "reviews_outside_their_split",
        {"reviews": [review("R9999", review_date=datetime.date(2015, 6, 1), split="live")]},
    ),
    ("reviews_outside_their_split", {"reviews": [review("R9999", review_date=LATE, split="holdout")]}),
    (
        "reviews_outside_their_split",
        {"reviews": [review("R9999", review_date=datetime.date(2015, 5, 31), split="test")]},
    ),
    ("rejected_lines_are_all_kept", {"sources": [source(**MORE | {"rows_rejected": 1}, rows_read=1, rows_accepted=0)]}),
    ("attributions_without_score", {"token_attributions": [attribution("R0400", model_version="minilm-cccccccccccc")]}),
    ("models_without_one_default_threshold", {"model_thresholds": [threshold(threshold_name="more", is_default=True)]}),
]


@pytest.mark.parametrize(("check", "added"), EDGES)
def test_what_contradicts_another_table_in_another_way_is_found(check: str, added: dict[str, Any]) -> None:
    staged = {name for name in broken_corpus(**added) if "__" in name}
    assert broken_corpus(**added) - staged == {check}


def test_the_first_and_the_last_day_of_a_split_lie_in_it() -> None:
    days = [("a", datetime.date(2015, 5, 31), "validation"), ("b", datetime.date(2015, 7, 31), "test")]
    first = [("c", datetime.date(2015, 5, 1), "validation"), ("d", datetime.date(2015, 8, 1), "live")]
    added = [review(name, review_date=day, split=split) for name, day, split in days + first]
    assert broken_corpus(reviews=added) == set()


@pytest.mark.parametrize(("last_day", "found"), [(LATE, set()), (datetime.date(2015, 9, 1), {"splits_overlap"})])
def test_splits_that_share_one_day_are_found(last_day: datetime.date, found: set[str]) -> None:
    """The one split ends on a day, and the next begins on 1 September."""
    two = [
        {"split": name, "first_date": first, "last_date": last, "origin": "given", "run_id": "run"}
        for name, first, last in (("train", None, last_day), ("live", datetime.date(2015, 9, 1), None))
    ]
    with duckdb.connect() as connection:
        for table, rows in corpus().items():
            connection.register(table, arrow_rows(table, two if table == "splits" else rows))
        checks = [check for check in published_checks() if check.name == "splits_overlap"]
        assert {failure.name for failure in run_checks(connection, checks)} == found


LAST_DAYS = {"first_review_date": datetime.date(2015, 8, 1), "last_review_date": datetime.date(2015, 8, 30)}


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ([source(**MORE, rows_read=90, run_id="run-2")], False),  # all 90 were stored already
        ([source(**MORE, rows_read=91, rows_accepted=91, run_id="run-2")], True),
        ([source(**MORE | LAST_DAYS, rows_read=18, rows_accepted=18, run_id="run-2")], False),  # all of August's
        ([source(**MORE | LAST_DAYS, rows_read=19, rows_accepted=19, run_id="run-2")], True),
        ([source(**MORE, rows_read=90, rows_accepted=0, rows_superseded=90)], False),
        ([source(**MORE, rows_read=0, rows_accepted=0, first_review_date=None)], False),
    ],
)
def test_rows_of_reviews_that_are_lost_are_found(added: list[Row], found: bool) -> None:
    assert ("accepted_lines_are_all_stored" in broken_corpus(sources=added)) is found


def test_no_review_stored_at_all_is_found() -> None:
    with duckdb.connect() as connection:
        for table, rows in corpus().items():
            connection.register(table, arrow_rows(table, [] if table == "reviews" else rows))
        found = {failure.name for failure in run_checks(connection, published_checks())}
    assert "accepted_lines_are_all_stored" in found


def test_two_default_thresholds_are_found_before_and_after_the_commit() -> None:
    found = broken_corpus(model_thresholds=[threshold(CHAMPION, "cost_min", is_default=True)])
    assert found == {"model_thresholds__one_default_per_model", "models_without_one_default_threshold"}


def test_every_published_check_has_rows_here_that_it_finds() -> None:
    assert {path.stem for path in (SQL / "checks" / "published").glob("*.sql")} == set(ADDITIONS)


def test_the_published_tables_of_a_root_pass_through_the_warehouse() -> None:
    with open_warehouse(str(built_root())) as connection:
        assert run_checks(connection, all_checks()) == []

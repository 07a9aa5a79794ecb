"""dbt/: a plain `dbt build` works, its figures are those counted by hand, and every model is
described, keyed and used.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs.lake.query import open_warehouse
from jobs.lake.schemas import TABLES
from jobs.resources import resource_folder
from tests.support.warehouse_rows import (
    CHAMPION,
    RETIRED,
    Row,
    arrow_rows,
    attribution,
    built_root,
    corpus,
    model,
    review,
    route,
    run_dbt,
    score,
    threshold,
    write_root,
)

JUNE = datetime.date(2015, 6, 1)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_warehouse(str(built_root())) as connection:
        yield connection


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """What dbt knows of the project after the build."""
    content: dict[str, Any] = json.loads((built_root().parent / "target" / "manifest.json").read_text(encoding="utf-8"))
    return content


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def test_a_plain_build_needs_the_root_alone_and_writes_no_extension() -> None:
    root = built_root()
    assert (root / "warehouse" / "reviewrisk.duckdb").exists()
    assert list((root.parent / "home").iterdir()) == []


def test_a_mistyped_root_is_named_and_not_made(tmp_path: Path) -> None:
    done = run_dbt("build", tmp_path / "typo")
    assert done.returncode != 0
    assert f"REVIEWRISK_ROOT is {tmp_path / 'typo'}, which is no local folder with tables" in done.stdout
    assert not (tmp_path / "typo").exists()


def test_each_review_counts_once_beside_two_models_and_three_thresholds(warehouse: duckdb.DuckDBPyConnection) -> None:
    counted = rows(
        warehouse,
        "select count(*), count(distinct review_id), count(probability), any_value(model_version) from"
        " fct_review_scores",
    )
    assert counted == [(90, 90, 89, CHAMPION)]
    assert rows(
        warehouse, "select sum(review_count), sum(scored_count), sum(labelled_count) from rpt_dissatisfaction_monthly"
    ) == [(90, 89, 85)]
    assert rows(warehouse, "select sum(labelled_scored_count) from rpt_calibration") == [(85,)]
    assert rows(warehouse, "select distinct threshold_name, threshold from fct_review_scores") == [("f1_max", 0.5)]
    assert rows(warehouse, "select count(*), count(*) filter (where is_champion) from dim_models") == [(2, 1)]


def test_a_routed_category_is_decided_by_its_model_at_its_own_threshold_and_counts_once(tmp_path: Path) -> None:
    """Furniture, in both spellings, goes to the other model, which gives all 0.95 and flags from 0.97 on; the 5 reviews
    without a category do not.
    """
    tables = corpus()
    for row in tables["model_thresholds"]:
        row["threshold"] = 0.97 if row["model_version"] == RETIRED and row["is_default"] else row["threshold"]
    root = write_root(tmp_path / "root", tables | {"model_routes": [route("furniture")]})
    done = run_dbt("build", root)
    assert done.returncode == 0, done.stdout
    with open_warehouse(str(root)) as connection:
        decided = (
            "model_version, threshold, count(*), count(distinct review_id), count(probability), count(*) filter (where"
            " is_flagged)"
        )
        found = rows(connection, f"select {decided} from fct_review_scores group by all order by model_version")
        assert found == [(CHAMPION, 0.5, 5, 5, 4, 4), (RETIRED, 0.97, 85, 85, 85, 0)]
        totals = (
            "sum(review_count), sum(scored_count), sum(labelled_count), sum(labelled_scored_count), sum(flagged_count)"
        )
        assert rows(connection, f"select {totals} from rpt_dissatisfaction_monthly") == [(90, 89, 85, 85, 4)]
        assert rows(connection, "select distinct model_version, category_key from fct_token_attributions") == [
            (CHAMPION, "unknown")
        ]


def test_a_month_has_the_figures_counted_by_hand(warehouse: duckdb.DuckDBPyConnection) -> None:
    """June: 6 sofa (3 bad), 10 lamp (1 bad), 1 desk (bad), and a 3-star review without a category."""
    found = warehouse.execute(
        "select * from rpt_dissatisfaction_monthly where review_month = ? order by category_key", [JUNE]
    ).fetchall()
    predicted = (4 * 0.9 + 0.4 + 0.6 + 11 * 0.1) / 17
    assert found[0][:10] == (JUNE, "furniture", 17, 17, 5, 17, 5, 17, 5, 4)
    assert found[0][10:] == pytest.approx((5 / 17, predicted, 5 / 17))
    assert found[1:] == [(JUNE, "unknown", 1, 0, 0, 1, 1, 0, 0, 0, None, None, None)]


def test_products_are_ranked_with_wilson_limits_and_a_minimum(warehouse: duckdb.DuckDBPyConnection) -> None:
    """15 of 30 and 5 of 50; the desk's 5 reviews are too few. A limit l solves (rate - l)^2 = z^2 l (1 - l) / n, which
    defines it.
    """
    columns = "dissatisfaction_rank, product_id, labelled_count, dissatisfied_count"
    assert sorted(rows(warehouse, f"select {columns} from rpt_dissatisfaction_by_product")) == [
        (1, "SOFA", 30, 15),
        (2, "LAMP", 50, 5),
    ]
    limits = "dissatisfied_rate_lower, dissatisfied_rate, dissatisfied_rate_upper, labelled_count"
    for lower, rate, upper, count in rows(warehouse, f"select {limits} from rpt_dissatisfaction_by_product"):
        assert lower < rate < upper
        for limit in (lower, upper):
            assert (rate - limit) ** 2 == pytest.approx(1.959963984540054**2 * limit * (1 - limit) / count)


def test_words_come_from_reviews_flagged_at_the_default_threshold(warehouse: duckdb.DuckDBPyConnection) -> None:
    """7 reviews a month are explained at 0.3, 6 of them flagged at 0.5, one of these of 3 stars; August's 3-star review
    has no score.
    """
    found = rows(
        warehouse,
        "select category_key, word_rank, word, review_count, recent_review_count, total_attribution from"
        " rpt_top_dissatisfaction_words",
    )
    assert sorted(found) == [
        ("furniture", 1, "broken", 25, 15, 50.0),
        ("furniture", 2, "late", 25, 15, 12.5),
        ("unknown", 1, "broken", 4, 2, 8.0),
        ("unknown", 2, "late", 4, 2, 2.0),
    ]


def test_calibration_bins_hold_labelled_reviews_alone(warehouse: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        warehouse,
        "select probability_bin, labelled_scored_count, dissatisfied_count from rpt_calibration where split = 'test'",
    )
    assert sorted(found) == [(2, 22, 0), (5, 2, 2), (7, 2, 0), (10, 8, 8)]


def test_dates_are_dates_and_rates_doubles(warehouse: duckdb.DuckDBPyConnection) -> None:
    types = dict(rows(warehouse, "select column_name, column_type from (describe rpt_dissatisfaction_monthly)"))
    assert types["review_month"] == "DATE"
    assert {types[name] for name in ("dissatisfied_rate", "predicted_rate", "flagged_rate")} == {"DOUBLE"}


STAGED: dict[str, tuple[str, Row]] = {
    "stg_reviews": ("reviews", review("R1", product_parent="77", source_order=3, source_line=9)),
    "stg_models": ("models", model(test_f1=0.91, test_auc=0.92, baseline_f1=0.83, baseline_auc=0.84, f1_gain=0.06)),
    "stg_model_thresholds": ("model_thresholds", threshold(is_default=False)),
    "stg_model_routes": ("model_routes", route()),
    "stg_review_scores": ("review_scores", score("R1", is_truncated=True)),
    "stg_token_attributions": ("token_attributions", attribution("R1", char_start=3, char_end=9)),
}


def staged(name: str, *rows: Row) -> list[Row]:
    """What a staging model makes of rows of its table; such a model is plain SQL but for the table's name."""
    table, _ = STAGED[name]
    sql = (resource_folder("dbt") / "models" / "staging" / f"{name}.sql").read_text(encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register(table, arrow_rows(table, list(rows)))
        made = connection.execute(sql.replace(f"{{{{ source('lake', '{table}') }}}}", table))
        found: list[Row] = made.to_arrow_table().to_pylist()
    return found


@pytest.mark.parametrize("name", STAGED)
def test_a_staging_model_carries_columns_of_the_same_name_as_they_are(name: str) -> None:
    _, row = STAGED[name]
    [found] = staged(name, row)
    assert {column: found[column] for column in found if column in row} == {
        column: row[column] for column in found if column in row
    }


def test_one_and_two_stars_are_dissatisfied_and_three_have_no_label() -> None:
    found = staged("stg_reviews", *(review(f"R{stars}", star_rating=stars) for stars in range(1, 6)))
    assert [row["is_dissatisfied"] for row in found] == [True, True, None, False, False]


@pytest.mark.parametrize(("column", "key"), [("product_category", "category_key"), ("marketplace", "marketplace_key")])
def test_a_value_is_the_same_in_either_case_and_with_spaces_and_unknown_where_there_is_none(
    column: str, key: str
) -> None:
    found = staged("stg_reviews", *(review("R1", **{column: value}) for value in (" Home", "HOME ", "  ", "", None)))
    assert [row[key] for row in found] == ["home", "home", "unknown", "unknown", "unknown"]


def test_the_champion_alone_is_the_champion() -> None:
    found = staged("stg_models", *(model(status=status) for status in ("candidate", "champion", "retired")))
    assert [row["is_champion"] for row in found] == [False, True, False]


def test_figures_of_a_threshold_keep_their_meaning() -> None:
    [found] = staged("stg_model_thresholds", threshold(precision=0.1, recall=0.2, f1=0.3, flagged_share=0.4))
    figures = ("test_precision", "test_recall", "test_f1", "test_flagged_share")
    assert [found[name] for name in figures] == [0.1, 0.2, 0.3, 0.4]


def test_a_review_that_could_not_be_explained_has_no_word() -> None:
    failed = attribution("R2", 0, word=None, error="no word")
    assert [
        (row["review_id"], row["word_key"]) for row in staged("stg_token_attributions", attribution("R1"), failed)
    ] == [("R1", "broken")]


@pytest.mark.parametrize(
    ("mart", "table", "keys"),
    [
        ("fct_review_scores", "review_scores", ("review_id", "model_version")),
        ("fct_review_scores", "reviews", ("review_id",)),
        ("fct_token_attributions", "token_attributions", ("review_id", "model_version", "attribution_rank")),
        ("dim_models", "models", ("model_version",)),
    ],
)
def test_a_mart_carries_the_columns_of_its_table_as_they_are(
    warehouse: duckdb.DuckDBPyConnection, mart: str, table: str, keys: tuple[str, ...]
) -> None:
    described = rows(warehouse, f"select column_name from (describe {mart})")
    shared = [name for (name,) in described if name in TABLES[table].schema.names]
    same = ", ".join(f"count(*) filter (where mart.{name} is not distinct from source.{name})" for name in shared)
    [found] = rows(
        warehouse, f"select count(*), {same} from {mart} as mart join {table} as source using ({', '.join(keys)})"
    )
    assert dict(zip(shared, found[1:], strict=True)) == dict.fromkeys(shared, found[0])
    assert rows(warehouse, f"select count(*) from {mart}") == [(found[0],)]


def test_a_model_has_the_figures_of_its_default_threshold(warehouse: duckdb.DuckDBPyConnection) -> None:
    figures = "default_threshold_name, default_threshold, test_precision, test_recall, test_flagged_share"
    assert rows(warehouse, f"select {figures} from dim_models where is_champion") == [("f1_max", 0.5, 0.9, 0.8, 0.2)]


def test_a_deciding_score_that_the_mart_lacks_is_found() -> None:
    """R1 is there; R3's score is of an older text and R4's of another model, so they are not missed."""
    sql = (resource_folder("dbt") / "tests" / "deciding_scores_are_all_in_the_mart.sql").read_text(encoding="utf-8")
    tables = {
        "stg_review_scores": "('R1', 'm', 'x'), ('R2', 'm', 'x'), ('R3', 'm', 'old'), ('R4', 'other', 'x')",
        "int_reviews_routed": "('R1', 'm', 'x'), ('R2', 'm', 'x'), ('R3', 'm', 'new'), ('R4', 'm', 'x')",
        "fct_review_scores": "('R1', 'm', 'x'), ('R2', 'other', 'x')",
    }
    with duckdb.connect() as connection:
        for name, values in tables.items():
            connection.execute(f"create table {name} as from (values {values}) t (review_id, model_version, text_hash)")
            sql = sql.replace(f"{{{{ ref('{name}') }}}}", name)
        assert rows(connection, sql) == [("m", "R2")]


def test_the_sources_are_the_tables_of_the_schemas(manifest: dict[str, Any]) -> None:
    assert {source["name"] for source in manifest["sources"].values()} == set(TABLES)


def test_every_model_and_column_is_described_with_its_grain(manifest: dict[str, Any]) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert len(models) == 16
    for node in models:
        assert "One row per" in node["description"], node["name"]
        assert [column for column, value in node["columns"].items() if not value["description"]] == [], node["name"]
        if node["config"]["materialized"] == "table":
            assert node["config"]["contract"]["enforced"], node["name"]
        else:  # a contract checks the columns of tables; those of views are checked here
            assert list(node["columns"]) == view_columns(node["name"]), node["name"]


def view_columns(name: str) -> list[str]:
    with duckdb.connect(str(built_root() / "warehouse" / "reviewrisk.duckdb"), read_only=True) as connection:
        listed = connection.execute(
            "select column_name from duckdb_columns() where table_name = ? order by column_index", [name]
        )
        return [column for (column,) in listed.fetchall()]


def test_every_model_has_its_key_tested(manifest: dict[str, Any]) -> None:
    tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test" and "test_metadata" in node]
    keyed = {
        node["attached_node"] for node in tests if node["test_metadata"]["name"] in ("unique", "unique_combination")
    }
    filled = {node["attached_node"] for node in tests if node["test_metadata"]["name"] == "not_null"}
    models = {name for name, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    assert models - keyed == set()
    assert models - filled == set()


def test_every_report_is_used_and_its_arithmetic_unit_tested(manifest: dict[str, Any]) -> None:
    reports = {
        name
        for name, node in manifest["nodes"].items()
        if node.get("name", "").startswith("rpt_") and node["resource_type"] == "model"
    }
    used = {name for exposure in manifest["exposures"].values() for name in exposure["depends_on"]["nodes"]}
    tested = {f"model.reviewrisk.{test['model']}" for test in manifest["unit_tests"].values()}
    assert len(reports) == 4
    assert reports - used == set()
    assert reports - tested == set()


def test_the_project_holds_no_python() -> None:
    """dbt-core extends its package path with a folder of this name, so a module in it could be taken
    for a part of dbt.
    """
    assert list(resource_folder("dbt").rglob("*.py")) == []


def test_stale_sources_are_warned_of() -> None:
    """The corpus was written in 2015."""
    root = built_root()
    done = run_dbt("source freshness", root)
    results = json.loads((root.parent / "target" / "sources.json").read_text(encoding="utf-8"))["results"]
    assert done.returncode == 0, done.stdout
    assert {result["unique_id"].split(".")[-1]: result["status"] for result in results} == dict.fromkeys(
        ("reviews", "sources", "models", "review_scores", "token_attributions", "job_runs"), "warn"
    )

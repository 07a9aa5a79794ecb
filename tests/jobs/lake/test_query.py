"""jobs.lake.query: everything of a root by plain name, read and never written, as text that other programs can read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from jobs.lake.query import align, open_warehouse, run_query, table_names
from jobs.lake.schemas import TABLES
from model.errors import ReviewriskError
from tests.support.warehouse_rows import built_root, review, write_root

MARTS = {
    "dim_models",
    "dim_products",
    "fct_review_scores",
    "fct_token_attributions",
    "rpt_calibration",
    "rpt_dissatisfaction_by_product",
    "rpt_dissatisfaction_monthly",
    "rpt_top_dissatisfaction_words",
}


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_warehouse(str(built_root())) as connection:
        yield connection


def test_every_table_and_every_mart_has_its_plain_name(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert set(table_names(warehouse)) == set(TABLES) | MARTS
    counts = (
        "select (select count(*) from reviews), (select count(*) from review_scores), (select count(*) from"
        " fct_review_scores)"
    )
    assert warehouse.execute(counts).fetchone() == (90, 180, 90)


def test_a_table_keeps_its_types_also_in_its_partition_columns(warehouse: duckdb.DuckDBPyConnection) -> None:
    types = dict(warehouse.execute("select column_name, column_type from (describe reviews)").fetchall())
    assert (types["review_month"], types["split"], types["star_rating"], types["vine"]) == (
        "DATE",
        "VARCHAR",
        "INTEGER",
        "BOOLEAN",
    )
    assert types["ingested_at"] == "TIMESTAMP WITH TIME ZONE"


def test_without_a_warehouse_the_tables_are_there(tmp_path: Path) -> None:
    root = write_root(tmp_path / "it's {a} root", {"reviews": [review("R1")]})
    with open_warehouse(str(root)) as connection:
        assert table_names(connection) == sorted(TABLES)
        assert json.loads(run_query(connection, "select review_id from reviews", "json")) == [{"review_id": "R1"}]


def test_a_root_without_tables_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match="holds no tables yet: run `reviewrisk ingest` first"):
        open_warehouse(str(tmp_path))


def test_a_warehouse_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.duckdb"
    file.write_text("no database", encoding="utf-8")
    with pytest.raises(ReviewriskError, match=r"notes\.duckdb cannot be opened"):
        open_warehouse(str(built_root()), file)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "with one as (select 1) select * from one",
        "from reviews select count(*)",
        "describe reviews",
        "show tables",
        "summarize rpt_calibration",
        "values (1)",
        "-- a comment first\nexplain analyze select count(*) from reviews;",
    ],
)
def test_what_reads_is_run(warehouse: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert run_query(warehouse, sql).endswith("rows)") or run_query(warehouse, sql).endswith("(1 row)")


@pytest.mark.parametrize(
    "sql",
    [
        "create table notes as select 1",
        "insert into warehouse.main.rpt_calibration select * from rpt_calibration",
        "delete from warehouse.main.dim_models",
        "drop view reviews",
        "with one as (select 1 as a) insert into warehouse.main.dim_products (review_count) select a from one",
        "copy (select 1) to 'notes.csv'",
        "export database 'notes'",
        "attach 'other.duckdb'",
        "use warehouse",
        "set enable_external_access = true",
        "install httpfs",
        "call pragma_version()",
        "checkpoint warehouse",
        "explain analyze create table notes as select 1",
        "/* select */ explain (analyze) drop view reviews",
        "select 1; drop view reviews",
        "",
    ],
)
def test_what_does_not_only_read_is_refused(warehouse: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(ReviewriskError, match=r"refused|One query at a time"):
        run_query(warehouse, sql)
    assert set(table_names(warehouse)) == set(TABLES) | MARTS


@pytest.mark.parametrize(
    "sql", ["from read_csv('{file}')", "from '{file}'", "from read_text('{file}')", "from glob('{file}')"]
)
def test_no_file_is_read(warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("password\nhunter2\n", encoding="utf-8")
    with pytest.raises(ReviewriskError, match="tables and marts only, no files"):
        run_query(warehouse, sql.format(file=file))


def test_no_variable_of_python_is_a_table(warehouse: duckdb.DuckDBPyConnection) -> None:
    notes = warehouse.execute("select 1 as a").fetch_arrow_table()
    assert notes.num_rows == 1
    with pytest.raises(ReviewriskError, match="Table with name notes does not exist"):
        run_query(warehouse, "select * from notes")


def test_an_unknown_table_is_answered_with_the_known_ones(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(
        ReviewriskError,
        match=(
            r"Table with name review does not exist[\s\S]*there are: dim_models, .*, reviews, .*, token_attributions\."
        ),
    ):
        run_query(warehouse, "select * from review")


def test_an_unknown_column_and_broken_sql_are_shown_as_duckdb_puts_them(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ReviewriskError, match='Referenced column "stars" not found'):
        run_query(warehouse, "select stars from reviews")
    with pytest.raises(ReviewriskError, match="syntax error"):
        run_query(warehouse, "selec 1")


KINDS = """
    select 'a "b", c' || chr(10) || 'd' as text, date '2015-06-01' as day,
        timestamptz '2015-06-01 12:00:00+02' as moment, 1.5::decimal(4, 2) as price,
        0.1 + 0.2::double as sum, 'nan'::double as gap, null as nothing, true as yes, [1, null] as list,
        {'day': date '2015-06-01'} as struct
"""


def test_json_is_an_array_of_objects(warehouse: duckdb.DuckDBPyConnection) -> None:
    assert json.loads(run_query(warehouse, KINDS, "json")) == [
        {
            "text": 'a "b", c\nd',
            "day": "2015-06-01",
            "moment": "2015-06-01T10:00:00+00:00",
            "price": 1.5,
            "sum": 0.30000000000000004,
            "gap": None,
            "nothing": None,
            "yes": True,
            "list": [1, None],
            "struct": {"day": "2015-06-01"},
        }
    ]
    assert run_query(warehouse, "select 1 as a where false", "json") == "[]"
    with pytest.raises(ReviewriskError, match="Two columns are called a"):
        run_query(warehouse, "select 1 as a, 2 as a", "json")


def test_csv_is_that_of_rfc_4180_with_lines_that_a_shell_can_read(warehouse: duckdb.DuckDBPyConnection) -> None:
    text = run_query(warehouse, KINDS, "csv")
    assert text.startswith(
        'text,day,moment,price,sum,gap,nothing,yes,list,struct\n"a ""b"",'
        ' c\nd",2015-06-01,2015-06-01T10:00:00+00:00,1.50,'
    )
    header, row = csv.reader(io.StringIO(text, newline=""))
    assert dict(zip(header, row, strict=True))["text"] == 'a "b", c\nd'
    assert row[4:] == ["0.30000000000000004", "nan", "", "true", "[1, null]", '{"day": "2015-06-01"}']


def test_a_table_is_aligned_and_cuts_nothing(warehouse: duckdb.DuckDBPyConnection) -> None:
    rows = f"(1, 'short', null), (100, '{'x' * 200}', date '2015-06-01'), (20, 'two' || chr(10) || 'lines', null)"
    sql = f"select * from (values {rows}) as t (number, text, day) order by 1"
    assert run_query(warehouse, sql).splitlines() == [
        "number  text" + " " * 198 + "day",
        "-" * 220,
        "     1  short" + " " * 197 + "null",
        "    20  two\\nlines" + " " * 192 + "null",
        "   100  " + "x" * 200 + "  2015-06-01",
        "(3 rows)",
    ]


def test_columns_stay_aligned_beside_wide_characters() -> None:
    assert align([("椅子", "1"), ("café", "20"), ("\x1b[31m", "3")], right=[False, True]) == [
        "椅子       1",
        "café      20",
        "\\x1b[31m   3",
    ]


def test_an_unknown_format_is_named(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ReviewriskError, match="no format xml; there are: table, csv, json"):
        run_query(warehouse, "select 1", "xml")

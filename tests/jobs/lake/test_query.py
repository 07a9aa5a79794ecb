"""jobs.lake.query: everything of a root by plain name, read and never written, as text that other programs can read."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from jobs.lake import query
from jobs.lake.query import open_tables, open_warehouse, run_query, table_names
from jobs.lake.schemas import TABLES
from model.errors import ReviewriskError
from tests import ROOT
from tests.support.warehouse_rows import built_root, corpus_root, review, write_root

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


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return list(run_query(connection, sql).rows)


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
        assert answer(connection, "select review_id from reviews") == [("R1",)]


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
        "/* two\nlines */ explain select 1",
    ],
)
def test_what_reads_is_run(warehouse: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert answer(warehouse, sql)


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


# What a query might try on a file that stands in the folder it is run in, and what it meets.
ATTEMPTS = [
    "from read_csv('{file}')",
    "from '{file}'",
    "from read_text('{file}')",
    "from read_blob('{file}')",
    "from read_json('{file}')",
    "from read_parquet('{file}')",
    "from parquet_metadata('{file}')",
    "from sniff_csv('{file}')",
    "from glob('{file}')",
    "from glob('*')",
    "select * from reviews where review_id in (from read_text('{file}') select content)",
    "from read_duckdb('other.duckdb')",
    "from sqlite_scan('other.sqlite', 'notes')",
    "from delta_scan('other')",
    "from read_text('https://127.0.0.1:1/x.csv')",
    "from read_text('s3://shop/x.csv')",
    "from duckdb_secrets()",
    "from enable_logging('QueryLog', storage = 'file', storage_path = 'notes')",
    "from checkpoint('memory')",
    "select getenv('HOME')",
    "copy reviews to 'notes.csv'",
    "copy (from read_text('{file}')) to 'notes.csv'",
    "attach '{file}'",
    "install httpfs",
    "load httpfs",
    "set temp_directory = '.'",
    "set python_enable_replacements = true",
    "pragma enable_object_cache",
]


@pytest.fixture(scope="module")
def beside_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, duckdb.DuckDBPyConnection]]:
    """A folder with files that are nobody's business, and a connection that was opened in it."""
    folder = tmp_path_factory.mktemp("folder")
    for place in (folder / "secret.csv", folder / ".tmp" / "secret.csv"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("password\nhunter2\n", encoding="utf-8")
    with contextlib.chdir(folder), open_warehouse(str(corpus_root())) as connection:
        yield folder, connection


@pytest.mark.parametrize("file", [".tmp/secret.csv", "secret.csv", "./.tmp/../secret.csv", "{folder}/secret.csv"])
@pytest.mark.parametrize("sql", ATTEMPTS)
def test_no_file_is_read(beside_files: tuple[Path, duckdb.DuckDBPyConnection], sql: str, file: str) -> None:
    folder, connection = beside_files
    with pytest.raises(ReviewriskError) as refused:
        answer(connection, sql.format(file=file.format(folder=folder)))
    assert "hunter2" not in str(refused.value)
    assert sorted(path.name for path in folder.iterdir()) == [".tmp", "secret.csv"]
    assert answer(connection, "select count(*) from reviews") == [(90,)], "and the next query is answered"


def test_a_refused_file_is_one_sentence(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ReviewriskError, match="it may read the tables and marts only, no files"):
        answer(warehouse, "from read_csv('secret.csv')")


def test_a_query_that_does_not_fit_into_memory_spills_into_a_folder_that_goes(tmp_path: Path) -> None:
    with open_warehouse(str(corpus_root())) as connection:
        [(spill,)] = answer(connection, "select current_setting('temp_directory')")
        assert Path(spill).parent == Path(tempfile.gettempdir()) and not Path(spill).exists()
    with open_tables(str(corpus_root())) as other:
        assert answer(other, "select current_setting('temp_directory')") != [(spill,)]


def test_no_variable_of_python_is_a_table(warehouse: duckdb.DuckDBPyConnection) -> None:
    notes = pa.table({"a": [1]})
    assert notes.num_rows == 1
    with pytest.raises(duckdb.CatalogException, match="Table with name notes does not exist"):
        warehouse.execute("select * from notes")
    with pytest.raises(ReviewriskError, match="Table with name notes does not exist"):
        run_query(warehouse, "select * from notes")


def test_the_connection_itself_is_locked(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="configuration has been locked"):
        warehouse.execute("set threads = 1")
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        warehouse.execute("delete from warehouse.main.dim_models")


def test_times_are_in_utc(warehouse: duckdb.DuckDBPyConnection) -> None:
    sql = "select (timestamptz '2015-06-01 12:00:00+02')::varchar, date_trunc('day', min(ingested_at))::varchar"
    assert answer(warehouse, f"{sql} from reviews") == [("2015-06-01 10:00:00+00", "2015-09-01 00:00:00+00")]


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


def test_what_an_error_repeats_of_the_data_is_escaped(warehouse: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ReviewriskError, match=r"Could not convert string '\\x1b\[31mred' to INT32"):
        answer(warehouse, "select (chr(27) || '[31mred')::integer from reviews limit 1")
    with pytest.raises(ReviewriskError, match=r"Table with name \\x1bnotes does not exist"):
        answer(warehouse, 'select * from "\x1bnotes"')


ERROR_AFTER_MANY_ROWS = "select if(range < 300000, '1', 'x')::integer as a from range(300001)"


def test_an_error_after_many_rows_is_a_sentence_too(warehouse: duckdb.DuckDBPyConnection) -> None:
    for _ in range(20):  # the threads of DuckDB race: about one run in 100 says "Interrupted" in place of the cause
        with pytest.raises(ReviewriskError, match=r"^Conversion Error: Could not convert string 'x' to INT32"):
            answer(warehouse, ERROR_AFTER_MANY_ROWS)


def test_where_duckdb_says_interrupted_the_query_runs_again_for_the_cause(
    warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(times: int) -> Callable[[duckdb.DuckDBPyConnection], Iterator[tuple[Any, ...]]]:
        left = iter(range(times))

        def fetched(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
            if next(left, None) is not None:
                raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")
            return rows(connection)

        return fetched

    rows = query._fetched
    monkeypatch.setattr(query, "_fetched", interrupted(3))
    with pytest.raises(ReviewriskError, match=r"^Conversion Error: Could not convert string 'x' to INT32"):
        answer(warehouse, ERROR_AFTER_MANY_ROWS)
    monkeypatch.setattr(query, "_fetched", interrupted(1 + query.TRIES_FOR_THE_CAUSE))
    with pytest.raises(ReviewriskError, match=r"^DuckDB stopped the query and does not say why: run"):
        answer(warehouse, ERROR_AFTER_MANY_ROWS)


def test_ctrl_c_while_duckdb_computes_is_ctrl_c(
    warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        raise RuntimeError("Query interrupted")  # as DuckDB says it

    monkeypatch.setattr(query, "_fetched", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer(warehouse, "select 1")


def test_rows_are_read_while_they_are_taken(warehouse: duckdb.DuckDBPyConnection) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = run_query(warehouse, "select range, repeat('x', 1000) from range(1000000)").rows
    assert [row[0] for row in itertools.islice(rows, 2500)] == list(range(2500))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "1 GB is not held"


HOLDER = """
import sys, duckdb
with duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A warehouse file that another program writes to."""
    file = tmp_path / "held.duckdb"
    holder = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdout.readline() == b"held\n"
        yield file
        program.communicate()


def test_while_another_program_holds_the_warehouse_the_tables_are_read(held: Path) -> None:
    with pytest.raises(ReviewriskError, match=r"held\.duckdb cannot be opened; does another program write to it"):
        open_warehouse(str(corpus_root()), held)
    notes: list[str] = []
    with open_warehouse(str(corpus_root()), held, notes.append) as connection:
        assert table_names(connection) == sorted(TABLES)
        assert answer(connection, "select count(*) from reviews") == [(90,)]
    [note] = notes
    assert note.startswith("marts are missing: The warehouse ") and "Conflicting lock" in note and "\n" not in note


# 50 processes that end as any other does; forked after the imports, so that each takes a fraction of a second.
FIFTY_EXITS = """
import os, signal, sys
import duckdb
from jobs.lake.query import open_warehouse

duckdb.close()  # its default connection has a thread, which a forked process would wait for in vain
ends = []
for _ in range(50):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # one that hangs ends with -14
        with open_warehouse(sys.argv[1]) as connection:
            assert connection.execute("select * from reviews limit 1").fetchall()
        break
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if ends[-1]:
        break
else:
    print(f"{len(ends)} ended with 0")
if child and ends[-1]:
    print(f"the {len(ends)}th ended with {ends[-1]}")
"""


def test_a_query_that_reads_one_row_of_many_files_ends_with_0(tmp_path: Path) -> None:
    months = [datetime.date(1995 + place // 12, place % 12 + 1, 5) for place in range(200)]
    root = write_root(tmp_path / "root", {"reviews": [review(f"R{day}", review_date=day) for day in months]})
    ended = subprocess.run(
        [sys.executable, "-c", FIFTY_EXITS, str(root)], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300
    )
    assert ended.stdout == "50 ended with 0\n", ended.stderr

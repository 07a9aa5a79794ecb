"""`reviewrisk sql` and `reviewrisk tables export`: where a query comes from, what a pipe gets and what a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from tests import ROOT
from tests.support.warehouse_rows import built_root, corpus_root, review, write_root

QUESTIONS = sorted((ROOT / "sql" / "adhoc").glob("*.sql"))


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("REVIEWRISK_ROOT", str(corpus_root()))
    monkeypatch.chdir(ROOT)
    return corpus_root()


def run(*arguments: object, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cli.main", *arguments]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda path: path.stem)
def test_every_worked_question_runs_as_a_file_from_standard_input_and_as_an_argument(question: Path) -> None:
    built_root()
    text = question.read_text(encoding="utf-8")
    answers = [run("sql", "--file", question), run("sql", "-", given=text), run("sql", text)]
    assert [answer.exit_code for answer in answers] == [0, 0, 0], answers[0].output
    assert answers[0].output == answers[1].output == answers[2].output and "row" in answers[0].output


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda path: path.stem)
def test_every_worked_question_says_how_to_run_it(question: Path) -> None:
    comment = [line for line in question.read_text(encoding="utf-8").splitlines() if line.startswith("--")]
    assert comment[-1] == f"-- Run it: reviewrisk sql --conf CONFIG --file sql/adhoc/{question.name}"
    assert max(map(len, comment)) <= 120


def test_there_are_eight_worked_questions() -> None:
    assert len(QUESTIONS) == 8


@pytest.mark.parametrize(
    "sql", ["-- How many?\nselect 7 as n", "-- x=1\nselect 7 as n", "/* - */ select 7 as n", "--n\n\nselect 7 as n"]
)
def test_a_query_may_begin_with_a_comment(sql: str) -> None:
    for arguments in (["--format", "csv", sql], [sql, "--format", "csv"], ["--format=csv", "--", sql]):
        result = run("sql", *arguments)
        assert (result.exit_code, result.output) == (0, "n\n7\n"), result.output


def test_a_mistyped_option_is_named() -> None:
    result = run("sql", "--fromat", "csv", "select 1")
    assert result.exit_code == 2 and "No such option" in result.output and "--fromat" in result.output


def test_a_query_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("select 7 as n", encoding="utf-8-sig")
    assert run("sql", "--format", "csv", "--file", file).output == "n\n7\n", "a byte-order mark is no part of it"
    assert run("sql", "--format", "csv", "-", given="\ufeffselect 7 as n").output == "n\n7\n"
    for arguments in ([], ["--file", file, "select 1"], ["--file", file, "-"]):
        result = run("sql", *arguments)
        assert result.exit_code == 2 and "Give one query: as an argument, as --file FILE, or as -" in result.output
    file.write_bytes("select 'ü' as n".encode("latin-1"))
    refused = run("sql", "--file", file)
    assert refused.exit_code not in (0, 2) and "q.sql is not UTF-8 text: save it as UTF-8." in refused.output
    assert "standard input is not UTF-8 text" in run("sql", "-", given=b"\xff").output


def test_a_table_is_cut_at_its_limit_and_csv_and_json_only_on_demand() -> None:
    rows = "select range as n from range(1500)"
    assert run("sql", rows).output.splitlines()[-1].startswith("(the first 1,000 rows; there are more")
    assert run("sql", "--limit", 1500, rows).output.splitlines()[-1] == "(1,500 rows)"
    assert len(run("sql", "--format", "csv", rows).stdout.splitlines()) == 1501
    cut = run("sql", "--format", "json", "--limit", 2, rows)
    assert json.loads(cut.stdout) == [{"n": 0}, {"n": 1}] and cut.stderr == "note: the first 2 rows; there are more\n"
    assert run("sql", "--limit", 0, rows).exit_code == 2


def test_safe_csv_goes_with_csv() -> None:
    sql = "select '=1+1' as a, -1 as b"
    assert run("sql", "--format", "csv", sql).output == "a,b\n=1+1,-1\n"
    assert run("sql", "--format", "csv", "--safe-csv", sql).output == "a,b\n'=1+1,-1\n"
    assert run("sql", "--safe-csv", sql).exit_code == 2


TITLE = "\x1b[31mred\x1b[0m \x9b1m\r=ü"


@pytest.fixture
def coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_root(tmp_path / "root", {"reviews": [review("R1", product_title=TITLE)]})
    monkeypatch.setenv("REVIEWRISK_ROOT", str(root))


def test_a_pipe_gets_the_bytes_that_are_stored(coloured: None) -> None:
    def piped(form: str) -> bytes:
        ended = subprocess.run(
            program("sql", "--format", form, "select product_title as t from reviews"), capture_output=True, check=True
        )
        return ended.stdout

    assert piped("csv") == f't\n"{TITLE}"\n'.encode()
    assert json.loads(piped("json")) == [{"t": TITLE}]
    assert b"\\x1b[31mred\\x1b[0m \\x9b1m\\r=" in piped("table")


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_terminal_gets_no_control_character_of_the_data(coloured: None, form: str) -> None:
    reader, terminal = pty.openpty()
    sql = "select product_title as t from reviews"
    with subprocess.Popen(program("sql", "--format", form, sql), stdout=terminal, stderr=subprocess.PIPE) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(reader, 4096):
                shown += part
        except OSError:  # how a terminal whose last writer has gone ends on Linux
            pass
    os.close(reader)
    assert process.returncode == 0
    text = shown.decode().replace("\r\n", "\n")
    assert "[31mred" in text and "\x1b[31m" not in text and "\x9b" not in text and "\r" not in text


def test_a_reader_that_leaves_early_ends_it_quietly() -> None:
    sql = "select range, repeat('x', 1000) from range(1000000)"
    for form in ("csv", "json"):
        with subprocess.Popen(
            program("sql", "--format", form, sql), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.read(100)
            process.stdout.close()
            assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_a_warehouse_that_cannot_be_opened_is_noted_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "broken.duckdb").write_text("no database", encoding="utf-8")
    conf = tmp_path / "conf.yml"
    text = (ROOT / "conf" / "test.yml").read_text(encoding="utf-8")
    assert "  warehouse: null" in text
    conf.write_text(text.replace("  warehouse: null", f"  warehouse: {tmp_path}/broken.duckdb"), encoding="utf-8")
    result = run("sql", "--conf", conf, "--format", "csv", "select count(*) as n from reviews")
    assert (result.exit_code, result.stdout) == (0, "n\n90\n")
    [note] = [line for line in result.stderr.splitlines() if not line.startswith("root:")]
    assert note.startswith("note: marts are missing: The warehouse ") and "broken.duckdb cannot be opened" in note


def test_export_says_what_it_wrote(tmp_path: Path) -> None:
    result = run("tables", "export", "--parquet", tmp_path / "out", "models", "model_routes")
    assert (result.exit_code, result.output) == (0, "  models: 2 rows\n  model_routes: 0 rows\n")
    assert (tmp_path / "out" / "model_routes").is_dir()

"""`job_runs`: every run that ends has its row, and what cannot be written is said."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.storage import StorageSettings, parse_root
from model.errors import ReviewriskError
from tests import ROOT


def test_a_run_makes_tables_that_have_come_since_and_none_in_a_folder_without(tmp_path: Path) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    shutil.rmtree(tmp_path / "root" / "tables" / "model_routes")
    assert not tables.is_there(root, "model_routes")
    with JobRun(root, "score"):
        pass
    assert tables.is_there(root, "model_routes")
    nothing = parse_root(str(tmp_path / "typo"), StorageSettings())
    with (
        pytest.raises(ReviewriskError, match="holds no table job_runs yet: run `reviewrisk ingest`"),
        JobRun(nothing, "score"),
    ):
        pass
    assert not (tmp_path / "typo").exists()


APPENDER = """
import sys
from jobs.lake.runs import JobRun
from jobs.storage import StorageSettings, parse_root
root = parse_root(sys.argv[1], StorageSettings())
for _ in range(5):
    with JobRun(root, sys.argv[2]) as run:
        run.finish()
"""


def test_runs_that_end_at_once_all_have_their_rows(tmp_path: Path) -> None:
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    started = [
        subprocess.Popen([sys.executable, "-c", APPENDER, root.uri, f"c{place}"], cwd=ROOT, env={**os.environ})
        for place in range(4)
    ]
    assert [process.wait() for process in started] == [0] * 4
    commands = tables.read_arrow(root, "job_runs", ["command"])["command"].to_pylist()
    assert sorted(commands) == sorted([f"c{place}" for place in range(4)] * 5)


def test_a_failed_runs_row_keeps_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "hunter22")
    root = parse_root(str(tmp_path / "root"), StorageSettings())
    tables.create_tables(root)
    with pytest.raises(ReviewriskError), JobRun(root, "push"):
        raise ReviewriskError("The hub refused hunter22.")
    [row] = tables.read_arrow(root, "job_runs").to_pylist()
    assert (row["status"], row["error"]) == ("failed", "ReviewriskError: The hub refused ***.")
    assert row["started_at"] <= row["finished_at"] <= datetime.datetime.now(datetime.UTC)

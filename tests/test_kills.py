"""Real processes killed between two commits: nothing half is seen, and the next run leaves the tables of an undisturbed
one.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from os import environ, killpg
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.nightly import run_nightly
from jobs.training.train import run_train
from tests import ROOT
from tests.support.raw_files import corpus, line, write_source
from tests.support.trained_root import copied

# What tells one run from another, and what becomes of a model later.
TIMES = {"ingested_at", "trained_at", "promoted_at", "scored_at", "explained_at"}
OF_THE_RUN = {"run_id", "bundle_checksum", "status", *TIMES}

# The command line, except that the commit of one table is never reached.
STOPPED = """
import sys, time
from jobs.lake import delta
from jobs.cli.main import main
table, *arguments = sys.argv[1:]
real = delta.commit
def commit(root, committed, *rest, **options):
    if committed.name == table:
        print("ready", flush=True)
        time.sleep(600)
    return real(root, committed, *rest, **options)
delta.commit = commit
main(arguments)
"""


@dataclass(frozen=True)
class Scene:
    """A root on which a command is to be killed, the command again, and a root on which it ran undisturbed."""

    config: Config
    arguments: list[str]
    again: Callable[[], Any]
    undisturbed: Config


def at(config: Config, root: Path) -> Config:
    return config.model_copy(update={"paths": config.paths.model_copy(update={"root": str(root)})})


def ingesting(spark: Any, built: Config, folder: Path) -> Scene:
    """A file with accepted, rejected and superseded lines."""
    lines = [
        *corpus(),
        line(review_id="train-1", review_date="2014-05-01", review_body="an older version"),
        line(review_id="bad", star_rating="six"),
    ]
    source = str(write_source(folder / "reviews.tsv", lines))
    config = at(built, folder / "root").model_copy(
        update={"ingest": built.ingest.model_copy(update={"max_rejected_share": 0.5})}
    )
    undisturbed = at(config, folder / "undisturbed")
    run_ingest(spark, undisturbed, [source], lambda _: None)
    return Scene(config, ["ingest", source], lambda: run_ingest(spark, config, [source], lambda _: None), undisturbed)


def training(spark: Any, built: Config, folder: Path) -> Scene:
    """The reviews of the built root, from which its model came, without that model."""
    config = copied(built, folder / "root")
    for gone in ("tables/models", "tables/model_thresholds", "models", "work"):
        shutil.rmtree(config.root.local_path / gone, ignore_errors=True)
    tables.create_tables(config.root)
    return Scene(config, ["train"], lambda: run_train(config, lambda _: None), built)


def killed_before_the_commit(table: str, scene: Scene, folder: Path) -> None:
    conf = folder / "conf.yml"
    conf.write_text(yaml.safe_dump(scene.config.model_dump(mode="json")))
    command, *rest = scene.arguments
    job = subprocess.Popen(
        [sys.executable, "-c", STOPPED, table, command, "--conf", str(conf), *rest],
        cwd=ROOT,
        env={**environ},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert job.stdout is not None
    is_ready = any(printed == b"ready\n" for printed in job.stdout)
    killpg(job.pid, signal.SIGKILL)
    job.wait()
    job.stdout.close()
    assert is_ready, "the command ended before it came to the commit"


def contents(config: Config, name: str) -> list[dict[str, Any]]:
    """A table's rows in the order of their key, without what tells one run from another."""
    rows = tables.read_arrow(config.root, name).to_pylist()
    ordered = sorted(rows, key=lambda row: tuple(row[column] for column in tables.TABLES[name].key))
    return [{column: value for column, value in row.items() if column not in OF_THE_RUN} for row in ordered]


@pytest.mark.parametrize(
    ("make", "table", "whole", "empty"),
    [
        pytest.param(
            ingesting,
            "reviews",
            [],
            ["reviews", "rejected_reviews", "sources"],
            marks=pytest.mark.long,
            id="ingest-before-reviews",
        ),
        pytest.param(
            ingesting,
            "sources",
            ["splits", "reviews", "rejected_reviews"],
            ["sources"],
            marks=pytest.mark.long,
            id="ingest-before-sources",
        ),
        pytest.param(training, "models", ["model_thresholds"], ["models"], id="train-before-models"),
    ],
)
def test_a_killed_run_shows_nothing_half_and_the_next_one_finishes(
    make: Callable[..., Scene],
    table: str,
    whole: list[str],
    empty: list[str],
    spark: Any,
    built: Config,
    tmp_path: Path,
) -> None:
    """Of a stage's tables, the one that others look up comes last: whoever finds a model or a source finds all that
    belongs to it.
    """
    scene = make(spark, built, tmp_path)
    before = (
        tables.read_arrow(scene.config.root, "job_runs").num_rows
        if (scene.config.root.local_path / "tables").exists()
        else 0
    )
    killed_before_the_commit(table, scene, tmp_path)
    assert {name: contents(scene.config, name) for name in empty} == {name: [] for name in empty}
    assert {name: contents(scene.config, name) for name in whole} == {
        name: contents(scene.undisturbed, name) for name in whole
    }
    assert tables.read_arrow(scene.config.root, "job_runs").num_rows == before, "a killed run leaves no row"
    scene.again()
    compared = [name for name in tables.TABLES if name != "job_runs"]
    assert {name: contents(scene.config, name) for name in compared} == {
        name: contents(scene.undisturbed, name) for name in compared
    }


def nightly(built: Config, folder: Path) -> Scene:
    """A night with new reviews, one correction and one line that is none, on a root with a champion."""
    folder.mkdir(exist_ok=True)
    lines = [line(review_id=f"night-{i}", review_date=f"2015-09-{i + 1:02d}", review_body="it broke") for i in range(9)]
    lines += [
        line(review_id="night-0", review_date="2015-09-20", review_body="love it"),
        line(review_id="bad", vine="?"),
    ]
    source = str(write_source(folder / "night.tsv", lines))
    share = {"ingest": built.ingest.model_copy(update={"max_rejected_share": 0.5})}
    config = copied(built, folder / "root").model_copy(update=share)
    undisturbed = copied(built, folder / "undisturbed").model_copy(update=share)

    def again(chosen: Config = config) -> None:
        run_nightly(chosen, [source], lambda _: None, lambda _: None)

    again(undisturbed)
    return Scene(config, ["nightly", source], again, undisturbed)


@pytest.mark.long
def test_five_kills_of_one_night_leave_the_tables_of_an_undisturbed_one(
    spark: Any, built: Config, tmp_path: Path
) -> None:
    """Each kill comes before the commit of another table, in the order of the night: what one run has published, the
    next does not commit again. What tells one run from another is not compared.
    """
    scene = nightly(built, tmp_path / "scene")
    for table in ("reviews", "rejected_reviews", "sources", "review_scores", "token_attributions"):
        killed_before_the_commit(table, scene, tmp_path)
    scene.again()
    compared = [name for name in tables.TABLES if name != "job_runs"]
    assert {name: contents(scene.config, name) for name in compared} == {
        name: contents(scene.undisturbed, name) for name in compared
    }


@pytest.mark.long
@pytest.mark.parametrize("place", [1, 40, 95])
def test_a_report_killed_in_dbt_leaves_the_last_warehouse(trained: Config, tmp_path: Path, place: int) -> None:
    """The process group is killed when dbt has come to its node number `place`. A reader of the last warehouse must not
    find a file beside it either: what DuckDB has not written into a database yet stands in one.
    """

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in warehouse.parent.iterdir() if path.is_file()}

    conf = tmp_path / "conf.yml"
    conf.write_text(yaml.safe_dump(trained.model_dump(mode="json")))
    command = [sys.executable, "-m", "jobs.cli.main", "report", "--conf", str(conf)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    warehouse = trained.root.local_path / "warehouse" / "reviewrisk.duckdb"
    before = files()
    assert before.keys() == {warehouse.name}
    job = subprocess.Popen(
        command, cwd=ROOT, env={**environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert job.stdout is not None
    numbers = (re.search(rb"dbt +(\d+) of", printed) for printed in job.stdout)
    reached = any(found and int(found[1]) >= place for found in numbers)
    killpg(job.pid, signal.SIGKILL)
    job.wait()
    job.stdout.close()
    assert reached, "the report ended before dbt came so far"
    assert files() == before
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert [path.name for path in warehouse.parent.rglob("*") if path.is_file()] == [warehouse.name]

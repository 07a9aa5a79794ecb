"""The session's environment and log: UTF-8 whatever the locale, and our log settings in spark-submit's JVM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
import yaml
from pyspark import SparkConf

from jobs.config import Config, SparkSettings
from jobs.lake import tables
from jobs.spark.session import _options, _refuse_gpus_in_local_mode, use_utf8
from model.errors import ReviewriskError
from tests import ROOT
from tests.support.raw_files import corpus, line, write_source


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "C.UTF-8"),
        ({"LC_ALL": "C"}, "C.UTF-8"),
        ({"LANG": "de_DE.ISO-8859-1"}, "C.UTF-8"),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, "C.UTF-8"),
        ({"LANG": "de_DE.utf8"}, None),
        ({"LC_ALL": "en_US.UTF-8"}, "en_US.UTF-8"),
        ({"LC_CTYPE": "C.UTF-8"}, None),
    ],
)
def test_a_locale_without_utf8_is_replaced(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str | None
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    use_utf8()
    assert os.environ.get("LC_ALL") == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("local", "local[1,2]"),
        ("local[2]", "local[2,2]"),
        ("local[*]", "local[*,2]"),
        ("local[2,1]", "local[2,1]"),
        ("local-cluster[2,1,1024]", "local-cluster[2,1,1024]"),
        ("spark://localhost:7077", "spark://localhost:7077"),
    ],
)
def test_local_mode_tries_a_failed_task_again_unless_told_how_often(given: str, expected: str) -> None:
    assert _options(SparkSettings(master=given))["spark.master"] == expected


@pytest.mark.parametrize("master", ["local", "local[2,2]", "local[*]"])
def test_gpus_of_tasks_in_local_mode_are_refused_as_spark_would_wait_for_ever(master: str) -> None:
    conf = SparkConf(loadDefaults=False).setMaster(master).set("spark.task.resource.gpu.amount", "1")
    with pytest.raises(ReviewriskError) as caught:
        _refuse_gpus_in_local_mode(conf)
    assert str(caught.value) == (
        f"spark.task.resource.gpu.amount is set, but with spark.master {master} Spark hands out no GPUs and would wait"
        " for ever: leave the setting out (score.device cuda needs none there), or use a cluster."
    )
    _refuse_gpus_in_local_mode(conf.set("spark.task.resource.gpu.amount", "0"))
    for other in ("local-cluster[2,1,1024]", "spark://host:7077", "yarn"):
        _refuse_gpus_in_local_mode(conf.setMaster(other).set("spark.task.resource.gpu.amount", "1"))


def ran(command: list[str], config: Config, source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """An ingest in a process of its own, with an environment that holds nothing but what it needs."""
    conf = source.parent / "conf.yml"
    splits = {"mode": "given", "train_end": "2014-12-31", "validation_end": "2015-04-30", "test_end": "2015-08-31"}
    conf.write_text(yaml.safe_dump({**config.model_dump(mode="json"), "splits": splits}), encoding="utf-8")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ}
    return subprocess.run(
        [*command, "ingest", "--conf", str(conf), str(source)],
        cwd=ROOT,
        env={**kept, "SPARK_LOCAL_IP": "127.0.0.1", **environment},
        capture_output=True,
        encoding="utf-8",
    )


def test_names_with_umlauts_are_read_where_the_locale_is_c(config: Config, tmp_path: Path) -> None:
    """Root and file have one; the second run reads the tables that the first one wrote."""
    folder = tmp_path / "Möbel"
    folder.mkdir()
    root = config.model_copy(update={"paths": config.paths.model_copy(update={"root": str(folder / "root")})})
    command = [sys.executable, "-m", "jobs.cli.main"]
    for name, lines in (("März.tsv", corpus()), ("später.tsv", corpus()[:3])):
        done = ran(command, root, write_source(folder / name, lines), LC_ALL="C")
        assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(tables.read_arrow(root.root, "sources")["source_file"].to_pylist()) == ["März.tsv", "später.tsv"]


def test_a_damaged_file_is_a_sentence_and_no_trace(config: Config, tmp_path: Path) -> None:
    """The damage lies beyond what is looked at before Spark reads."""
    lines = [line(review_id=f"r{i}", review_body=f"{i * 7919}") for i in range(50_000)]
    source = write_source(tmp_path / "a.tsv.gz", lines)
    source.write_bytes(source.read_bytes()[:-2000])
    done = ran([sys.executable, "-m", "jobs.cli.main"], config, source)
    assert done.returncode != 0
    own = [text for text in done.stderr.splitlines() if not text.startswith("WARNING: Using incubator modules")]
    assert len(own) == 1 and own[0].startswith("error: a.tsv.gz is refused at line ")


def test_spark_submit_prints_our_lines_alone(config: Config, tmp_path: Path) -> None:
    """What stands above the first of ours comes from Java and spark-submit before our code runs."""
    submit = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
    python = f"spark.pyspark.python={sys.executable}"
    command = [submit, "--master", "local[1]", "--conf", python, str(ROOT / "jobs" / "submit.py")]
    done = ran(command, config, write_source(tmp_path / "a.tsv", corpus()), PYSPARK_PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.startswith("ingest\n")
    assert not [text for text in (done.stdout + done.stderr).splitlines() if " INFO " in text or "\tat " in text]

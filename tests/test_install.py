"""What is installed rather than checked out: the wheel's content, the wheel from another directory, a cluster without
the source tree.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from jobs.config import Config
from jobs.lake import tables
from tests import ROOT
from tests.support.trained_root import by_id


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, cwd=folder)
    [built] = folder.glob("reviewrisk-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel. Its dependencies are those of this one, by a path entry: the editable copy is
    not on it.
    """
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def test_the_wheel_carries_code_and_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for wanted in ("jobs/cli/main.py", "jobs/py.typed", "model/scoring/scorer.py"):
        assert wanted in names
    data = {name.split("/data/share/reviewrisk/", 1)[1] for name in names if "/data/share/reviewrisk/" in name}
    tracked = subprocess.run(
        ["git", "ls-files", "conf", "sql", "dbt"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert data == set(tracked)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_what_is_missing_is_an_extra_and_on_no_index() -> None:
    sources = "\n".join(path.read_text() for folder in ("jobs", "model") for path in (ROOT / folder).rglob("*.py"))
    named = set(re.findall(r"(?:install|needs)_extra\(['\"](\w+)['\"]", sources))
    extras = set(re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), flags=re.MULTILINE))
    assert named == {"spark", "train", "dbt", "bundled", "java", "engines"} < extras
    pages = "\n".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert not re.findall(r"pip install [^`\n]*'reviewrisk", sources + pages) and "## Parts of the install" in pages


def test_an_installed_copy_runs_from_another_directory(installed: Path, built: Config, tmp_path: Path) -> None:
    """Sample and report with the wheel alone; the root in between is the tests' own, since a model takes minutes to
    train.
    """
    program = installed / "bin" / "reviewrisk"
    clean = {
        "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "REVIEWRISK_ROOT": built.root.uri,
    }
    where = subprocess.run(
        [installed / "bin" / "python", "-c", "import jobs; print(jobs.__file__)"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(installed) in where.stdout
    subprocess.run(
        [program, "sample", "--rows", "500", "reviews.tsv.gz"], cwd=tmp_path, env=clean, check=True, capture_output=True
    )
    assert (tmp_path / "reviews.tsv.gz").stat().st_size > 10_000
    copy = tmp_path / "root"
    subprocess.run(["cp", "-r", built.root.uri, str(copy)], check=True)
    report = subprocess.run(
        [program, "report", "--conf", "demo"],
        cwd=tmp_path,
        env={**clean, "REVIEWRISK_ROOT": str(copy)},
        capture_output=True,
        text=True,
    )
    assert report.returncode == 0, report.stdout + report.stderr
    assert "champion" in report.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_daemon(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_for(log: Path, pattern: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not re.search(pattern, log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{pattern} not in {log.read_text()}"
        time.sleep(0.2)


@pytest.fixture
def cluster(installed: Path, tmp_path: Path) -> Iterator[str]:
    """A standalone master and two workers on loopback, of one core each, started from the installed environment."""
    import pyspark

    from jobs.spark.java import use_java

    environment = {
        "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
        "JAVA_HOME": use_java(),
        "HOME": str(tmp_path),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    port = free_port()
    address = f"spark://127.0.0.1:{port}"
    started = []
    try:
        master = [
            spark_class,
            "org.apache.spark.deploy.master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--webui-port",
            str(free_port()),
        ]
        started.append(start_daemon(master, environment, tmp_path / "master.log"))
        wait_for(tmp_path / "master.log", "New state: ALIVE")
        for number in (1, 2):
            worker = [
                spark_class,
                "org.apache.spark.deploy.worker.Worker",
                "--host",
                "127.0.0.1",
                "--cores",
                "1",
                "--memory",
                "2g",
            ]
            worker += ["--webui-port", str(free_port()), "--work-dir", str(tmp_path / f"work{number}"), address]
            started.append(start_daemon(worker, environment, tmp_path / f"worker{number}.log"))
            wait_for(tmp_path / f"worker{number}.log", "Successfully registered")
        yield address
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def test_spark_submit_scores_on_a_cluster_of_two_workers_without_the_source_tree(
    cluster: str, installed: Path, trained: Config, tmp_path: Path
) -> None:
    import pyspark

    conf = tmp_path / "cluster.yml"
    conf.write_text(yaml.safe_dump(trained.model_dump(mode="json")))
    submit = (
        installed
        / "lib"
        / f"python{sys.version_info.major}.{sys.version_info.minor}"
        / "site-packages"
        / "jobs"
        / "submit.py"
    )
    environment = {
        "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
        "JAVA_HOME": os.environ["JAVA_HOME"],
        "HOME": str(tmp_path),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    python = str(installed / "bin" / "python")
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
        "--master",
        cluster,
        "--executor-memory",
        "1g",
    ]
    command += [
        "--conf",
        f"spark.pyspark.python={python}",
        "--conf",
        f"spark.pyspark.driver.python={python}",
        str(submit),
        "score",
        "--conf",
        str(conf),
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    reviews = by_id(tables.read_arrow(trained.root, "reviews"))
    assert by_id(tables.read_arrow(trained.root, "review_scores")).keys() == reviews.keys()
    for number in (1, 2):
        assert list((tmp_path / f"work{number}").glob("app-*/*")), f"worker {number} ran an executor"
    [run] = [row for row in tables.read_arrow(trained.root, "job_runs").to_pylist() if row["command"] == "score"]
    assert json.loads(run["details"])["scored"] == len(reviews)


@pytest.mark.long
def test_the_wheel_in_an_empty_environment_runs_from_sample_to_report(wheel: Path, tmp_path: Path) -> None:
    """Everything installed anew from the constraints, then the whole demo on a small sample."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [
        environment / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        f"reviewrisk[all] @ {wheel.as_uri()}",
    ]
    subprocess.run(pip, check=True)
    conf = yaml.safe_load((ROOT / "conf" / "demo.yml").read_text())
    conf["sample"]["rows"] = 2000
    conf["model"]["training"]["max_rows"] = 500
    conf["explain"]["max_rows"] = 10
    conf["promotion"] = {"minimum_auc": 0.0, "minimum_f1": 0.0, "maximum_ece": 1.0}
    (tmp_path / "small.yml").write_text(yaml.safe_dump(conf))
    clean = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [environment / "bin" / "reviewrisk", "demo", "--conf", "small.yml"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "6/6 report" in done.stdout and "champion" in done.stdout

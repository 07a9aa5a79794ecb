"""The report: dbt builds the warehouse from the tables, and its headline figures are printed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from jobs.config import ReportSettings
from jobs.lake.checks import check_before_report
from jobs.lake.delta import published_tables
from jobs.lake.query import open_warehouse, warehouse_file
from jobs.lake.runs import JobRun
from jobs.outages import storage_errors
from jobs.report.headline import ReportSummary, format_summary, read_summary
from jobs.resources import resource_folder
from jobs.storage import Root
from model.errors import ReviewriskError, install_extra
from model.files import import_path_of_children
from model.progress import Report


def run_report(
    root: Root, warehouse: Path | None, settings: ReportSettings, report: Report, scratch: Path | None = None
) -> ReportSummary:
    """Build the warehouse with dbt and print its headline figures; the figures come back.

    The DuckDB file appears whole or not at all: it is built beside its place and moved there when every test has
    passed, so readers of the last one are not disturbed. `scratch` (by default <root>/work, or a temporary folder for
    s3) takes what dbt compiles and logs; the tables of an s3 root are first copied there, where DuckDB can read them.
    Raises ReviewriskError where tables contradict each other (sql/checks/published), and, with dbt's own messages,
    where a model or a test of dbt fails.
    """
    with JobRun(root, "report") as run:
        file = warehouse_file(root, warehouse)
        if file is None:
            raise ReviewriskError(
                f"The root {root.uri} is not a local folder, and the warehouse is a local file: name it in"
                " paths.warehouse."
            )
        published_tables(root)
        work = (
            scratch or (root.local_path / "work" if root.is_local else Path(tempfile.gettempdir()) / "reviewrisk")
        ) / "dbt"
        with _local_root(root, work / run.run_id, report) as local:
            check_before_report(str(local), report)
            _build_warehouse(local, file, work, settings, report)
        with open_warehouse(root, file) as connection:
            summary = read_summary(connection, settings)
        details = {
            "reviews": summary.reviews,
            "labelled": summary.labelled,
            "precision": summary.precision,
            "recall": summary.recall,
        }
        run.finish(model_version=summary.champion, rows_read=summary.reviews, details=details)
    for line in format_summary(summary, settings):
        report(line)
    return summary


@contextmanager
def _local_root(root: Root, copy: Path, report: Report) -> Iterator[Path]:
    """The root itself, or, for s3, a folder with a copy of its tables while the block runs: DuckDB reads Delta tables
    there only with extensions from the network.
    """
    if root.is_local:
        yield root.local_path
        return
    report(f"  copying the tables of {root.uri} to {copy}")
    try:
        yield root.local_copy(copy / "tables", "tables").parent
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _build_warehouse(root: Path, file: Path, work: Path, settings: ReportSettings, report: Report) -> None:
    """Let dbt build into a folder beside the warehouse, then put the file in its place in one step."""
    # dbt names the database after the file, and views hold that name: the new file must be called like the old one.
    building = file.parent / ".building" / file.name
    place = f"The warehouse's folder {file.parent}"
    with storage_errors(place):
        building.parent.mkdir(parents=True, exist_ok=True)
    _run_dbt(root, building, work, settings, report)
    with storage_errors(place, duckdb.IOException), duckdb.connect(str(building)) as connection:
        connection.execute("checkpoint")  # nothing may stay behind in a write-ahead log
        building.replace(file)  # while it is open, and so locked, no other run can have begun to build into it


def _run_dbt(root: Path, warehouse: Path, work: Path, settings: ReportSettings, report: Report) -> None:
    """Run `dbt build`; raise with the messages of what failed."""
    if not _has_dbt():
        raise ReviewriskError(f"This step needs dbt: {install_extra('dbt')}.")
    results = work / "target" / "run_results.json"
    with storage_errors(f"The scratch folder {work}"):
        results.parent.mkdir(parents=True, exist_ok=True)
        results.unlink(missing_ok=True)
    project = resource_folder("dbt")
    command = [
        sys.executable,
        "-c",
        "from dbt.cli.main import cli; cli()",
        "--log-format",
        "json",
        "--log-path",
        str(work / "logs"),
        "build",
    ]
    command += ["--project-dir", str(project), "--profiles-dir", str(project), "--target-path", str(work / "target")]
    command += ["--vars", json.dumps({"minimum_reviews": settings.minimum_reviews})]
    # The plugin of dbt/profiles.yml is in this code; a checkout need not be installed for dbt to find it.
    own = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}  # meant for other projects
    environment = own | {
        "REVIEWRISK_ROOT": str(root),
        "REVIEWRISK_WAREHOUSE": str(warehouse),
        "PYTHONPATH": import_path_of_children(),
    }
    report("  dbt reads its project")
    with subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        errors = [error for error in (_follow(line, report) for line in process.stdout) if error]
    if process.returncode:
        failures = list(_failures(results)) or errors[-5:] or ["dbt ended without a message"]
        shown = "\n".join(f"  {failure}" for failure in failures)
        raise ReviewriskError(
            f"dbt build failed, so the warehouse was left as it was:\n{shown}\nThe log is {work / 'logs' / 'dbt.log'}."
        )


def _has_dbt() -> bool:
    try:
        return importlib.util.find_spec("dbt.adapters.duckdb") is not None
    except ModuleNotFoundError:
        return False


def _follow(line: str, report: Report) -> str | None:
    """The error that a line of dbt's JSON log tells of, if any. Models that are done and tests that did not pass are
    shown.
    """
    try:
        event = json.loads(line)
        info, data = event["info"], event["data"]
    except (ValueError, KeyError, TypeError):
        return line.strip()  # Python's own words, before dbt's log begins
    if info["name"] == "LogModelResult":
        report(
            f"  dbt {data['index']:>3} of {data['total']}: {data['node_info']['node_name']} {data['status'].lower()}"
        )
    elif info["name"] == "LogTestResult" and data["status"] != "pass":
        report(f"  dbt {data['index']:>3} of {data['num_models']}: test {data['name']}: {data['status']}")
    return " ".join(info["msg"].split()) if info["level"] == "error" and info["name"] != "MainStackTrace" else None


def _failures(results: Path) -> Iterator[str]:
    """'name (status): message' for each node of dbt's run_results.json that failed."""
    if not results.exists():
        return
    for result in json.loads(results.read_text(encoding="utf-8"))["results"]:
        if result["status"] in ("error", "fail", "runtime error"):
            name = result["unique_id"].split(".")[2]
            yield f"{name} ({result['status']}): {' '.join((result['message'] or '').split())}"

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from jobs.config import ReportSettings
from jobs.lake.checks import check_before_report
from jobs.lake.delta import published_tables
from jobs.lake.query import open_warehouse, warehouse_file
from jobs.lake.runs import JobRun
from jobs.outages import storage_errors
from jobs.resources import resource_folder
from jobs.storage import Root
from model.errors import ReviewriskError, install_extra
from model.files import import_path_of_children
from model.progress import Report
from model.terminal import align

TITLE_LENGTH = 48
CATEGORIES = 5


@dataclass(frozen=True)
class ReportSummary:
    """The printed figures. Rates are 0 to 1 over labelled reviews (no 3 stars), None where there is nothing to divide
    by.

    `routes`: the model that decides for a value of the routes' column; the champion decides for all others.
    `predicted_rate`, `flagged_rate`: over those of them that are scored. `precision`, `recall`: on the test split, at
    the default thresholds. `months`, `products`, `words`: one dict per line, named as in the dbt reports they come
    from.
    """

    champion: str | None
    routes: dict[str, str]
    threshold_name: str | None
    threshold: float | None
    reviews: int
    labelled: int
    dissatisfied_rate: float | None
    predicted_rate: float | None
    flagged_rate: float | None
    test_labelled: int
    precision: float | None
    recall: float | None
    months: list[dict[str, Any]] = field(repr=False)
    products: list[dict[str, Any]] = field(repr=False)
    words: list[dict[str, Any]] = field(repr=False)


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
            summary = _read_summary(connection, settings)
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


def _read_summary(connection: duckdb.DuckDBPyConnection, settings: ReportSettings) -> ReportSummary:
    champions = _rows(
        connection, "select model_version, default_threshold_name, default_threshold from dim_models where is_champion"
    )
    champion = (
        champions[0] if champions else dict.fromkeys(("model_version", "default_threshold_name", "default_threshold"))
    )
    *months, total = _rows(connection, _MONTHS)
    test = _rows(connection, _TEST)[0]
    return ReportSummary(
        champion=champion["model_version"],
        routes={row["route_value"]: row["model_version"] for row in _rows(connection, _ROUTES)},
        threshold_name=champion["default_threshold_name"],
        threshold=champion["default_threshold"],
        reviews=total["review_count"] or 0,
        labelled=total["labelled_count"] or 0,
        dissatisfied_rate=total["dissatisfied_rate"],
        predicted_rate=total["predicted_rate"],
        flagged_rate=total["flagged_rate"],
        test_labelled=test["labelled_count"],
        precision=test["test_precision"],
        recall=test["test_recall"],
        months=months[-settings.months :],
        products=_rows(
            connection,
            "select * from rpt_dissatisfaction_by_product order by dissatisfaction_rank limit ?",
            settings.products,
        ),
        words=_rows(connection, _WORDS, CATEGORIES, settings.words),
    )


# One row per month, oldest first, and last the row of all months together (review_month null).
_MONTHS = """
    select
        review_month,
        sum(review_count) as review_count,
        sum(labelled_count) as labelled_count,
        sum(dissatisfied_count) / nullif(sum(labelled_count), 0) as dissatisfied_rate,
        sum(predicted_rate * labelled_scored_count) / nullif(sum(labelled_scored_count), 0) as predicted_rate,
        sum(labelled_flagged_count) / nullif(sum(labelled_scored_count), 0) as flagged_rate
    from rpt_dissatisfaction_monthly
    group by rollup (review_month)
    order by review_month nulls last
"""
_ROUTES = "select route_value, model_version from model_routes order by route_value"
_TEST = """
    select
        count(*) as labelled_count,
        count(*) filter (where is_flagged and is_dissatisfied)
        / nullif(count(*) filter (where is_flagged), 0) as test_precision,
        count(*) filter (where is_flagged and is_dissatisfied)
        / nullif(count(*) filter (where is_dissatisfied), 0) as test_recall
    from fct_review_scores
    where split = 'test' and is_dissatisfied is not null and probability is not null
"""
# The leading words of the categories whose words weigh most.
_WORDS = """
    with largest as (
        select category_key, sum(total_attribution) as weight
        from rpt_top_dissatisfaction_words
        group by category_key
        order by weight desc, category_key
        limit ?
    )
    select words.category_key, words.word, words.review_count, words.mean_attribution
    from rpt_top_dissatisfaction_words as words
    inner join largest on words.category_key = largest.category_key
    where words.word_rank <= ?
    order by largest.weight desc, words.category_key, words.word_rank
"""


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: int) -> list[dict[str, Any]]:
    result = connection.execute(sql, list(parameters))
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def format_summary(summary: ReportSummary, settings: ReportSettings) -> list[str]:
    """The report as lines of text."""
    lines = ["", "Dissatisfaction (1-2 stars against 4-5; 3-star reviews count as reviews and are in no rate)"]
    if summary.champion is None:
        lines.append(
            "  champion      none yet, so nothing is scored: run `reviewrisk train` and `reviewrisk models promote`"
        )
    else:
        lines.append(f"  champion      {summary.champion}, threshold {summary.threshold_name} {summary.threshold:.3f}")
    lines += [f"  routed        {value} → {version}" for value, version in summary.routes.items()]
    lines.append(f"  reviews       {summary.reviews:,}, of them labelled {summary.labelled:,}")
    lines.append(
        f"  dissatisfied  {_percent(summary.dissatisfied_rate)} of the labelled; predicted"
        f" {_percent(summary.predicted_rate)}"
    )
    lines.append(f"  flagged       {_percent(summary.flagged_rate)} of the labelled that are scored")
    lines.append(
        f"  test split    precision {_percent(summary.precision)}, recall {_percent(summary.recall)}"
        f" ({summary.test_labelled:,} labelled reviews)"
    )
    lines += ["", f"Last {len(summary.months)} months with reviews", *_month_lines(summary)]
    lines += [
        "",
        (
            "Products with most dissatisfaction, by the lower end of the 95% interval (at least"
            f" {settings.minimum_reviews} labelled reviews)"
        ),
    ]
    lines += _product_lines(summary) or ["  none has enough labelled reviews"]
    lines += ["", "Words that push flagged reviews towards dissatisfied (reviews with the word)"]
    lines += _word_lines(summary) or ["  none: no flagged review is explained yet"]
    return lines


def _month_lines(summary: ReportSummary) -> list[str]:
    header = ("month", "reviews", "labelled", "dissatisfied", "predicted", "flagged")
    rows = [
        (
            f"{month['review_month']:%Y-%m}",
            f"{month['review_count']:,}",
            f"{month['labelled_count']:,}",
            *(_percent(month[name]) for name in ("dissatisfied_rate", "predicted_rate", "flagged_rate")),
        )
        for month in summary.months
    ]
    return [f"  {line}" for line in align([header, *rows], right=[False, True, True, True, True, True])]


def _product_lines(summary: ReportSummary) -> list[str]:
    rows = [
        (
            product["product_id"],
            f"{product['labelled_count']:,}",
            _percent(product["dissatisfied_rate"]),
            f"{_percent(product['dissatisfied_rate_lower'])} to {_percent(product['dissatisfied_rate_upper'])}",
            _shortened(product["product_title"] or ""),
        )
        for product in summary.products
    ]
    header = ("product", "labelled", "dissatisfied", "95% interval", "title")
    return [f"  {line}" for line in align([header, *rows], right=[False, True, True, True, False])] if rows else []


def _word_lines(summary: ReportSummary) -> list[str]:
    categories = list(dict.fromkeys(row["category_key"] for row in summary.words))
    words = {
        name: [f"{row['word']} {row['review_count']:,}" for row in summary.words if row["category_key"] == name]
        for name in categories
    }
    return (
        [f"  {line}" for line in align([(name, ", ".join(words[name])) for name in categories], right=[False, False])]
        if words
        else []
    )


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _shortened(title: str) -> str:
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1] + "…"

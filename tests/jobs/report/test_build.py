"""jobs.report.build: one call builds the warehouse and prints figures that a newcomer can read; a failure leaves the
last warehouse.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from deltalake import write_deltalake
from moto.server import ThreadedMotoServer

from jobs.config import ReportSettings
from jobs.lake.query import open_warehouse
from jobs.report.build import run_report
from jobs.report.headline import ReportSummary
from jobs.resources import resource_folder
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from tests import ROOT
from tests.support.warehouse_rows import (
    CHAMPION,
    RETIRED,
    arrow_rows,
    corpus_root,
    review,
    route,
    score,
    source,
    split,
    write_root,
)

SETTINGS = ReportSettings(months=2, products=5, words=1, minimum_reviews=5)


@dataclass(frozen=True)
class Reported:
    """A root after `run_report`, with what it printed and gave back."""

    root: Root
    lines: list[str]
    summary: ReportSummary

    @property
    def warehouse(self) -> Path:
        return self.root.local_path / "warehouse" / "reviewrisk.duckdb"


def report_of(root: Root, warehouse: Path | None = None, scratch: Path | None = None) -> Reported:
    lines: list[str] = []
    return Reported(root, lines, run_report(root, warehouse, SETTINGS, lines.append, scratch))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    root = tmp_path_factory.mktemp("report") / "root"
    shutil.copytree(corpus_root() / "tables", root / "tables")
    # of no review here
    write_deltalake(
        str(root / "tables" / "model_routes"), arrow_rows("model_routes", [route("kitchen")]), mode="append"
    )
    return report_of(parse_root(str(root), StorageSettings()))


def test_the_figures_are_those_of_the_marts(reported: Reported) -> None:
    """Of 34 labelled test reviews 10 are bad; 10 are flagged, 8 of them bad."""
    summary = reported.summary
    assert (summary.champion, summary.threshold_name, summary.threshold) == (CHAMPION, "f1_max", 0.5)
    assert summary.routes == {"kitchen": RETIRED}
    assert (summary.reviews, summary.labelled, summary.test_labelled) == (90, 85, 34)
    assert (summary.dissatisfied_rate, summary.flagged_rate) == (25 / 85, 25 / 85)
    assert summary.predicted_rate == pytest.approx((4 * 0.9 + 0.4 + 0.6 + 11 * 0.1) / 17)
    assert (summary.precision, summary.recall) == (0.8, 0.8)
    assert [month["review_month"] for month in summary.months] == [datetime.date(2015, 7, 1), datetime.date(2015, 8, 1)]
    assert [product["product_id"] for product in summary.products] == ["DESK", "SOFA", "LAMP"]


def test_the_printed_report_is_aligned_and_explains_itself(reported: Reported) -> None:
    start = reported.lines.index(
        "Dissatisfaction (1-2 stars against 4-5; 3-star reviews count as reviews and are in no rate)"
    )
    assert reported.lines[start:] == [
        "Dissatisfaction (1-2 stars against 4-5; 3-star reviews count as reviews and are in no rate)",
        "  champion      minilm-aaaaaaaaaaaa, threshold f1_max 0.500",
        "  routed        kitchen → minilm-bbbbbbbbbbbb",
        "  reviews       90, of them labelled 85",
        "  dissatisfied  29.4% of the labelled; predicted 33.5%",
        "  flagged       29.4% of the labelled that are scored",
        "  test split    precision 80.0%, recall 80.0% (34 labelled reviews)",
        "",
        "Last 2 months with reviews",
        "  month    reviews  labelled  dissatisfied  predicted  flagged",
        "  2015-07       18        17         29.4%      33.5%    29.4%",
        "  2015-08       18        17         29.4%      33.5%    29.4%",
        "",
        "Products with most dissatisfaction, by the lower end of the 95% interval (at least 5 labelled reviews)",
        "  product  labelled  dissatisfied     95% interval  title",
        "  DESK            5        100.0%  56.6% to 100.0%  Oak desk",
        "  SOFA           30         50.0%   33.2% to 66.8%  Grey sofa",
        "  LAMP           50         10.0%    4.3% to 21.4%  Brass lamp",
        "",
        (
            "Words that push flagged reviews towards dissatisfied (reviews with the word; 29 of 29 flagged reviews are"
            " explained)"
        ),
        "  furniture  broken 25",
        "  unknown    broken 4",
    ]


def test_each_model_is_a_line_of_progress_and_the_run_is_kept(reported: Reported) -> None:
    built = [line.split()[-2] for line in reported.lines if line.startswith("  dbt ") and line.endswith(" ok")]
    assert len(built) == 16
    assert {"stg_reviews", "fct_review_scores", "rpt_calibration"} < set(built)
    with open_warehouse(reported.root) as connection:
        kept = connection.execute(
            "select status, model_version, rows_read from job_runs where command = 'report'"
        ).fetchall()
    assert kept == [("succeeded", CHAMPION, 90)]


def test_dbt_writes_into_the_root_and_not_into_the_project(reported: Reported) -> None:
    assert (reported.root.local_path / "work" / "dbt" / "target" / "manifest.json").exists()
    assert (reported.root.local_path / "work" / "dbt" / "logs" / "dbt.log").exists()
    assert [path.name for path in reported.warehouse.parent.iterdir() if path.is_file()] == ["reviewrisk.duckdb"]


def test_a_failing_test_is_named_and_the_last_warehouse_stays(reported: Reported, tmp_path: Path) -> None:
    """A second score of a review by one model would double the review in the marts."""
    folder = tmp_path / "root"
    shutil.copytree(reported.root.local_path, folder)
    before = (folder / "warehouse" / "reviewrisk.duckdb").stat()
    write_deltalake(
        str(folder / "tables" / "review_scores"), arrow_rows("review_scores", [score("R0600")]), mode="append"
    )
    root = parse_root(str(folder), StorageSettings())
    with pytest.raises(ReviewriskError) as raised:
        report_of(root)
    message = str(raised.value)
    assert message.startswith("dbt build failed, so the warehouse was left as it was:\n")
    assert (
        "\n  unique_combination_stg_review_scores_model_version__review_id (fail): Got 1 result, configured to fail if"
        " != 0" in message
    )
    after = (folder / "warehouse" / "reviewrisk.duckdb").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with open_warehouse(root) as connection:
        assert connection.execute("select count(*) from fct_review_scores").fetchone() == (90,)
        assert connection.execute(
            "select status from job_runs where command = 'report' order by started_at"
        ).fetchall() == [("succeeded",), ("failed",)]


def test_tables_that_contradict_each_other_are_named_before_dbt_builds(reported: Reported, tmp_path: Path) -> None:
    """Every staged check passes on such a row: only beside the other tables is it wrong."""
    folder = tmp_path / "root"
    shutil.copytree(reported.root.local_path, folder)
    before = (folder / "warehouse" / "reviewrisk.duckdb").stat()
    write_deltalake(
        str(folder / "tables" / "review_scores"), arrow_rows("review_scores", [score("R9999")]), mode="append"
    )
    root, printed = parse_root(str(folder), StorageSettings()), []
    with pytest.raises(ReviewriskError) as raised:
        run_report(root, None, SETTINGS, printed.append)
    message = str(raised.value)
    assert message.startswith(
        "Tables contradict each other, so nothing was built and the warehouse was left as it was:\n"
    )
    assert "\n  scores_without_review (1 rows): A row is a score of a review that is not there." in message
    assert not [line for line in printed if "dbt" in line], "dbt was not begun"
    after = (folder / "warehouse" / "reviewrisk.duckdb").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with open_warehouse(root) as connection:
        runs = connection.execute(
            "select status, error from job_runs where command = 'report' order by started_at"
        ).fetchall()
    assert [status for status, _ in runs] == ["succeeded", "failed"] and "scores_without_review" in runs[1][1]


def test_before_the_first_champion_the_report_is_of_the_stars_alone(tmp_path: Path) -> None:
    reviews = [review("R1", star_rating=1), review("R2"), review("R3", star_rating=3)]
    rows = {
        "reviews": reviews,
        "splits": [split("test")],
        "sources": [source(rows_read=3, rows_accepted=3, rows_rejected=0)],
    }
    reported = report_of(parse_root(str(write_root(tmp_path / "root", rows)), StorageSettings()))
    assert (
        reported.summary.champion,
        reported.summary.reviews,
        reported.summary.dissatisfied_rate,
        reported.summary.precision,
    ) == (None, 3, 0.5, None)
    text = "\n".join(reported.lines)
    assert (
        "champion      none yet, so nothing is scored: run `reviewrisk train` and `reviewrisk models promote`" in text
    )
    assert "  2015-06        3         2         50.0%          -        -" in text
    assert "  none has enough labelled reviews" in text
    assert "  none: no flagged review is explained yet" in text


def test_empty_tables_build_too(tmp_path: Path) -> None:
    reported = report_of(parse_root(str(write_root(tmp_path / "root", {})), StorageSettings()))
    assert (reported.summary.reviews, reported.summary.months, reported.summary.products, reported.summary.words) == (
        0,
        [],
        [],
        [],
    )


def test_a_root_without_tables_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match="holds no tables yet"):
        report_of(parse_root(str(tmp_path / "typo"), StorageSettings()))
    assert not (tmp_path / "typo").exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    """An s3 root with the corpus, on a server of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "invented")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "invented")
    settings = StorageSettings(endpoint_url=f"http://{host}:{port}", region="us-east-1")
    boto3.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region).create_bucket(Bucket="shop")
    root = parse_root("s3://shop/reviewrisk", settings)
    root.upload_folder(corpus_root() / "tables", "tables")
    yield root
    server.stop()


def test_an_s3_root_is_reported_from_a_copy(bucket: Root, tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match=r"name it in paths\.warehouse"):
        report_of(bucket)
    warehouse = tmp_path / "warehouse" / "shop.duckdb"
    reported = report_of(bucket, warehouse, tmp_path / "scratch")
    assert (reported.summary.reviews, reported.summary.precision) == (90, 0.8)
    with open_warehouse(bucket, warehouse) as connection:
        assert connection.execute(
            "select count(*) from reviews semi join fct_review_scores using (review_id)"
        ).fetchone() == (90,)
        runs = connection.execute("select status from job_runs where command = 'report' order by started_at").fetchall()
    assert runs == [("failed",), ("succeeded",)], "the report that had no place to go has its row, too"
    assert not list((tmp_path / "scratch" / "dbt").glob("*/tables")), "the copy goes when the report stands"


def test_the_resources_are_found_and_are_not_the_package_dbt() -> None:
    assert (resource_folder("dbt") / "dbt_project.yml").is_file()
    assert (resource_folder("sql") / "ddl" / "reviews.sql").is_file()


def test_an_installed_copy_finds_its_resources_beside_itself(tmp_path: Path) -> None:
    """As pip lays a wheel out: the code beside the package dbt of dbt-core, the data under share/reviewrisk."""
    packages = tmp_path / "lib" / "site-packages"
    for name in ("jobs", "model"):
        shutil.copytree(ROOT / name, packages / name, ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "dbt").mkdir()
    shutil.copytree(
        resource_folder("dbt"),
        tmp_path / "share" / "reviewrisk" / "dbt",
        ignore=shutil.ignore_patterns("target", "logs"),
    )
    code = (
        f"import sys, sysconfig; sys.path.insert(0, {str(packages)!r}); sysconfig.get_path = lambda name:"
        f" {str(tmp_path)!r}\n"
    )
    code += "from jobs.resources import resource_folder; print(resource_folder('dbt'))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "share" / "reviewrisk" / "dbt"), done.stderr

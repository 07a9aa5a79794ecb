"""A root that is accepted works in every step; every other one is refused in a sentence that repeats no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.lake.query import open_tables
from jobs.lake.runs import JobRun
from jobs.report.build import run_report
from jobs.scoring.score import run_score
from jobs.storage import Root, StorageSettings, parse_root
from model.errors import ReviewriskError
from tests.support.raw_files import line, write_source
from tests.support.score_rows import JANUARY, object_store, publish, s3_root, scores, stored
from tests.support.trained_root import copied
from tests.support.warehouse_rows import corpus, corpus_root, write_root

# Each of these has a meaning of its own to some library on the way.
SIGNS = "a[b]c|d^e f*g'h\"i{j}k&l;m$no@p=q,r<s>t`u~v!w+x(y)zäö椅"


def local(folder: Path) -> Root:
    return parse_root(str(folder), StorageSettings())


@pytest.mark.parametrize("name", [*"[]|^ *'\"{}&;$:@=,<>`~!+()äß椅", " a", "a ", ".a", "-a"])
def test_tables_of_an_accepted_root_are_written_and_read(tmp_path: Path, name: str) -> None:
    root = local(tmp_path / f"r{name}" / name)
    tables.create_tables(root)
    publish(root, scores(("old", JANUARY, 0.5)), JANUARY)
    with JobRun(root, "score") as run:
        publish(root, scores(("new", JANUARY, 0.9)), JANUARY)
        run.finish()
    assert stored(root) == [("new", 0.9)]
    with open_tables(root) as connection:
        assert connection.execute("select status from job_runs").fetchall() == [("succeeded",)]
    assert tables.vacuum(root, 0, ["review_scores"]) == {"review_scores": 1}
    assert (tmp_path / f"r{name}" / name / "tables" / "reviews" / "_delta_log").is_dir()


def test_an_accepted_root_goes_through_spark_and_dbt(tmp_path: Path, spark: Any, config: Any) -> None:
    root = local(write_root(tmp_path / SIGNS, corpus()))
    reviews = tables.read_frame(spark, root, "reviews")
    scope = {"review_month": tables.read_arrow(root, "reviews")["review_month"].unique().to_pylist()}
    tables.publish(root, "reviews", "r", lambda _: tables.stage_frame(reviews, root, "reviews", "r", scope))
    assert tables.read_frame(spark, root, "reviews").count() == 90
    assert run_report(root, None, config.report, lambda _: None).reviews == 90


def test_a_night_goes_through_an_accepted_root(built: Any, tmp_path: Path, spark: Any) -> None:
    config = copied(built, tmp_path / SIGNS)
    source = write_source(tmp_path / "more.tsv", [line(review_id="more", review_date="2015-05-20")])
    assert run_ingest(spark, config, [str(source)], lambda _: None).new == 1
    assert run_score(spark, config, lambda _: None).scored > 0


@pytest.mark.parametrize(
    "name", ["a#b", "a?b", "a%20b", "a%b", "a\\b", "a\tb", "a\nb", "a\x7fb", "a\udce4b", "a:[b]", "a,:"]
)
def test_a_root_that_some_step_could_not_use_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReviewriskError, match="has a special meaning for Delta, Spark or dbt"):
        local(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hdfs://x/y", "hdfs:// is not supported"),
        ("s3:///x", "names a bucket"),
        (" ", "is empty"),
        ("s3://bucket/a b", "unaccented letters, digits and signs"),
        ("s3://bucket/%20", "unaccented letters, digits and signs"),
        ("s3://Bucket/a", "unaccented letters, digits and signs"),
        ("s3://bucket/a//b", "unaccented letters, digits and signs"),
        ("s3://bucket/a#b", "unaccented letters, digits and signs"),
        ("file://elsewhere/a", "file:// is not supported"),
        ("a\0b", "no path of this machine"),
        ("~nobody-of-that-name/a", "no path of this machine"),
    ],
)
def test_another_address_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ReviewriskError, match=message):
        parse_root(text, StorageSettings())


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(ReviewriskError, match="notes', which is a file: name a folder"):
        local(tmp_path / "notes")


@pytest.mark.parametrize(
    "text", ["s3://me:hunter22@bucket/x", "s3://me:hun/ter22@bucket", "s3://hunter22@bucket", "hdfs://me:hunter22@h/x"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ReviewriskError, match="an address holds no password") as caught:
        parse_root(text, StorageSettings())
    assert "hun" not in str(caught.value) and "ter22" not in str(caught.value)


def test_addresses_name_what_they_say(tmp_path: Path) -> None:
    assert parse_root(f"file://{tmp_path}/a%20b", StorageSettings()).uri == str(tmp_path / "a b")
    assert parse_root(f"file://localhost{tmp_path}", StorageSettings()).uri == str(tmp_path)
    assert parse_root("s3://bucket/some/prefix/", StorageSettings()).uri == "s3://bucket/some/prefix"
    assert parse_root("s3://bucket", StorageSettings()).join("tables", "x") == "s3://bucket/tables/x"


@pytest.mark.parametrize("given", [["UNSET_KEY_ID"], ["UNSET_SECRET"], []])
def test_a_secret_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    root = s3_at("http://127.0.0.1:9")
    for name in given:
        monkeypatch.setenv(name, "value")
    missing = " and ".join(name for name in ("UNSET_KEY_ID", "UNSET_SECRET") if name not in given)
    for ask in (root.storage_options, root.filesystem, lambda: tables.create_tables(root)):
        with pytest.raises(ReviewriskError, match=f"needs the environment variable {missing}, which is not set"):
            ask()


def test_on_aws_itself_the_machines_role_may_stand_in_for_both() -> None:
    assert "aws_access_key_id" not in parse_root("s3://bucket", StorageSettings()).storage_options({})
    with pytest.raises(ReviewriskError, match="AWS_SECRET_ACCESS_KEY, which is not set"):
        parse_root("s3://bucket", StorageSettings()).storage_options({"AWS_ACCESS_KEY_ID": "key"})


def s3_at(endpoint: str) -> Root:
    settings = StorageSettings(
        endpoint_url=endpoint,
        region="us-east-1",
        access_key_id_env="UNSET_KEY_ID",
        secret_access_key_env="UNSET_SECRET",
    )
    return parse_root("s3://bucket/prefix", settings)


def test_a_folder_is_copied_into_a_root_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "a.json").write_text("{}")
    with object_store() as endpoint:
        root = s3_root(endpoint)
        root.upload_folder(tmp_path / "bundle", "models", "m-1")
        copied = root.local_copy(tmp_path / "copy" / "m-1", "models", "m-1")
    assert (copied, (copied / "a.json").read_text()) == (tmp_path / "copy" / "m-1", "{}")
    assert not list(copied.parent.glob(".copy-*"))
    assert local(corpus_root()).local_copy(tmp_path, "tables") == corpus_root() / "tables"

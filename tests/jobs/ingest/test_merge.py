"""Ingest on real Spark and real Delta: every line accounted for, corrections across months, refusals, repeats."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from model.errors import ReviewriskError
from tests.conftest import real_data
from tests.support.raw_files import corpus, line, write_source

GIVEN = {"mode": "given", "train_end": "2014-12-31", "validation_end": "2015-04-30", "test_end": "2015-08-31"}


def with_splits(config: Config, **overrides: Any) -> Config:
    return Config.model_validate({**config.model_dump(), "splits": {**GIVEN, **overrides}})


def with_ingest(config: Config, **overrides: Any) -> Config:
    return config.model_copy(update={"ingest": config.ingest.model_copy(update=overrides)})


def ingest(spark: Any, config: Config, *sources: Path) -> tuple[Any, str]:
    printed: list[str] = []
    summary = run_ingest(spark, config, [str(source) for source in sources], printed.append)
    return summary, "\n".join(printed)


def rows(config: Config, name: str, *columns: str) -> list[tuple[Any, ...]]:
    found = tables.read_arrow(config.root, name, columns)
    return sorted(tuple(row[column] for column in columns) for row in found.to_pylist())


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.zst"])
def test_each_line_is_accepted_or_rejected_with_reason_and_line(
    spark: Any, config: Config, tmp_path: Path, ending: str
) -> None:
    bad: list[str | bytes] = [
        "",
        "just\ttwo",
        line() + "\tone more",
        line(review_id=" "),
        line(star_rating="6"),
        line(review_date="2015-02-30"),
        line(review_date="1/31/2015"),
        line(review_date="1970-01-01"),
        line(vine="maybe"),
        line(total_votes="-3"),
        line(review_body="caf").encode() + b"\xe9",
    ]
    source = write_source(tmp_path / f"a b{ending}", [*corpus(), *bad])
    relaxed = with_ingest(with_splits(config), max_rejected_share=0.6)
    summary, _ = ingest(spark, relaxed, source)
    assert (summary.read, summary.accepted, summary.rejected, summary.superseded) == (23, 12, 11, 0)
    assert rows(config, "rejected_reviews", "source_line", "reason", "detail") == [
        (14, "blank_line", None),
        (15, "too_few_fields", "2 fields, not 15"),
        (16, "too_many_fields", "16 fields, not 15"),
        (17, "bad_review_id", "no id"),
        (18, "bad_star_rating", "6"),
        (19, "bad_review_date", "2015-02-30"),
        (20, "bad_review_date", "1/31/2015"),
        (
            21,
            "bad_review_date",
            (
                "1970-01-01, not within 1995-01-01 to"
                f" {datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)}"
            ),
        ),
        (22, "bad_vine", "maybe"),
        (23, "bad_total_votes", "-3"),
        (24, "not_utf8", "bytes that are not UTF-8"),
    ]
    raw = rows(config, "rejected_reviews", "source_line", "raw_line", "raw_line_base64")
    assert raw[1] == (15, "just\ttwo", None)
    assert raw[-1][1].endswith("\ufffd") and raw[-1][2] is not None
    [(name, read, accepted, rejected)] = rows(
        config, "sources", "source_file", "rows_read", "rows_accepted", "rows_rejected"
    )
    assert (name, read, accepted, rejected) == (source.name, 23, 12, 11)


def test_columns_are_typed_and_the_text_is_stored_as_written(spark: Any, config: Config, tmp_path: Path) -> None:
    odd = line(
        review_id="odd",
        review_headline="",
        review_body='He said "no"<br />A &amp; B \\n',
        vine="Y",
        product_category="FURNITURE",
        star_rating="3",
    )
    ingest(spark, with_splits(config), write_source(tmp_path / "a.tsv", [*corpus(), odd], end="\r\n"))
    [stored] = [row for row in tables.read_arrow(config.root, "reviews").to_pylist() if row["review_id"] == "odd"]
    assert stored["review_headline"] is None
    assert stored["review_body"] == 'He said "no"<br />A &amp; B \\n'
    assert (stored["vine"], stored["verified_purchase"], stored["star_rating"], stored["product_category"]) == (
        True,
        True,
        3,
        "FURNITURE",
    )
    assert (stored["review_date"], stored["review_month"], stored["split"]) == (
        datetime.date(2015, 1, 10),
        datetime.date(2015, 1, 1),
        "validation",
    )


def test_the_newest_version_wins_and_a_correction_moves_across_months(
    spark: Any, config: Config, tmp_path: Path
) -> None:
    chosen = with_splits(config)
    first = [
        *corpus(),
        line(review_id="X", review_date="2015-01-10", review_body="old"),
        line(review_id="X", review_date="2015-01-20", review_body="newer"),
    ]
    summary, _ = ingest(spark, chosen, write_source(tmp_path / "1.tsv", first))
    assert (summary.accepted, summary.superseded) == (13, 1)
    summary, _ = ingest(
        spark,
        chosen,
        write_source(tmp_path / "2.tsv", [line(review_id="X", review_date="2015-06-02", review_body="corrected")]),
    )
    assert (summary.accepted, summary.corrected, summary.new) == (1, 1, 0)
    found = [row for row in tables.read_arrow(config.root, "reviews").to_pylist() if row["review_id"] == "X"]
    assert [(row["review_body"], row["split"], row["review_month"]) for row in found] == [
        ("corrected", "test", datetime.date(2015, 6, 1))
    ]
    stale = write_source(
        tmp_path / "3.tsv", [line(review_id="X", review_date="2015-03-01", review_body="late and old")]
    )
    summary, _ = ingest(spark, chosen, stale)
    assert (summary.accepted, summary.superseded) == (0, 1)
    assert len(rows(config, "reviews", "review_id")) == 13


def test_equal_dates_are_decided_by_source_order_then_line(spark: Any, config: Config, tmp_path: Path) -> None:
    twice = [line(review_id="X", review_body="line 14"), line(review_id="X", review_body="line 15")]
    first = write_source(tmp_path / "1.tsv", [*corpus(), *twice])
    second = write_source(tmp_path / "2.tsv", [line(review_id="X", review_body="second source")])
    ingest(spark, with_splits(config), first, second)
    assert [row for row in rows(config, "reviews", "review_id", "review_body") if row[0] == "X"] == [
        ("X", "second source")
    ]


def test_a_second_run_changes_no_table_but_job_runs(spark: Any, config: Config, tmp_path: Path) -> None:
    chosen = with_splits(config)
    source = write_source(tmp_path / "a.tsv.gz", [*corpus(), *[line(review_id=f"ok{i}") for i in range(200)], "broken"])
    ingest(spark, chosen, source)
    names = [name for name in tables.TABLES if name != "job_runs"]
    before = {name: tables.current_version(config.root, name) for name in names}
    summary, printed = ingest(spark, chosen, source)
    assert summary.skipped_files == 1 and "was ingested before" in printed
    # The same rows in another file change nothing but the list of sources.
    copy = write_source(tmp_path / "copy.tsv", [*corpus()])
    summary, _ = ingest(spark, chosen, copy)
    assert (summary.accepted, summary.already_stored, summary.new) == (12, 12, 0)
    after = {name: tables.current_version(config.root, name) for name in names}
    assert {name for name in names if after[name] != before[name]} == {"sources"}


def test_a_run_that_died_before_its_last_commit_is_finished_by_the_next(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = with_splits(config)
    source = write_source(tmp_path / "a.tsv", [*corpus(), *[line(review_id=f"ok{i}") for i in range(100)], "broken"])
    real = tables.replace_rows

    def die(root: Any, name: str, *rest: Any) -> None:
        if name == "sources":
            raise RuntimeError("killed here")
        real(root, name, *rest)

    monkeypatch.setattr(tables, "replace_rows", die)
    with pytest.raises(RuntimeError):
        ingest(spark, chosen, source)
    monkeypatch.setattr(tables, "replace_rows", real)
    summary, _ = ingest(spark, chosen, source)
    assert (summary.read, summary.accepted, summary.rejected, summary.already_stored) == (113, 112, 1, 112)
    assert (
        len(rows(config, "reviews", "review_id")) == 112 and len(rows(config, "rejected_reviews", "source_line")) == 1
    )
    statuses = [row["status"] for row in tables.read_arrow(config.root, "job_runs").to_pylist()]
    assert sorted(statuses) == ["failed", "succeeded"]


def test_a_correction_wins_over_rows_of_an_ingest_that_died(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead run's rows have a source order that no source row shows; the next file's order must still be a later
    one.
    """
    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "a.tsv", corpus()))
    real = tables.replace_rows
    monkeypatch.setattr(
        tables, "replace_rows", lambda root, name, *rest: real(root, name, *rest) if name != "sources" else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        ingest(
            spark,
            chosen,
            write_source(
                tmp_path / "died.tsv",
                [*[line(review_id=f"x{i}") for i in range(5)], line(review_id="X", review_body="old")],
            ),
        )
    monkeypatch.setattr(tables, "replace_rows", real)
    ingest(
        spark,
        chosen,
        write_source(tmp_path / "next.tsv", [line(review_id="X", review_body="corrected on the same day")]),
    )
    assert [row for row in rows(config, "reviews", "review_id", "review_body") if row[0] == "X"] == [
        ("X", "corrected on the same day")
    ]


def test_lines_that_are_lost_on_the_way_are_an_error(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a task is run again and the file has gone: what is written is held against what was counted."""
    real = tables.stage_frame

    def lossy(frame: Any, root: Any, name: str, *rest: Any) -> Any:
        return real(frame.where("review_id <> 'test-1'") if name == "reviews" else frame, root, name, *rest)

    monkeypatch.setattr(tables, "stage_frame", lossy)
    with pytest.raises(ReviewriskError, match="11 reviews were written where 12 were counted"):
        ingest(spark, with_splits(config), write_source(tmp_path / "a.tsv", corpus()))
    assert rows(config, "reviews", "review_id") == []


def test_dates_that_fall_on_one_side_are_an_error_with_the_true_range(
    spark: Any, config: Config, tmp_path: Path
) -> None:
    source = write_source(
        tmp_path / "a.tsv",
        [line(review_id=f"r{i}", review_date="2010-05-01", star_rating=str(1 + 4 * (i % 2))) for i in range(6)],
    )
    with pytest.raises(
        ReviewriskError,
        match=r"validation would be empty; test would be empty.* from 2010-05-01 to 2010-05-01.*2014-12-31",
    ):
        ingest(spark, with_splits(config), source)
    assert rows(config, "reviews", "review_id") == [] and rows(config, "sources", "source_file") == []


def test_a_split_with_one_class_is_an_error(spark: Any, config: Config, tmp_path: Path) -> None:
    lines = [row.replace("\t1\t0\t1", "\t5\t0\t1") if "2015-05" in row else row for row in corpus()]
    with pytest.raises(ReviewriskError, match=r"test would hold one class only \(0 dissatisfied of 4 labelled\)"):
        ingest(spark, with_splits(config), write_source(tmp_path / "a.tsv", lines))


def test_a_nightly_file_is_live_and_never_refused_for_its_dates(spark: Any, config: Config, tmp_path: Path) -> None:
    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "a.tsv", corpus()))
    _, printed = ingest(
        spark, chosen, write_source(tmp_path / "night.tsv", [line(review_id="N", review_date="2016-02-03")])
    )
    assert ("N", "live") in rows(config, "reviews", "review_id", "split")
    assert re.search(r"live +1  2016-02     2016-02 +1", printed)
    with pytest.raises(ReviewriskError, match="differ from those this corpus was built with"):
        ingest(
            spark, with_splits(config, test_end="2015-09-30"), write_source(tmp_path / "c.tsv", [line(review_id="M")])
        )


def test_auto_boundaries_are_resolved_once_and_stored(spark: Any, config: Config, tmp_path: Path) -> None:
    lines = [
        line(review_id=f"r{day}-{i}", star_rating=str(1 + 4 * i), review_date=f"2015-01-{day:02d}")
        for day in range(1, 21)
        for i in range(2)
    ]
    ingest(spark, config, write_source(tmp_path / "a.tsv", lines))
    stored = {row["split"]: row["last_date"] for row in tables.read_arrow(config.root, "splits").to_pylist()}
    assert stored == {
        "train": datetime.date(2015, 1, 14),
        "validation": datetime.date(2015, 1, 17),
        "test": datetime.date(2015, 1, 20),
        "live": None,
    }
    ingest(spark, config, write_source(tmp_path / "b.tsv", [line(review_id="later", review_date="2015-01-21")]))
    assert ("later", "live") in rows(config, "reviews", "review_id", "split")


def test_the_real_corpus_splits_as_known(spark: Any, config: Config) -> None:
    summary, printed = ingest(spark, with_splits(config), real_data("amazon_us_reviews.tsv.gz"))
    assert (summary.read, summary.accepted, summary.rejected) == (32024, 32024, 0)
    assert "22,536" in printed and "5,041" in printed and "4,447" in printed


def test_the_wrong_dialect_is_refused_with_its_reason(spark: Any, config: Config) -> None:
    source = real_data("wrong_dialect_microwave.tsv.gz")
    with pytest.raises(ReviewriskError, match=r"its fields stand in quotes .* set ingest\.quoting to double"):
        ingest(spark, with_splits(config), source)
    with pytest.raises(ReviewriskError, match=r"(?s)bad_review_date: .*first in line 2: '8/31/2015'"):
        ingest(spark, with_ingest(with_splits(config), quoting="double"), source)
    assert rows(config, "reviews", "review_id") == []

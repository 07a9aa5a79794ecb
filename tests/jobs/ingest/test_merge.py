"""Ingest on real Spark and real Delta: every line accounted for, corrections across months, refusals, repeats."""

from __future__ import annotations

import datetime
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.ingest import merge
from jobs.ingest.accounting import Counts, IngestSummary
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.sources.files import find_sources
from model.errors import ReviewriskError
from tests.conftest import real_data
from tests.support.raw_files import HEADER, corpus, line, write_source
from tests.support.warehouse_rows import arrow_rows, source, split

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


def checksums(config: Config, *names: str) -> None:
    """Publishes sources of these checksums, in the order of their names."""
    made = [source(source_checksum=name, source_order=order) for order, name in enumerate(names, start=1)]
    tables.replace_rows(config.root, "sources", "run", lambda _: arrow_rows("sources", made))


def test_fresh_sources_are_those_with_lines_that_were_not_ingested_before(config: Config, tmp_path: Path) -> None:
    tables.create_tables(config.root)
    folder = tmp_path / "in"
    folder.mkdir()
    paths = [write_source(folder / f"{name}.tsv", [line(review_id=name)]) for name in ("a", "b", "c")]
    for name in ("empty.tsv", "note.txt", "more.txt"):
        (folder / name).touch()
    known = [one.checksum for one in find_sources([str(path) for path in paths[1:]]).sources]
    checksums(config, *known)
    printed: list[str] = []
    fresh, summary = merge._fresh_sources(config, [str(folder)], printed.append)
    assert [one.name for one in fresh] == ["a.tsv"]
    assert summary == IngestSummary(skipped_files=2, left_out_files=3)
    assert printed == [
        "  more.txt is left out: its name does not end in .tsv, .tsv.gz, .tsv.bz2 or .tsv.zst",
        "  note.txt is left out: its name does not end in .tsv, .tsv.gz, .tsv.bz2 or .tsv.zst",
        "  empty.tsv is left out: it is empty",
        "  b.tsv: this content was ingested before, skipped",
        "  c.tsv: this content was ingested before, skipped",
    ]


def test_a_file_of_another_dialect_is_refused_before_spark_starts(config: Config, tmp_path: Path) -> None:
    tables.create_tables(config.root)
    path = write_source(tmp_path / "a.tsv", [line(review_body='"quoted ""twice"""')])
    with pytest.raises(ReviewriskError, match=r"^a\.tsv is refused: .*ingest\.quoting to double"):
        merge._fresh_sources(config, [str(path)], print)
    double = with_ingest(config, quoting="double")
    fresh, summary = merge._fresh_sources(double, [str(path)], print)
    assert ([one.name for one in fresh], summary) == (["a.tsv"], IngestSummary())


def test_a_new_source_comes_after_every_published_one_and_keeps_its_place(config: Config, tmp_path: Path) -> None:
    tables.create_tables(config.root)
    found = find_sources([str(write_source(tmp_path / f"{name}.tsv", [name])) for name in ("a", "b")]).sources
    first, second = (one.checksum for one in found)
    assert merge._orders(config, found[:1]) == {first: 1}
    checksums(config, "x" * 64, "y" * 64, "z" * 64)
    assert merge._orders(config, found) == {first: 1, second: 4}


def test_a_new_corpus_needs_one_valid_line_and_a_night_does_not(config: Config) -> None:
    tables.create_tables(config.root)
    none: Counts = {"sum": [{"reason": "blank_line", "lines": 3}]}
    one: Counts = {"sum": [{"reason": "blank_line", "lines": 3}, {"reason": None, "lines": 1}]}
    merge._check_not_empty(one, config)
    with pytest.raises(ReviewriskError, match="The corpus was not built, as the source has no valid review: name"):
        merge._check_not_empty(none, config)
    tables.replace_rows(config.root, "splits", "run", lambda _: arrow_rows("splits", [split("train")]))
    merge._check_not_empty(none, config)


def test_a_source_that_another_run_published_stays_as_it_wrote_it() -> None:
    before = arrow_rows("sources", [source(source_checksum="a", source_order=1, run_id="other")])
    mine = [source(source_checksum=name, source_order=place, run_id="mine") for place, name in enumerate("ab", start=2)]
    both = merge._with_sources(before, arrow_rows("sources", mine)).to_pylist()
    assert [(row["source_checksum"], row["source_order"], row["run_id"]) for row in both] == [
        ("a", 1, "other"),
        ("b", 3, "mine"),
    ]
    assert merge._with_sources(before, arrow_rows("sources", mine[:1])).num_rows == 1


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
    newer = write_source(tmp_path / "next.tsv", [line(review_id="X", review_body="corrected on the same day")])
    ingest(spark, chosen, newer)
    assert [row for row in rows(config, "reviews", "review_id", "review_body") if row[0] == "X"] == [
        ("X", "corrected on the same day")
    ]
    # The dead run's file gets the place that was taken for it, before that of the file that came after it.
    ingest(spark, chosen, tmp_path / "died.tsv")
    assert rows(config, "sources", "source_order", "source_file") == [(1, "a.tsv"), (2, "died.tsv"), (3, "next.tsv")]
    assert [row for row in rows(config, "reviews", "review_id", "review_body") if row[0] == "X"] == [
        ("X", "corrected on the same day")
    ]
    assert_orders_are_the_sources(config)


def assert_orders_are_the_sources(config: Config) -> None:
    """Every review has the order of its source, and no two sources have the same."""
    orders = dict(rows(config, "sources", "source_checksum", "source_order"))
    assert len(set(orders.values())) == len(orders)
    assert set(rows(config, "reviews", "source_checksum", "source_order")) <= set(orders.items())


def test_two_runs_at_once_take_different_places_and_lose_nothing(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have taken their places before either publishes, and both change the same month."""
    from jobs.ingest import merge

    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "0.tsv", corpus()))
    files = [
        write_source(tmp_path / f"{name}.tsv", [line(review_id=f"{name}{i}") for i in range(9)] + [line(review_id="X")])
        for name in "ab"
    ]
    both, real = threading.Barrier(2, timeout=300), merge._orders

    def together(*arguments: Any) -> dict[str, int]:
        orders = real(*arguments)
        both.wait()
        return orders

    monkeypatch.setattr(merge, "_orders", together)
    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(lambda file: ingest(spark, chosen, file)[0], files))
    assert [summary.read for summary in summaries] == [10, 10]
    assert len(rows(config, "reviews", "review_id")) == 12 + 9 + 9 + 1
    assert [row[0] for row in rows(config, "sources", "source_order")] == [1, 2, 3]
    assert_orders_are_the_sources(config)


def test_the_same_file_in_two_runs_at_once_is_one_source(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run publishes between the first one's look at `sources` and its own commit."""
    from jobs.ingest import merge

    chosen = with_splits(config)
    night = write_source(tmp_path / "night.tsv", [*corpus(), *[line(review_id=f"r{i}") for i in range(30)], "bad"])
    real = merge._orders

    def overtaken(*arguments: Any) -> dict[str, int]:
        monkeypatch.setattr(merge, "_orders", real)
        ingest(spark, chosen, night)
        return real(*arguments)

    monkeypatch.setattr(merge, "_orders", overtaken)
    summary, _ = ingest(spark, chosen, night)
    assert (summary.accepted, summary.already_stored, summary.rejected) == (42, 42, 1)
    assert rows(config, "sources", "source_order", "rows_accepted") == [(1, 42)]
    assert len(rows(config, "rejected_reviews", "source_line")) == 1
    assert_orders_are_the_sources(config)


def test_lines_that_are_lost_on_the_way_are_an_error(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a task is run again and the file has gone: what is written is held against what was counted."""
    real = tables.stage_frame

    def lossy(frame: Any, root: Any, name: str, *rest: Any) -> Any:
        return real(frame.where("review_id <> 'test-1'") if name == "reviews" else frame, root, name, *rest)

    monkeypatch.setattr(tables, "stage_frame", lossy)
    with pytest.raises(ReviewriskError, match="11 reviews were written but 12 were counted"):
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
        match=r"validation would be empty; test would be empty.*2014-12-31.* from 2010-05-01 to 2010-05-01",
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


def test_a_damaged_archive_is_a_sentence(spark: Any, config: Config, tmp_path: Path) -> None:
    """The damage lies beyond what is looked at before Spark reads."""
    path = write_source(
        tmp_path / "a.tsv.gz", [line(review_id=f"r{i}", review_body=f"{i * 7919}") for i in range(50_000)]
    )
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(
        ReviewriskError,
        match=r"^a\.tsv\.gz is refused at line [\d,]+: the compressed file is cut short: copy it again\. Nothing",
    ):
        ingest(spark, with_splits(config), path)
    assert rows(config, "reviews", "review_id") == []


def test_every_file_that_is_refused_is_named(spark: Any, config: Config, tmp_path: Path) -> None:
    write_source(tmp_path / "a.tsv", corpus())
    write_source(tmp_path / "b.tsv", corpus(), header=HEADER.upper())
    (tmp_path / "c.tsv.gz").write_text("text")
    with pytest.raises(ReviewriskError) as caught:
        ingest(spark, with_splits(config), tmp_path)
    assert str(caught.value) == (
        "b.tsv is refused: the names in its header have capital letters: write them in small letters, such as"
        " marketplace.\n"
        "c.tsv.gz is refused: its name ends in .gz, but it is not compressed: rename it to end in .tsv."
        " Nothing was published."
    )
    assert rows(config, "reviews", "review_id") == []


def test_files_left_out_and_empty_ones_are_named_beside_a_good_one(spark: Any, config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_source(folder / "x.tsv.gz", corpus()).rename(folder / "B.TSV.GZ")
    (folder / "a.tsv").touch()
    (folder / "c.txt").write_text("text")
    summary, printed = ingest(spark, with_splits(config), folder)
    assert (summary.read, summary.accepted, summary.files, summary.left_out_files) == (12, 12, 1, 2)
    assert "  a.tsv is left out: it is empty\n" in printed
    assert "  c.txt is left out: its name does not end in .tsv, .tsv.gz, .tsv.bz2 or .tsv.zst\n" in printed
    assert rows(config, "sources", "source_file") == [("B.TSV.GZ",)]


def jobs_of(spark: Any) -> int:
    """How many Spark jobs have been started so far, outside any group."""
    return len(spark.sparkContext.statusTracker().getJobIdsForGroup(None))


def test_a_night_without_a_new_file_says_so_and_starts_no_spark_job(spark: Any, config: Config, tmp_path: Path) -> None:
    chosen = with_splits(config)
    (tmp_path / "empty").mkdir()
    source = write_source(tmp_path / "a.tsv", corpus())
    ingest(spark, chosen, source)
    before = jobs_of(spark)
    for arguments in ([source], [tmp_path / "empty"], [tmp_path / "none*.tsv"]):
        summary, printed = ingest(spark, chosen, *arguments)
        assert summary.is_nothing_new
        assert "  nothing new: no file has new content\n" in printed
        assert re.search(r"train +4  2014-06     2014-06 +0 +- +-\n", printed)
    assert jobs_of(spark) == before
    with pytest.raises(ReviewriskError, match=r"There is no file or folder .*none\.tsv: check its name"):
        ingest(spark, chosen, tmp_path / "none.tsv")


@pytest.mark.parametrize(("count", "is_sent"), [(2_000_000, True), (2_000_001, False)])
def test_few_ids_are_sent_to_the_stored_reviews_which_are_read_where_they_lie(
    spark: Any, config: Config, tmp_path: Path, count: int, is_sent: bool
) -> None:
    from jobs.ingest.versions import Merge

    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "a.tsv", corpus()))
    night = spark.createDataFrame([("train-1",)], "review_id string")
    ids = Merge(spark, chosen, night, count, None)._ids(night)  # type: ignore[arg-type]
    assert ("ResolvedHint (strategy=broadcast)" in ids._jdf.queryExecution().analyzed().toString()) == is_sent
    found = tables.read_frame(spark, config.root, "reviews").join(ids, on="review_id", how="left_semi")
    assert [row["review_id"] for row in found.collect()] == ["train-1"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_spark_was_to_keep_is_released_on_every_path(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "a.tsv", corpus()))
    ingest(spark, chosen, write_source(tmp_path / "b.tsv", corpus()[:5]))  # nothing new in it
    if fails:
        monkeypatch.setattr(tables, "stage_frame", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest(spark, chosen, write_source(tmp_path / "c.tsv", [line(review_id="N")]))
    assert spark._jsparkSession.sharedState().cacheManager().isEmpty()


@pytest.mark.parametrize("name", ["2016-02-01T02:00:00.tsv", "a%20b#c?d|e^f.tsv", "ü [1] {x}.tsv.gz", "-a.tsv"])
def test_a_file_may_have_any_name(spark: Any, config: Config, tmp_path: Path, name: str) -> None:
    ingest(spark, with_splits(config), write_source(tmp_path / name, corpus()))
    assert rows(config, "sources", "source_file", "rows_accepted") == [(name, 12)]


@pytest.mark.long
def test_a_line_of_fifty_megabytes_is_a_review(spark: Any, config: Config, tmp_path: Path) -> None:
    body = "chair " * (50 * 2**20 // 6)
    source = write_source(tmp_path / "a.tsv.gz", [*corpus(), line(review_id="long", review_body=body)])
    summary, _ = ingest(spark, with_splits(config), source)
    assert summary.accepted == 13
    assert dict(rows(config, "reviews", "review_id", "review_body"))["long"] == body


def test_quoted_files_are_refused_with_the_setting_that_reads_them(spark: Any, config: Config, tmp_path: Path) -> None:
    """As pandas writes it, with a tab in one text and a line feed in another, which is two lines and no review."""
    import pandas

    said = ['He said "no"', "a\tb", "two\nlines"]
    written = [*corpus(), *[line(review_id=f"Q{i}") for i in range(3)]]
    frame = pandas.DataFrame([text.split("\t") for text in written], columns=HEADER.split("\t"))
    frame.loc[frame.index[-3:], "review_body"] = said
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    with pytest.raises(ReviewriskError, match=r"^a\.tsv is refused: .* set ingest\.quoting to double in the config"):
        ingest(spark, with_splits(config), tmp_path / "a.tsv")
    reading = with_ingest(with_splits(config), quoting="double", max_rejected_share=0.2)
    summary, _ = ingest(spark, reading, tmp_path / "a.tsv")
    assert (summary.read, summary.accepted, summary.rejected) == (16, 14, 2)
    bodies = dict(rows(config, "reviews", "review_id", "review_body"))
    assert (bodies["Q0"], bodies["Q1"]) == ('He said "no"', "a\tb")
    assert rows(config, "rejected_reviews", "source_line", "reason") == [(16, "bad_quoting"), (17, "too_few_fields")]


def test_concatenated_files_are_read_and_their_headers_kept_apart(spark: Any, config: Config, tmp_path: Path) -> None:
    reviews = [text.replace("\t5\t0\t1", "\t5.0\t0\t1.0") + " 00:00:00" for text in corpus()]
    source = write_source(tmp_path / "a.tsv", [*reviews[:6], HEADER, *reviews[6:]])
    summary, printed = ingest(spark, with_ingest(with_splits(config), max_rejected_share=0.0), source)
    assert (summary.read, summary.accepted, summary.rejected) == (13, 12, 1)
    assert "  rejected: repeated_header 1\n" in printed
    assert rows(config, "rejected_reviews", "source_line", "reason") == [(8, "repeated_header")]
    assert {row[0] for row in rows(config, "reviews", "star_rating")} == {1, 5}
    assert rows(config, "reviews", "review_date")[0] == (datetime.date(2014, 6, 10),)


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


def test_a_night_is_held_against_its_own_reviews_alone(
    spark: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of twelve stored reviews the night has one; what it adds is a correction of that and a new one."""
    from jobs.ingest import versions

    chosen = with_splits(config)
    ingest(spark, chosen, write_source(tmp_path / "a.tsv", corpus()))
    real, stored = versions.compare, []

    def compare(newest: Any, found: Any) -> Any:
        stored.append([row["review_id"] for row in found.select("review_id").collect()])
        return real(newest, found)

    monkeypatch.setattr(versions, "compare", compare)
    night = [line(review_id=name, review_date="2016-02-03") for name in ("train-1", "N")]
    summary, _ = ingest(spark, chosen, write_source(tmp_path / "night.tsv", night))
    assert (summary.new, summary.corrected, stored) == (1, 1, [["train-1"]])

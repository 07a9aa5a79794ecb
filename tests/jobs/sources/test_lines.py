"""The lines of a file with their numbers, as a Spark task reads them; damage further inside is a row of its own."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.sources import files, lines
from jobs.sources.files import SourceFile, find_sources
from jobs.sources.lines import Block, read_block, read_lines
from tests import ROOT
from tests.support.raw_files import HEADER, line, write_source


def source_of(path: Path) -> SourceFile:
    [source] = find_sources([str(path)]).sources
    return source


def rows_of(source: SourceFile) -> list[tuple[int, bytes | None, str | None]]:
    """(number, line, problem) of each row, of all blocks."""
    return [
        (row["source_line"], row["value"], row["problem"])
        for block in lines._blocks(source)
        for batch in read_block(block, "none")
        for row in batch.to_pylist()
    ]


@pytest.mark.parametrize("ending", ["tsv", "TSV", "tsv.gz", "TSV.GZ", "tsv.bz2", "tsv.zst"])
def test_lines_are_numbered_after_the_header(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 7)  # lines go over many reads
    written = write_source(tmp_path / f"a.{ending.lower()}", ["one", "", "two\r", b"caf\xe9"])
    source = source_of(written.rename(tmp_path / f"x.{ending}"))
    assert rows_of(source) == [(2, b"one", None), (3, b"", None), (4, b"two\r", None), (5, b"caf\xe9", None)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{HEADER}\n", []),
        (HEADER, []),
        (f"{HEADER}\nlast", [(2, b"last", None)]),
        (f"{HEADER}\n\n", [(2, b"", None)]),
    ],
)
def test_a_file_may_end_without_a_line_feed(
    tmp_path: Path, content: str, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tsv").write_text(content)
    for chunk in (1, lines.CHUNK):
        monkeypatch.setattr(lines, "CHUNK", chunk)
        assert rows_of(source_of(tmp_path / "a.tsv")) == expected


def test_lines_of_a_file_cut_into_blocks_keep_their_numbers(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 20_000)
    written = [line(review_id=f"r{i}") for i in range(3000)]
    source = source_of(write_source(tmp_path / "a.tsv", written))
    frame = read_lines(spark, [source], "none")
    assert frame.rdd.getNumPartitions() == len(source.cuts) - 1 > 5
    found = {row["source_line"]: row["value"] for row in frame.collect()}
    assert found == dict(enumerate(written, start=2))


def test_blocks_are_whole_lines_that_meet_and_only_the_first_has_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 400)
    source = source_of(write_source(tmp_path / "a.tsv", [f"{place:099}" for place in range(12)]))
    blocks = lines._blocks(source)
    assert [block.first_line for block in blocks][:2] == [1, source.cuts[1].line] and len(blocks) > 2
    for chunk in (1, 7, 399, 2**20):  # a read may end with any byte, the last but one too
        monkeypatch.setattr(lines, "CHUNK", chunk)
        assert rows_of(source) == [(number, f"{number - 2:099}".encode(), None) for number in range(2, 14)]
    assert lines._blocks(source_of(write_source(tmp_path / "b.tsv.gz", ["one"] * 999)))[0].length is None


def test_each_row_has_its_source_and_none_has_what_it_is_not(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.tsv", ["one"])
    source = source_of(path)
    path.write_bytes(path.read_bytes() + b"two\n")
    batches = list(read_block(lines._blocks(source)[0], "none"))
    assert all(batch.schema.equals(lines.LINES_SCHEMA) for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert rows == [
        {"source_checksum": source.checksum, "source_line": 2, "value": b"one", "fields": None, "problem": None},
        rows[1] | {"source_checksum": source.checksum, "source_line": 3, "value": None, "fields": None},
    ]


def test_a_damaged_file_says_where_reading_had_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 100_000)
    written = [line(review_id=f"r{i}", review_body=f"{i * 7919}") for i in range(50_000)]
    path = write_source(tmp_path / "a.tsv.gz", written)
    path.write_bytes(path.read_bytes()[:-2000])
    *good, (number, value, problem) = rows_of(source_of(path))
    assert [row[0] for row in good] == list(range(2, number)) and number > 10_000
    assert (value, problem) == (None, "the compressed file is cut short: copy it again")


def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.tsv", ["one"])
    source = source_of(path)
    path.write_bytes(path.read_bytes() + b"two\n")
    assert rows_of(source)[-1] == (3, None, "the file changed during reading: ingest it again when it is complete")
    path.unlink()
    [(number, value, problem)] = rows_of(source)
    assert (number, value) == (1, None) and problem is not None
    assert (
        problem
        == "a Spark worker cannot read the file (No such file or directory): put it where every worker can read it"
    )


def test_a_line_of_the_greatest_length_is_read_and_a_longer_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, lines):
        monkeypatch.setattr(module, "LONGEST_LINE", 2**20)
    monkeypatch.setattr(lines, "CHUNK", 2**18)
    whole = write_source(tmp_path / "a.tsv", [b"x" * 2**20, "next"])
    assert [(number, problem) for number, _, problem in rows_of(source_of(whole))] == [(2, None), (3, None)]
    whole.write_bytes(f"{HEADER}\n".encode() + b"x" * 2**20)  # to the end of the file, without a line feed
    assert [(number, problem) for number, _, problem in rows_of(source_of(whole))] == [(2, None)]
    longer = write_source(tmp_path / "b.tsv.gz", ["good", b"\x00" * 2**22])
    assert rows_of(source_of(longer)) == [
        (2, b"good", None),
        (3, None, "a line is longer than 1 MiB, so it is no review: remove it"),
    ]


# A block is read in a process of its own; printed is how much memory that took beyond the start.
GREEDY = """
import resource, sys
from pathlib import Path
from jobs.sources.files import find_sources
from jobs.sources.lines import _blocks, read_block
[source] = find_sources(sys.argv[1:]).sources
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = [row for batch in read_block(_blocks(source)[0], "none") for row in batch.to_pylist()]
print(rows[-1]["problem"])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_bomb_of_zeros_takes_little_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tsv.gz", "wb") as file:
        file.write(HEADER.encode() + b"\n")
        for _ in range(512):
            file.write(bytes(2**20))
    assert (tmp_path / "a.tsv.gz").stat().st_size < 2**20
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(tmp_path / "a.tsv.gz")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    problem, megabytes = done.stdout.splitlines()
    assert problem == "a line is longer than 64 MiB, so it is no review: remove it"
    assert int(megabytes) < 320, "512 MiB of zeros are not held"


def test_quoted_lines_bring_their_fields(tmp_path: Path) -> None:
    source = source_of(write_source(tmp_path / "a.tsv", ['a\t"b ""c"""\r', "plain", 'open\t"field']))
    [batch] = read_block(Block(source, 0, None, 1), "double")
    assert [row["fields"] for row in batch.to_pylist()] == [[b"a", b'b "c"'], None, []]

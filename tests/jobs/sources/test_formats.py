"""What a file is, from its name, first bytes and first lines: a sentence that says how to mend it, or none."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from jobs.sources.formats import EMPTY, header_problem, problem_of, quoted_fields, quoting_problem
from tests.conftest import real_data
from tests.support.raw_files import HEADER, line

GOOD = f"{HEADER}\n{line()}\n".encode()
EXPECTED = f"write a header of these 15 columns, separated by tabs: {' '.join(HEADER.split())}"
QUOTED = (
    'its fields stand in quotes ("…", with "" for a quote), as pandas writes them: set ingest.quoting to double'
    " in the config"
)
CAPITALS = "the names in its header have capital letters: write them in small letters, such as marketplace"
UTF_16 = "it is not UTF-8 text, but perhaps UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.tsv", "B.TSV", "b.Tsv.GZ", "c.gz", "C.TSV.BZ2"])
def test_a_good_file_has_no_problem_whatever_the_case_of_its_ending(tmp_path: Path, name: str) -> None:
    pack = {"GZ": gzip.compress, "BZ2": bz2.compress}.get(name.rsplit(".", 1)[1].upper(), bytes)
    assert problem_of(written(tmp_path, name, pack(GOOD)), "none") is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.tsv", b"", EMPTY),
        ("a.tsv.gz", gzip.compress(b"", mtime=0), EMPTY),
        ("a.tsv.gz", GOOD, "its name ends in .gz, but it is not compressed: rename it to end in .tsv"),
        (
            "a.tsv",
            gzip.compress(GOOD, mtime=0),
            "its content (compressed with gzip) does not fit its name: rename it to end in .tsv.gz",
        ),
        (
            "a.tsv.gz",
            bz2.compress(GOOD),
            "its content (compressed with bzip2) does not fit its name: rename it to end in .tsv.bz2",
        ),
        (
            "a.tsv",
            b"PK\x03\x04 and so on",
            "its content (a zip archive, as Excel files are too) does not fit its name: unpack it, or save the sheet as"
            " tab-separated text",
        ),
        ("a.tsv.gz", gzip.compress(GOOD, mtime=0)[:-12], "the compressed file is cut short: copy it again"),
        (
            "a.tsv.gz",
            gzip.compress(GOOD, mtime=0) + b"and more",
            "other data follows its compressed data: unpack it, remove what does not belong, and compress it again",
        ),
        (
            "a.tsv.gz",
            gzip.compress(GOOD, mtime=0)[:-6] + b"\x00" + gzip.compress(GOOD, mtime=0)[-5:],
            "the compressed file is damaged: copy it again (zlib inflate failed: incorrect data check)",
        ),
        ("a.tsv", GOOD.decode().encode("utf-16"), UTF_16),
        ("a.tsv", GOOD.decode().encode("utf-16-le"), UTF_16),
        (
            "a.tsv",
            b"x" * 3_000_000,
            "its first line is longer than 2 MiB: give a table of reviews with one review a line",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    assert problem_of(written(tmp_path, name, content), "none") == problem


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (HEADER, None),
        ("\ufeff" + HEADER + "\r", None),
        (
            HEADER.upper(),
            "the names in its header have capital letters: write them in small letters, such as marketplace",
        ),
        (
            HEADER.title(),
            "the names in its header have capital letters: write them in small letters, such as marketplace",
        ),
        (
            HEADER + "\t",
            "its header ends in a tab, which makes a sixteenth column: remove the tab at the end of each line",
        ),
        (
            HEADER.replace("\t", ","),
            "commas, not tabs, separate its columns: write it as tab-separated text",
        ),
        ("reviews of May", f"its first line has no tab: {EXPECTED}"),
        (
            line(),
            "its first line is no header; put this line before it, its names separated by tabs: "
            + " ".join(HEADER.split()),
        ),
        (
            HEADER + "\rUS\t1",
            "its lines end in a carriage return alone: end them in a line feed, for example with `tr '\\r' '\\n'`",
        ),
        (HEADER.replace("review_body", "text"), f"its header lacks review_body and has the unknown 'text': {EXPECTED}"),
        (HEADER.replace("vine\t", ""), f"its header lacks vine: {EXPECTED}"),
        (HEADER + "\tmood", f"its header has the unknown 'mood': {EXPECTED}"),
        (
            "\t".join(reversed(HEADER.split("\t"))),
            f"its header has the columns in another order, or one twice: {EXPECTED}",
        ),
        ('"' + HEADER.replace("\t", '"\t"') + '"', QUOTED),
    ],
)
def test_a_header_is_the_expected_one_or_the_difference_is_named(header: str, problem: str | None) -> None:
    assert header_problem(header.encode(), "none") == problem


def test_a_quoted_header_is_read_where_quotes_wrap_fields() -> None:
    assert header_problem(('"' + HEADER.replace("\t", '"\t"') + '"').encode(), "double") is None


PLAIN = line(review_body='He said "no" to me.')
WRAPPED_BY_CHANCE = line(review_headline='"Great chair"')
WRAPPED = line(review_body='"He said ""no"" to me."')


@pytest.mark.parametrize(
    ("lines", "quoting", "is_a_problem"),
    [
        ([line()], "none", False),
        ([PLAIN], "none", False),
        ([WRAPPED_BY_CHANCE], "none", False),
        ([WRAPPED_BY_CHANCE] * 3 + [line()], "none", False),
        ([line(review_headline='""Great"" chair')], "none", False),
        ([WRAPPED], "none", True),
        ([line()] * 500 + [WRAPPED], "none", True),
        ([WRAPPED] * 9 + [PLAIN], "none", True),
        ([WRAPPED] * 8 + [PLAIN], "none", False),
        ([WRAPPED_BY_CHANCE] * 10 + [line()] * 10, "none", True),
        ([WRAPPED_BY_CHANCE] * 9, "none", False),
        ([WRAPPED_BY_CHANCE] * 10 + [line()] * 11, "none", False),
        ([WRAPPED.replace("\t", " ")], "none", False),
        ([WRAPPED + "\r"], "none", True),
        ([WRAPPED], "double", False),
        ([PLAIN, WRAPPED_BY_CHANCE], "double", False),
        ([PLAIN, PLAIN, WRAPPED_BY_CHANCE], "double", True),
        ([line()], "double", False),
    ],
)
def test_lines_of_the_other_dialect_are_recognised_by_their_quotes(
    lines: list[str], quoting: str, is_a_problem: bool
) -> None:
    problem = quoting_problem([text.encode() for text in lines], quoting)  # type: ignore[arg-type]
    assert (problem is not None) == is_a_problem
    assert problem is None or f"set ingest.quoting to {'double' if quoting == 'none' else 'none'}" in problem


@pytest.mark.parametrize("name", ["amazon_us_reviews", "subscription_boxes_to_2021", "volume"])
def test_real_files_of_the_unquoted_dialect_are_taken(name: str) -> None:
    assert problem_of(real_data(f"{name}.tsv.gz"), "none") is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('a\t"b"\tc', ["a", "b", "c"]),
        ('a\t"he said ""no"""\t', ["a", 'he said "no"', ""]),
        ('"a\tb"\tc', ["a\tb", "c"]),
        ('5" pipe\tb', ['5" pipe', "b"]),
        ('""\tb', ["", "b"]),
        ('a\t"b', []),
        ('a\t"b" c\td', []),
        ('é\t"ü"', ["é", "ü"]),
    ],
)
def test_quoted_fields_lose_their_quotes_or_the_line_has_none(text: str, fields: list[str]) -> None:
    assert quoted_fields(text.encode()) == [field.encode() for field in fields]

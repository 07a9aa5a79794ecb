"""The share of rejected lines against its limit, at the limit, and how both are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.ingest.accounting import IngestSummary, refuse_bad_files, told_apart
from jobs.sources.files import SourceFile
from model.errors import ReviewriskError

SOURCE = SourceFile(Path("a.tsv"), "sum", 1, 1, ())


def counts(**lines_by_reason: int) -> dict[str, list[dict[str, Any]]]:
    reasons = [
        {"reason": None if reason == "valid" else reason, "lines": lines, "first_line": 2, "detail": "six"}
        for reason, lines in lines_by_reason.items()
    ]
    return {"sum": reasons}


@pytest.mark.parametrize(
    ("share", "limit", "shown"),
    [
        (41 / 4000, 0.01, ("1.03%", "1.00%")),
        (0.02, 0.01, ("2.0%", "1.0%")),
        (1.0, 0.01, ("100.0%", "1.0%")),
        (0.0100001, 0.01, ("1.00001%", "1.00000%")),
        (1 / 3, 0.3333, ("33.333%", "33.330%")),
    ],
)
def test_a_share_and_its_limit_have_digits_that_tell_them_apart(
    share: float, limit: float, shown: tuple[str, str]
) -> None:
    assert told_apart(share, limit) == shown


def test_a_share_that_meets_the_limit_exactly_is_taken_and_a_line_more_is_not() -> None:
    refuse_bad_files(counts(valid=3960, bad_star_rating=40), [SOURCE], 0.01)
    with pytest.raises(
        ReviewriskError,
        match=r"a\.tsv is refused: 41 of 4,000 lines \(1\.03%\) are not valid, and the limit is 1\.00%",
    ):
        refuse_bad_files(counts(valid=3959, bad_star_rating=41), [SOURCE], 0.01)


@pytest.mark.parametrize("counted", [{}, counts(repeated_header=1), counts(valid=1, repeated_header=50)])
def test_repeated_headers_are_no_bad_lines(counted: dict[str, list[dict[str, Any]]]) -> None:
    refuse_bad_files(counted, [SOURCE], 0.0)


def test_repeated_headers_hide_no_bad_lines() -> None:
    with pytest.raises(ReviewriskError, match=r"1 of 2 lines \(50\.0%\)"):
        refuse_bad_files(counts(valid=1, bad_vine=1, repeated_header=98), [SOURCE], 0.4)


def test_one_bad_line_of_one_is_refused_unless_all_may_be_bad() -> None:
    refuse_bad_files(counts(blank_line=1), [SOURCE], 1.0)
    with pytest.raises(ReviewriskError, match=r"1 of 1 lines \(100\.0%\)"):
        refuse_bad_files(counts(blank_line=1), [SOURCE], 0.99)


def test_nothing_is_new_where_no_file_was_read() -> None:
    assert IngestSummary(skipped_files=3, left_out_files=2).is_nothing_new
    assert not IngestSummary(files=1).is_nothing_new

"""Which files of files, folders and globs are read, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.sources import files
from jobs.sources.files import Cut, find_sources
from model.errors import OutageError, ReviewriskError

ENDS = "its name does not end in .tsv, .tsv.gz, .tsv.bz2 or .tsv.zst"
UNFINISHED = "its name begins with _ or ., as those of unfinished files do"


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return folder


def test_every_file_of_a_folder_is_read_or_named_with_the_reason(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.tsv", "B.TSV.GZ", "c.txt", "_SUCCESS", ".a.tsv.crc")
    (folder / "older").mkdir()
    found = find_sources([str(folder)])
    assert [source.name for source in found.sources] == ["B.TSV.GZ", "a.tsv"]
    assert [(path.name, reason) for path, reason in found.left_out] == [
        (".a.tsv.crc", UNFINISHED),
        ("_SUCCESS", UNFINISHED),
        ("c.txt", ENDS),
        ("older", "it is a folder: name it, or give a glob such as 'folder/**/*.tsv'"),
    ]


def test_a_glob_is_a_folder_of_its_matches(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.tsv", "a.txt", "b.tsv")
    found = find_sources([str(folder / "a*")])
    assert [source.name for source in found.sources] == ["a.tsv"]
    assert [(path.name, reason) for path, reason in found.left_out] == [("a.txt", ENDS)]


@pytest.mark.parametrize("argument", ["", "none*.tsv", "**/*.gz"])
def test_an_empty_folder_and_a_glob_without_a_match_are_no_error(tmp_path: Path, argument: str) -> None:
    found = find_sources([str(tmp_path / argument)])
    assert (found.sources, found.left_out) == ([], [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.tsv", r"^There is no file or folder .*none\.tsv: check its name\.$"),
        ("x.csv", r"x\.csv is not read: rename it to end in \.tsv, \.tsv\.gz, \.tsv\.bz2 or \.tsv\.zst, if it is a"),
    ],
)
def test_a_file_that_is_named_must_be_there_and_be_a_source(tmp_path: Path, name: str, message: str) -> None:
    fill(tmp_path, "x.csv")
    with pytest.raises(ReviewriskError, match=message):
        find_sources([str(tmp_path / name)])


def test_a_file_that_is_named_is_read_whatever_its_name_begins_with(tmp_path: Path) -> None:
    fill(tmp_path, "_a.tsv", "x[1].tsv")
    found = find_sources([str(tmp_path / "_a.tsv"), str(tmp_path / "x[1].tsv")])
    assert [source.name for source in found.sources] == ["_a.tsv", "x[1].tsv"]


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(ReviewriskError, match=r"A source has an empty name \(is a variable not set\?\): name a"):
        find_sources([""])


def test_an_address_is_refused_in_a_sentence() -> None:
    with pytest.raises(ReviewriskError, match=r"s3://bucket/a\.tsv is not a local file, folder or glob: copy the file"):
        find_sources(["s3://bucket/a.tsv"])


def test_a_content_is_taken_once_under_the_first_of_its_names(tmp_path: Path) -> None:
    for name in ("b.tsv", "a.tsv", "c.tsv"):
        (tmp_path / name).write_text("the same" if name != "c.tsv" else "other")
    found = find_sources([str(tmp_path / "b.tsv"), str(tmp_path)])
    assert [source.name for source in found.sources] == ["b.tsv", "c.tsv"]


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    fill(tmp_path, "0a1b2c")
    (tmp_path / "a.tsv").symlink_to(tmp_path / "0a1b2c")
    [source] = find_sources([str(tmp_path / "a.tsv")]).sources
    assert source.name == "a.tsv"


def test_what_may_not_be_read_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests as root may read everything, so the system's refusal is made here."""
    fill(tmp_path, "a.tsv")

    def refused(self: Path, *rest: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(OutageError, match=r"^a\.tsv cannot be read \(Permission denied\): give the user who"):
        find_sources([str(tmp_path / "a.tsv")])


def test_a_name_that_is_not_utf8_is_shown_as_valid_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.tsv"
    with open(path, "w") as file:  # noqa: PTH123 (a path of bytes)
        file.write("x")
    [source] = find_sources([str(tmp_path)]).sources
    assert source.name == "caf\ufffd.tsv"


@pytest.mark.parametrize(
    ("content", "cuts"),
    [
        ("", [Cut(0, 1)]),
        ("a\nb\nc\n", [Cut(0, 1), Cut(4, 3), Cut(6, 4)]),
        ("a\nb\nc", [Cut(0, 1), Cut(4, 3), Cut(5, 3)]),
        ("aaaaaa\nb\n", [Cut(0, 1), Cut(7, 2), Cut(9, 3)]),
        ("abc\n", [Cut(0, 1), Cut(4, 2)]),
    ],
)
def test_a_file_is_cut_behind_line_feeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cuts: list[Cut]
) -> None:
    monkeypatch.setattr(files, "BLOCK", 4)
    (tmp_path / "a.tsv").write_text(content)
    [source] = find_sources([str(tmp_path / "a.tsv")]).sources
    assert list(source.cuts) == cuts


def test_no_more_of_a_line_is_held_than_a_line_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of zeros that is not compressed, in small: it is cut although it has no line feed."""
    monkeypatch.setattr(files, "BLOCK", 4)
    monkeypatch.setattr(files, "LONGEST_LINE", 8)
    (tmp_path / "a.tsv").write_bytes(bytes(30))
    [source] = find_sources([str(tmp_path / "a.tsv")]).sources
    assert list(source.cuts) == [Cut(0, 1), Cut(13, 1), Cut(26, 1), Cut(30, 1)]

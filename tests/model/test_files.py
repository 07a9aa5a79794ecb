"""Folders appear whole, and checksums follow content."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.files import canonical_json, folder_sha256, put_folder, read_json, temporary_folder_beside, write_json


def test_checksums_of_a_folder_are_keyed_by_path(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("abc")
    (tmp_path / "a.txt").write_text("")
    assert folder_sha256(tmp_path) == {
        "a.txt": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "b/x.txt": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_canonical_json_is_one_text_for_equal_values() -> None:
    assert (
        canonical_json({"b": 1, "a": [1.5, "ü"]})
        == canonical_json({"a": [1.5, "ü"], "b": 1})
        == '{"a":[1.5,"ü"],"b":1}'
    )


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"auc": float("nan")})


def test_put_folder_replaces_an_older_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for value in (1, 2):
        with temporary_folder_beside(target) as folder:
            write_json(folder / "value.json", value)
            put_folder(folder, target)
    assert read_json(target / "value.json") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_unfinished_folder_goes_and_the_older_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(RuntimeError, match="power cut"), temporary_folder_beside(target) as folder:
        (folder / "half").write_text("")
        raise RuntimeError("power cut")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert list(target.iterdir()) == []

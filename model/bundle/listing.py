"""A folder held against the JSON file in it that lists its files: nothing missing, changed, added or led elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from model.errors import ReviewriskError
from model.files import file_sha256, read_json

_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_listing(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The object that the JSON file holds, `files` {path: sha256} in it.

    Raises ReviewriskError where it is not whole JSON, lacks one of the keys or has a value of another kind there, or
    lists a path that leaves its folder.
    """
    try:
        listing = read_json(path)
    except (ValueError, RecursionError):
        raise ReviewriskError(f"{path} is not whole JSON, so it was cut or changed: copy the folder again.") from None
    check_keys(path, listing, {**kinds, "files": dict})
    for name, checksum in listing["files"].items():
        if not _is_inside(name):
            raise ReviewriskError(
                f"{path} lists {name!r}, which is no path inside its folder: do not use it, and copy the folder again"
                " from where it was made."
            )
        if not isinstance(checksum, str) or not _SHA256.fullmatch(checksum):
            raise ReviewriskError(f"{path} has no sha256 of {name}, so it was changed: copy the folder again.")
    checked: dict[str, Any] = listing
    return checked


def check_keys(path: Path, value: Any, kinds: Mapping[str, type], of: str = "") -> None:
    """Raise ReviewriskError unless the value, read from the path, is an object with these keys and kinds of values."""
    if not isinstance(value, dict):
        raise ReviewriskError(f"{path} holds no JSON object{of}, so it was changed: copy the folder again.")
    for key, kind in kinds.items():
        if not isinstance(value.get(key), kind):
            problem = "has no" if key not in value else "has a value of another kind as"
            raise ReviewriskError(f"{path} {problem} {key}{of}, so it was cut or changed: copy the folder again.")


def verify_files(folder: Path, files: Mapping[str, str], listing: str) -> None:
    """Hold the folder against the files {path: sha256} of its `listing`, which is one of its files itself.

    Raises ReviewriskError naming the first file that is missing, differs, is listed nowhere, or is a link.
    """
    for name in _names_in(folder):
        if name != listing and name not in files:
            raise ReviewriskError(
                f"{folder / name} is not listed in {listing}: take it away, or copy the folder again."
            )
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ReviewriskError(
                f"{path} is missing, though {listing} lists it: copy the folder again, or make the model again."
            )
        if file_sha256(path) != expected:
            raise ReviewriskError(
                f"{path} has another sha256 than {listing} says, so it was changed or damaged: copy the folder again."
            )


def _names_in(folder: Path) -> list[str]:
    """The paths of all files under the folder, relative to it; an error names a link, to a file or a folder."""
    names = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink():
                raise ReviewriskError(f"{path} is a link: put the file itself there, or copy the folder again.")
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _is_inside(name: str) -> bool:
    """Whether a path, "/" between folders, stays below the folder that it is relative to."""
    parts = name.split("/")
    is_plain = not (set(parts) & {"", ".", ".."}) and "\\" not in name and "\0" not in name and ":" not in parts[0]
    return is_plain and not PurePosixPath(name).is_absolute()

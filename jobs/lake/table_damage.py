"""What of a table's files is gone or cut, looked for before a table is read or written, and named with the remedy.

delta-rs takes an empty commit for one that changes nothing, and a reader that meets a cut data file ends in a panic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pyarrow.fs import FileInfo, FileSelector

from jobs.outages import storage_errors
from jobs.storage import Root
from model.errors import ReviewriskError

# Kept in each commit's info: how many files it adds and removes, so that one cut at the end of a line is noticed.
FILES = "files"


def check_log(root: Root, name: str) -> None:
    """Raise where a commit file of the table is empty, or its newest one cut."""
    commits = [file for file in _files(root, name, "_delta_log") if re.fullmatch(r"\d{20}\.json", file.base_name)]
    for file in commits:
        if not file.size:
            raise ReviewriskError(_damaged(root, name, file, "is empty", is_newest=file == commits[-1]))
    if commits and (problem := _problem_of_commit(_content(root, commits[-1]))):
        raise ReviewriskError(_damaged(root, name, commits[-1], problem, is_newest=True))


def _problem_of_commit(content: bytes) -> str | None:
    """What is wrong with the bytes of a commit; None where they are whole."""
    try:
        actions = [json.loads(line) for line in content.decode().splitlines()]
        told = [action["commitInfo"][FILES] for action in actions if FILES in action.get("commitInfo", {})]
    except (ValueError, TypeError, AttributeError):
        return "is cut or no JSON"
    files = sum("add" in action or "remove" in action for action in actions)
    return None if actions and all(int(count) == files for count in told) else "is cut"


def check_data(root: Root, name: str, sizes: Mapping[str, int]) -> None:
    """Raise where a data file (path relative to the table, and its size) is gone or has another size."""
    base = root.path_on_filesystem(root.join("tables", name))
    if root.is_local or len(sizes) < 2:
        with storage_errors(f"The table {name} of {root.uri}"):
            found = root.filesystem().get_file_info([f"{base}/{path}" for path in sizes])
    else:  # one request lists a thousand files, where a look at each would be a thousand requests
        found = _files(root, name)
    there = {file.path: file.size for file in found if file.is_file}
    for path, size in sizes.items():
        real = there.get(f"{base}/{path}")
        if real != size:
            problem = "is gone" if real is None else f"has {real:,} bytes instead of {size:,}"
            raise ReviewriskError(
                f"The table {name} of {root.uri} is damaged, since its file {path} {problem}: restore that file from a"
                " backup, or build a new root from the sources."
            )


def check_never_made(root: Root, name: str) -> None:
    """Raise where a table without a log has data files: it is not new, its log is gone."""
    if any(file.base_name.endswith(".parquet") for file in _files(root, name)):
        raise ReviewriskError(
            f"The table {name} of {root.uri} is damaged, since it has data files and no commit in _delta_log: restore"
            " that folder from a backup, or build a new root from the sources."
        )


def _files(root: Root, name: str, *below: str) -> list[FileInfo]:
    """The files under a folder of the table, by name; none where there is no such folder."""
    folder = root.path_on_filesystem(root.join("tables", name, *below))
    with storage_errors(f"The table {name} of {root.uri}"):
        found = root.filesystem().get_file_info(FileSelector(folder, allow_not_found=True, recursive=not below))
    return sorted((file for file in found if file.is_file), key=lambda file: file.path)


def _content(root: Root, file: FileInfo) -> bytes:
    with (
        storage_errors(f"The file {file.path} of {root.uri}"),
        root.filesystem().open_input_stream(file.path) as stream,
    ):
        content: bytes = stream.read()
        return content


def _damaged(root: Root, name: str, file: FileInfo, problem: str, is_newest: bool) -> str:
    way_back = (
        ", or delete it to have the table as it was before, and run `reviewrisk tables check`"
        if is_newest
        else ", or build a new root from the sources"
    )
    return (
        f"The table {name} of {root.uri} is damaged, since its commit _delta_log/{file.base_name} {problem}: restore"
        f" that file from a backup{way_back}."
    )

"""Source files of an ingest: found from files, folders and globs, and told apart by checksum."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jobs.sources.formats import ENDINGS, LONGEST_LINE, compression_of, is_source_name
from model.errors import OutageError, ReviewriskError

BLOCK = 32 * 2**20  # bytes of an uncompressed file that one task reads


class Cut(NamedTuple):
    """Where a file may be cut: the first byte of a line, and that line's number."""

    start: int
    line: int


@dataclass(frozen=True)
class SourceFile:
    """A file to be ingested. `name` is what the tables show; `checksum` is the sha256 of the file as it lies.

    `modified` is the time of its last change in nanoseconds, `cuts` where it is cut into blocks.
    """

    path: Path
    checksum: str
    bytes: int
    modified: int
    cuts: tuple[Cut, ...]

    @property
    def name(self) -> str:
        return shown(self.path)

    @property
    def ingest_id(self) -> str:
        return self.checksum[:16]


@dataclass(frozen=True)
class FoundSources:
    """The files to be ingested; `left_out` has those of folders and globs that are not, each with the reason."""

    sources: list[SourceFile]
    left_out: list[tuple[Path, str]]


def find_sources(arguments: Sequence[str]) -> FoundSources:
    """The files that files, folders and globs stand for, in the order given (by name within each), each content once.

    Raises ReviewriskError where a file that is named is not there or cannot be a source.
    """
    paths: dict[Path, None] = {}
    left_out: list[tuple[Path, str]] = []
    for argument in arguments:
        for path, reason in _expand(argument):
            if reason is None:
                paths[path.absolute()] = None
            else:
                left_out.append((path, reason))
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(_describe, paths))
    return FoundSources(list({source.checksum: source for source in reversed(found)}.values())[::-1], left_out)


def _expand(argument: str) -> list[tuple[Path, str | None]]:
    """The paths that an argument stands for, each with the reason why it is left out; none for an empty folder."""
    if not argument.strip():
        raise ReviewriskError("A source has an empty name (is a variable not set?): name a file, folder or glob.")
    if "://" in argument:
        raise ReviewriskError(
            f"{argument} is not a local file, folder or glob: copy the file to a disk that every Spark worker sees."
        )
    path = Path(argument).expanduser()
    with _readable(path):
        if path.is_file():
            if not is_source_name(path):
                raise ReviewriskError(f"{argument} is not read: rename it to end in {ENDINGS}, if it is a review file.")
            return [(path, None)]
        if path.is_dir():
            return [(child, _reason_left_out(child)) for child in sorted(path.iterdir())]
        if glob.has_magic(argument):
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 (a pattern may be absolute)
            return [(child, _reason_left_out(child)) for child in found]
    raise ReviewriskError(f"There is no file or folder {argument}: check its name.")


def _reason_left_out(path: Path) -> str | None:
    """Why a file of a folder or glob is not read; None where it is. Files of that kind can be named by themselves."""
    if path.is_dir():
        return "it is a folder: name it, or give a glob such as 'folder/**/*.tsv'"
    if not path.is_file():
        return "it is not a file"
    if path.name.startswith(("_", ".")):
        return "its name begins with _ or ., as those of unfinished files do"
    return None if is_source_name(path) else f"its name does not end in {ENDINGS}"


def _describe(path: Path) -> SourceFile:
    with _readable(path), path.open("rb") as file:
        before = os.fstat(file.fileno())
        digest, cuts, size = hashlib.sha256(), [Cut(0, 1)], 0
        is_cut = compression_of(path) is None
        while data := file.read(BLOCK):
            data += file.readline(LONGEST_LINE + 1) if is_cut and not data.endswith(b"\n") else b""
            digest.update(data)
            size += len(data)
            if is_cut:
                cuts.append(Cut(size, cuts[-1].line + data.count(b"\n")))
    return SourceFile(path, digest.hexdigest(), size, before.st_mtime_ns, tuple(cuts))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Within it, what the operating system refuses is a sentence."""
    try:
        yield
    except OSError as error:
        raise OutageError(
            f"{shown(path)} cannot be read ({error.strerror}): give the user who runs reviewrisk access to it."
        ) from None


def shown(path: Path) -> str:
    """A file's name as valid text: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path.name).decode("utf-8", "replace")

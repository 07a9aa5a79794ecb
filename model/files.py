"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> dict[str, str]:
    """Every file under the folder with its sha256, keyed by its path in it ("/" between folders), in sorted order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with sorted keys; a NaN or an infinity is an error, as JSON has neither."""
    path.write_text(
        json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_json(path: Path) -> Any:
    """The value that the JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def temporary_folder_beside(target: Path) -> Iterator[Path]:
    """A new empty folder on the target's own file system, so that it can be renamed to it; gone afterwards if it was
    not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    folder.chmod(0o755)  # mkdtemp gives 0700; what is published must be readable by other users' workers
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_folder(folder: Path, target: Path) -> None:
    """Rename a finished folder to its place, where an older one may stand; no reader ever sees half of either."""
    if target.exists():
        with temporary_folder_beside(target) as aside:
            target.rename(aside / "old")
            folder.rename(target)
    else:
        folder.rename(target)


def import_path_of_children() -> str:
    """PYTHONPATH for a Python process of ours: it finds the packages jobs and model also where nothing is installed."""
    own = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))

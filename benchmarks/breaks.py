"""Breaks made by hand where mutmut does not reach, in SQL and in constants of modules: is each noticed by a test?

    python benchmarks/breaks.py [--only TEXT] > breaks.md

Each break of benchmarks/breaks.yml is a file, a text that stands in it once, what is put in its place, and the test
that must fail then. They are made one at a time in a copy of the project, and a row is printed for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("jobs", "model", "conf", "dbt", "sql", "tests", "benchmarks", "pyproject.toml")


@dataclass(frozen=True)
class Break:
    """`before` becomes `after` in a file; pytest's `test` (a file, or a file and a test) is to fail then."""

    file: str
    before: str
    after: str
    test: str

    def broken(self) -> str:
        """The file's text with the break in it."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.before) != 1:
            raise SystemExit(f"{self.file} holds {text.count(self.before)} times, not once: {self.before}")
        return text.replace(self.before, self.after)


def all_breaks() -> list[Break]:
    """The breaks of breaks.yml, in which a test stands over the files, and a file over its breaks."""
    listed = yaml.safe_load((ROOT / "benchmarks" / "breaks.yml").read_text(encoding="utf-8"))
    return [
        Break(file, before, after, test)
        for test, files in listed.items()
        for file, breaks in files.items()
        for before, after in breaks
    ]


def copied(folder: Path) -> Path:
    """A copy of the project's files under a folder."""
    for name in PARTS:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "target", "logs"))
        else:
            shutil.copy2(source, target)
    return folder


def is_killed(place: Path, one: Break) -> bool:
    """Whether the test fails on the copy with the break; the copy is whole again afterwards."""
    file = place / one.file
    whole = file.read_bytes()
    file.write_text(one.broken(), encoding="utf-8")
    try:
        return _fails(place, one.test)
    finally:
        file.write_bytes(whole)


def _fails(place: Path, test: str) -> bool:
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=place, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode > 1:  # neither passed nor failed, as where no test has that name
        raise SystemExit(f"pytest {test} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def rows(breaks: list[Break]) -> Iterator[str]:
    """The table's rows, each as soon as it is known."""
    with tempfile.TemporaryDirectory() as folder:
        place = copied(Path(folder))
        for one in breaks:
            cells = (one.file, one.before, one.after or "(gone)", "killed" if is_killed(place, one) else "**survived**")
            file, before, after, result = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
            yield f"| {file} | `{before}` → `{after}` | {result} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="breaks whose file, text or test holds this")
    only = parser.parse_args().only
    chosen = [one for one in all_breaks() if only in f"{one.file} {one.before} {one.after} {one.test}"]
    print("| file | break | result |\n|---|---|---|", flush=True)
    survived = 0
    for row in rows(chosen):
        survived += row.endswith("**survived** |")
        print(row, flush=True)
    print(f"\n{len(chosen)} breaks, {len(chosen) - survived} killed, {survived} survived.")


if __name__ == "__main__":
    main()

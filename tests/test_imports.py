"""The import rules of docs/architecture.md, read off its tables and off the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("jobs", "model")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# What `jobs` and what `model` must never import; what only some modules may.
FORBIDDEN = {
    "jobs": {"torch", "transformers", "peft", "safetensors", "tokenizers"},
    "model": {"pyspark", "click", "jobs", "deltalake", "dbt", "duckdb"},
}
ALLOWED_ONLY_IN = {
    "click": ("jobs/cli/",),
    "deltalake": ("jobs/lake/delta.py",),
    "dbt": ("jobs/report/",),
}


def imported(source: str) -> set[str]:
    """Every module, or name in one, that a source names in an import, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def documented_floors() -> dict[str, int]:
    """The floor of each room ("jobs.lake", "jobs.config") as docs/architecture.md has it."""
    floors: dict[str, int] = {}
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| (\d+) \| ([^|]+) \|", line)
        for place in re.findall(r"`([\w/]+?)(?:/|\.py)`", row[2]) if row else ():
            floors[place.replace("/", ".")] = int(row[1]) if row else 0
    return floors


def room(name: str) -> str:
    """The folder, or the module directly in a package, that a dotted name lies in."""
    return ".".join(name.split(".")[:2])


def broken_rules(path: str, source: str, floors: Mapping[str, int]) -> list[str]:
    """What a file at `path` imports against the rules, in words."""
    package, own = path.split("/")[0], room(path.removesuffix(".py").replace("/", "."))
    found = []
    for name in sorted(imported(source)):
        top, there = name.split(".")[0], room(name)
        if top in FORBIDDEN[package]:
            found.append(f"{package} never imports {top}")
        if top in ALLOWED_ONLY_IN and not path.startswith(ALLOWED_ONLY_IN[top]):
            found.append(f"only {' and '.join(ALLOWED_ONLY_IN[top])} may import {top}")
        if top == package and there != own and floors[own] <= floors[there] and not floors[own] == floors[there] == 1:
            found.append(f"{own} on floor {floors[own]} imports {there} on floor {floors[there]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path: Path) -> None:
    assert broken_rules(path.as_posix(), (ROOT / path).read_text(encoding="utf-8"), documented_floors()) == []


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        (
            "model/text/compose.py",
            "import torch\ndef f():\n    from jobs.config import Config",
            "model never imports jobs",
        ),
        ("model/training/pipeline.py", "from pyspark.sql import functions", "model never imports pyspark"),
        ("jobs/scoring/score.py", "import torch", "jobs never imports torch"),
        ("jobs/scoring/score.py", "import click", "only jobs/cli/ may import click"),
        (
            "jobs/ingest/merge.py",
            "import deltalake",
            "only jobs/lake/delta.py may import deltalake",
        ),
        (
            "jobs/scoring/score.py",
            "from jobs.ingest import merge",
            "jobs.scoring on floor 5 imports jobs.ingest on floor 5",
        ),
        ("jobs/lake/tables.py", "from jobs import registry", "jobs.lake on floor 2 imports jobs.registry on floor 4"),
        ("jobs/config.py", "from jobs.lake import tables", "jobs.config on floor 1 imports jobs.lake on floor 2"),
        (
            "model/experiments/compare/fits.py",
            "from model.merging import combine",
            "model.experiments on floor 7 imports model.merging on floor 7",
        ),
    ],
)
def test_a_broken_rule_is_found(path: str, source: str, rule: str) -> None:
    assert broken_rules(path, source, documented_floors()) == [rule]


def test_every_folder_and_root_module_has_a_floor() -> None:
    rooms = {room(path.with_suffix("").as_posix().replace("/", ".")) for path in FILES}
    assert rooms - {"jobs.__init__", "model.__init__"} == set(documented_floors())


def test_no_circle_among_modules() -> None:
    modules = {
        path.with_suffix("").as_posix().replace("/", "."): imported((ROOT / path).read_text(encoding="utf-8"))
        for path in FILES
    }
    graph = {
        name: {target for one in names for target in (one, one.rpartition(".")[0]) if target in modules}
        for name, names in modules.items()
    }
    done: list[str] = []
    while ready := [name for name, targets in graph.items() if name not in done and targets <= set(done)]:
        done += ready
    assert not set(graph) - set(done)


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_stand_directly_in_a_package(package: str) -> None:
    assert len(list((ROOT / package).glob("*.py"))) <= 12


def test_tests_lie_at_the_path_of_what_they_test() -> None:
    tests = [
        path.relative_to(ROOT / "tests")
        for package in PACKAGES
        for path in (ROOT / "tests" / package).rglob("test_*.py")
    ]
    assert len(tests) > 50
    assert not [str(path) for path in tests if path.parent / path.name.removeprefix("test_") not in FILES]


def test_no_python_under_dbt_and_no_standard_library_names_in_front() -> None:
    assert not list((ROOT / "dbt").rglob("*.py"))
    assert not {path.stem for path in FILES} & sys.stdlib_module_names


def test_help_needs_neither_torch_nor_spark_nor_java() -> None:
    script = (
        "import sys, click.testing; from jobs.cli.main import main; r = click.testing.CliRunner().invoke(main,"
        " ['--help']);assert r.exit_code == 0, r.output; bad = {'torch', 'transformers', 'pyspark', 'dbt'} &"
        " set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env={"PATH": "/nonexistent"})

"""The import rules of docs/architecture.md, read off the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"sample", "ingest", "plan", "train", "retrain", "compare", "ablate", "diagnose", "promotion", "thresholding", "publishing"}
STAGES |= {"score", "explain", "report", "single", "evaluate"}
LOWEST = {"config", "delta", "java", "resources", "schemas", "storage"}
HEAVY = {"torch", "transformers", "peft", "safetensors", "tokenizers"}


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


@pytest.mark.parametrize("path", files("model"), ids=lambda path: path.stem)
def test_model_knows_neither_spark_nor_click_nor_jobs(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"pyspark", "click", "jobs", "deltalake", "dbt"}


@pytest.mark.parametrize("path", files("jobs"), ids=lambda path: path.stem)
def test_jobs_leave_torch_to_model_and_click_to_cli(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & HEAVY
    assert "click" not in roots or path.stem.startswith("cli")


def jobs_imported(path: Path) -> set[str]:
    """The modules of jobs that a file imports."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("jobs.")}


@pytest.mark.parametrize("path", files("jobs"), ids=lambda path: path.stem)
def test_imports_go_one_way(path: Path) -> None:
    """cli, then a stage, then what stages share, then the lowest layer: nothing imports from above itself."""
    found = jobs_imported(path)
    if path.stem.startswith("cli") or path.stem == "submit":
        return
    assert not {name for name in found if name.startswith("cli")}
    assert not found & STAGES, "only the command line calls a stage"
    assert path.stem not in LOWEST or found <= LOWEST


@pytest.mark.parametrize("path", files("jobs"), ids=lambda path: path.stem)
def test_only_tables_and_what_lies_under_it_touches_delta(path: Path) -> None:
    if "deltalake" in {name.split(".")[0] for name in imported(path)}:
        assert path.stem in {"delta", "tables"}


def test_no_python_under_dbt_and_no_standard_library_names() -> None:
    assert not list((ROOT / "dbt").rglob("*.py"))
    assert not {path.stem for package in ("jobs", "model") for path in files(package)} & sys.stdlib_module_names


def test_help_needs_neither_torch_nor_spark_nor_java() -> None:
    script = (
        "import sys, click.testing; from jobs.cli import main; r = click.testing.CliRunner().invoke(main, ['--help']); assert r.exit_code == 0, r.output;"
        "bad = {'torch', 'transformers', 'pyspark', 'dbt'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env={"PATH": "/nonexistent"})

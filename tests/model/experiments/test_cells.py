"""One runner for all experiments: what is kept, what is told apart, and what ends with whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from model.errors import OutageError, ReviewriskError
from model.experiments import cells
from model.experiments.cells import (
    PACKAGES,
    ImpossibleError,
    Outcome,
    Runner,
    arithmetic,
    deadline_after,
    fingerprint,
    identifying_settings,
    impossible_where_refused,
)
from model.settings import ModelSettings, TrainingSettings
from tests import ROOT
from tests.support.cells import run

NO_END = deadline_after(None)


def ran(
    names: list[str],
    folder: Path,
    log: Callable[[str], None] = lambda _: None,
    deadline: float = NO_END,
    parallel: int = 1,
) -> list[Outcome[str]]:
    (folder / "cells").mkdir(exist_ok=True)
    return Runner(run, (folder,), str, folder / "cells", log, deadline, parallel).outcomes(names)


def calls(folder: Path, name: str) -> list[int]:
    path = folder / f"{name}.calls"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def kept(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "cells").glob("*.json"))


def wait_until(condition: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_each_cell_has_a_process_of_its_own_and_its_figures_are_kept_and_read_again(tmp_path: Path) -> None:
    lines: list[str] = []
    first = ran(["a", "b"], tmp_path, lines.append)
    assert lines == ["cell 1 of 2: a", "  a begins", "cell 2 of 2: b", "  b begins"]
    assert [(outcome.cell, outcome.ending, outcome.reason) for outcome in first] == [
        ("a", "done", ""),
        ("b", "done", ""),
    ]
    [one, other] = [outcome.figures for outcome in first if outcome.figures]
    assert one == {"cell": "a", "value": 0.1 + 0.2, "process": calls(tmp_path, "a")[0]}
    assert len({one["process"], other["process"], os.getpid()}) == 3
    lines.clear()
    assert ran(["b", "a"], tmp_path, lines.append, deadline_after(0)) == first[::-1], "kept ones need no time"
    assert lines == ["cell 1 of 2: b: done before", "cell 2 of 2: a: done before"]
    assert len(calls(tmp_path, "a")) == 1
    assert not list((tmp_path / "cells" / "work").iterdir()), "a finished cell leaves no checkpoints"


def test_what_cannot_be_trained_is_kept_with_its_reason(tmp_path: Path) -> None:
    lines: list[str] = []
    [first] = ran(["impossible"], tmp_path, lines.append)
    assert first == Outcome("impossible", "impossible", None, "the loss is nan.")
    assert lines[-1] == "  failed: the loss is nan" and not first.has_failed and kept(tmp_path) == ["impossible"]
    lines.clear()
    assert ran(["impossible"], tmp_path, lines.append) == [first]
    assert lines == ["cell 1 of 1: impossible: failed before: the loss is nan."]


@pytest.mark.parametrize(
    ("name", "ending", "said"),
    [
        ("refused", "refused", "not run: needs a GPU"),
        ("no memory in Python", "memory", "failed: too little memory (MemoryError); run the same command again"),
        ("no memory in PyTorch", "memory", "failed: too little memory (DefaultCPUAllocator: can't allocate memory: 8 "),
        ("no memory on a GPU", "memory", "failed: too little memory (CUDA out of memory. Tried to allocate 2 GiB.); "),
        (
            "killed",
            "memory",
            "failed: the system killed it, probably because memory ran out; run the same command again",
        ),
        ("defect", "crashed", "crashed: exit status 1; "),
        ("not a number", "crashed", "crashed: exit status 1; "),
    ],
)
def test_other_endings_are_told_apart_and_tried_again_and_the_next_cell_runs(
    tmp_path: Path, name: str, ending: str, said: str
) -> None:
    lines: list[str] = []
    ended, after = ran([name, "after"], tmp_path, lines.append)
    assert (ended.ending, ended.figures) == (ending, None) and ended.in_words.startswith(said)
    assert ended.has_failed == (ending in ("memory", "crashed"))
    assert f"  {ended.in_words}" in lines
    assert after.figures and kept(tmp_path) == ["after"]
    ran([name], tmp_path)
    assert len(calls(tmp_path, name)) == 2


def test_the_traceback_of_a_crash_stands_in_the_file_that_its_reason_names(tmp_path: Path) -> None:
    [crashed] = ran(["defect"], tmp_path)
    path = Path(crashed.reason.partition("; ")[2].removesuffix(" says more"))
    assert path.is_relative_to(tmp_path) and "mat1 and mat2 shapes" in path.read_text()


def test_what_a_cell_prints_is_not_among_the_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran(["a"], tmp_path)
    assert capfd.readouterr() == ("", "")


def test_after_the_deadline_no_further_cell_is_begun(tmp_path: Path) -> None:
    lines: list[str] = []
    [outcome] = ran(["a"], tmp_path, lines.append, deadline_after(0))
    assert outcome == Outcome(
        "a", "waiting", None, "the limit of --minutes is reached; run the same command again to continue"
    )
    assert lines == ["cell 1 of 1: a: the limit of --minutes is reached; run the same command again to continue"]
    assert outcome.in_words == "not run: the limit of --minutes is reached; run the same command again to continue"
    assert not calls(tmp_path, "a")
    assert deadline_after(1) - deadline_after(0) == pytest.approx(60, abs=5)


def test_cells_beside_each_other_come_back_in_order_and_their_lines_say_whose_they_are(tmp_path: Path) -> None:
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if line == "  [2] b begins":  # `endless` still runs: a and b end, and c begins beside it
            wait_until(lambda: calls(tmp_path, "endless"))
        if line == "  [4] c begins":
            os.kill(calls(tmp_path, "endless")[0], signal.SIGKILL)

    outcomes = ran(["endless", "b", "a", "c"], tmp_path, log, parallel=2)
    assert [outcome.cell for outcome in outcomes] == ["endless", "b", "a", "c"]
    assert [outcome.ending for outcome in outcomes] == ["memory", "done", "done", "done"]
    assert lines[:2] == ["cell 1 of 4: endless", "cell 2 of 4: b"]


def test_a_stopped_run_ends_its_cells_and_keeps_the_finished_ones(tmp_path: Path) -> None:
    def log(line: str) -> None:
        if line == "  [3] endless c begins":
            wait_until(lambda: calls(tmp_path, "endless b"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(["a", "endless b", "endless c"], tmp_path, log, parallel=2)
    assert kept(tmp_path) == ["a"]
    assert all(is_gone(calls(tmp_path, name)[0]) for name in ("endless b", "endless c"))


def test_a_cell_ends_when_whoever_began_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.model.experiments.test_cells import ran;"
        "ran(['a', 'endless'], Path(sys.argv[1]))"
    )
    checkpoint = tmp_path.joinpath("cells", "work", "endless", "training", "checkpoint")
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    try:
        wait_until(lambda: checkpoint.exists() or parent.poll() is not None)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: is_gone(calls(tmp_path, "endless")[0]), 30)
    assert kept(tmp_path) == ["a"]
    assert checkpoint.exists(), "from which the same cell goes on"


def test_a_refusal_is_kept_only_where_it_would_be_the_same_again() -> None:
    with pytest.raises(ImpossibleError, match=r"^layers are missing$"), impossible_where_refused():
        raise ReviewriskError("layers are missing")
    with pytest.raises(OutageError) as outage, impossible_where_refused():
        raise OutageError("the hub does not answer")
    assert type(outage.value) is OutageError


@pytest.mark.parametrize("package", PACKAGES)
def test_another_version_of_a_package_makes_another_fingerprint(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before = fingerprint("a", 1)
    assert fingerprint("a", 1) == before != fingerprint("a", 2) and len(before) == 16
    monkeypatch.setattr(cells, "version", lambda name: "0.0.1" if name == package else version(name))
    assert fingerprint("a", 1) != before


def test_threads_and_the_most_rows_identify_no_cell_and_everything_else_does() -> None:
    base = identifying_settings(ModelSettings())

    def moved(**training: Any) -> bool:
        return identifying_settings(ModelSettings(training=TrainingSettings(**training))) != base

    assert not moved(threads=1) and not moved(max_rows=500)
    assert moved(epochs=9) and moved(seed=1) and moved(class_weighting="none")
    assert arithmetic(TrainingSettings(device="cpu", precision="bfloat16")) == ["cpu", "torch.bfloat16"]
    assert arithmetic(TrainingSettings(device="cpu", precision="float32")) == ["cpu", "torch.float32"]

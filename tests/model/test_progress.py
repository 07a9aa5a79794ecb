"""Progress: plain lines for files and cron, a line that renews itself on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from model.progress import progress, step_progress
from tests import ROOT


def test_lines_tell_state_and_seconds_until_the_block_ends() -> None:
    lines: list[str] = []
    with progress("reading", lines.append, lambda: "2 of 3 files", every_seconds=0.01):
        while not lines:
            time.sleep(0.005)
    count = len(lines)
    time.sleep(0.05)
    assert set(lines) == {"  reading: 2 of 3 files, 0 s"} and len(lines) == count


def test_an_error_in_the_block_ends_the_lines_too() -> None:
    lines: list[str] = []
    with pytest.raises(KeyError), progress("reading", lines.append, every_seconds=0.01):
        raise KeyError
    count = len(lines)
    time.sleep(0.05)
    assert len(lines) == count


def test_steps_are_told_when_it_is_time_but_for_the_last() -> None:
    lines: list[str] = []
    with step_progress("epoch 1/2", 3, lines.append, every_seconds=0) as step_done:
        for step in (1, 2, 3):
            step_done(step, "9 rows/s")
    assert lines == ["epoch 1/2: step 1 of 3, 9 rows/s", "epoch 1/2: step 2 of 3, 9 rows/s"]
    with step_progress("epoch 1/2", 3, lines.append, every_seconds=3600) as step_done:
        step_done(1, "9 rows/s")
    assert len(lines) == 2


ON_A_TERMINAL = """
import time
from model.progress import progress, step_progress
with progress("reading [all]", print, lambda: "2 of 3 files"):
    time.sleep(1.2)
with step_progress("epoch 1/2", 4, print, 0) as step_done:
    step_done(2, "9 rows/s")
    time.sleep(0.3)
print("result")
"""


def test_a_terminal_gets_one_line_that_renews_itself_and_the_results_stay() -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL], cwd=ROOT, stdout=child, stderr=child, env=environment
    )
    os.close(child)
    written = b""
    try:
        while block := os.read(parent, 4096):
            written += block
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(parent)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
    assert "reading [all]: 2 of 3 files, 1 s" in plain and "━" in plain
    assert "epoch 1/2: step 2 of 4, 9 rows/s" in plain and "result\r\n" in plain

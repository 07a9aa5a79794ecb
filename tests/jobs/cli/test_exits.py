"""Ends of the process: one sentence and the exit code of its kind; a defect of ours keeps its traceback."""

from __future__ import annotations

import errno
import re
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from jobs.cli.exits import INTERRUPTED, NOTHING_NEW, CommandGroup
from model.errors import LostRaceError, OutageError, ReviewriskError
from tests import ROOT


def ended_by(error: BaseException) -> Result:
    """What comes of a command that raises the error."""

    @click.group(cls=CommandGroup)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ReviewriskError("a.tsv is empty: leave it out."), 3, "error: a.tsv is empty: leave it out.\n"),
        (LostRaceError("Another run was first."), 5, "error: Another run was first.\n"),
        (OutageError("s3 does not answer."), 6, "error: s3 does not answer.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            6,
            "error: /data/x cannot be used (no space is left): make room, then run the command again.\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            6,
            "error: /data/x cannot be used (permission is denied): give this user access, then run the command"
            " again.\n",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted: what was published stays whole, and the same command goes on from there\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_with_a_code_of_its_kind(
    error: BaseException, code: int, said: str
) -> None:
    result = ended_by(error)
    assert (result.exit_code, result.output) == (code, said)


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(errno.ENOENT, "No such file", "x")])
def test_a_defect_keeps_its_traceback_and_exits_with_1(error: Exception) -> None:
    result = ended_by(error)
    assert (result.exit_code, result.exception) == (1, error)


def test_control_characters_of_a_file_name_do_not_reach_the_terminal() -> None:
    assert (
        ended_by(ReviewriskError("\x1b]0;title\x07.tsv is empty")).output == "error: \\x1b]0;title\\x07.tsv is empty\n"
    )


# Ctrl-C is asked for by name: tests that run in the background of a shell inherit that it is ignored.
LONG_COMMAND = """
import signal, time
from jobs.cli.main import main
from jobs.sample import write

signal.signal(signal.SIGINT, signal.default_int_handler)

def wait(*_):
    print("ready", flush=True)
    time.sleep(600)

write.run_sample = wait
main(["sample", "a.tsv"])
"""


def test_ctrl_c_in_the_middle_of_a_command_ends_with_130_and_no_traceback() -> None:
    command = [sys.executable, "-c", LONG_COMMAND]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said == "interrupted: what was published stays whole, and the same command goes on from there\n"


def test_the_page_for_operators_lists_every_exit_code() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    raised = {error.exit_code for error in (ReviewriskError, LostRaceError, OutageError)}
    listed = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    assert sorted(map(int, listed)) == sorted({0, 1, 2, *raised, NOTHING_NEW, INTERRUPTED})

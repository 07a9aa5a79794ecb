"""What long work says of itself: a live line or bar on a terminal; plain lines every few seconds anywhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

Report = Callable[[str], None]


@contextmanager
def progress(
    label: str, report: Report, state: Callable[[], str] = lambda: "working", every_seconds: float = 5.0
) -> Iterator[None]:
    """While the block runs, "label: state, seconds so far": live on a terminal, else reported every few seconds."""
    stop = threading.Event()
    started = time.monotonic()

    def line() -> str:
        return f"{label}: {state()}, {time.monotonic() - started:,.0f} s"

    def watch(live: Status | None) -> None:
        while not stop.wait(0.5 if live else every_seconds):
            if live:
                live.update(Text(line()))
            else:
                report(f"  {line()}")

    with _live(label) as live:
        thread = threading.Thread(target=watch, args=(live,), daemon=True, name=f"progress-{label}")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def step_progress(label: str, total: int, report: Report, every_seconds: float) -> Iterator[Callable[[int, str], None]]:
    """A function for the block to call after each step, as (steps done, more words).

    On a terminal it moves a bar. Elsewhere it reports "label: step 8 of 16, more words", at most every few seconds and
    not for the last step, whose result comes next.
    """
    last = time.monotonic()

    def at(done: int, words: str) -> None:
        nonlocal last
        if live:
            live.update(_bar(f"{label}: step {done:,} of {total:,}, {words}", done, total))
        elif time.monotonic() - last >= every_seconds and done < total:
            last = time.monotonic()
            report(f"{label}: step {done:,} of {total:,}, {words}")

    with _live(label) as live:
        yield at


@contextmanager
def _live(label: str) -> Iterator[Status | None]:
    """A line at the foot of the terminal; None where standard error is no terminal, or one that cannot move back."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    with console.status(Text(label)) as status:
        yield status


def _bar(words: str, done: int, total: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=total, completed=done, width=20), Text(words))
    return row

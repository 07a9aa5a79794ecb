"""A line every few seconds while something works, so that nobody wonders whether it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]


@contextmanager
def progress(
    label: str, report: Report, state: Callable[[], str] = lambda: "working", every_seconds: float = 5.0
) -> Iterator[None]:
    """While the block runs, report "label: state, seconds so far" every few seconds."""
    stop = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        while not stop.wait(every_seconds):
            report(f"  {label}: {state()}, {time.monotonic() - started:,.0f} s")

    thread = threading.Thread(target=watch, daemon=True, name=f"progress-{label}")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

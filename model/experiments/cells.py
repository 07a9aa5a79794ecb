"""Cells: trainings that are run once, each in a process of its own, and whose figures are kept as files.

`compare` and `ablate` say which cells there are and what one does; this runs them. A cell is found again by its
fingerprint, so the same command goes on where an earlier one was stopped.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch

from model.errors import OutageError, ReviewriskError
from model.files import canonical_json, read_json, write_json
from model.network.hardware import resolve_device, resolve_precision
from model.progress import Report
from model.settings import ModelSettings, TrainingSettings
from model.training.checkpoints import drop_states

PACKAGES = ("torch", "transformers", "peft", "scikit-learn")
CellT = TypeVar("CellT")
Figures = dict[str, Any]
# done and impossible are kept. refused: it cannot run here and now; memory: there was too little; crashed: a defect;
# waiting: not begun, as the time was over.
Ending = Literal["done", "impossible", "refused", "memory", "crashed", "waiting"]
_KEPT = ("done", "impossible")
# as the messages of PyTorch, CUDA and cuBLAS have it
_LACK_OF_MEMORY = ("out of memory", "allocate memory", "alloc_failed")
_KILLED = -9  # by the system, where the machine has no memory left
_SAME_COMMAND = "run the same command again, with a smaller model.training.batch_size if it fails again"
_TIME_IS_OVER = "the limit of --minutes is reached; run the same command again to continue"
_RESULT, _ERRORS = "result.json", "errors.log"
# A cell's process is forked from one that has only imported these: importing them takes longer than a small training.
# Elsewhere than on Linux it begins from nothing, since the system's own libraries there do not bear a fork.
_PROCESSES = (
    multiprocessing.get_context("forkserver") if sys.platform == "linux" else multiprocessing.get_context("spawn")
)
_PROCESSES.set_forkserver_preload(["torch", "peft", "sklearn.linear_model", "pyarrow.parquet"])


class ImpossibleError(ReviewriskError):
    """A cell that cannot be trained as it is asked for, or whose training diverges. Tried again it would fail again."""


@contextmanager
def impossible_where_refused() -> Iterator[None]:
    """Within it, whatever is refused would be refused again: ReviewriskError becomes ImpossibleError."""
    try:
        yield
    except OutageError:
        raise
    except ReviewriskError as error:
        raise ImpossibleError(str(error)) from error


@dataclass(frozen=True)
class Outcome(Generic[CellT]):
    """What came of a cell: its figures, or why there are none."""

    cell: CellT
    ending: Ending
    figures: Figures | None = None
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether it ended as no cell should, so that the same command tries it again."""
        return self.ending in ("memory", "crashed")

    @property
    def in_words(self) -> str:
        """Why there are no figures, without a full stop."""
        how = {"refused": "not run", "waiting": "not run", "crashed": "crashed"}.get(self.ending, "failed")
        return f"{how}: {self.reason.rstrip('.')}"


def fingerprint(*identity: Any) -> str:
    """16 hexadecimal digits that differ wherever the identity or the versions of PACKAGES do."""
    packages = {name: version(name) for name in PACKAGES}
    return hashlib.sha256(canonical_json([packages, *identity]).encode()).hexdigest()[:16]


def identifying_settings(settings: ModelSettings) -> dict[str, Any]:
    """The settings as JSON holds them, without how many threads there are and the most rows, which a cell has itself.

    Another number of threads, another processor or another GPU may move last digits, and durations do follow them.
    """
    return settings.model_dump(mode="json", exclude={"training": {"threads", "max_rows"}})


def arithmetic(training: TrainingSettings) -> list[str]:
    """The kind of device and the precision that the settings come to here."""
    device = resolve_device(training.device)
    return [device.type, str(resolve_precision(training.precision, device))]


def deadline_after(minutes: float | None) -> float:
    """The moment, as time.monotonic has it, after which no further cell is begun."""
    return float("inf") if minutes is None else time.monotonic() + 60 * minutes


@dataclass(frozen=True)
class Runner(Generic[CellT]):
    """Runs cells, `parallel` at a time, and keeps their outcomes as folder/<identify(cell)>.json.

    `run` is a function of a module. It is called in the cell's process with the cell, what is `shared`, a folder for
    checkpoints and a callback that prints a line, and gives the cell's figures as JSON holds them. It raises
    ImpossibleError where the reason is to be kept, and ReviewriskError where the cell cannot run here and now. After
    the `deadline` no further cell is begun. A process that is killed leaves nothing but its checkpoints, from which
    the same cell goes on; it ends when this process does.
    """

    run: Callable[..., Figures]
    shared: tuple[Any, ...]
    identify: Callable[[CellT], str]
    folder: Path
    log: Report
    deadline: float
    parallel: int = 1

    def outcomes(self, cells: Sequence[CellT], title: str = "cell") -> list[Outcome[CellT]]:
        """The outcome of each cell, in the order of the cells; `title` stands before each one's number."""
        waiting = deque(
            _Place(number, f"{title} {number} of {len(cells)}: {cell}", cell, self._path(cell))
            for number, cell in enumerate(cells, start=1)
        )
        outcomes: dict[int, Outcome[CellT]] = {}
        running: list[_Process[CellT]] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.parallel:
                    place = waiting.popleft()
                    if (known := self._without_running(place)) is not None:
                        outcomes[place.number] = known
                    else:
                        running.append(self._begin(place))
                ready = wait([process.lines for process in running]) if running else []
                for process in [process for process in running if process.lines in ready]:
                    if (ended := process.next_outcome()) is not None:
                        running.remove(process)
                        outcomes[process.place.number] = ended
        finally:
            for process in running:
                process.kill()
        return [outcomes[number] for number in sorted(outcomes)]

    def _path(self, cell: CellT) -> Path:
        return self.folder / f"{self.identify(cell)}.json"

    def _without_running(self, place: _Place[CellT]) -> Outcome[CellT] | None:
        """The outcome of an earlier run, or that of a cell that is not begun."""
        if place.path.exists():
            known = Outcome(place.cell, **read_json(place.path))
            self.log(f"{place.label}: {'done before' if known.figures else f'failed before: {known.reason}'}")
            return known
        if time.monotonic() >= self.deadline:
            self.log(f"{place.label}: {_TIME_IS_OVER}")
            return Outcome(place.cell, "waiting", reason=_TIME_IS_OVER)
        return None

    def _begin(self, place: _Place[CellT]) -> _Process[CellT]:
        self.log(place.label)
        mark = f"  [{place.number}] " if self.parallel > 1 else "  "
        return _Process(place, self.run, self.shared, lambda line: self.log(f"{mark}{line}"))


@dataclass(frozen=True)
class _Place(Generic[CellT]):
    """Where a cell stands in the order, and where its outcome is kept."""

    number: int
    label: str
    cell: CellT
    path: Path

    @property
    def work(self) -> Path:
        """The cell's own folder while it runs."""
        return self.path.parent / "work" / self.path.stem


class _Process(Generic[CellT]):
    """A cell that runs: its memory is its own, and a crash takes nothing else with it."""

    def __init__(self, place: _Place[CellT], run: Callable[..., Figures], shared: tuple[Any, ...], log: Report) -> None:
        self.place, self._log = place, log
        place.work.mkdir(parents=True, exist_ok=True)
        self.lines, sending = _PROCESSES.Pipe(duplex=False)
        arguments = (run, (place.cell, *shared), place.work, sending)
        self._process = _PROCESSES.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        sending.close()  # so that the end of the process is the end of its lines

    def next_outcome(self) -> Outcome[CellT] | None:
        """None where there was another line, which is passed on; at their end what came of the cell."""
        try:
            line = self.lines.recv()
        except (EOFError, OSError):  # OSError: it was killed in the middle of a line
            return self._ended()
        self._log(line)
        return None

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def _ended(self) -> Outcome[CellT]:
        self._process.join()
        outcome = self._outcome(self._process.exitcode)
        if outcome.ending in _KEPT:
            (self.place.work / _RESULT).replace(self.place.path)
            drop_states(self.place.work)
        if outcome.reason:
            self._log(outcome.in_words)
        return outcome

    def _outcome(self, status: int | None) -> Outcome[CellT]:
        cell, errors = self.place.cell, self.place.work / _ERRORS
        if status == 0:
            return Outcome(cell, **read_json(self.place.work / _RESULT))
        if status == _KILLED:
            return Outcome(
                cell, "memory", reason=f"the system killed it, probably because memory ran out; {_SAME_COMMAND}"
            )
        return Outcome(cell, "crashed", reason=f"exit status {status}; {errors} says more")


def _work(run: Callable[..., Figures], arguments: tuple[Any, ...], work: Path, lines: Connection) -> None:
    """The cell's process: write its result, whole where the process ends with 0. A defect is a traceback and not 0."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with (work / _ERRORS).open("w", encoding="utf-8") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    lock = threading.Lock()

    def log(line: str) -> None:
        with lock:  # lines come from progress threads too
            lines.send(line)

    ending, figures, reason = _result(run, (*arguments, work / "training", log))
    write_json(work / _RESULT, {"ending": ending, "figures": figures, "reason": reason})


def _result(run: Callable[..., Figures], arguments: tuple[Any, ...]) -> tuple[Ending, Figures | None, str]:
    try:
        return "done", run(*arguments), ""
    except ImpossibleError as error:
        return "impossible", None, str(error)
    except ReviewriskError as error:
        return "refused", None, str(error)
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        return "memory", None, f"too little memory ({said}); {_SAME_COMMAND}"


def _end_with_parent() -> None:
    """A cell must not outlive whoever began it, even one that was killed and could tell nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether the GPU or the machine had too little: PyTorch has a type of its own for one of the ways to say so."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error).lower() for words in _LACK_OF_MEMORY
    )

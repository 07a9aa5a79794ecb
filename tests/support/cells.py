"""Cells that do what a test asks of them: the runner calls them in processes of their own, so they live in a module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from model.errors import ReviewriskError
from model.experiments.cells import ImpossibleError
from model.progress import Report

_ERRORS: dict[str, Exception] = {
    "impossible": ImpossibleError("the loss is nan."),
    "refused": ReviewriskError("needs a GPU."),
    "no memory in Python": MemoryError(),
    "no memory in PyTorch": RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    "no memory on a GPU": RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB."),
    "defect": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
}


def run(cell: str, folder: Path, work: Path, log: Report) -> dict[str, Any]:
    """Figures of the cell's process; or what the cell's name says. Each call leaves a line in folder/<cell>.calls."""
    with (folder / f"{cell}.calls").open("a") as calls:
        calls.write(f"{os.getpid()}\n")
    log(f"{cell} begins")
    if cell in _ERRORS:
        raise _ERRORS[cell]
    if cell == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.startswith("endless"):
        work.mkdir(exist_ok=True)
        (work / "checkpoint").touch()
        time.sleep(600)
    if cell == "not a number":
        return {"value": float("nan")}
    print(f"{cell} prints")
    return {"cell": cell, "value": 0.1 + 0.2, "process": os.getpid()}

"""Peak memory of one stretch of work in this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20


class PeakMemory:
    """Begins to watch when it is made; `growth` says by how much the peak then rose, in MiB.

    On a GPU it is what PyTorch allocated there; else the resident memory, from Linux's own counter, which is set back
    to the present use first. Elsewhere the process's greatest use so far cannot be set back: there the growth misses
    what lies below an earlier peak.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif _RESET.exists():
            _RESET.write_text("5")
        self._before = self._peak()

    def growth(self) -> float:
        """MiB above the use at the beginning."""
        return max(0.0, self._peak() - self._before) / _MIB

    def _peak(self) -> float:
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        if _STATUS.exists():
            [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
            return 1024.0 * int(line.split()[1])
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most) if sys.platform == "darwin" else 1024.0 * most

"""Peak memory is of the stretch that is watched, not of the whole process."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from model.experiments.memory import PeakMemory

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can set the peak back")
def test_what_was_taken_and_given_back_counts_for_the_watcher_of_that_time_alone() -> None:
    cpu = torch.device("cpu")
    first = PeakMemory(cpu)
    with mmap.mmap(-1, 200 * MIB) as taken:  # given back to the system at once, which malloc need not do
        taken.write(b"1" * 200 * MIB)
    assert first.growth() >= 150
    second = PeakMemory(cpu)
    assert second.growth() < 100

"""The machine that a measurement ran on, in words."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from model.settings import TrainingSettings


def machine_lines(training: TrainingSettings, packages: tuple[str, ...]) -> list[str]:
    """Processor, cores, threads and device; then the versions of Python and of the packages."""
    from model.network.hardware import device_in_words, usable_cores  # needs torch, as all do that measure

    cores = usable_cores()
    threads = training.threads or cores
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"{_processor()}, cores: {cores}, threads: {threads}; device {device_in_words(training.device)}.",
        f"Python {platform.python_version()}, {versions}.",
    ]


def _processor() -> str:
    """The CPU's name as Linux gives it, else what Python knows."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

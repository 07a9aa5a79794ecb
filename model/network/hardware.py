"""Which device, arithmetic and number of threads a run uses."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from model.errors import ReviewriskError


def resolve_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device; `auto` is the GPU where there is one. Raises ReviewriskError where cuda is asked for and absent."""
    if setting == "cpu" or (setting == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ReviewriskError(
            "model.training.device is 'cuda', but PyTorch sees no GPU here: set it to 'auto' or 'cpu', or repair the"
            " driver."
        )
    return torch.device("cuda", torch.cuda.current_device())


def resolve_precision(setting: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """The arithmetic of the encoder; `auto` is bfloat16 where the hardware computes it itself, else float32."""
    if setting == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


def device_in_words(setting: Literal["auto", "cpu", "cuda"]) -> str:
    """The device that `setting` comes to here, a GPU with its name."""
    device = resolve_device(setting)
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def usable_cores() -> int:
    """The CPU cores that this process may use, where the system tells (Linux), else all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[int]:
    """Within it, PyTorch computes with so many threads (None: one per core that this process may use)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or usable_cores())
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 itself: without such instructions it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_capabilities()))


def computes_int8() -> bool:
    """Whether the CPU multiplies in int8 itself (VNNI or AMX): without such instructions int8 gains nothing."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(cpu_capabilities()))


def cpu_capabilities() -> list[str]:
    """The instruction sets that PyTorch finds on this CPU, sorted; older versions of PyTorch do not tell."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return sorted(name for name, is_there in found.items() if is_there is True)


def gpu_name() -> str:
    """The name of this machine's first NVIDIA GPU."""
    return str(torch.cuda.get_device_name(0))


def cpu_name() -> str:
    """The processor's name as Linux tells it, elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

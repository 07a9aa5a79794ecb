"""Which device, arithmetic and number of threads a run uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
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


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of PyTorch do not tell; without such instructions bfloat16 is slower than float32.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

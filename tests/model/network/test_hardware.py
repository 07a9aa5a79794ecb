"""The machine's device, arithmetic and threads."""

from __future__ import annotations

import os

import pytest
import torch

from model.errors import ReviewriskError
from model.network.hardware import cpu_threads, resolve_device, resolve_precision, usable_cores


def test_cpu_is_taken_where_asked_for() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_absent_gpu_is_an_error_and_never_the_cpu_instead() -> None:
    with pytest.raises(ReviewriskError, match="PyTorch sees no GPU"):
        resolve_device("cuda")


def test_precision_is_what_was_asked_for() -> None:
    cpu = torch.device("cpu")
    assert (resolve_precision("float32", cpu), resolve_precision("bfloat16", cpu)) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_is_bfloat16_only_where_the_processor_has_its_instructions(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", torch.device("cpu")) == expected


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cores() == 3


@pytest.mark.parametrize(("counted", "expected"), [(8, 8), (None, 1)])
def test_a_system_without_affinities_has_all_its_cores(
    counted: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS: `os` has no sched_getaffinity there."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert usable_cores() == expected
    before = torch.get_num_threads()
    with cpu_threads(None) as threads:
        assert threads == expected
    assert torch.get_num_threads() == before


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with cpu_threads(1) as threads:
        assert threads == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before

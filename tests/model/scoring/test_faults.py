"""What is one text's fault becomes its error; what is the machine's never does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from model.errors import OutageError, ReviewriskError
from model.scoring.faults import Failure, MachineFaultError, is_of_the_machine, isolate_failures

OF_THE_MACHINE = [
    MemoryError(),
    OSError(28, "No space left on device"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate(handle)"),
    RuntimeError("could not create a primitive"),
]
OF_THE_TEXT = [
    TypeError("'float' object is not subscriptable"),
    UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"),
    RuntimeError("the size of tensor a must match the size of tensor b"),
    ReviewriskError("The logit of a review is not finite."),
    RecursionError("maximum recursion depth exceeded"),
]


def halved(items: Sequence[int]) -> list[int]:
    if any(item % 2 for item in items):
        raise ValueError("odd")
    return [item // 2 for item in items]


def test_every_result_is_in_its_place() -> None:
    found = isolate_failures(halved, [2, 4, 5, 6, 8, 9], harmless=0)
    assert found == [1, 2, Failure("ValueError: odd"), 3, 4, Failure("ValueError: odd")]
    assert isolate_failures(halved, [3], harmless=0) == [Failure("ValueError: odd")]
    assert isolate_failures(halved, [], harmless=0) == []


def test_good_items_are_computed_together() -> None:
    sizes: list[int] = []

    def seen(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return halved(items)

    isolate_failures(seen, [2, 4, 6, 8, 10, 12, 14, 15], harmless=0)
    assert sizes == [8, 4, 4, 2, 2, 1, 1, 1], "seven calls, and one on the harmless item"


@pytest.mark.parametrize("error", OF_THE_MACHINE, ids=lambda error: f"{type(error).__name__}: {error}"[:40])
def test_an_error_of_the_machine_is_no_items_error(error: Exception) -> None:
    calls: list[int] = []

    def failing(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        raise error

    assert is_of_the_machine(error)
    with pytest.raises(MachineFaultError, match="The machine failed, not a text") as raised:
        isolate_failures(failing, [1, 2, 3, 4], harmless=0)
    assert calls == [4], "nothing is tried again in this process"
    assert isinstance(raised.value, OutageError) and raised.value.__cause__ is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", OF_THE_TEXT, ids=lambda error: type(error).__name__)
def test_an_error_of_the_text_is_its_items_error(error: Exception) -> None:
    def failing(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise error
        return list(items)

    assert not is_of_the_machine(error)
    found = isolate_failures(failing, [1, 2, 3, 4], harmless=0)
    assert [found[0], found[1], found[3]] == [1, 2, 4]
    assert isinstance(found[2], Failure) and found[2].error.startswith(f"{type(error).__name__}: ")


def test_what_fails_on_a_harmless_item_too_is_no_items_error() -> None:
    def failing(items: Sequence[int]) -> list[int]:
        raise ValueError("of everything")

    with pytest.raises(MachineFaultError, match="ValueError: of everything"):
        isolate_failures(failing, [1], harmless=0)


def test_a_long_error_is_cut_and_on_one_line() -> None:
    def failing(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ValueError("long\n" * 1000)
        return list(items)

    [found] = isolate_failures(failing, [1], harmless=0)
    assert isinstance(found, Failure)
    assert len(found.error) == 1000 and "\n" not in found.error

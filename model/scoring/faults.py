"""Faults of one text and faults of the machine, told apart: only the former may become a row's error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from model.errors import OutageError

Item = TypeVar("Item")
Result = TypeVar("Result")

# No text causes these. What a kernel or an allocator raises is a plain RuntimeError, told by its message alone.
_OF_THE_MACHINE = (MemoryError, OSError, ImportError, torch.OutOfMemoryError, torch.AcceleratorError)
_SIGNS = ("out of memory", "not enough memory", "alloc", "cuda", "cublas", "cudnn", "primitive")


class MachineFaultError(OutageError):
    """The machine cannot compute, whatever the text: nothing is known of the text, so it must not get an error."""


class NoRoomError(Exception):
    """The device's memory has no room for one text by itself; where it has some for a shorter one, that is the text's
    fault.
    """


@dataclass(frozen=True)
class Failure:
    """What went wrong with one item: the error's class and message."""

    error: str


def isolate_failures(
    function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], harmless: Item
) -> list[Result | Failure]:
    """One result per item; where the function raises, the items are halved until those at fault stand alone with a
    Failure.

    Raises MachineFaultError where the error is one of the machine, or where the function fails on the `harmless` item
    too: then it is not the item's fault.
    """
    if not items:
        return []
    try:
        return list(function(items))
    except Exception as error:
        _raise_if_of_the_machine(error)
        if len(items) == 1:
            _check_machine(function, harmless)
            return [Failure(_described(error)[:1000])]
    middle = len(items) // 2
    return isolate_failures(function, items[:middle], harmless) + isolate_failures(function, items[middle:], harmless)


def is_of_the_machine(error: Exception) -> bool:
    """Whether an error tells of memory, disk or hardware, and so of no text."""
    if isinstance(error, RuntimeError):
        return isinstance(error, _OF_THE_MACHINE) or any(sign in str(error).lower() for sign in _SIGNS)
    return isinstance(error, _OF_THE_MACHINE)


def _check_machine(function: Callable[[Sequence[Item]], object], harmless: Item) -> None:
    try:
        function([harmless])
    except Exception as error:
        raise _machine_fault(error) from error


def _raise_if_of_the_machine(error: Exception) -> None:
    if is_of_the_machine(error):
        raise _machine_fault(error) from error


def _machine_fault(error: Exception) -> MachineFaultError:
    return MachineFaultError(
        f"The machine failed, not a text ({_described(error)[:300]}): check its memory and disk, then run the command"
        " again."
    )


def _described(error: Exception) -> str:
    """The error's class and message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())

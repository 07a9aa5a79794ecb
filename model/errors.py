"""The errors that a user is meant to read, and what to say of packages that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class ReviewriskError(Exception):
    """Something the user can mend. The message is one sentence: what is wrong, where, and what to do.

    It is shown without a traceback, and the process ends with `exit_code`: docs/operations.md lists the codes.
    """

    exit_code: ClassVar[int] = 3


class LostRaceError(ReviewriskError):
    """Another run published first. Nothing is wrong: the same command succeeds when it is given again."""

    exit_code: ClassVar[int] = 5


class OutageError(ReviewriskError):
    """Storage or network does not answer, or is full. The same command goes on once that is over."""

    exit_code: ClassVar[int] = 6


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Within it, a package that is not installed is a sentence: `what` is what needs the packages of an `extra`."""
    try:
        yield
    except ImportError as error:
        raise ReviewriskError(f"{what} needs {error.name}, which is not installed: {install_extra(extra)}.") from None


def install_extra(name: str) -> str:
    """What to do where the packages of an extra (setup.py) are missing, as the end of a message."""
    return f"install the extra {name!r} (docs/operations.md, Parts of the install)"

"""Names of a test's parameters that stay the same however often a process collects the test."""

from __future__ import annotations


def ascii_id(value: object) -> str:
    """The value as Python writes it, with / for each backslash: pytest escapes those again at each collection, and
    mutation tests, which collect twice, would not find the test by its name.
    """
    return ascii(value).replace("\\", "/")

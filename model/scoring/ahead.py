"""Items made by a thread of their own while the last one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# Buffers of texts that are read while a GPU computes: one that is ready, and one in the making.
READ_AHEAD = 2

Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The items in their order, up to `depth` of them made before they are asked for, all in one thread; with depth 0
    each when it is asked for.

    An item's error is raised in its place. When this ends, early or not, the thread has ended.
    """
    if not depth:
        yield from items
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as maker:
        waiting = deque(maker.submit(_next, items) for _ in range(depth))
        try:
            while made := waiting.popleft().result():
                waiting.append(maker.submit(_next, items))
                yield made[0]
        finally:
            for item in waiting:
                item.cancel()


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    """The next item, alone in a tuple; None at the end."""
    for item in items:
        return (item,)
    return None

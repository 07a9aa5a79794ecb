"""Items made ahead come in their order, no further ahead than allowed, and nothing goes on that nobody asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from model.scoring.ahead import ahead


def counted(made: list[int], end: int, failing: int = -1) -> Iterator[int]:
    for number in range(end):
        if number == failing:
            raise ZeroDivisionError(f"item {number}")
        made.append(number)
        yield number


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
@pytest.mark.parametrize("end", [0, 1, 4])
def test_all_items_come_in_their_order(depth: int, end: int) -> None:
    assert list(ahead(counted([], end), depth)) == list(range(end))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_more_than_so_many_are_made_before_they_are_asked_for(depth: int) -> None:
    made: list[int] = []
    for place, number in enumerate(ahead(counted(made, 20), depth)):
        assert number == place and len(made) <= place + 1 + depth


def test_the_next_one_is_made_while_the_last_one_is_worked_on() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    found = ahead(items(), 1)
    assert next(found) == 1
    assert second.wait(timeout=60), "made although nobody asks for it yet"
    assert list(found) == [2]


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_in_the_place_of_its_item(depth: int) -> None:
    found = ahead(counted([], 5, failing=2), depth)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError, match="item 2"):
        next(found)


def test_who_stops_asking_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    made: list[int] = []
    for number in ahead(counted(made, 1000), 2):
        if number == 3:
            break
    assert threading.active_count() == before and len(made) < 10

"""Spark workers that behave as a test wants: what stands here travels to them by value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def worker_that(act: Callable[[list[str]], None]) -> Callable[..., Any]:
    """A stand-in for `worker_scorer`: the real shipped scorer, whose texts `act` sees first and may change."""

    def worker_scorer(name: str, settings: Any, threads: int, beside: Any = ()) -> Any:
        from jobs.scoring import ship

        scorer = dataclasses.replace(ship.worker_scorer(name, settings, threads, beside))
        tokenise = scorer.encode

        def encode(texts: list[str]) -> Any:
            act(texts)
            return tokenise(texts)

        scorer.encode = encode  # type: ignore[method-assign]
        return scorer

    return worker_scorer


def raising(error: Exception, word: str) -> Callable[[list[str]], None]:
    """Raises the error where a text has the word."""

    def act(texts: list[str]) -> None:
        if any(word in text for text in texts):
            raise error

    return act


def leaving_out(character: str) -> Callable[[list[str]], None]:
    """Takes a character out of every text."""

    def act(texts: list[str]) -> None:
        texts[:] = [text.replace(character, "") for text in texts]

    return act

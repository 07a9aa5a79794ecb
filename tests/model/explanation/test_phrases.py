"""Words that belong together, and what ends a phrase."""

from __future__ import annotations

import pytest

from model.explanation.phrases import find_phrases
from model.text.compose import compose
from model.text.word_kinds import word_kinds
from model.text.words import find_words


def phrases(body: str, pushing: str, headline: str | None = None, **others: float) -> list[str]:
    """The phrases in which words are, each once in the order of the text, where the words of `pushing` push by 1."""
    text = compose(headline, body)
    words = find_words(text)
    names = [text.text[slice(*word)] for word in words]
    attributions = {
        word: others.get(name, 1.0 if name in pushing.split() else -1.0)
        for word, name in zip(words, names, strict=True)
    }
    found = find_phrases(text, words, word_kinds(text, words), attributions)
    return list(dict.fromkeys(found[word] for word in words if word in found))


@pytest.mark.parametrize(
    ("body", "pushing", "expected"),
    [
        ("The chair fell apart in June", "fell apart", ["fell apart"]),
        ("The chair Fell  apart in June", "Fell apart", ["fell apart"]),
        ("It fell apart", "It fell apart", ["fell apart"]),
        ("not worth the money", "not worth the money", ["not worth", "money"]),
        ("a leg broke off after a week", "leg broke off after", ["leg broke off"]),
        ("a waste of money", "a waste of money", ["waste of money"]),
        ("hard to assemble", "hard to", ["hard"]),
        ("off the wall", "off", []),
        ("not the best", "not", []),
        ("broke, wobbly", "broke wobbly", ["broke", "wobbly"]),
        ("one star chair broke", "one star chair broke", ["chair broke"]),
        (
            "ugly cheap flimsy plastic junk chair",
            "ugly cheap flimsy plastic junk",
            ["ugly cheap flimsy plastic", "junk"],
        ),
        ("nice chair broke not", "broke not", ["broke"]),
    ],
)
def test_a_phrase_is_what_stands_side_by_side_and_says_something(body: str, pushing: str, expected: list[str]) -> None:
    assert phrases(body, pushing) == expected


def test_a_phrase_lies_in_one_field() -> None:
    assert phrases("apart in a week", "fell apart", headline="It fell") == ["fell", "apart"]


def test_a_word_that_hardly_pushes_is_in_none() -> None:
    assert phrases("cheap chair broke", "broke", chair=0.11, cheap=0.09) == ["chair broke"]


def test_words_that_the_model_did_not_read_are_in_none() -> None:
    text = compose(None, "fell apart")
    words = find_words(text)
    assert find_phrases(text, words, word_kinds(text, words), {words[0]: 1.0}) == {words[0]: "fell"}
    assert find_phrases(text, words, word_kinds(text, words), {}) == {}

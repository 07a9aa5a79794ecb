"""Which words say something of their own."""

from __future__ import annotations

import pytest

from model.text.compose import compose
from model.text.word_kinds import word_kinds
from model.text.words import find_words


def kinds(headline: str | None, body: str | None) -> dict[str, str]:
    text = compose(headline, body)
    words = find_words(text)
    return dict(zip([text.text[slice(*word)] for word in words], word_kinds(text, words), strict=True))


def test_words_of_a_rating_hold_whatever_else_they_could_be() -> None:
    assert kinds("One Star", "Broken after one week, I give it 2 stars") == {
        "One": "rating",
        "Star": "rating",
        "Broken": "content",
        "after": "function",
        "one": "function",
        "week": "content",
        "I": "function",
        "give": "content",
        "it": "function",
        "2": "rating",
        "stars": "rating",
    }


@pytest.mark.parametrize("word", ["not", "Never", "don't", "doesn’t", "DONT", "without", "cannot"])
def test_a_negation_is_one_in_every_spelling(word: str) -> None:
    assert kinds(None, f"{word} worth it") == {word: "negation", "worth": "content", "it": "function"}


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("The", "function"),
        ("it's", "function"),
        ("I’m", "function"),
        ("two", "function"),
        ("5.5", "function"),
        ("!!!", "function"),
        ("\U0001f621", "content"),
        ("want", "content"),
        ("cant", "negation"),
        ("kaputt", "content"),
        ("坏了", "content"),
    ],
)
def test_a_word_alone(word: str, kind: str) -> None:
    assert kinds(None, word) == {word: kind}

"""Words of a model's text: what people read, where a tokenizer sees pieces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from model.text.compose import ModelText

# One of these between two word characters joins them: don't, heavy-duty. Between digits, "5.5" and "1,000" are one word
# too.
_JOINS_WORDS = frozenset("'\u2019\u02bc-\u2010\u2011_")
_JOINS_DIGITS = frozenset(".,")
_NOT_SPACE = re.compile(r"\S+")


def find_words(composed: ModelText) -> list[tuple[int, int]]:
    """(start, end) in the text of every word, in order.

    A word is a run of characters that are neither space nor punctuation (punctuation as BERT's tokenizer has it:
    Unicode's P classes and ASCII's symbols), held together by single apostrophes, hyphens and underscores. Emoji count
    as words. Surrounding punctuation is no part of it, nor is the join between headline and body. A text without any
    word has its runs of punctuation for words, so that "!!!" can be explained.
    """
    chunks = [span for _, start, end in composed.fields() for span in _chunks(composed.text, start, end)]
    words = [word for start, end in chunks for word in _split(composed.text, start, end)]
    return words or chunks


def sum_pieces(
    words: Sequence[tuple[int, int]], pieces: Sequence[tuple[int, int]], values: Sequence[float]
) -> dict[tuple[int, int], float]:
    """Each word that has pieces, in order, with the sum of their values; a piece belongs to the first word it overlaps.

    `words` and `pieces` are spans of one text, both in order. A piece in no word (punctuation, a special token) is left
    out.
    """
    sums: dict[tuple[int, int], float] = {}
    index = 0
    for (start, end), value in zip(pieces, values, strict=True):
        while index < len(words) and words[index][1] <= start:
            index += 1
        if index < len(words) and max(start, words[index][0]) < min(end, words[index][1]):
            sums[words[index]] = sums.get(words[index], 0.0) + value
    return sums


def _chunks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans between spaces."""
    for match in _NOT_SPACE.finditer(text, start, end):
        yield match.span()


def _split(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of the words in one chunk between spaces."""
    position = start
    while position < end:
        if _is_punctuation(text[position]):
            position += 1
            continue
        last = position + 1
        while last < end and (not _is_punctuation(text[last]) or _joins(text, last, end)):
            last += 1
        yield position, last
        position = last


def _joins(text: str, position: int, end: int) -> bool:
    """Whether the punctuation at `position`, which follows a word character, holds it and the next
    character together.
    """
    if position + 1 >= end or _is_punctuation(text[position + 1]):
        return False
    between_digits = text[position - 1].isdigit() and text[position + 1].isdigit()
    return text[position] in _JOINS_WORDS or (text[position] in _JOINS_DIGITS and between_digits)


def _is_punctuation(character: str) -> bool:
    if character.isascii():
        return not character.isalnum()
    return unicodedata.category(character).startswith("P")

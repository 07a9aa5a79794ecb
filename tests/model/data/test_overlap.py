"""Which test texts count as standing in train, held against a plain computation of the same definition."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from model.data import overlap
from model.data.overlap import normalise, text_overlap

TWELVE = "the oak table stood firm for two weeks then one leg broke"


def kinds(test: list[str], train: list[str], similarity: float = 0.8) -> list[str]:
    """Per test text "exact", "near" or "new"."""
    found = text_overlap(test, train, similarity)
    assert not (found.exact & found.near).any()
    assert (found.either == (found.exact | found.near)).all()
    return [
        "exact" if exact else "near" if near else "new" for exact, near in zip(found.exact, found.near, strict=True)
    ]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = normalise(text).split()
    return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}


def plain_kind(text: str, train: list[str], similarity: float) -> str:
    """What the docstring of `text_overlap` says, for one text against every other."""
    if text in train:
        return "exact"
    words = normalise(text)
    for other in map(normalise, train):
        if words and words == other:
            return "near"
        if min(len(words.split()), len(other.split())) >= 5:
            first, second = shingles(words), shingles(other)
            if len(first & second) >= similarity * len(first | second) - 1e-9:
                return "near"
    return "new"


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Five Stars. LOVE it!!", "five stars love it"),
        ("  a\tb\r\nc ", "a b c"),
        ("don't, well-made (5/5)", "don t well made 5 5"),
        ("\uff21\uff22\u2167 \ufb01ne", "abviii fine"),
        ("STRASSE Stra\u00dfe", "strasse strasse"),
        ("cafe\u0301 caf\u00e9", "caf\u00e9 caf\u00e9"),
        ("good \U0001f600 $5 a+b", "good 5 a b"),
        ("!!! \U0001f600", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, normalised: str) -> None:
    assert normalise(text) == normalised
    assert normalise(normalised) == normalised


def test_exact_near_and_new_in_the_order_given() -> None:
    train = ["Five Stars. Love it", TWELVE, "Bad"]
    test = ["Love it", "five stars!! LOVE IT", "Five Stars. Love it", TWELVE.upper(), "bad", "Bad", TWELVE]
    assert kinds(test, train) == ["new", "near", "exact", "near", "near", "exact", "exact"]
    assert kinds(test[::-1], train[::-1]) == ["exact", "exact", "near", "near", "exact", "near", "new"]


def test_texts_without_a_word_are_only_ever_exact() -> None:
    assert kinds(["!!!", "???", "", " "], ["!!!", "", "\U0001f600"]) == ["exact", "new", "exact", "new"]


def test_short_texts_are_near_only_when_their_words_are_equal() -> None:
    assert kinds(["a b c d", "A b, c d!"], ["a b c d e"]) == ["new", "new"]
    assert kinds(["A b, c d!"], ["a b c d"]) == ["near"]
    assert kinds(["a b a b", "a b a b a b"], ["a b a b a"]) == ["new", "near"]  # the same two shingles in all three


def test_one_word_changed_in_a_long_text_is_near_and_in_a_short_one_is_not() -> None:
    words = [f"word{number}" for number in range(60)]
    changed = [*words[:30], "other", *words[31:]]
    assert kinds([" ".join(changed)], [" ".join(words)]) == ["near"]  # 55 of 61 shingles are shared
    assert kinds([" ".join(changed[25:36])], [" ".join(words[25:36])]) == ["new"]  # 6 of 12


@pytest.mark.parametrize(("extra", "kind"), [(1, "near"), (2, "near"), (3, "new")])
def test_the_limit_itself_counts_as_near(extra: int, kind: str) -> None:
    ten_words = [f"word{number}" for number in range(10)]  # 8 shingles
    longer = ten_words + [f"more{number}" for number in range(extra)]  # 8 + extra: at two extra words 8 of 10
    assert kinds([" ".join(longer)], [" ".join(ten_words)]) == [kind]
    assert kinds([" ".join(ten_words)], [" ".join(longer)]) == [kind]


def test_only_identical_shingle_sets_reach_a_similarity_of_one() -> None:
    assert kinds([TWELVE + " off", TWELVE.title()], [TWELVE], similarity=1.0) == ["new", "near"]


def test_nothing_is_found_where_a_side_is_empty() -> None:
    assert kinds([], [TWELVE]) == []
    assert kinds([TWELVE, "a"], []) == ["new", "new"]


def random_texts(seed: int, number: int, vocabulary: int) -> list[str]:
    """Texts of few different words, in part copies of one another with some words changed: many pairs
    around the limit.
    """
    chance = random.Random(seed)
    texts: list[str] = []
    for _ in range(number):
        words = [f"w{chance.randrange(vocabulary)}" for _ in range(chance.randint(1, 60))]
        if texts and chance.random() < 0.6:
            words = chance.choice(texts).split()
            for _ in range(chance.randint(0, 2)):
                words[chance.randrange(len(words))] = f"w{chance.randrange(vocabulary)}"
        texts.append((", " if chance.random() < 0.2 else " ").join(words))
    return texts


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(("seed", "vocabulary"), [(1, 8), (2, 20), (3, 1000)])
def test_the_same_as_comparing_every_pair(
    seed: int, vocabulary: int, similarity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "_TEXTS_AT_ONCE", 7)  # many chunks and blocks
    monkeypatch.setattr(overlap, "_PAIRS_AT_ONCE", 50)
    texts = random_texts(seed, 120, vocabulary)
    test, train = texts[::2], texts[1::2]
    expected = [plain_kind(text, train, similarity) for text in test]
    assert {"near", "new"} <= set(expected)
    assert kinds(test, train, similarity) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("aB .!", max_size=14), max_size=6),
    st.lists(st.text("aB .!", max_size=14), max_size=6),
    st.sampled_from([0.5, 0.8, 1.0]),
)
def test_small_texts_are_compared_as_the_definition_says(test: list[str], train: list[str], similarity: float) -> None:
    assert kinds(test, train, similarity) == [plain_kind(text, train, similarity) for text in test]


def test_blocks_hold_no_more_pairs_than_allowed_unless_one_row_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_PAIRS_AT_ONCE", 5)
    first = csr_matrix(np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=np.float32))
    second = csr_matrix(np.array([[1, 1], [1, 1], [0, 1], [0, 1], [0, 1]], dtype=np.float32))
    # texts of `second` with the first shingle: 2; with the second: 5; so the rows of `first` have 2, 2, 7, 5 and 0 in
    # common
    assert list(overlap._blocks(first, second)) == [(0, 2), (2, 3), (3, 5)]

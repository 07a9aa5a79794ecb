"""Words in a text as people read them, and the sums of what their pieces have."""

from __future__ import annotations

import pytest

from model.text.compose import compose
from model.text.words import find_words, sum_pieces
from tests.support.parameter_ids import ascii_id


@pytest.mark.parametrize(
    ("headline", "body", "words"),
    [
        ("Bad chair", "It  wobbles.\n", ["Bad", "chair", "It", "wobbles"]),
        (None, "don't heavy-duty snake_case it\u2019s", ["don't", "heavy-duty", "snake_case", "it\u2019s"]),
        (None, "'quoted' (-so-) boys'", ["quoted", "so", "boys"]),
        (None, "wait--what rock''n'roll 'n'", ["wait", "what", "rock", "n'roll", "n"]),
        (None, "5.5 1,000 v2.x x.2 a.b a,b", ["5.5", "1,000", "v2", "x", "x", "2", "a", "b", "a", "b"]),
        (None, "4/5 1:2 5.", ["4", "5", "1", "2", "5"]),
        (None, "nice\u2026 \U0001f600! \u6905\u5b50\u3002", ["nice", "\U0001f600", "\u6905\u5b50"]),
        ("Bad'", "-end-", ["Bad", "end"]),  # a mark at the end of a field joins nothing
        ("!!!", "nice", ["nice"]),
        ("!!!", "?! ...", ["!!!", "?!", "..."]),
        (None, None, []),
    ],
    ids=ascii_id,
)
def test_find_words(headline: str | None, body: str | None, words: list[str]) -> None:
    composed = compose(headline, body)
    assert [composed.text[start:end] for start, end in find_words(composed)] == words


@pytest.mark.parametrize(
    ("words", "pieces", "sums"),
    [
        ([(0, 5)], [(0, 2), (2, 5)], {(0, 5): 3.0}),
        ([(0, 2), (3, 5)], [(0, 2), (3, 5)], {(0, 2): 1.0, (3, 5): 2.0}),
        ([(0, 2), (2, 4)], [(1, 3), (3, 4)], {(0, 2): 1.0, (2, 4): 2.0}),  # a piece goes to the first word it meets
        ([(0, 2), (2, 4)], [(0, 2), (2, 4)], {(0, 2): 1.0, (2, 4): 2.0}),
        ([(1, 2), (4, 5)], [(0, 1), (2, 4)], {}),  # beside a word is not in it
        ([(1, 2), (4, 5)], [(1, 1), (4, 4)], {}),  # an empty piece is in none
        ([(0, 1), (2, 3), (4, 5)], [(0, 1), (4, 5)], {(0, 1): 1.0, (4, 5): 2.0}),
        ([(0, 1)], [(0, 1), (2, 3)], {(0, 1): 1.0}),
        ([], [(0, 1)], {}),
        ([(0, 1)], [], {}),
    ],
)
def test_a_word_has_the_sum_of_the_pieces_in_it(
    words: list[tuple[int, int]], pieces: list[tuple[int, int]], sums: dict[tuple[int, int], float]
) -> None:
    found = sum_pieces(words, pieces, [1.0, 2.0][: len(pieces)])
    assert found == sums
    assert list(found) == sorted(sums)


def test_each_piece_needs_its_value() -> None:
    with pytest.raises(ValueError, match="shorter"):
        sum_pieces([(0, 1)], [(0, 1)], [])

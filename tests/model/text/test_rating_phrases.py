"""Which words of a text state the rating itself, and which only look so."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.text.rating_phrases import (
    _PATTERNS,
    _merged,
    find_rating_phrases,
    has_rating_phrase,
    is_default_headline,
)


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_rating_phrases(text)]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("5 stars", ["5 stars"]),
        ("one-star", ["one-star"]),
        ("A 5-star chair", ["5-star"]),
        ("zero stars", ["zero stars"]),
        ("5 STARS!", ["5 STARS"]),
        ("five  stars", ["five  stars"]),
        ("5stars", ["5stars"]),
        ("Great.5 stars", ["5 stars"]),
        ("10+ stars", ["10+ stars"]),
        ('"5" stars', ['5" stars']),
        ("five (5) stars", ["five (5) stars"]),
        ("5 big stars, one lousy star", ["5 big stars", "one lousy star"]),
        ("4.5 stars, 4,5 stars, 4½ stars", ["4.5 stars", "4,5 stars", "4½ stars"]),
        ("4 1/2 stars", ["4 1/2 stars"]),
        ("four and a half stars", ["four and a half stars"]),
        ("4-5 stars or 3 or 4 stars", ["4-5 stars", "3 or 4 stars"]),
        ("from five stars to 1 star", ["five stars", "1 star"]),
        ("it drops from 4 to 2 stars", ["4 to 2 stars"]),
        ("3 stars instead of 5, since", ["3 stars instead of 5"]),
        ("4 stars, and not five", ["4 stars, and not five"]),
        ("2 stars rather than 3 since", ["2 stars rather than 3"]),
        ("a 4 rating", ["4 rating"]),
        ("5 star hotel", ["5 star"]),
        ("minus 5 stars", ["minus 5 stars"]),
        ("my rating: -1 star", ["-1 star"]),
        ("negative stars", ["negative stars"]),
        ("no stars", ["no stars"]),
        ("not a single star", ["single star"]),
        ("half a star", ["half a star"]),
        ("½ star", ["½ star"]),
        ("I knocked off a star, took another star away", ["a star", "another star"]),
        ("gave it an extra star", ["an extra star"]),
        ("5★ for it", ["5★"]),
        ("★★★☆☆ so so", ["★★★☆☆"]),
        ("⭐⭐⭐", ["⭐⭐⭐"]),
        ("★★★5 stars, 5 stars****", ["★★★", "5 stars", "5 stars"]),  # beside each other they stay two
        ("\u2b50\ufe0f\u2b50\ufe0f\u2b50\ufe0f good", ["\u2b50\ufe0f\u2b50\ufe0f\u2b50\ufe0f"]),
        ("Good ***** chair, * * * * *", ["*****", "* * * * *"]),
        ("5 out of 5", ["5 out of 5"]),
        ("ten out of ten would buy", ["ten out of ten"]),
        ("15 out of 10", ["15 out of 10"]),
        ("4.5 out of five stars", ["4.5 out of five stars"]),
        ("3 of 5 stars", ["3 of 5 stars"]),
        ("5/5", ["5/5"]),
        ("10/10 would buy again", ["10/10"]),
        ("10 / 10!", ["10 / 10"]),
        ("4/5 stars", ["4/5 stars"]),
        ("Sturdy: 3/5. Looks: 4.5/5", ["3/5", "4.5/5"]),
        ("I give it a 7/10 for now", ["7/10"]),
        ("rated 4/5 because", ["4/5"]),
        ("rate it a 5", ["5"]),
        ("My rating: 4", ["4"]),
        ("a rating of 3.5.", ["3.5"]),
        ("give it a 5", ["5"]),
        ("I'd give this lovely oak table a solid 4 for looks", ["4"]),
        ("I would give 0 if I could", ["0"]),
        ("give it two instead of three", ["two instead of three"]),
        ('rated it a "5".', ['"5"']),
        ("rated 4 since it wobbles", ["4"]),
        ("rated it 3 starts since", ["3 starts"]),
        ("deserves a ten", ["ten"]),
    ],
)
def test_a_stated_rating_is_found(text: str, phrases: list[str]) -> None:
    assert found(text) == phrases


@pytest.mark.parametrize(
    "text",
    [
        "",
        "starts, two start, 4 starts a day",
        "two star-shaped pillows",
        "one Star Wars chair and 2 Star Trek mugs",
        "stars and stripes, the stars above",
        "a five starfish pattern",
        "delivered 5/5/2014",
        "10/10/14 still fine",
        "on 5/5 it broke",
        "4/5 months old",
        '1/2 inch, 3/4 of it, 3/5 inch, 3/5" thick',
        "24/7 support, 10/100 network",
        "1/5 the price",
        "size 8/10 fits",
        "a medium (8/10) fits",
        "10 of 10 screws",
        "9 out of 10 times",
        "3 out of 5 broken",
        "2 out of 5 chairs wobble",
        "out of 5 I kept none",
        "gave one to my son",
        "kept two, gave one.",
        "give it one more month",
        "give it 5 minutes",
        "give it a 3 day trial",
        "giving a 4 and 7 year old a bed",
        "gave 3 out to friends",
        "gave up after 5 minutes.",
        "rated #1",
        "five chairs, 5 screws",
        "** note, *** UPDATE ***, ******, *****BEWARE",
        "* * * * * * *",
        "a ⭐ on it",
        "$5 stars",
        "15 stars",
        "5 5 5 5 5",
    ],
)
def test_what_only_looks_like_a_rating_is_left(text: str) -> None:
    assert found(text) == []


def test_a_review_is_searched_as_the_model_reads_it() -> None:
    assert has_rating_phrase("Five<br />Stars", None)
    assert has_rating_phrase(None, "worth&nbsp;five&nbsp;stars")
    assert not has_rating_phrase("Wobbly", "starts to lean")
    assert not has_rating_phrase(None, None)
    assert not has_rating_phrase("Five", "stars")  # a headline and a body are two texts


@pytest.mark.parametrize("headline", ["One Star", "two stars", " THREE STARS\n", "Four Stars", "Five Stars"])
def test_the_shops_own_headline(headline: str) -> None:
    assert is_default_headline(headline)
    assert found(headline)


@pytest.mark.parametrize(
    "headline",
    [None, "", "Five Star", "One Stars", "Five Stars!", "5 Stars", "Five Stars for it", "Zero Stars", "Five  Stars"],
)
def test_a_headline_that_somebody_wrote(headline: str | None) -> None:
    assert not is_default_headline(headline)


PIECES = [
    "5",
    "10",
    "five",
    " ",
    "  ",
    "-",
    "/",
    ".",
    "star",
    "stars",
    "out of",
    "half a",
    "give it a",
    "rate",
    "★",
    "*",
    "instead of",
    "!",
    "chair",
    "\n",
    "İ",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_spans_are_in_order_and_apart_and_no_span_is_empty(text: str) -> None:
    ends = [position for span in find_rating_phrases(text) for position in span]
    assert ends == sorted(ends)
    assert all(start < end for start, end in find_rating_phrases(text))
    assert not ends or (ends[0] >= 0 and ends[-1] <= len(text))


SIGNS = [*PIECES[:-1], "ten", "rating", "gave", "overall", "no", "took", "a", "4.5", "out", "of"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(SIGNS), max_size=12).map(" ".join))
@example("15 out of 10")
@example("out of five")
def test_a_text_passed_over_for_want_of_a_sign_has_no_match(text: str) -> None:
    spans = sorted(
        match.span("rating") if "rating" in match.re.groupindex else match.span()
        for pattern, _ in _PATTERNS
        for match in pattern.finditer(text)
    )
    assert find_rating_phrases(text) == _merged(spans)


@pytest.mark.parametrize(
    "piece",
    [
        "5 ",
        "*",
        "* ",
        "★",
        "5/5",
        "give it ",
        "give it a 5 ",
        "4 1/2 ",
        "five (5) ",
        "5 out of ",
        "half of a ",
        "off a ",
        "rating of of ",
    ],
)
def test_a_long_repetition_is_gone_through(piece: str) -> None:
    """A million characters on which a pattern that goes back would take hours; what is found lies within the text and
    in order.
    """
    text = "star " + piece * (1_000_000 // len(piece))
    ends = [end for span in find_rating_phrases(text) for end in span]
    assert ends == sorted(ends) and (not ends or (ends[0] >= 0 and ends[-1] <= len(text)))

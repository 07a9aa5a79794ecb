"""What the model reads of a stored headline and body, with and without stated ratings, and where each of its characters
came from.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.text.compose import HeadlineMode, compose, model_text, text_and_rating, text_hash
from model.text.markup import clean_html
from model.text.rating_phrases import find_rating_phrases, has_rating_phrase
from tests.support.parameter_ids import ascii_id
from tests.support.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
LEFTOVERS = [
    "<br />",
    "<BR>",
    "</p>",
    '<a href="x y">',
    "<!-- x -->",
    "&#34;",
    "&amp;",
    "&nbsp;",
    "&amp;#34;",
    "&lt;br /&gt;",
    "\x00",
    "\u200b",
]
LEFTOVERS += ["[[VIDEOID:m0a1b2]]", "[[ASIN:B000FAKE01 Oak &amp; Ash]]", "[[ASIN:B000FAKE02]]", "[[", "\ud83d"]
KEPT = [
    "<3 ",
    "a < b",
    "<unknown>",
    "&bogus;",
    "AT&T ",
    "don't",
    "\U0001f600",
    "cafe\u0301",
    "\r\n",
    " ",
    "\t",
    "\u6905\u5b50",
]
parts = st.lists(
    st.tuples(st.sampled_from(LEFTOVERS + KEPT), st.sampled_from(["chair", "\U0001f600", "e\u0301", "x-y's"])),
    max_size=8,
)
PHRASES = [
    "5 stars",
    "One Star",
    "4&nbsp;stars",
    "&#52; 1/2 stars",
    "5&#47;5!",
    "give it a 4,",
    "*****",
    "\u2605\u2605\u2606",
    "half<br />a star",
    "10 out of 10.",
]
MODES: list[HeadlineMode] = ["keep", "mask_ratings", "drop"]
any_field = st.one_of(
    st.none(), st.lists(st.one_of(st.sampled_from(LEFTOVERS + KEPT), st.text(max_size=5)), max_size=12).map("".join)
)

mixed_parts = st.lists(
    st.tuples(
        st.sampled_from(LEFTOVERS + KEPT + PHRASES), st.sampled_from(["chair", "\U0001f600", "e\u0301", "x-y's"])
    ),
    max_size=8,
)
mixed_field = st.lists(st.one_of(st.sampled_from(LEFTOVERS + KEPT + PHRASES), st.text(max_size=5)), max_size=12).map(
    "".join
)


@pytest.mark.parametrize(
    ("headline", "body", "text"),
    [
        ("Five Stars", "Love it", "Five Stars. Love it"),
        ("Five Stars", None, "Five Stars"),
        ("Five Stars", "", "Five Stars"),
        (None, "Love it", "Love it"),
        (" ", "Love it", "Love it"),
        ("<br />", "Love it", "Love it"),
        ("Bad&#33;", "<br />No", "Bad!.  No"),
        (None, None, ""),
        ("", "\r\n", ""),
    ],
)
def test_model_text_joins_what_is_there(headline: str | None, body: str | None, text: str) -> None:
    assert model_text(headline, body) == text


@pytest.mark.parametrize(
    ("headline", "body", "masked", "dropped"),
    [
        ("Five Stars", "Love it", "Love it", "Love it"),
        ("Five Stars", None, "", ""),
        ("5 STARS!!", "\u2605\u2605\u2605", "", "\u2605\u2605\u2605"),
        ("Five Stars \U0001f600", "(5/5)", "  \U0001f600", "(5/5)"),
        ("Wobbly, 2 stars", "Give it a 2.", "Wobbly,  . Give it a  .", "Give it a 2."),
        ("Not 5&nbsp;<br />stars", "No", "Not  . No", "No"),
        ("!!!", "Bad", "!!!. Bad", "Bad"),
        ("Sturdy", "Starts to lean", "Sturdy. Starts to lean", "Starts to lean"),
        ("Sturdy", " ", "Sturdy", ""),
        (None, None, "", ""),
    ],
)
def test_ratings_are_masked_or_the_headline_is_dropped(
    headline: str | None, body: str | None, masked: str, dropped: str
) -> None:
    assert model_text(headline, body, "mask_ratings") == masked
    assert model_text(headline, body, "drop") == dropped


@pytest.mark.parametrize(
    ("headline", "body", "hashed"),
    [
        ("Bad", "Wobbles", b"Bad\x1fWobbles"),
        ("Bad", None, b"Bad\x1f"),
        (None, "Bad", b"\x1fBad"),
        ("", "", b"\x1f"),
        ("caf\u00e9", "half \ud83d pair", b"caf\xc3\xa9\x1fhalf \xed\xa0\xbd pair"),
    ],
    ids=ascii_id,
)
def test_the_hash_is_that_of_headline_and_body_as_stored(headline: str | None, body: str | None, hashed: bytes) -> None:
    assert text_hash(headline, body) == hashlib.sha256(hashed).hexdigest()


def test_words_around_a_masked_phrase_are_located_in_the_stored_field() -> None:
    headline, body = "Two stars &amp; sad", "I&#39;d give<br />4&nbsp;1/2 stars, sorry"
    composed = compose(headline, body, "mask_ratings")
    assert composed.text == "  & sad. I'd give  , sorry"
    assert composed.fields() == [("headline", 0, 7), ("body", 9, len(composed.text))]
    at = composed.text.index
    assert composed.locate(0, 1) == ("headline", 0, len("Two stars"))
    assert composed.locate(at("&"), at("&") + 1) == ("headline", headline.index("&"), headline.index(" sad"))
    assert composed.locate(at("give"), at("give") + 4) == ("body", body.index("give"), body.index("<br"))
    assert composed.locate(at(" ,"), at(" ,") + 1) == ("body", body.index("4"), body.index(", sorry"))
    assert composed.locate(at("sorry"), at("sorry") + 5) == ("body", body.index("sorry"), len(body))
    assert compose("Two stars", "Bad", "mask_ratings").locate(0, 3) == ("body", 0, 3)
    assert compose("Two stars", "Bad", "drop").fields() == [("body", 0, 3)]


def test_locate_finds_words_in_the_stored_field() -> None:
    headline, body = "&#34;Bad&#34; chair", "<br />Don&#39;t buy &amp; [[ASIN:B000FAKE01 Oak stool]]"
    composed = compose(headline, body)
    assert composed.text == '"Bad" chair.  Don\'t buy &  Oak stool '

    def located(word: str) -> tuple[str, str]:
        start = composed.text.index(word)
        field, first, last = composed.locate(start, start + len(word)) or pytest.fail(f"{word} was not located")
        return field, (headline if field == "headline" else body)[first:last]

    assert located("Bad") == ("headline", "Bad")
    assert located('"Bad"') == ("headline", "&#34;Bad&#34;")
    assert located("chair") == ("headline", "chair")
    assert located("Don't") == ("body", "Don&#39;t")
    assert located("&") == ("body", "&amp;")
    assert located("Oak stool") == ("body", "Oak stool")


def test_locate_gives_nothing_for_the_join_and_beyond() -> None:
    composed = compose("Bad", "chair")
    assert composed.fields() == [("headline", 0, 3), ("body", 5, 10)]
    assert composed.locate(0, 3) == ("headline", 0, 3)
    assert composed.locate(5, 10) == ("body", 0, 5)
    for span in [(3, 4), (3, 5), (2, 4), (2, 7), (4, 6), (0, 10), (5, 11), (5, 5), (7, 6), (-1, 2)]:
        assert composed.locate(*span) is None


def test_a_field_that_needs_no_cleaning_is_located_in_place() -> None:
    body = "caf\u00e9 \U0001f600 <"
    assert [compose(None, body).locate(index, index + 1) for index in range(len(body))] == [
        ("body", i, i + 1) for i in range(len(body))
    ]


def place_words(between: list[tuple[str, str]], field: str) -> tuple[str, list[tuple[str, str, int, int]]]:
    """A stored field in which each word follows a leftover or other text, and (word, field, start, end) of every word
    in it.
    """
    raw, words = "", []
    for index, (before, word) in enumerate(between):
        raw += before
        unique = f"\u00bf{word}{field}{index}\u00bf"
        words.append((unique, field, len(raw), len(raw) + len(unique)))
        raw += unique
    return raw, words


@settings(max_examples=300, deadline=None)
@given(headline=parts, body=parts)
@example(
    headline=[("&amp;#34;", "chair"), ("[[ASIN:B000FAKE01 Oak &amp; Ash]]", "chair")],
    body=[("\ud83d", "chair"), ("<br />", "chair")],
)
def test_every_word_is_found_where_it_is_stored(headline: list[tuple[str, str]], body: list[tuple[str, str]]) -> None:
    raw_headline, headline_words = place_words(headline, "headline")
    raw_body, body_words = place_words(body, "body")
    composed = compose(raw_headline, raw_body)
    for word, field, start, end in headline_words + body_words:
        found = composed.text.index(word)
        assert composed.locate(found, found + len(word)) == (field, start, end)


@settings(max_examples=300, deadline=None)
@given(headline=mixed_parts, body=mixed_parts)
@example(
    headline=[("One Star", "chair"), ("&amp;#34;", "chair")],
    body=[("<br />", "chair"), ("&#52; 1/2 stars", "chair"), ("5&#47;5!", "e\u0301")],
)
def test_every_word_between_markup_and_masked_ratings_is_found_where_it_is_stored(
    headline: list[tuple[str, str]], body: list[tuple[str, str]]
) -> None:
    raw_headline, headline_words = place_words([(f"{before} ", word) for before, word in headline], "headline")
    raw_body, body_words = place_words([(f" {before} ", word) for before, word in body], "body")
    composed = compose(raw_headline, raw_body, "mask_ratings")
    for word, field, start, end in headline_words + body_words:
        found = composed.text.index(word)
        assert composed.locate(found, found + len(word)) == (field, start, end)


@settings(max_examples=300, deadline=None)
@given(field=mixed_field)
def test_only_rating_phrases_are_missing_where_ratings_are_masked(field: str) -> None:
    whole, expected, done = clean_html(field), "", 0
    for start, end in find_rating_phrases(whole):
        expected, done = expected + whole[done:start] + " ", end
    expected += whole[done:]
    masked = model_text(field, None, "mask_ratings")
    assert masked in (expected, "")
    assert masked or not any(character.isalnum() for character in expected)


@settings(max_examples=300, deadline=None)
@given(headline=mixed_field, body=mixed_field, mode=st.sampled_from(MODES))
def test_whatever_is_masked_characters_are_located_in_order(headline: str, body: str, mode: HeadlineMode) -> None:
    composed = compose(headline, body, mode)
    assert composed.text == model_text(headline, body, mode)
    for field, first, last in composed.fields():
        spans = [composed.locate(index, index + 1) for index in range(first, last)]
        places = [span[1:] for span in spans if span is not None and span[0] == field]
        assert len(places) == last - first
        assert places == sorted(places)
        assert all(0 <= start < end <= len(headline if field == "headline" else body) for start, end in places)


@settings(max_examples=300, deadline=None)
@given(headline=any_field, body=any_field)
def test_any_text_can_be_tokenised_and_its_characters_are_located_in_order(
    headline: str | None, body: str | None
) -> None:
    composed = compose(headline, body)
    assert composed.text == model_text(headline, body)
    assert TOKENIZER.backend_tokenizer.encode(composed.text).ids
    for field, first, last in composed.fields():
        stored = (headline if field == "headline" else body) or ""
        assert composed.text[first:last] == clean_html(stored)
        spans = [composed.locate(index, index + 1) for index in range(first, last)]
        assert all(span is not None and span[0] == field and 0 <= span[1] < span[2] <= len(stored) for span in spans)
        assert [span[1:] for span in spans if span] == sorted(span[1:] for span in spans if span)


@given(mixed_field, mixed_field, st.sampled_from(MODES))
@example("One Star", None, "drop")
@example(None, "4&nbsp;stars", "mask_ratings")
def test_text_and_rating_are_found_at_once_as_each_by_itself(
    headline: str | None, body: str | None, mode: HeadlineMode
) -> None:
    assert text_and_rating(headline, body, mode) == (
        model_text(headline, body, mode),
        has_rating_phrase(headline, body),
    )

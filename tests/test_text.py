"""What the model reads of a stored headline and body, and where each of its characters came from."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.text import clean_html, compose, model_text
from tests.tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
LEFTOVERS = ["<br />", "<BR>", "</p>", '<a href="x y">', "<!-- x -->", "&#34;", "&amp;", "&nbsp;", "&amp;#34;", "&lt;br /&gt;", "\x00", "\u200b"]
LEFTOVERS += ["[[VIDEOID:m0a1b2]]", "[[ASIN:B000FAKE01 Oak &amp; Ash]]", "[[ASIN:B000FAKE02]]", "[[", "\ud83d"]
KEPT = ["<3 ", "a < b", "<unknown>", "&bogus;", "AT&T ", "don't", "\U0001f600", "cafe\u0301", "\r\n", " ", "\t", "\u6905\u5b50"]
parts = st.lists(st.tuples(st.sampled_from(LEFTOVERS + KEPT), st.sampled_from(["chair", "\U0001f600", "e\u0301", "x-y's"])), max_size=8)
any_field = st.one_of(st.none(), st.lists(st.one_of(st.sampled_from(LEFTOVERS + KEPT), st.text(max_size=5)), max_size=12).map("".join))


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("one<br />two<BR>three<br/>four", "one two three four"),
        ('<p class="x">one</p><!-- note -->two', " one  two"),
        ("<a href='x' target=_blank>link</a>", " link "),
        ("<3 it, a < b and b > a, <unknown> <100 lbs", "<3 it, a < b and b > a, <unknown> <100 lbs"),
        ("if a <b and c> d", "if a <b and c> d"),
        ("&#34;good&#34; &amp; &quot;cheap&quot; &#x27;x&#x27; &lt;3", '"good" & "cheap" \'x\' <3'),
        ("a&nbsp;b", "a b"),
        ("5&amp;#34; wide, &amp;amp;quot;x&amp;quot;", '5" wide, "x"'),
        ("AT&T &bogus; a&b; q&copy=1", "AT&T &bogus; a&b; q&copy=1"),
        ("one&lt;br /&gt;two&#60;/p&#62;", "one two "),
        ("&#0;&#150;&#xD800;&#9999999;", "\ufffd\u2013\ufffd\ufffd"),
        ("[[VIDEOID:m0a1b2c3]]Wobbles [[videoid:cut", " Wobbles  "),
        ("like [[ASIN:B000FAKE01 Oak &amp; Ash chair [2 pack]]] better", "like  Oak & Ash chair [2 pack]  better"),
        ("like [[asin:b000fake01]] better", "like    better"),
        ("tab\tline\r\nend\x00nul\x7fdel\u200bzero", "tab\tline\r\nend nul del zero"),
        ("half \ud83d pair \U0001f600", "half \ufffd pair \U0001f600"),
        ("caf\u00e9 cafe\u0301 \u6905\u5b50 \U0001f468\u200d\U0001f469", "caf\u00e9 cafe\u0301 \u6905\u5b50 \U0001f468\u200d\U0001f469"),
        ("", ""),
    ],
)
def test_clean_html(raw: str, cleaned: str) -> None:
    assert clean_html(raw) == cleaned


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
    assert [compose(None, body).locate(index, index + 1) for index in range(len(body))] == [("body", i, i + 1) for i in range(len(body))]


def place_words(between: list[tuple[str, str]], field: str) -> tuple[str, list[tuple[str, str, int, int]]]:
    """A stored field in which each word follows a leftover or other text, and (word, field, start, end) of every word in it."""
    raw, words = "", []
    for index, (before, word) in enumerate(between):
        raw += before
        unique = f"\u00bf{word}{field}{index}\u00bf"
        words.append((unique, field, len(raw), len(raw) + len(unique)))
        raw += unique
    return raw, words


@settings(max_examples=300, deadline=None)
@given(headline=parts, body=parts)
@example(headline=[("&amp;#34;", "chair"), ("[[ASIN:B000FAKE01 Oak &amp; Ash]]", "chair")], body=[("\ud83d", "chair"), ("<br />", "chair")])
def test_every_word_is_found_where_it_is_stored(headline: list[tuple[str, str]], body: list[tuple[str, str]]) -> None:
    raw_headline, headline_words = place_words(headline, "headline")
    raw_body, body_words = place_words(body, "body")
    composed = compose(raw_headline, raw_body)
    for word, field, start, end in headline_words + body_words:
        found = composed.text.index(word)
        assert composed.locate(found, found + len(word)) == (field, start, end)


@settings(max_examples=300, deadline=None)
@given(headline=any_field, body=any_field)
def test_any_text_can_be_tokenised_and_its_characters_are_located_in_order(headline: str | None, body: str | None) -> None:
    composed = compose(headline, body)
    assert composed.text == model_text(headline, body)
    assert TOKENIZER.backend_tokenizer.encode(composed.text).ids
    for field, first, last in composed.fields():
        stored = (headline if field == "headline" else body) or ""
        assert composed.text[first:last] == clean_html(stored)
        spans = [composed.locate(index, index + 1) for index in range(first, last)]
        assert all(span is not None and span[0] == field and 0 <= span[1] < span[2] <= len(stored) for span in spans)
        assert [span[1:] for span in spans if span] == sorted(span[1:] for span in spans if span)


def test_a_megabyte_of_half_open_markup_takes_no_quadratic_time() -> None:
    for piece in ("<a ", "<a x=1", "<!--", "&amp;", "[[ASIN:a ", "[[VIDEOID:"):
        assert clean_html(piece * (1_000_000 // len(piece)))
    assert clean_html("[[ASIN:" + "x" * 1_000_000) == "[[ASIN:" + "x" * 1_000_000

"""Leftover markup in a stored field: what goes, what stays, and where the rest came from."""

from __future__ import annotations

import pytest

from model.text.markup import clean_field, clean_html
from tests.support.parameter_ids import ascii_id


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
        ("a&#1;b&#x0B;c &AMP;#34;&Amp;amp;AMP;", 'a b c "&'),
        ("&#0;&#150;&#xD800;&#9999999;", "\ufffd\u2013\ufffd\ufffd"),
        ("[[VIDEOID:m0a1b2c3]]Wobbles [[videoid:cut", " Wobbles  "),
        ("like [[ASIN:B000FAKE01 Oak &amp; Ash chair [2 pack]]] better", "like  Oak & Ash chair [2 pack]  better"),
        ("like [[asin:b000fake01]] better", "like    better"),
        ("tab\tline\r\nend\x00nul\x7fdel\u200bzero", "tab\tline\r\nend nul del zero"),
        ("half \ud83d pair \U0001f600", "half \ufffd pair \U0001f600"),
        (
            "caf\u00e9 cafe\u0301 \u6905\u5b50 \U0001f468\u200d\U0001f469",
            "caf\u00e9 cafe\u0301 \u6905\u5b50 \U0001f468\u200d\U0001f469",
        ),
        ("", ""),
    ],
)
def test_clean_html(raw: str, cleaned: str) -> None:
    assert clean_html(raw) == cleaned


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        *((f"a{character}b", "a b") for character in "\x00\x08\x0b\x0c\x0e\x1f\x7f\x9f\u200b\ufeff"),
        *((f"a{character}b", "a\ufffdb") for character in "\ud800\udbff\udc00\udfff"),
        *((f"a{character}b", f"a{character}b") for character in "\t\n\r ~\u200a\u200c\ud7ff\ue000\ufefe"),
        ("&#9;&#1114109;&#00065;&#0000065;&#00000065;", "\t\U0010fffdAA&#00000065;"),  # seven digits at most
        ("&#x41;&#x000041;&#x0000041;", "AA&#x0000041;"),  # six at most
        ("&lt;&CounterClockwiseContourIntegral;", "<\u2233"),  # the shortest name and the longest
    ],
    ids=ascii_id,
)
def test_the_first_and_the_last_of_what_is_cleaned(raw: str, cleaned: str) -> None:
    assert clean_html(raw) == cleaned


def test_a_megabyte_of_half_open_markup_takes_no_quadratic_time() -> None:
    for piece in ("<a ", "<a x=1", "<!--", "&amp;", "[[ASIN:a ", "[[VIDEOID:"):
        assert clean_html(piece * (1_000_000 // len(piece)))
    assert clean_html("[[ASIN:" + "x" * 1_000_000) == "[[ASIN:" + "x" * 1_000_000


def test_masked_spans_become_single_spaces_and_the_rest_keeps_its_place() -> None:
    raw = "I&#39;d give<br />4 &amp; a half stars, sorry"
    field = clean_field(raw)
    start = field.text.index("4 & a")
    masked = field.masked([(0, 3), (start, start + len("4 & a half stars"))])
    assert masked.text == "  give  , sorry"
    assert masked.raw_span(0, 1) == (0, len("I&#39;d"))
    assert masked.raw_span(7, 8) == (raw.index("4"), raw.index(", sorry"))
    assert masked.raw_span(10, 15) == (raw.index("sorry"), len(raw))
    assert masked.raw_span(2, 6) == (raw.index("give"), raw.index("<br"))


def test_a_field_masked_nowhere_reads_and_is_located_as_before() -> None:
    for raw in ("", "plain", "&lt;3 it<br />"):
        field, masked = clean_field(raw), clean_field(raw).masked([])
        assert masked.text == field.text
        assert [masked.raw_span(i, i + 1) for i in range(len(field.text))] == [
            field.raw_span(i, i + 1) for i in range(len(field.text))
        ]


def test_a_mask_may_cut_the_replacement_of_an_entity() -> None:
    raw = "a&NotEqualTilde;b"  # one entity, two characters
    field = clean_field(raw)
    assert len(field.text) == 4
    assert [field.masked([(1, 2)]).raw_span(i, i + 1) for i in range(4)] == [
        (0, 1),
        (1, len(raw) - 1),
        (1, len(raw) - 1),
        (len(raw) - 1, len(raw)),
    ]

"""What a model reads of one stored field: leftover markup cleaned away, with a map back to the stored characters.

The stored columns are never changed, and every word of the cleaned text can be located in the field as it is stored.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.entities import html5
from itertools import pairwise

# Only known tags go, so that "<3", "a < b" and "<unknown>" stay what the customer wrote.
_TAGS = (
    "a abbr acronym address article aside b big blockquote body br button caption center cite code col dd del div dl dt"
    " em embed figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins li link"
    " main meta nav noscript object ol p param pre q s samp script section small span strike strong style sub sup table"
    " tbody td tfoot th thead tr tt u ul wbr"
)
_TAG_NAME = f"/?(?:{'|'.join(_TAGS.split())})"
# An attribute needs its "=": in "a <b and c> d" nothing is markup.
# Possessive quantifiers (*+, ++) keep a megabyte of half-open markup linear.
_ATTRIBUTES = r"""(?:\s++[\w:-]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>]++))*+"""
_LEFTOVER = re.compile(
    rf"(?P<tag><{_TAG_NAME}{_ATTRIBUTES}\s*+(?:/\s*+)?>|<!--[^<>]*+>)"
    rf"|(?P<escaped_tag>&(?:amp;)*(?:lt|\#60|\#x3c);{_TAG_NAME}\s*+(?:/\s*+)?&(?:amp;)*(?:gt|\#62|\#x3e);)"
    r"|&(?:amp;)*(?P<entity>\#[0-9]{1,7}|\#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});"
    r"|(?P<video>\[\[VIDEOID:[^\]\s]*(?:\]\])?)"
    r"|(?P<product>\[\[ASIN:\w*+\s*+(?P<title>(?:(?!\[\[|\]\](?!\])).)*+)\]\])",
    re.IGNORECASE,
)
# Control characters (tab and line ends stay), zero-width space and byte-order mark part words; a tokenizer would glue
# them together.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\ufeff]")
# Half of a UTF-16 pair is no character: a tokenizer cannot encode it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class CleanField:
    """One field as the model reads it. `starts[i]` is where piece i begins in `text`; `raw_spans[i]` is what it stands
    for in the stored field. A piece is either copied character by character (both are equally long) or a replacement
    for its whole span. Both tuples are empty where text and stored field agree position by position.
    """

    text: str
    starts: tuple[int, ...] = ()
    raw_spans: tuple[tuple[int, int], ...] = ()

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """(first character, one past the last) in the stored field for the non-empty span [start, end) of `text`."""
        if not self.starts:
            return start, end
        return self._raw_character(start)[0], self._raw_character(end - 1)[1]

    def masked(self, spans: Sequence[tuple[int, int]]) -> CleanField:
        """The field with each of these spans of `text` read as a single space; they are in order, not empty and do not
        overlap.
        """
        pieces: list[tuple[str, int, int]] = []
        done = 0
        for start, end in spans:
            pieces += self._copied(done, start)
            pieces.append((" ", *self.raw_span(start, end)))
            done = end
        return _joined([*pieces, *self._copied(done, len(self.text))])

    def _copied(self, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """(text, first character, one past the last in the stored field) of each piece that lies in [start, end) of
        `text`, or of its part.
        """
        cuts = [start, *self.starts[bisect_right(self.starts, start) : bisect_left(self.starts, end)], end]
        for first, last in pairwise(cuts):
            if first < last:
                yield self.text[first:last], *self.raw_span(first, last)

    def _raw_character(self, position: int) -> tuple[int, int]:
        piece = bisect_right(self.starts, position) - 1
        clean_start, (raw_start, raw_end) = self.starts[piece], self.raw_spans[piece]
        clean_end = self.starts[piece + 1] if piece + 1 < len(self.starts) else len(self.text)
        if clean_end - clean_start != raw_end - raw_start:
            return raw_start, raw_end
        raw = raw_start + position - clean_start
        return raw, raw + 1


def clean_html(raw: str) -> str:
    """What the model reads of one stored field: no tags, no entities, no video marks, of product links their titles."""
    return clean_field(raw).text


def clean_field(raw: str) -> CleanField:
    """The same text as `clean_html`, with the map back to the stored field."""
    text = _replace_unreadable(raw)
    if not ("<" in text or "&" in text or "[[" in text):
        return CleanField(text)
    return _joined((piece, start, end) for start, end, piece in _pieces(text))


def _joined(pieces: Iterable[tuple[str, int, int]]) -> CleanField:
    """The field made of consecutive pieces (text, first character, one past the last in the stored field); empty ones
    are left out.
    """
    texts: list[str] = []
    starts: list[int] = []
    raw_spans: list[tuple[int, int]] = []
    length = 0
    for piece, start, end in pieces:
        if piece:
            texts.append(piece)
            starts.append(length)
            raw_spans.append((start, end))
            length += len(piece)
    return CleanField("".join(texts), tuple(starts), tuple(raw_spans))


def _replace_unreadable(text: str) -> str:
    """The same text with characters no tokenizer should see replaced one for one, so that positions stay."""
    # As most texts are: none of those characters is printable. Of what is no text, str's own method says so.
    if str.isprintable(text):
        return text
    return _LONE_SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, cleaned) for consecutive spans that cover the text: copies and replacements in turn."""
    done = 0
    for start, end, replacement in _replacements(text, 0, len(text)):
        yield done, start, text[done:start]
        yield start, end, replacement
        done = end
    yield done, len(text), text[done:]


def _replacements(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of every leftover in [start, end), in order."""
    for match in _LEFTOVER.finditer(text, start, end):
        if match["product"] is not None:
            title_start, title_end = match.span("title")
            yield match.start(), title_start, " "
            yield from _replacements(text, title_start, title_end)
            yield title_end, match.end(), " "
        elif match["entity"] is not None:
            decoded = _decode(match["entity"])
            if decoded is not None:
                yield match.start(), match.end(), decoded
        else:
            yield match.start(), match.end(), " "


def _decode(name: str) -> str | None:
    """The character that an entity of this name or number stands for; None where the name is unknown."""
    if not name.startswith("#") and f"{name};" not in html5:
        return None
    character = html.unescape(f"&{name};").replace("\N{NO-BREAK SPACE}", " ")
    return _replace_unreadable(character) or " "

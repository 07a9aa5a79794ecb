"""The one place that makes a model's input text from a stored headline and body, with a map back to the stored
characters.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Literal

from model.text.markup import CleanField, clean_field
from model.text.rating_phrases import find_rating_phrases

TITLE_JOIN = ". "
# The error of a review of which a model reads nothing: neither headline nor body, or nothing in them but markup and
# blanks.
NO_TEXT = "no_text"

FieldName = Literal["headline", "body"]
# What of a review the model reads. keep: headline and body. mask_ratings: both without phrases that state the rating.
# drop: the body.
HeadlineMode = Literal["keep", "mask_ratings", "drop"]


@dataclass(frozen=True)
class ModelText:
    """The text a model reads, and where its headline and body begin in it. A field that says nothing takes no room."""

    text: str
    headline: CleanField
    body: CleanField
    body_start: int

    def fields(self) -> list[tuple[FieldName, int, int]]:
        """(field, start, end) in `text` of each field that is in it; the join between them belongs to neither."""
        spans: list[tuple[FieldName, int, int]] = [
            ("headline", 0, len(self.headline.text)),
            ("body", self.body_start, self.body_start + len(self.body.text)),
        ]
        return [span for span in spans if span[1] < span[2]]

    def locate(self, start: int, end: int) -> tuple[FieldName, int, int] | None:
        """(field, first character, one past the last) in the STORED field for the span [start, end) of `text`.

        None for an empty span and for one that is not wholly inside one field: it touches the join, or lies outside the
        text.
        """
        for field, first, last in self.fields():
            if first <= start < end <= last:
                cleaned = self.headline if field == "headline" else self.body
                return (field, *cleaned.raw_span(start - first, end - first))
        return None


def model_text(headline: str | None, body: str | None, mode: HeadlineMode = "keep") -> str:
    """Cleaned headline + ". " + cleaned body; one alone where the other is missing or blank; "" where both are.

    With `mask_ratings`, phrases that state the rating are left out of both, and a field of which only space and
    punctuation is then left counts as blank. With `drop`, the cleaned body alone.
    """
    return compose(headline, body, mode).text


def compose(headline: str | None, body: str | None, mode: HeadlineMode = "keep") -> ModelText:
    """The same text as `model_text`, with the map back to the stored fields."""
    return _composed(clean_field(headline or ""), clean_field(body or ""), mode)


def text_and_rating(headline: str | None, body: str | None, mode: HeadlineMode = "keep") -> tuple[str, bool]:
    """The same as `model_text` and `has_rating_phrase`, in the time of cleaning each field once."""
    first, second = clean_field(headline or ""), clean_field(body or "")
    has_rating = bool(find_rating_phrases(first.text) or find_rating_phrases(second.text))
    return _composed(first, second, mode).text, has_rating


def _composed(headline: CleanField, body: CleanField, mode: HeadlineMode) -> ModelText:
    first = CleanField("") if mode == "drop" else _read(headline, mode)
    second = _read(body, mode)
    join = TITLE_JOIN if first.text and second.text else ""
    start = len(first.text) + len(join)
    return ModelText(first.text + join + second.text, first, second, start)


def _read(field: CleanField, mode: HeadlineMode) -> CleanField:
    """One cleaned field as the model reads it, empty where it says nothing."""
    spans = find_rating_phrases(field.text) if mode == "mask_ratings" else []
    if spans:
        field = field.masked(spans)
    says_something = _has_word(field.text) if spans else field.text.strip()
    return field if says_something else CleanField("")


def _has_word(text: str) -> bool:
    """Whether a letter, digit or symbol (an emoji, say) is in the text: of "5 stars!!" nothing but
    punctuation is left.
    """
    return any(unicodedata.category(character)[0] in "LNS" for character in text)


def text_hash(headline: str | None, body: str | None) -> str:
    """sha256 of the stored headline and body in hexadecimal: the `text_hash` that ingest gives to a review."""
    return hashlib.sha256(f"{headline or ''}\x1f{body or ''}".encode("utf-8", "surrogatepass")).hexdigest()

"""Phrases that state the rating itself ("One Star", "5 out of 5", "give it a 4"): the label read back instead of an
opinion.

There is one pattern for each way in which people write a rating. Each matches a bounded number of characters from where
it begins (a run of star signs is taken whole, once), so the time grows in proportion to the text, whatever it holds.
"""

from __future__ import annotations

import re
from functools import lru_cache

from model.text.markup import clean_html

DEFAULT_HEADLINES = frozenset({"one star", "two stars", "three stars", "four stars", "five stars"})

_NUMBER_WORDS = "zero|one|two|three|four|five|six|seven|eight|nine|ten"
_FRACTION = (
    r"(?:[ -]{0,2}(?:[½¼¾]|[123]/[234])"
    r"|[ ]{1,2}(?:and|&)[ ]{1,2}(?:an?[ ]{1,2})?(?:half|quarter|[123]/[234]))"
)
_NUMBER = (
    rf"(?:[0-9]{{0,2}}\.[0-9]{{1,2}}|[0-9],[0-9]|(?:\b(?:{_NUMBER_WORDS})\b|10|[0-9]){_FRACTION}?"
    r"|[½¼¾]|[123]/[234])(?![0-9])"
)
_MINUS = r"(?:(?:minus|negative)\s{1,2}|(?<![\w-])[-−])?"
_NOT_INSIDE = r"(?<![\w$£€])(?<![0-9][.,/])"  # a word, a larger number, a date or a price
_STAR_SIGNS = "★☆⭐🌟✩✭✮✯"
_STAR_SIGN = f"[{_STAR_SIGNS}]"
# "Star Wars" and "star-shaped" are products; "5 star hotel" cannot be told from "5 star product" and counts as a
# rating.
_NO_PRODUCT = r"(?![\s-]{0,2}(?:wars?|trek|gate|light|shaped?|burst|print|pattern|studded|spangled|fish|anise|fruit)\b)"
_STAR = rf"(?:star'?[sz]\b|star\b{_NO_PRODUCT}|{_STAR_SIGN})"
_ADJECTIVE = (
    r"(?:(?:full|whole|solid|big|huge|gold|golden|shining|shiny|bright|amazon|more|extra|additional|measly|lousy"
    r"|less|single|lone)\s{1,3})"
)
_AND_ANOTHER = rf"(?:\s{{0,2}}(?:-|–|/|\bto\b|\bor\b|\band\b|&|\bout of\b|\bof\b)\s{{0,2}}{_NUMBER})"
_INSTEAD_OF = (
    r"(?:,?\s{1,2}(?:instead\s{1,2}of|rather\s{1,2}th[ae]n|(?:and\s{1,2})?not|(?:out\s{1,2})?of)\s{1,2}"
    rf"(?:(?:an?|the|just|only)\s{{1,2}})?{_NUMBER}\b)"
)

# 5 stars, one-star, 4 1/2 stars, 3-4 stars, 4 out of 5 stars, five (5) full stars, -1 star, 5★, a 4 rating
_STARS = re.compile(
    rf"{_NOT_INSIDE}{_MINUS}{_NUMBER}{_AND_ANOTHER}?(?:\s{{0,2}}\([0-9a-z]{{1,5}}\))?"
    rf"""[\s"'”’)+*–-]{{0,4}}{_ADJECTIVE}?(?:{_STAR}|rating\b){_INSTEAD_OF}?""",
    re.IGNORECASE,
)
# no stars, half a star, negative stars, not a single star
_NO_STARS = re.compile(
    rf"\b(?:no|negative|minus|single|(?:a\s{{1,2}})?half(?:\s{{1,2}}of)?(?:\s{{1,2}}an?)?)(?:\s{{1,3}}"
    rf"|-){_ADJECTIVE}?{_STAR}",
    re.IGNORECASE,
)
# knocked off a star, gave it another star: a change of the rating
_A_STAR = re.compile(
    r"\b(?:t[ao]k(?:e|es|en|ing)|took|knock|dock|ding|get|got|deduct|subtract|drop|los[eti]|remov|mark|add|g[ai]v"
    r"|deserv|earn|minus|off|down)[a-z]{0,4}\b"
    rf"(?:\s{{1,2}}[\w'’]{{1,20}}){{0,3}}?\s{{1,2}}(?P<rating>(?:an?|another"
    rf"|one\s{{1,2}}less)\s{{1,2}}(?:second\s{{1,2}}|half\s{{1,2}}|{_ADJECTIVE})?{_STAR})",
    re.IGNORECASE,
)
# "9 out of 10 times" counts something else, and so does "3 out of 5 broken".
_COUNTED = (
    r"(?!\s{0,2}(?:(?:of|the|them|were|are|had|have|arrived|came|broke|broken|damaged|defective|worked|failed|people"
    r"|times?)\b"
    r"|(?!(?:stars?|points|pts|this|was|is|as|has|does|thanks|always|unless)\b)[a-z]{2,20}[^s\W]s\b))"
)
# 5 out of 5, 4.5 out of ten, 15 out of 10, ten points out of ten
_OUT_OF = re.compile(
    rf"{_NOT_INSIDE}{_MINUS}(?:{_NUMBER}|[0-9]{{2,3}})(?:\s{{1,2}}(?:points"
    rf"|pts))?\s{{1,2}}out\s{{1,2}}of\s{{1,2}}(?:a\s{{1,2}})?(?:(?:possible|perfect)\s{{1,2}})?"
    rf"(?:5|10|five|ten)\b(?![.,/]?[0-9]){_COUNTED}",
    re.IGNORECASE,
)
_MEASURED = (
    r"(?!\s{0,2}(?:[\"”″'’]|(?:th|ths|the|of|full|in|inch|inches|ft|feet|lbs?|oz|mm|cm|mos?|months?"
    r"|yrs?|years?|wks?|weeks?|days?|hrs?|hours?|mins?|minutes?"
    r"|size[sd]?|amps?|volts?|mbps|gb)\b))"
)
_DAY_OR_SIZE = (
    "on by since until till about around nearly almost from before after am i'm i’m size sizes dated bought ordered"
    " purchased"
)
_NOT_AFTER = "".join(rf"(?<!\b{word}\s)" for word in _DAY_OR_SIZE.split())
_AFTER_WORD = "|".join(rf"(?<=\b{word}\s)" for word in ("it", "this", "is", "rate", "rating", "overall", "solid"))
_ALONE = rf"(?:^|(?<=[.!?:;,=\n*-])|(?<=[.!?:;,=\n*-]\s)|(?<=[.!?]\s\s)|{_AFTER_WORD})"
# 5/5, 10/10; and 3/5, 7.5/10 where they stand by themselves or after a word of rating: elsewhere they are shares, dates
# and sizes
_SLASH = re.compile(
    rf"(?<![\w/.$£€'’])(?<![0-9][\s,-]){_NOT_AFTER}"
    rf"(?:5\s?/\s?5|10\s?/\s?10|(?:{_ALONE}|(?<=\())[0-4](?:\.[0-9])?\s?/\s?5|{_ALONE}[0-9](?:\.[0-9])?\s?/\s?10)"
    rf"(?![\w/]|[.,-][0-9]){_MEASURED}{_COUNTED}",
    re.IGNORECASE | re.MULTILINE,
)


def _followed_by(words: str) -> str:
    """A pattern for what may follow a number that is a rating: the end of a clause, or one of these words; not what it
    would count.
    """
    return rf"""(?=\s{{0,2}}(?:$|[!?;)"”(]|[.,](?![0-9])|\s[-–—]|[-–—]{{2}}|(?:{words})\b))"""


_REASON = (
    r"because|bec|bc|b/c|'?cause|cuz|since|but|if|instead|rather|only|due|out\s{1,2}of|overall|just|not"
    r"|and\s{1,2}not|so|when|though|although|until"
    r"|simply|mainly|except|is"
)
# rate it a 5, gave the chair a solid 4 for, deserves a 10, gave it a 4 start: after the article almost anything but a
# noun may follow
_GIVEN_A = re.compile(
    r"\b(?:rat(?:e|es|ed|ing)|giv(?:e|es|ing|en)|gave|scor(?:e|es|ed|ing)|deserv(?:e|es|ed|ing)|earn(?:s"
    r"|ed)?)\b(?:\s{1,2}[\w'’-]{1,20}){0,5}?\s{1,2}an?\s{1,2}"
    r"(?:(?:solid|perfect|strong|big|full|whole|generous|definite|rating\s{1,2}of|score\s{1,2}of)\s{1,2})?"
    rf"(?P<rating>[\"“]?{_MINUS}(?:{_NUMBER}|[0-9]{{2,3}}\b){_AND_ANOTHER}?[\"”+]{{0,3}}"
    rf"(?:\s{{1,2}}starts?\b)?{_INSTEAD_OF}?)"
    + _followed_by(rf"{_REASON}|for|and(?!\s{{1,2}}[0-9])|as|on|in|was|with|would|at|it|i"),
    re.IGNORECASE,
)
# gave it 4 because, rated 3, rating: 5, would give 0, gave 4 starts: without an article the number must stand by itself
_GIVEN = re.compile(
    r"\b(?:(?:rat(?:e|es|ed)|giv(?:e|es|ing|en)|gave|scored?)\b(?=\s)|rating\b|score\b|overall(?=\s?:))"
    r"(?:\s{1,2}(?:the\s{1,2})?(?:it|this|these|them|that|both|product|item|one|of|at|as|with|to|only|just|down|up"
    r"|about|around|maybe|barely|less|than|more|even)\b){0,4}?"
    rf"(?:\s?[:=]\s?|\s{{1,2}})(?!one\b)(?P<rating>{_MINUS}{_NUMBER}{_AND_ANOTHER}?"
    rf"(?:\s{{1,2}}starts?\b)?{_INSTEAD_OF}?)" + _followed_by(_REASON),
    re.IGNORECASE,
)
# ★★★☆☆, ⭐⭐⭐: any run of two or more.
# Asterisks: only five by themselves, since people also use them for lines and for emphasis.
_STAR_RUN = re.compile(rf"{_STAR_SIGN}(?:[\ufe0e\ufe0f ]{{0,2}}{_STAR_SIGN})++\ufe0f?")
_ASTERISKS = re.compile(r"(?<![*\w])(?<!\* )\*(?: ?\*){4}(?! ?\*)(?!\w)")

# Each pattern with what a lower-case text must hold for it to match, one of each group: nearly all texts are passed
# over by this alone.
_PATTERNS: tuple[tuple[re.Pattern[str], tuple[frozenset[str], ...]], ...] = (
    (_STARS, (frozenset({"star", "rating", *_STAR_SIGNS}),)),
    (_NO_STARS, (frozenset({"star", *_STAR_SIGNS}),)),
    (_A_STAR, (frozenset({"star", *_STAR_SIGNS}),)),
    (_OUT_OF, (frozenset({"out"}), frozenset({"5", "10", "five", "ten"}))),
    (_SLASH, (frozenset({"/"}),)),
    (_GIVEN_A, (frozenset({"rat", "giv", "gav", "scor", "deserv", "earn"}),)),
    (_GIVEN, (frozenset({"rat", "giv", "gav", "scor", "overall"}),)),
    (_STAR_RUN, (frozenset(_STAR_SIGNS),)),
    (_ASTERISKS, (frozenset({"*"}),)),
)
_SIGNS = sorted(set().union(*(group for _, groups in _PATTERNS for group in groups)))


def find_rating_phrases(text: str) -> list[tuple[int, int]]:
    """(start, end) of every phrase in the text that states a rating, in order and without overlap.

    A span is the rating alone: of "I would give it 4 because" it is "4", of "worth five stars!" it is "five stars".
    """
    lower = text.lower()
    found = (pattern.finditer(text) for pattern in _patterns(frozenset(sign for sign in _SIGNS if sign in lower)))
    return _merged(
        sorted(
            match.span("rating") if "rating" in match.re.groupindex else match.span()
            for matches in found
            for match in matches
        )
    )


@lru_cache(maxsize=4096)
def _patterns(signs: frozenset[str]) -> list[re.Pattern[str]]:
    """The patterns that may match a text in which these signs stand."""
    return [pattern for pattern, groups in _PATTERNS if not any(signs.isdisjoint(group) for group in groups)]


def has_rating_phrase(headline: str | None, body: str | None) -> bool:
    """Whether a stored headline or body, cleaned as the model reads them, states the rating."""
    return any(find_rating_phrases(clean_html(field or "")) for field in (headline, body))


def is_default_headline(headline: str | None) -> bool:
    """Whether the headline is the one that the shop fills in for a customer who wrote none: "One Star"
    to "Five Stars".
    """
    return headline is not None and headline.strip().casefold() in DEFAULT_HEADLINES


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted spans with those that overlap made one."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged

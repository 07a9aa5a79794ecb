"""Plans and writes one whole synthetic review: its sentences, headline, carelessness, and the causes as they stand in
the text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.sample import headlines, phrases
from jobs.sample.aspects import MIXED, NEGATIVE, POSITIVE, Item
from jobs.sample.grammar import Claim, Composer, Piece, Sentence, capitalised

# How often each construction is the main one of a review: shares that sum to 1 in each polarity.
MIX: dict[str, dict[str, float]] = {
    POSITIVE: {
        "plain": 0.64,
        "negation": 0.13,
        "concession": 0.10,
        "expectation": 0.03,
        "comparison": 0.03,
        "implicit": 0.04,
        "mock complaint": 0.03,
    },
    NEGATIVE: {
        "plain": 0.63,
        "negation": 0.13,
        "concession": 0.11,
        "expectation": 0.03,
        "comparison": 0.03,
        "implicit": 0.04,
        "sarcasm": 0.03,
    },
}

# How often a review ends in a verdict: plain speakers like one, and a concession is clearer with it.
VERDICT_CHANCE = {"plain": 0.65, "concession": 0.7}
PLAIN_HEADLINES = {"neutral": 0.38, "plain": 0.38, "negation": 0.06, "concession": 0.02, "verdict": 0.16}
OTHER_HEADLINES = {"neutral": 0.42, "plain": 0.08, "negation": 0.28, "concession": 0.10, "verdict": 0.12}


@dataclass(frozen=True)
class Cause:
    """A claim as it stands in the written review: `phrase` is exactly characters [char_start, char_end) of `field`."""

    aspect: str
    polarity: str
    construction: str
    field: str
    phrase: str
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Review:
    """A written headline and body. `polarity` is what a reader takes from them, `construction` the main one; causes in
    reading order.
    """

    headline: str
    body: str
    polarity: str
    construction: str
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Roughness:
    """How carelessly a review is written; drawn once a review."""

    is_lower_case: bool
    typo_chance: float
    entities: tuple[tuple[str, str], ...]
    line_break: str

    @classmethod
    def draw(cls, chance: random.Random) -> Roughness:
        entities = [('"', "&#34;")] if chance.random() < 0.5 else []
        entities += [("'", "&#39;")] if chance.random() < 0.03 else []
        entities += [(" and ", " &amp; ")] if chance.random() < 0.05 else []
        return cls(
            is_lower_case=chance.random() < 0.05,
            typo_chance=0.06 if chance.random() < 0.15 else 0.0,
            entities=tuple(entities),
            line_break=chance.choice(["<br />", "<br /><br />"]) if chance.random() < 0.1 else " ",
        )

    def applied(self, text: str, chance: random.Random) -> str:
        if self.typo_chance:
            text = re.sub(r"[A-Za-z']{4,}", lambda word: _typo(word[0], self.typo_chance, chance), text)
        if self.is_lower_case:
            text = text.lower()
        for plain, entity in self.entities:
            text = text.replace(plain, entity)
        return text


def _typo(word: str, probability: float, chance: random.Random) -> str:
    if chance.random() >= probability:
        return word
    if "'" in word:
        return word.replace("'", "")
    place = chance.randrange(1, len(word) - 1)
    swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return chance.choice([swapped, word[:place] + word[place + 1 :], word[:place] + word[place] + word[place:]])


def write_review(
    chance: random.Random, item: Item, polarity: str, stars: int, has_default_headline: bool, focus: Sequence[str] = ()
) -> Review:
    """A review that reads as `polarity`, by someone who gives `stars`. `focus` names aspects that most of its claims
    are about.
    """
    composer = Composer(chance, item, focus)
    rough = Roughness.draw(chance)
    construction = "ambivalence" if polarity == MIXED else _main_construction(chance, polarity, stars)
    sentences = _body(composer, polarity, construction)
    if has_default_headline:
        headline, headline_causes = _default_headline(stars)
    else:
        headline, headline_causes = _written_headline(composer, rough, polarity, construction)
    body, body_causes = _joined([_ended(sentence, chance) for sentence in sentences], rough, chance)
    if chance.random() < 0.012:
        body += " " + chance.choice(phrases.EMOJI[polarity if polarity != MIXED else POSITIVE]) * chance.randint(1, 3)
    return Review(headline, body, polarity, construction, tuple(headline_causes + body_causes))


def without_body(review: Review) -> Review:
    """The same review with an empty body: only the headline's causes are left."""
    causes = tuple(cause for cause in review.causes if cause.field == "headline")
    return Review(review.headline, "", review.polarity, review.construction, causes)


# ---- which sentences ----


def _drawn(chance: random.Random, shares: dict[str, float]) -> str:
    return chance.choices(list(shares), weights=list(shares.values()))[0]


def _main_construction(chance: random.Random, polarity: str, stars: int) -> str:
    if chance.random() < 0.03:
        return "short"
    # A concession costs the fifth star, or saves the second.
    return _drawn(
        chance, MIX[polarity] | {"concession": MIX[polarity]["concession"] * (1.8 if stars in (2, 4) else 0.7)}
    )


def _body(composer: Composer, polarity: str, construction: str) -> list[Sentence]:
    chance = composer.chance
    if construction == "short":
        return [composer.short(polarity)]
    claims = _mixed_claims(composer) if polarity == MIXED else _claims(composer, polarity, construction)
    neutral = (
        chance.randint(12, 35) if chance.random() < 0.015 else chance.choices([0, 1, 2, 3], weights=[20, 40, 30, 10])[0]
    )
    for _ in range(neutral):
        claims.insert(chance.randint(0, len(claims)), composer.neutral())
    return claims


def _claims(composer: Composer, polarity: str, construction: str) -> list[Sentence]:
    chance = composer.chance
    claims = [composer.sentence(polarity, construction)]
    for _ in range(chance.choices([0, 1, 2], weights=[20, 45, 35])[0]):
        further = construction if chance.random() < 0.6 else _drawn(chance, MIX[polarity])
        claims.append(composer.sentence(polarity, further))
    if chance.random() < VERDICT_CHANCE.get(construction, 0.55):
        claims.append(composer.verdict(polarity))
    return claims


def _mixed_claims(composer: Composer) -> list[Sentence]:
    chance = composer.chance
    claims = [composer.sentence(polarity, chance.choice(["plain", "negation"])) for polarity in (POSITIVE, NEGATIVE)]
    if chance.random() < 0.3:
        claims.append(composer.sentence(chance.choice([POSITIVE, NEGATIVE]), "concession"))
    chance.shuffle(claims)
    if chance.random() < 0.7:
        claims.append([Piece(composer.one_of(phrases.SO_SO), Claim("overall", MIXED, "ambivalence"))])
    return claims


# ---- headlines ----


def _default_headline(stars: int) -> tuple[str, list[Cause]]:
    headline = headlines.STAR_HEADLINES[stars]
    polarity = MIXED if stars == 3 else POSITIVE if stars > 3 else NEGATIVE
    return headline, [Cause("overall", polarity, "default headline", "headline", headline, 0, len(headline))]


def _written_headline(
    composer: Composer, rough: Roughness, polarity: str, construction: str
) -> tuple[str, list[Cause]]:
    chance = composer.chance
    piece = _mixed_headline(composer) if polarity == MIXED else _polar_headline(composer, polarity, construction)
    text = rough.applied(piece.text, chance)
    text = (
        capitalised(text)
        if chance.random() < 0.6
        else " ".join(map(capitalised, text.split(" ")))
        if chance.random() < 0.5
        else text
    )
    text += chance.choices(["", "!", "...", "."], weights=[80, 10, 4, 6])[0]
    return _joined_pieces([[Piece(text, piece.claim)]], "headline", " ")


def _mixed_headline(composer: Composer) -> Piece:
    if composer.chance.random() < 0.5:
        return Piece(composer.one_of(headlines.HEADLINE_SO_SO), Claim("overall", MIXED, "ambivalence"))
    return Piece(composer.one_of(headlines.HEADLINE_NEUTRAL))


def _polar_headline(composer: Composer, polarity: str, construction: str) -> Piece:
    kind = _drawn(composer.chance, PLAIN_HEADLINES if construction == "plain" else OTHER_HEADLINES)
    if kind == "neutral":
        return Piece(composer.one_of(headlines.HEADLINE_NEUTRAL))
    return composer.verdict(polarity)[0] if kind == "verdict" else composer.headline(polarity, kind)


# ---- writing ----


def _ended(sentence: Sentence, chance: random.Random) -> Sentence:
    """The sentence with a capital first and a full stop last."""
    first, *rest = sentence
    pieces = [Piece(capitalised(first.text), first.claim), *rest]
    if not pieces[-1].text.endswith((".", "!", "?", '"')):
        pieces.append(Piece(chance.choices([".", "!", "..."], weights=[85, 11, 4])[0]))
    return pieces


def _joined(sentences: list[Sentence], rough: Roughness, chance: random.Random) -> tuple[str, list[Cause]]:
    roughened = [
        [Piece(rough.applied(piece.text, chance), piece.claim) for piece in sentence] for sentence in sentences
    ]
    return _joined_pieces(roughened, "body", rough.line_break)


def _joined_pieces(sentences: list[Sentence], field: str, separator: str) -> tuple[str, list[Cause]]:
    text, causes = "", []
    for sentence in sentences:
        text += separator if text else ""
        for piece in sentence:
            if piece.claim:
                start, end = len(text), len(text) + len(piece.text)
                claim = piece.claim
                causes.append(Cause(claim.aspect, claim.polarity, claim.construction, field, piece.text, start, end))
            text += piece.text
    return text, causes

"""Composes the sentences of synthetic furniture reviews, each piece of a sentence knowing what it claims.

A claim says something good or bad of an aspect, by a construction: plainly, by denying the contrary, by conceding one
thing and insisting on another, and so on. The words are in `jobs.sample.phrases` and `jobs.sample.headlines`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.sample import headlines, phrases
from jobs.sample.aspects import ASPECTS, COMFORT_KINDS, IRREGULAR, NEGATIVE, POSITIVE, Aspect, Content, Item

# Blame that a satisfied customer can concede, and praise that can outweigh it.
FORGIVABLE = ("damage", "missing parts", "assembly", "delivery", "smell", "size", "colour")
OUTWEIGHING = ("durability", "comfort", "value", "service", "size", "colour")

# People say "no wobble" more than "not wobbly", and "not comfortable" more than "no comfort".
NEGATED_FORMS: dict[str, dict[str, float]] = {
    POSITIVE: {"adjective": 0.2, "thing": 0.5, "verb": 0.3},
    NEGATIVE: {"adjective": 0.5, "thing": 0.2, "verb": 0.3},
}


@dataclass(frozen=True)
class Claim:
    """What a phrase says: of which aspect, with which polarity, by which construction."""

    aspect: str
    polarity: str
    construction: str


@dataclass(frozen=True)
class Piece:
    """Some text of a sentence, with its claim where it makes one."""

    text: str
    claim: Claim | None = None


Sentence = list[Piece]


def _tidy(text: str) -> str:
    return re.sub(r"\s+([,.;!?])", r"\1", re.sub(r"\s+", " ", text)).strip()


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _third_and_past(verb: str) -> tuple[str, str]:
    first, _, rest = verb.partition(" ")
    third, past = IRREGULAR.get(first) or (_with_s(first), _with_ed(first))
    return f"{third} {rest}".strip(), f"{past} {rest}".strip()


def _with_s(verb: str) -> str:
    if verb.endswith(("s", "x", "sh", "ch")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def _with_ed(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "ed"


def opposite(polarity: str) -> str:
    return NEGATIVE if polarity == POSITIVE else POSITIVE


class Composer:
    """Writes sentences about one item with one source of chance. `focus` names aspects that most claims are to be
    about.
    """

    def __init__(self, chance: random.Random, item: Item, focus: Sequence[str] = ()) -> None:
        self.chance = chance
        self.item = item
        self.aspects = [aspect for aspect in ASPECTS if aspect.name != "comfort" or item.kind in COMFORT_KINDS]
        self.focus = focus

    # ---- words ----

    def fill(self, template: str, **values: str) -> str:
        """The template with every choice made and every slot filled, by `values` first; `{A}` and `{B}` stay as they
        are.
        """
        while True:
            text = re.sub(r"\[([^\[\]]*)\]", lambda found: self.chance.choice(found[1].split("|")), template)
            text = re.sub(r"\{([\w ]+)\}", lambda found: values.get(found[1]) or self._slot(found[1]), text)
            if text == template:
                return _tidy(text)
            template = text

    def one_of(self, templates: Sequence[str], **values: str) -> str:
        return self.fill(self.chance.choice(templates), **values)

    def _slot(self, name: str) -> str:
        if name in ("A", "B"):
            return "{" + name + "}"
        if name == "item":
            return self.item.name
        if name == "a_item":
            return ("an " if self.item.name[0] in "aeiou" else "a ") + self.item.name
        if name == "part":
            return self.chance.choice(self.item.parts)
        return self.chance.choice(phrases.SLOTS[name])

    def _aspect(self, allowed: Sequence[str] = ()) -> Aspect:
        if self.focus and self.chance.random() < 0.6:
            allowed = self.focus
        return self.chance.choice(
            [aspect for aspect in self.aspects if not allowed or aspect.name in allowed] or self.aspects
        )

    def _values(self, aspect: Aspect, content: Content, is_past: bool = False) -> dict[str, str]:
        adjective, adjective2 = self.chance.sample(content.adjectives, 2)
        thing, thing2 = self.chance.sample(content.things, 2)
        verb = self.chance.choice(content.verbs)
        third, past = _third_and_past(verb)
        is_past = is_past or aspect.is_past
        return {
            "subject": self.chance.choice(aspect.subjects),
            "adjective": adjective,
            "adjective2": adjective2,
            "thing": thing,
            "thing2": thing2,
            "verb": verb,
            "verbs": past if is_past else third,
            "is": "was" if is_past else "is",
            "is not": "wasn't" if is_past else "isn't",
            "does": "did" if is_past else "does",
            "does not": "didn't" if is_past else "doesn't",
        }

    # ---- claims ----

    def _clause(
        self, aspect: Aspect, polarity: str, is_negated: bool, frames: phrases.Forms, is_past: bool = False
    ) -> str:
        """A clause that says `polarity` of the aspect: plainly with words of that polarity, or by denying words of the
        other.
        """
        content = aspect.content(opposite(polarity) if is_negated else polarity)
        form = self._drawn(NEGATED_FORMS[polarity]) if is_negated else self.chance.choice(list(frames))
        return self.one_of(frames[form], **self._values(aspect, content, is_past))

    def _drawn(self, shares: dict[str, float]) -> str:
        return self.chance.choices(list(shares), weights=list(shares.values()))[0]

    def _single(self, polarity: str, construction: str) -> Sentence:
        aspect = self._aspect()
        is_negated = construction == "negation"
        text = self._clause(aspect, polarity, is_negated, phrases.NEGATION if is_negated else phrases.PLAIN)
        return [Piece(text, Claim(aspect.name, polarity, construction))]

    def _side(self, aspect: Aspect, polarity: str, is_past: bool) -> Piece:
        """One side of a concession, itself negated now and then."""
        is_negated = self.chance.random() < 0.35
        text = self._clause(
            aspect, polarity, is_negated, phrases.EMBEDDED_NEGATION if is_negated else phrases.EMBEDDED_PLAIN, is_past
        )
        return Piece(text, Claim(aspect.name, polarity, "concession"))

    def _concession(self, polarity: str) -> Sentence:
        is_in_time = self.chance.random() < 0.45
        if is_in_time:
            conceded = decisive = self._lasting_aspect()
        else:
            forgivable, outweighing = (FORGIVABLE, OUTWEIGHING) if polarity == POSITIVE else (OUTWEIGHING, ())
            decisive = self._aspect(outweighing)
            conceded = self._aspect([name for name in forgivable if name != decisive.name])
        frame = self.one_of(phrases.CONCESSION_IN_TIME if is_in_time else phrases.CONCESSION)
        sides = {
            "{A}": self._side(conceded, opposite(polarity), is_past=is_in_time),
            "{B}": self._side(decisive, polarity, is_past=False),
        }
        return [sides.get(part, Piece(part)) for part in re.split(r"(\{[AB]\})", frame) if part]

    def _lasting_aspect(self) -> Aspect:
        return self._aspect([aspect.name for aspect in self.aspects if not aspect.is_past])

    def _expectation(self, polarity: str) -> Sentence:
        aspect = self._aspect()
        is_denied = self.chance.random() < 0.6
        content = aspect.content(opposite(polarity) if is_denied else polarity)
        values = self._values(aspect, content)
        claim = self.one_of(["{subject} {is} {adjective}", "{subject} {verbs}"], **values)
        frames = phrases.EXPECTATION_DENIED if is_denied else phrases.EXPECTATION_CONFIRMED
        return [Piece(self.one_of(frames, claim=claim), Claim(aspect.name, polarity, "expectation"))]

    def _comparison(self, polarity: str) -> Sentence:
        aspect = self._lasting_aspect()
        is_denied = self.chance.random() < 0.6
        frames = phrases.COMPARISON_DENIED if is_denied else phrases.COMPARISON_CONFIRMED
        form = self.chance.choice(list(frames))
        values = self._values(aspect, aspect.content(opposite(polarity) if is_denied else polarity))
        return [Piece(self.one_of(frames[form], **values), Claim(aspect.name, polarity, "comparison"))]

    def _sarcasm(self) -> Sentence:
        aspect = self._aspect()
        values = {
            "bad_thing": self.chance.choice(aspect.negative.things),
            "bad_verb": self.chance.choice(aspect.negative.verbs),
            "good_adjective": self.chance.choice(aspect.positive.adjectives),
            "good_thing": self.chance.choice(aspect.positive.things),
        }
        return [Piece(self.one_of(phrases.SARCASM, **values), Claim(aspect.name, NEGATIVE, "sarcasm"))]

    def sentence(self, polarity: str, construction: str) -> Sentence:
        """A sentence without its full stop that speaks for (positive) or against (negative) the purchase by this
        construction.
        """
        if construction in ("plain", "negation"):
            return self._single(polarity, construction)
        if construction == "concession":
            return self._concession(polarity)
        if construction == "expectation":
            return self._expectation(polarity)
        if construction == "comparison":
            return self._comparison(polarity)
        if construction == "sarcasm":
            return self._sarcasm()
        frames = phrases.MOCK_COMPLAINT if construction == "mock complaint" else phrases.IMPLICIT[polarity]
        return [Piece(self.one_of(frames), Claim("overall", polarity, construction))]

    def verdict(self, polarity: str) -> Sentence:
        construction = "negation" if self.chance.random() < 0.35 else "plain"
        text = self.one_of(phrases.VERDICT[polarity][construction])
        return [Piece(text, Claim("overall", polarity, construction))]

    def neutral(self) -> Sentence:
        return [Piece(self.one_of(phrases.NEUTRAL))]

    def short(self, polarity: str) -> Sentence:
        """A whole body of a few words."""
        return [Piece(self.one_of(phrases.SHORT_BODY[polarity]), Claim("overall", polarity, "short"))]

    def headline(self, polarity: str, construction: str) -> Piece:
        """A headline that claims something of one aspect: plain, negation or concession."""
        aspect = self._aspect()
        if construction == "concession":
            values = self._values(aspect, aspect.content(polarity))
            conceded = self.chance.choice(aspect.content(opposite(polarity)).adjectives)
            text = self.one_of(headlines.HEADLINE_CONCESSION, conceded=conceded, **values)
        else:
            is_negated = construction == "negation"
            text = self._clause(
                aspect, polarity, is_negated, headlines.HEADLINE_NEGATION if is_negated else headlines.HEADLINE_PLAIN
            )
        return Piece(text, Claim(aspect.name, polarity, construction))

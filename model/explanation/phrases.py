"""Words that stand side by side and push one way, joined into what a person would quote: "fell apart", "not worth"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from model.text.compose import ModelText
from model.text.word_kinds import WordKind

Span = tuple[int, int]

# A word that pushes less than this share of the review's strongest is in no phrase.
_LEAST_SHARE = 0.1
_MOST_WORDS = 4
# Function words that may end a phrase ("fell off"), and those that may hold two words together ("waste of money").
_PARTICLES = frozenset({"away", "back", "down", "off", "out", "over", "up"})
_JOINS = frozenset({"of", "to"})


def find_phrases(
    text: ModelText, words: Sequence[Span], kinds: Sequence[WordKind], attributions: Mapping[Span, float]
) -> dict[Span, str]:
    """The phrase, in lower case, of each word that is in one: of a content word that pushes towards dissatisfied at
    least itself, with those beside it that do so too.

    `words` are all of the text, in order, each with its kind; `attributions` those of the words that the model read.
    """
    least = _LEAST_SHARE * max(attributions.values(), default=0.0)
    found: dict[Span, str] = {}
    run: list[tuple[Span, WordKind]] = []
    for word, kind in [*zip(words, kinds, strict=True), ((-1, -1), "rating")]:
        pushes = kind != "rating" and attributions.get(word, 0.0) > 0 and attributions[word] >= least
        is_beside = bool(run) and text.text[run[-1][0][1] : word[0]].isspace()
        if run and not (pushes and is_beside):
            found |= _phrases_of(text, run)
            run = []
        if pushes:
            run.append((word, kind))
    return found


def _phrases_of(text: ModelText, run: Sequence[tuple[Span, WordKind]]) -> dict[Span, str]:
    """The phrases of words that stand side by side."""
    found = {}
    for part in _parts(text, run):
        start, end = part[0][0], part[-1][1]
        phrase = " ".join(text.text[start:end].lower().split())
        found.update(dict.fromkeys(part, phrase))
    return found


def _parts(text: ModelText, run: Sequence[tuple[Span, WordKind]]) -> Iterator[list[Span]]:
    """Stretches that begin with a content word or a negation, end with a content word or a particle after one, and have
    no other function word within than a join.
    """
    part: list[Span] = []
    last_content = -1  # place in the part of what may end it
    for word, kind in run:
        name = text.text[slice(*word)].lower()
        can_follow = kind in ("content", "negation") or (bool(part) and name in _JOINS | _PARTICLES)
        if not can_follow or len(part) == _MOST_WORDS:
            if last_content >= 0:
                yield part[: last_content + 1]
            part, last_content = [], -1
        if can_follow and (part or name not in _JOINS | _PARTICLES):
            part.append(word)
            if kind == "content" or (last_content == len(part) - 2 >= 0 and name in _PARTICLES):
                last_content = len(part) - 1
    if last_content >= 0:
        yield part[: last_content + 1]

"""What kind of word a word is: does it say something of its own, or only hold others together?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, get_args

from model.text.compose import ModelText
from model.text.rating_phrases import find_rating_phrases

# rating: within a phrase that states the stars. negation: says nothing alone, and turns what follows it. function: an
# article, pronoun, preposition, numeral and the like. content: all others.
WordKind = Literal["rating", "negation", "function", "content"]
WORD_KINDS: tuple[WordKind, ...] = get_args(WordKind)

_NEGATING = "not no never nothing none nobody nor neither nowhere without cannot hardly barely"
_CONTRACTED_NOT = re.compile(r"\w+n't$")
_WITHOUT_APOSTROPHE = """
    aint arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt mustnt shouldnt wasnt werent wont wouldnt
"""
_NEGATIONS = frozenset((_NEGATING + _WITHOUT_APOSTROPHE).split())
_FUNCTION_WORDS = """
    a about above across after again against ago all almost along already also although always am among an and another
    any anyone anything are around as at away be because been before being below between both but by can could did do
    does doing done down during each either else enough even ever every everyone everything few for from further get
    gets getting got had has have having he her here hers herself him himself his how however i if in into is it its
    itself just last least less let like made make many may maybe me mine more most much must my myself near next now of
    off often on once only onto or other others our ours ourselves out over own part per perhaps put quite rather really
    same shall she should since so some someone something soon still such than that the their theirs them themselves
    then there therefore these they thing things this those though through to today together too toward towards under
    until up upon us very via was we well were what whatever when where whether which while who whole whom whose why
    will with within would yes yet you your yours yourself
    zero one two three four five six seven eight nine ten eleven twelve first second third
    i'm i've i'd i'll it's that's there's he's she's we're we've they're they've you're you've you'd you'll im ive
"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_APOSTROPHES = str.maketrans("\u2019\u02bc", "''")


def word_kinds(text: ModelText, words: Sequence[tuple[int, int]]) -> list[WordKind]:
    """The kind of each word, given as a span of the text."""
    ratings = [
        (first + start, first + end)
        for _, first, last in text.fields()
        for start, end in find_rating_phrases(text.text[first:last])
    ]
    return [
        "rating" if any(start < word[1] and word[0] < end for start, end in ratings) else _kind(text.text[slice(*word)])
        for word in words
    ]


def _kind(word: str) -> WordKind:
    plain = word.lower().translate(_APOSTROPHES)
    if plain in _NEGATIONS or _CONTRACTED_NOT.match(plain):
        return "negation"
    says_something = any(unicodedata.category(character)[0] in "LS" for character in plain)  # an emoji does
    return "content" if says_something and plain not in _FUNCTION else "function"

"""How the synthetic reviews head their texts: plain data, composed by `jobs.sample.grammar` (see `jobs.sample.phrases`
for the templates).
"""

from __future__ import annotations

from jobs.sample.aspects import templates
from jobs.sample.phrases import Forms

STAR_HEADLINES = {1: "One Star", 2: "Two Stars", 3: "Three Stars", 4: "Four Stars", 5: "Five Stars"}
HEADLINE_NEUTRAL = templates("""
    {item}
    [my|our] [new|] {item}
    review after {time}
    [bought|ordered] for {room}
    {item} for {room}
    [a few words|my two cents|some notes] on this {item}
    [update|review] from {month}
    [please read|read this first|what you should know]
    {time} [later|of use|in]
""")
HEADLINE_PLAIN: Forms = {
    "adjective": templates("""
        [|very|so|really] {adjective}
        {adjective} {item}
        {adjective} and {adjective2}
    """),
    "thing": templates("""
        {thing}
        {thing} and {thing2}
        [lots of|plenty of] {thing}
    """),
    "verb": templates("""
        {subject} {verbs}
    """),
}
HEADLINE_NEGATION: Forms = {
    "adjective": templates("""
        not {degree} {adjective}
        not {adjective} [at all|in the least|as some say|in any way]
        [far from|anything but|hardly] {adjective}
        neither {adjective} nor {adjective2}
        can't say it is {adjective}
    """),
    "thing": templates("""
        no {thing} [whatsoever|at all|here|]
        [zero|not a trace of|no sign of] {thing}
        neither {thing} nor {thing2}
    """),
    "verb": templates("""
        does not {verb}
        {subject} {does not} {verb}
        {subject} never {verbs}
    """),
}
HEADLINE_CONCESSION = templates("""
    {conceded}, but {adjective}
    {adjective}, though {conceded}
    {conceded}... and yet {adjective}
    {conceded} at first, now {adjective}
    {adjective} now, {conceded} at first
    [first|once] {conceded}, then {adjective}
""")
HEADLINE_SO_SO = templates("""
    [it's|it is] [okay|ok]
    [so-so|average|not sure|mixed feelings|just ok|decent]
    [good and bad|pros and cons|yes and no]
""")

"""How the synthetic reviews praise and blame, conclude and digress: plain data, composed by `jobs.sample.grammar`.

In every template `[a|b|]` is a choice made anew each time and `{name}` a slot.
"""

from __future__ import annotations

from jobs.sample.aspects import NEGATIVE, POSITIVE, templates, words

Forms = dict[str, tuple[str, ...]]

# ---- clauses. Keys are the form of the content: adjective, thing or verb. {is}, {is not} and {does not} follow the
# aspect's tense. ----

PLAIN: Forms = {
    "adjective": templates("""
        {subject} {is} [|very|really|so|truly|quite|just] {adjective}
        {subject} [turned out|proved|proved to be] {adjective}
        I [find|found|consider] {subject} {adjective}
        {subject} {is} {adjective} and {adjective2}
        [everyone|{who}] [says|agrees] that {subject} {is} {adjective}
        {subject} {is} {adjective}, [plain and simple|no question|period|and I mean it]
        {adjective}, that is [the word|how I would put it] for {subject}
    """),
    "thing": templates("""
        [plenty of|lots of|a good deal of] {thing}
        I [noticed|got|found] {thing} [right away|within days|on the first day|from the start]
        {thing} [all around|everywhere I looked|from top to bottom]
        what we got was {thing} and {thing2}
        {who} [noticed|pointed out] the {thing} [at once|before I did]
    """),
    "verb": templates("""
        {subject} {verbs}
        {subject} {verbs} [every time|as {who} can confirm|day after day|from day one]
        [already|indeed|sure enough], {subject} {verbs}
        {subject} [managed|was quick] to {verb}
        after {time}, {subject} {verbs}
    """),
}

NEGATION: Forms = {
    "adjective": templates("""
        {subject} {is} not {degree} {adjective}
        {subject} {is not} {degree} {adjective}
        [definitely|certainly|simply|just] not {adjective}[, {subject}|]
        I found {subject} not {degree} {adjective}
        {subject} {is} not[, {aside},|] {adjective} [at all|in the least|in any way|]
        I [can't|cannot|could not] [say|claim|honestly say|pretend] {subject} {is} {adjective}
        [nobody|no one] [in this house|who tried it|in my family|among our guests] would [ever|] call {subject}
            {adjective}
        {subject} {is} [anything but|far from|hardly|by no means|in no way|nowhere near] {adjective}
        not [for a minute|for one moment|even once] did I find {subject} {adjective}
        [I would not|I'd never|you would not|we could not], {aside}, call {subject} {adjective}
        I have yet to [meet|find] [anyone|a guest|a visitor|one person] who [calls|finds] {subject} {adjective}
        neither {who} nor {who2} [finds|found|would call] {subject} {adjective}
        it would be [wrong|untrue|a lie|a stretch] to [say {subject} {is}|call {subject}] {adjective}
        [{adjective}? not {subject}|{adjective}? not in the least]
        I [doubt|don't believe|refuse to believe] that anyone finds {subject} {adjective}
        {subject} {is} neither {adjective} nor {adjective2}
        [whoever|the person who] [says|wrote that] {subject} {is} {adjective} must have [owned another one|mixed
            something up]
    """),
    "thing": templates("""
        no {thing} [whatsoever|at all|anywhere|to speak of|]
        no {thing}, no {thing2}[, nothing|]
        [I|we] [had|got|saw|noticed|found] no {thing} [at all|]
        [not a trace|not a hint|no sign|not even a bit|not the slightest trace] of {thing}
        I [looked for|expected|was waiting for] {thing} and [found none|got none|saw none]
        I [have not|haven't] [had|seen|noticed], {aside}, any {thing}
        it came without [any|a trace of] {thing}
        zero {thing}
        {thing}? [none|none so far|none that I could find]
        [in {time}|up to now] I have seen neither {thing} nor {thing2}
        where [others|some reviewers] [mention|report] {thing}, I [got|see|have] none
        we did not, {aside}, find any {thing}
        [{who}|I] searched [high and low|everywhere] for {thing} [in vain|without success|and came up empty]
        as for {thing}: [absent|nowhere to be found|that is not something we got]
    """),
    "verb": templates("""
        {subject} {does not} {verb}
        {subject} {does} not, {aside}, {verb}
        {subject} never {verbs}[, {aside}|]
        {subject} {does not} {verb}, [{aside}|period|and that is that]
        [it|this {item}] [won't|will not] {verb}
        not once did {subject} {verb}
        I waited for {subject} to {verb}, and [it never happened|nothing of the sort happened|I am still waiting]
        I have [not|never], {aside}, seen {subject} {verb}
        I [can't|cannot] [say|claim] that {subject} {verbs}
        at no [point|time] did {subject} {verb}
        [nobody|no one] [here|in our house] has [seen|known] {subject} [to|] {verb}
        {subject} [would not|did not want to] {verb}, [{aside}|whatever we tried]
        [it is not true|it is simply wrong] that {subject} {verbs}
    """),
}

# Whole clauses, fit to follow "although".
EMBEDDED_PLAIN: Forms = {
    "adjective": templates("""
        {subject} {is} [|so|quite|truly|very|really|rather] {adjective}
        {subject} {is} {adjective} and {adjective2}
        [I|we|{who}] found {subject} {adjective}
        {subject} [turned out|proved to be] {adjective}
        [everyone|{who}] says {subject} {is} {adjective}
    """),
    "thing": templates("""
        [I|we|{who}] [got|noticed|found] [plenty of|a good deal of|a lot of|] {thing}
        it came with {thing}
        [I|we] had [plenty of|a good deal of|] {thing} and {thing2}
    """),
    "verb": templates("""
        {subject} {verbs}
        {subject} {verbs}[, as {who} can confirm|]
        [I|we|{who}] saw {subject} {verb}
    """),
}
EMBEDDED_NEGATION: Forms = {
    "adjective": templates("""
        {subject} {is} not {degree} {adjective}
        {subject} {is not} {degree} {adjective}
        {subject} {is} [anything but|far from|hardly|by no means|in no way|nowhere near] {adjective}
        [I|you|we] can't [say {subject} {is}|call {subject}] {adjective}
        [nobody|no one|neither {who} nor {who2}] found {subject} {adjective}
        {subject} {is} neither {adjective} nor {adjective2}
    """),
    "thing": templates("""
        [I|we|{who}] [got|noticed|found|had|saw] no {thing} [at all|whatsoever|]
        it came without {thing}
        [I|we] never [got|noticed|found|had] any {thing}
        [I|we] had neither {thing} nor {thing2}
    """),
    "verb": templates("""
        {subject} {does not} {verb}
        {subject} {does} not, {aside}, {verb}
        {subject} never {verbs}
        [I|we|{who}] never saw {subject} {verb}
        [I|we] can't say that {subject} {verbs}
    """),
}

# Somebody said so: the same words before "and they are right" and before "and mine is not".
EXPECTATION_DENIED = templates("""
    [other reviewers|some reviews|people here] [say|claim|write] {claim}; [mine is different|that is not what I
        see|I see the opposite]
    I [was told|had read|expected|figured|assumed] that {claim}[. I was wrong|, which turned out wrong|. Not
        so|, but no]
    [the salesman|{who}|my neighbor] [swore|warned me|told me|bet] that {claim}. [Well, that was|That turned out
        to be] [wrong|a mistake]
    [the listing|the description|the first review] made me think that {claim}; [nothing of the kind|far from
        it|reality is the opposite]
    you may read that {claim}; [don't believe it|that is false|I disagree|I have to contradict]
    to those who [say|think] that {claim}: [no|not here|not in my experience]
""")
EXPECTATION_CONFIRMED = templates("""
    [other reviewers|some reviews|people here] [say|claim|write] {claim}; [mine is no different|that is just
        what I see|I see the same]
    I [was told|had read|expected|figured|assumed] that {claim}[. I was not wrong|, which turned out right|.
        Just so|, and yes]
    [the salesman|{who}|my neighbor] [swore|warned me|told me|bet] that {claim}. [Well, that was|That turned out
        to be] [right|no mistake]
    [the listing|the description|the first review] made me think that {claim}; [exactly that|not far from
        it|reality is no different]
    you may read that {claim}; [believe it|that is not false|I don't disagree|I can't contradict]
    to those who [doubt|deny] that {claim}: [oh yes|it does happen|in my experience it is so]
""")
COMPARISON_DENIED: Forms = {
    "adjective": templates("""
        [my old|our last|the previous] {item} was {adjective}; [this one is not|this one is the opposite|not this one]
        [my old|our last] {item} was {adjective}, which can't be said of this one
        unlike [my old|our last|the previous] one, which was {adjective}, this [{item}|one] [is a different story|isn't]
        [my sister's|{who}'s|the store's] {item} is {adjective}. [Ours is not|Not ours|Ours is the contrary]
    """),
    "thing": templates("""
        [my old|our last|the previous] {item} had {thing}; [this one has none|this one doesn't|not this one]
        with [my old|our last|the previous] one I had {thing} and {thing2}; [gone|none of that now|now I have neither]
    """),
    "verb": templates("""
        [my old|our last|the previous] {item} used to {verb}; [this one does not|this one never did|not this one]
        unlike [my old|our last|the previous] one, which would {verb}, this [{item}|one] [is a different
            story|never did]
        [my sister's|{who}'s] {item} would {verb} [every week|all the time]. [Ours does not|Ours never has|Not ours]
    """),
}
COMPARISON_CONFIRMED: Forms = {
    "adjective": templates("""
        [my old|our last|the previous] {item} was {adjective}; [so is this one|this one is no different|this one
            is not a bit different]
        [my old|our last] {item} was {adjective}, which can also be said of this one
        like [my old|our last|the previous] one, which was {adjective}, this [{item}|one] [is the same story|is too]
        [my sister's|{who}'s|the store's] {item} is {adjective}. [Ours is too|Not only hers, ours too|Ours is no
            exception]
    """),
    "thing": templates("""
        [my old|our last|the previous] {item} had {thing}; [this one has it again|this one does too|not only
            that one, this one as well]
        with [my old|our last|the previous] one I had {thing} and {thing2}; [same again|the same now|now I have
            both again]
    """),
    "verb": templates("""
        [my old|our last|the previous] {item} used to {verb}; [this one does too|this one always did|not only
            that one, so does this]
        like [my old|our last|the previous] one, which would {verb}, this [{item}|one] [is the same story|always did]
        [my sister's|{who}'s] {item} would {verb} [every week|all the time]. [Ours does too|Ours has from the
            start|Not only hers, ours too]
    """),
}

# {A} is conceded, {B} decides. Both orders occur with each kind of connector.
CONCESSION = templates("""
    {A}, but {B}
    {A}, yet {B}
    although {A}, {B}
    even though {A}, {B}
    while {A}, {B}
    {B}, although {A}
    {B}, even though {A}
    {B}, though [granted|admittedly|I admit] {A}
    granted, {A}, but {B}
    yes, {A}; still, {B}
    to be fair, {A}; however, {B}
    it is true that {A}; what [counts|matters] to me is that {B}
    what [counts|matters] to me is that {B}, not that {A}
    never mind that {A}: {B}
    that {A} [is beside the point|hardly matters|changes nothing], because {B}
    {B}; that {A} [is beside the point|hardly matters|changes nothing]
    I could [overlook|forget|leave aside] that {A}; I can't [overlook|forget|leave aside] that {B}
    I can't [overlook|forget] that {B}, whereas I could [overlook|forget] that {A}
    for all that {A}, {B}
""")
CONCESSION_IN_TIME = templates("""
    {A} [at first|for the first {time}|when it was new|to begin with], but now {B}
    [now|after {time}|these days] {B}, although {A} [at first|when it was new|for a week]
    [at first|in the first week|right out of the box] {A}. [Then|After {time}|Since {month}] {B}
    {B} [now|by now|these days]. [At first|To begin with|When it was new] {A}
    it took {time} to change from "{A}" to "{B}"
    what started as "{A}" [is now|became|ended as] "{B}"
    "{B}" is what I say now; [a week ago|{time} ago|at first] it was "{A}"
""")

SARCASM = templates("""
    [great|wonderful|fantastic|brilliant|lovely], {a_item} that likes to {bad_verb}
    [just|exactly] what I [always wanted|needed|was dreaming of]: {bad_thing}
    [thanks|thank you|many thanks] for the {bad_thing}, [it really made my week|much appreciated|a lovely
        touch|what a treat]
    perfect [if you enjoy|for anyone who loves|for fans of|if your hobby is] {bad_thing}
    I simply love {bad_thing}, [don't you|who doesn't|it adds character]
    my compliments to the genius who taught {a_item} to {bad_verb}
    [beautiful|excellent|top] craftsmanship, if the goal was to {bad_verb}
    {good_adjective}, they said. [Sure|Right|Of course], and I am the queen of England
    ten out of ten for {bad_thing}, [a true masterpiece|well done|bravo]
    who needs {good_thing} when you can have {bad_thing}
    so {good_adjective} that it had to {bad_verb}. [Impressive|Well done|Bravo]
    a [lovely|splendid|delightful] way to learn what {bad_thing} [looks|feels] like
""")
MOCK_COMPLAINT = templates("""
    my [only|one] complaint is that [{who} never lets me near it|I did not buy two|I did not find it sooner|I
        only bought one]
    [warning|be warned]: you will [want one for every room|fight over it|end up buying a second one|want to
        replace everything else in {room}]
    bad news for [my old {item}|the store downtown|the expensive brands]: they can't compete
    the worst thing about it is that [I waited so long|they sell out so fast|I did not buy it last year|guests
        refuse to leave]
    I hate to admit it, {who} was right [about this one|to insist on it|all along]: we should have done this years ago
    the problem is that now [everything else in {room} looks shabby|{who} wants one too|I have no excuse to stay
        at work]
    the sad part: [I have to share it|it makes the rest of {room} look old|{who} took it over at once]
    [terrible|awful] for my plans: I [spent the whole day rearranging the house around it|can't stop showing it
        to people]
    it is a disaster for my [productivity|bank account]: I already ordered [a second|another|one for {who}]
""")
IMPLICIT: Forms = {
    POSITIVE: templates("""
        [we|I] [have ordered|ordered|just ordered] [a second one|another|two more|one more for {room}]
        [{who}|my neighbor] [asked|wanted to know] where [we|I] got it
        [the cat|the dog|{who}] has [claimed it|moved in on it] and will not give it back
        {who} [sits|spends the evening|hangs out] there [all the time|every night] now
        guests [keep asking about it|think it came from a designer shop|guess twice the price]
        [two|three|five] years and [two|three] moves later it [looks the way it did on day one|is still in daily use]
        it has become [the favorite spot in the house|{who}'s favorite place|the place everybody heads for]
        the old one went to the curb [the same day|within the hour|without a second thought]
        {who} [smiled|grinned] from ear to ear [when it stood in {room}|that evening|and still does]
        I [put aside|cancelled] the plan to go [to the big store|shopping for another]
        we are telling [all our friends|everybody at work|the whole family] to get one
        {who} sent pictures of it to the whole family [the same evening|before dinner]
        it is the first thing people compliment in {room}
    """),
    NEGATIVE: templates("""
        [we|I] [have sent it back|am sending it back|boxed it up again|filed for a return]
        [{who}|my neighbor] [asked|wanted to know] why [we|I] keep it
        [the cat|the dog|{who}] took one look and went back to the floor
        everything is back on the floor [again|since {month}|as before]
        guests [keep asking if it is safe|think it came from the curb|guess a tenth of the price]
        [two|three|five] weeks and [two|three] repairs later it [stands in the garage|waits for the trash truck]
        it has become [firewood|the most expensive plant stand I own|a coat rack in the garage]
        the old one came back from the curb [the same day|within the hour|after one evening]
        {who} [sighed|shook his head] [when it stood in {room}|that evening|and still does]
        I [put aside|cancelled] the plan to buy [the matching set|the second one]
        we are telling [all our friends|everybody at work|the whole family] what happened to us
        {who} spent the evening with [wood glue and clamps|duct tape|a borrowed drill]
        it went straight to the [curb|dump|basement]
        I am writing this [from the hospital|next to a pile of boards|while on hold]
    """),
}

VERDICT: dict[str, dict[str, tuple[str, ...]]] = {
    POSITIVE: {
        "plain": templates("""
            I would[, knowing what I know now,|, any day,|] buy it again
            [I|we] [love|like|adore] [it|this {item}]
            [I am|we are] [happy|pleased|glad|satisfied] [with it|with the purchase|that we bought it]
            I [recommend|gladly recommend] it to [anyone|my friends|everybody]
            [worth every penny|a great buy|well worth it|money well spent]
            [great|excellent|wonderful|awesome|fantastic|perfect|amazing] [product|{item}|buy|purchase][,
                really|, thank you|]
            [very|so|really|more than] [happy|pleased|satisfied|impressed] with [it|this purchase|our new {item}]
            [best|nicest|finest] {item} [I have|we ever] owned
            [keeping|loving] it
            it [exceeded|beat] [my|our] expectations
        """),
        "negation": templates("""
            I [don't|do not] regret [it|buying it] [for a minute|at all|one bit]
            no [complaints|regrets|disappointment] [here|from us|whatsoever]
            I would not[, {aside},|] [return|part with|send back] it
            [I am|we are] not [disappointed|sorry|unhappy] [at all|in the least|with it]
            I can't[, {aside},|] complain
            you [won't|will not] be [disappointed|sorry|let down]
            don't [hesitate|worry|let the bad reviews stop you]
            I could not [be happier|ask for more|recommend it more]
            I nearly returned it and I am glad I did not
            nothing to [complain about|dislike|send back]
        """),
    },
    NEGATIVE: {
        "plain": templates("""
            I would[, knowing what I know now,|, any day,|] send it back
            [I|we] [regret|hate|dislike] [it|this {item}]
            [I am|we are] [unhappy|disappointed|sorry|let down] [with it|with the purchase|that we bought it]
            I [warn|will warn] [anyone|my friends|everybody] about it
            [a waste of money|a bad buy|save your money|money thrown away]
            [terrible|horrible|awful|lousy|dreadful|poor|disappointing] [product|{item}|buy|purchase][, really|,
                no thank you|]
            [very|so|really|more than] [unhappy|annoyed|dissatisfied|frustrated] with [it|this purchase|our new {item}]
            [worst|ugliest|sorriest] {item} [I have|we ever] owned
            [returning|hating] it
            it [fell short of|missed] [my|our] expectations
        """),
        "negation": templates("""
            I [don't|do not] recommend [it|buying it] [for a minute|at all|one bit]
            no [recommendation|praise|love] [here|from us|whatsoever]
            I would not[, {aside},|] [buy|keep|recommend] it [again|]
            [I am|we are] not [happy|pleased|satisfied] [at all|in the least|with it]
            I can't[, {aside},|] recommend it
            you [won't|will not] be [happy|pleased|satisfied]
            don't [bother|buy it|let the good reviews fool you]
            I could not [be less happy|wait to send it back|recommend it less]
            I nearly returned it and I am sorry I did not
            nothing to [recommend|like|write home about]
        """),
    },
}
SO_SO = templates("""
    it is [okay|ok|so-so|average|fine I guess|decent], [nothing more|no better and no worse|for what it is]
    I am [torn|on the fence|of two minds] about [it|this {item}]
    [some good, some bad|part of me likes it, part of me does not|I neither love it nor hate it]
    [three stars|middle of the road] [seems fair|from me|it is]
    [might keep it, might not|it will do for now|good enough for {room}, no more]
""")

# ---- what means nothing for the verdict, though praise and blame words occur in it ----

NEUTRAL = templates("""
    I [bought|ordered|got] this for {room} [{time} ago|last {season}|in {month}]
    it replaced {an_old} {item} [from college|I got from {who}|that had served for years]
    we moved to [a small apartment|a new house|another city] in {month}
    it sits [between the window and the door|next to the lamp|against the far wall] in {room}
    I am {height} and weigh about {pounds} pounds
    {who} [picked the color|put it together|chose this one|found it online]
    the box weighed about {pounds} pounds and [two of us carried it|stood in the hall|fitted in the car]
    I looked at [a dozen|five|many] others before [this one|I ordered]
    [the dining set|a matching lamp|the rug] came from another [store|seller]
    I measured {inches} from wall to wall [first|twice|with {who}]
    the {part} is {inches} [wide|deep|high]
    I [used|took] [a drill|a rubber mallet|my own screwdriver|an electric screwdriver] for the [bolts|cam
        locks|last steps]
    I broke my [leg|wrist] in {month}, so {who} [did the lifting|ordered it for me]
    my back has been bad since {month}
    [we have|there are] [two cats|a dog|three kids|a toddler] in the house
    I rarely write reviews [online|on this site|at all]
    I hate [shopping for furniture|crowded stores|parking downtown]
    we love [our little apartment|the neighborhood|that room]
    the old {item} had fallen apart [after twenty years|in {month}|when we moved]
    {who}'s {item} was damaged in [a flood|a move|the storm]
    I was looking for something [cheap and cheerful|sturdy but small|simple|solid for {room}]
    [my landlord|my boss|the guy next door] [is never happy|complains about everything|is a lovely man]
    the [tv|lamp|laptop|printer] I put on it weighs about {pounds} pounds
    it [stands|has stood] there since {month}
    this is [an honest|my honest|a quick] review after {time}
    [paid|we paid] [around|about] {pounds} dollars [on sale|with the coupon|plus shipping]
    {who} uses it [for homework|on weekends|in the morning|while on the phone]
    the photos show it [next to a plant|in a bright room|from the front only]
    I read [all the reviews|the questions and answers|the description twice] [before|beforehand]
    [easy|hard] to say how it compares with [the one in the store|{who}'s {item}]
""")

SLOTS: Forms = {
    "who": words(
        "my wife, my husband, our teenage son, my mother, my father-in-law, my roommate, our daughter, my best friend,"
        " grandma, my brother, the babysitter, my boyfriend, my girlfriend, an old friend, my neighbor, uncle Ray, my"
        " grandson, a colleague"
    ),
    "who2": words("I, my sister, our guests, the kids, anybody else, the twins, my parents, the neighbors"),
    "room": words(
        "the living room, my office, the guest room, our bedroom, the den, the kitchen, the basement, the sunroom, my"
        " daughter's room, the entryway, our cabin, the dorm room, the playroom, my studio, the waiting room, the"
        " garage office, the reading corner"
    ),
    "time": words(
        "two weeks, three weeks, a month, two months, three months, half a year, six months, a year, two years, ten"
        " days, four weeks, a whole summer, one winter, five months, eighteen months, a few weeks, several months"
    ),
    "month": words("January, February, March, April, May, June, July, August, September, October, November, December"),
    "season": words("spring, summer, fall, winter, Christmas, Easter, Thanksgiving"),
    "degree": (
        *("",) * 12,
        *words(
            "really, very, even remotely, at all, what I would call, exactly, the least bit, by any stretch, as far as"
            " I can see, one bit"
        ),
    ),
    "aside": templates("""
        even after {time}
        even with {who} [on it|around|at it] [every day|all evening]
        with [two dogs|three kids|a house full of guests] [in the house|around]
        as far as I can [tell|see|judge]
        [in|after] all this time
        whatever the [box|listing|salesman] [says|promises]
        and I [looked|checked|asked] twice
        despite what {who} [says|predicted|told me]
        contrary to [the reviews|what I had read|the photos]
        to this day
        with the best will in the world
        [honestly|frankly|in all honesty]
    """),
    "height": ("5'2", "5'6", "5'9", "6'1", "6'3", "six feet", "just over five feet"),
    "pounds": tuple(str(pounds) for pounds in range(35, 290, 5)),
    "inches": (
        *(f'{inches}"' for inches in range(14, 80, 3)),
        "about four feet",
        "six feet and a bit",
        "thirty inches",
    ),
    "an_old": ("an old", "a worn", "a wooden", "a second-hand", "a very heavy", "a hand-me-down"),
}

# ---- bodies of a few words ----

SHORT_BODY: Forms = {
    POSITIVE: templates("""
        [great|nice|lovely|good|beautiful|excellent|wonderful] {item}[!|.|, thanks.]
        [love|loves|loving] [it|this {item}|my new {item}][!|.|!!]
        [just|exactly] [as described|what {room} needed|as pictured|what we wanted].
        [not bad|can't complain|no complaints|no regrets][ at all|] [about this {item}|so far|after {time}].
        {who} [loves|likes] [it|the {item}][!|.|, and so do I.]
    """),
    NEGATIVE: templates("""
        [poor|bad|terrible|awful|ugly|lousy|horrible] {item}[!|.|, no thanks.]
        [hate|hated|returning] [it|this {item}|my new {item}][!|.|!!]
        [not|hardly] [as described|like the picture|as pictured|what we wanted].
        [not good|can't recommend|no praise|no use][ at all|] [for this {item}|so far|after {time}].
        {who} [hates|dislikes] [it|the {item}][!|.|, and so do I.]
    """),
}
EMOJI: Forms = {
    POSITIVE: ("👍", "😀", "❤️", "🪑", "😍", "🙂"),
    NEGATIVE: ("👎", "😡", "🤦‍♀️", "🪑", "😞", "🙄"),
}

"""What can be praised and blamed about which furniture in the synthetic reviews: plain data, composed by
`jobs.sample.grammar`.

Each aspect says the same things with praise and with blame, so that only a construction's negator or connector, never a
word alone, tells which of the two a review means. `{name}` is a slot that the grammar fills.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

POSITIVE = "positive"
NEGATIVE = "negative"
MIXED = "mixed"


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def templates(text: str) -> tuple[str, ...]:
    """One template a line; a line that is indented deeper goes on with the one before."""
    found: list[str] = []
    for line in filter(None, textwrap.dedent(text).splitlines()):
        if line[0].isspace():
            found[-1] += f" {line.strip()}"
        else:
            found.append(line.strip())
    return tuple(found)


@dataclass(frozen=True)
class Content:
    """What can be said of an aspect with one polarity: adjectives after "is", things after "no", verbs in their base
    form.
    """

    adjectives: tuple[str, ...]
    things: tuple[str, ...]
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Aspect:
    """An aspect of a purchase.

    `is_past`: it is over once the parcel is unpacked, so that it is told in the past tense.
    """

    name: str
    subjects: tuple[str, ...]
    positive: Content
    negative: Content
    is_past: bool = False

    def content(self, polarity: str) -> Content:
        return self.positive if polarity == POSITIVE else self.negative


@dataclass(frozen=True)
class Item:
    """A sort of furniture and the parts that can be named in a review of it."""

    name: str
    kind: str
    parts: tuple[str, ...]


_NAMES_BY_KIND = {
    "seat": words(
        "office chair, dining chair, recliner, sofa, bar stool, rocking chair, futon, accent chair, loveseat"
    ),
    "storage": words("bookcase, dresser, tv stand, nightstand, shoe rack, filing cabinet, wardrobe, sideboard"),
    "table": words("coffee table, desk, dining table, end table, folding table, console table, vanity"),
    "bed": words("bed frame, daybed, bunk bed, platform bed, toddler bed"),
}
_PARTS_BY_KIND = {
    "seat": words(
        "left armrest, right armrest, backrest, base, seat cushion, front leg, gas lift, frame, back leg, footrest"
    ),
    "storage": words(
        "top drawer, bottom drawer, back panel, left door, right door, middle shelf, top shelf, side panel, hinge,"
        " drawer slide"
    ),
    "table": words(
        "table top, front leg, crossbar, center brace, edge banding, extension leaf, back leg, apron, corner bracket"
    ),
    "bed": words(
        "headboard, footboard, center rail, slat, side rail, center leg, middle support, corner joint, ladder"
    ),
}
ITEMS: tuple[Item, ...] = tuple(
    Item(name, kind, _PARTS_BY_KIND[kind]) for kind, names in _NAMES_BY_KIND.items() for name in names
)

DURABILITY = Aspect(
    "durability",
    templates("""
        it
        the {item}
        this {item}
        the {part}
        the frame
        the whole thing
    """),
    Content(
        words(
            "sturdy, solid, rock solid, durable, stable, strong, well made, tight as on day one, steady, built like a"
            " tank, robust, rigid"
        ),
        words("strength, stability, solid joints, real wood, heavy steel, staying power, backbone, sturdiness"),
        words(
            "hold up, stay tight, last, stand firm, keep its shape, take a beating, stay level, hold my weight, stay"
            " together, feel solid"
        ),
    ),
    Content(
        words(
            "flimsy, wobbly, rickety, shaky, worn out, loose, crooked, fragile, weak, unstable, broken, falling apart,"
            " coming loose"
        ),
        words(
            "wobble, wobbling, creaking, loose joints, cracks, play in the joints, squeaking, sway, wear, rattling,"
            " splitting wood"
        ),
        words(
            "fall apart, wobble, break, crack, come loose, squeak, snap off, buckle, give way, lean to one side,"
            " collapse, creak, bend, tip over"
        ),
    ),
)
COMFORT = Aspect(
    "comfort",
    templates("""
        it
        the {item}
        this {item}
        the padding
        the cushioning
        the foam
    """),
    Content(
        words(
            "comfortable, cozy, supportive, easy on the back, well padded, plush, soft, comfy, relaxing, pleasant for"
            " hours, gentle on my hips"
        ),
        words("back support, cushioning, comfort, thick padding, softness, lumbar support, spring, bounce"),
        words(
            "support my back, stay soft, fit my spine, take the weight off my hips, feel cozy, invite a nap, let me"
            " relax, bounce back"
        ),
    ),
    Content(
        words(
            "uncomfortable, lumpy, stiff, hard, saggy, tiring, painful, thin, hard as a board, flat as a pancake,"
            " bumpy, scratchy, a pain"
        ),
        words(
            "sagging, back ache, pressure points, hard spots, numb legs, lumps, stiffness, neck pain, bumps, back pain"
        ),
        words(
            "sag, flatten, bottom out, dig into my legs, hurt my back, sink in the middle, go flat, cut off my"
            " circulation, poke me, itch"
        ),
    ),
)
DAMAGE = Aspect(
    "damage",
    templates("""
        it
        the {item}
        the {part}
        the box
        the finish
        the carton
        every panel
    """),
    Content(
        words(
            "intact, undamaged, flawless, spotless, in one piece, in perfect condition, clean, well protected,"
            " unharmed, free of marks"
        ),
        words("protective foam, corner protectors, bubble wrap, careful packing, padding in the box, strong cardboard"),
        words(
            "arrive in one piece, survive the trip, come well wrapped, look brand new, show up in perfect shape, reach"
            " us unharmed"
        ),
    ),
    Content(
        words(
            "cracked, scratched, dented, chipped, broken, splintered, gouged, bent, torn, crushed, damaged, scuffed,"
            " warped, ripped open"
        ),
        words("scratches, dents, cracks, chips, damage, tears, gouges, splinters, bent corners, broken pieces, scuffs"),
        words(
            "arrive broken, come with a crack, show up bent, turn up chipped, arrive damaged, come scratched, reach us"
            " dented, split in the mail"
        ),
    ),
    is_past=True,
)
MISSING_PARTS = Aspect(
    "missing parts",
    templates("""
        the kit
        the hardware pack
        the bag of screws
        the package
        the set of bolts
        the box of parts
    """),
    Content(
        words("complete, all there, accounted for, neatly labelled, well sorted, full, well counted"),
        words("spare screws, extra bolts, labelled bags, complete hardware, spare cam locks, dowels to spare"),
        words(
            "include everything, contain every bolt, come complete, have all the pieces, match the parts list, hold all"
            " the screws"
        ),
    ),
    Content(
        words(
            "incomplete, missing, short of screws, half empty, lost, missing two bolts, mixed up, empty, one dowel"
            " short"
        ),
        words(
            "missing screws, missing bolts, gaps in the parts list, wrong screws, missing pieces, missing hardware,"
            " lost dowels"
        ),
        words(
            "lack the bolts, come without screws, leave out the allen key, run short of dowels, miss a panel, skip half"
            " the parts"
        ),
    ),
    is_past=True,
)
ASSEMBLY = Aspect(
    "assembly",
    templates("""
        assembly
        the assembly
        the build
        putting it together
        the set-up
        every step
    """),
    Content(
        words(
            "easy, simple, quick, painless, straightforward, a breeze, self-explanatory, clear, easy to follow, child's"
            " play, logical, fun"
        ),
        words("clear pictures, labelled parts, pre-drilled holes, clear steps, good drawings, plain English"),
        words(
            "make sense, go smoothly, take ten minutes, go quickly, leave me smiling, work on the first try, need one"
            " person only"
        ),
    ),
    Content(
        words(
            "difficult, confusing, a nightmare, frustrating, impossible, tricky, unclear, a puzzle, hard, slow,"
            " exhausting, useless, a headache"
        ),
        words(
            "swearing, misaligned holes, guesswork, stripped screws, confusion, trouble, wrong drawings, crooked holes,"
            " extra drilling"
        ),
        words(
            "take all day, drive me crazy, need three people, strip the screws, end in tears, drag on for hours, fail"
            " at step four"
        ),
    ),
    is_past=True,
)
SMELL = Aspect(
    "smell",
    templates("""
        it
        the {item}
        the foam
        the finish
        the fabric
        the inside
    """),
    Content(
        words(
            "odorless, fresh, free of fumes, clean-smelling, neutral to the nose, pleasant-smelling, safe for sensitive"
            " noses"
        ),
        words("fresh air, clean scent, scent of fresh wood, natural smell, low-odor glue"),
        words("smell clean, smell like fresh wood, air out overnight, suit my allergies, smell of nothing, stay fresh"),
    ),
    Content(
        words("smelly, musty, stinky, rank, moldy, full of fumes, toxic, chemical, sour, nauseating, foul"),
        words("chemical smell, odor, fumes, stink, mold, formaldehyde smell, glue smell, stench, gassing"),
        words(
            "smell of glue, stink up the room, reek of chemicals, give me a headache, smell like a tire, make my eyes"
            " water, smell musty"
        ),
    ),
)
SIZE = Aspect(
    "size",
    templates("""
        it
        the {item}
        this {item}
        the whole thing
    """),
    Content(
        words(
            "the right size, big enough, true to the measurements, roomy, perfect for {room}, spacious, generous,"
            " ideal, just right, as stated"
        ),
        words("leg room, space to spare, storage space, elbow room, head room, clearance"),
        words(
            "fit {room}, match the dimensions, leave room to walk, fit through the door, suit tall people, save space,"
            " fit like a glove"
        ),
    ),
    Content(
        words(
            "too small, tiny, too low, oversized, cramped, too wide, short, narrow, made for dolls, bulky, too big for"
            " {room}, undersized"
        ),
        words("wasted space, cramped corners, size problems, wrong measurements, bumped knees"),
        words(
            "block the door, take over the room, stick out into the hallway, crowd {room}, hit the wall, leave my knees"
            " at my chin"
        ),
    ),
)
COLOUR = Aspect(
    "colour",
    templates("""
        the color
        the stain
        the finish
        the fabric
        the shade
        it
    """),
    Content(
        words(
            "rich, true to the photo, warm, even, gorgeous, beautiful, elegant, as pictured, lovely, tasteful, vivid,"
            " pretty"
        ),
        words("depth, shine, color that matches, grain you can see, warmth, charm"),
        words(
            "match the photo, go with the room, look elegant, look like real oak, hide every stain, keep its shine,"
            " suit {room}"
        ),
    ),
    Content(
        words("faded, blotchy, off, dull, orange, garish, patchy, uneven, ugly, washed out, streaky, gaudy, muddy"),
        words("fading, blotches, discoloration, streaks, peeling, spots, stains, ugly patches, uneven paint"),
        words(
            "fade, rub off on clothes, clash with everything, peel, bleed, look cheap, look orange, turn yellow, flake,"
            " streak"
        ),
    ),
)
DELIVERY = Aspect(
    "delivery",
    templates("""
        delivery
        the delivery
        the shipment
        the driver
        the carrier
        shipping
    """),
    Content(
        words("fast, on time, ahead of schedule, prompt, careful, quick, reliable, early, right on schedule, smooth"),
        words("tracking updates, friendly calls, white glove treatment, careful handling, firm dates"),
        words(
            "arrive on time, come early, keep the promised date, call ahead, carry it upstairs, take care of the box,"
            " reach us in two days"
        ),
    ),
    Content(
        words(
            "late, slow, weeks behind, careless, rude, delayed, a mess, unreliable, sloppy, overdue, lost for a week"
        ),
        words("delays, delivery trouble, rescheduling, waiting, late calls, excuses from the carrier, lost boxes"),
        words(
            "arrive late, dump it in the rain, leave it at the wrong house, miss the date, drop the box, show up at"
            " midnight, vanish for a week"
        ),
    ),
    is_past=True,
)
SERVICE = Aspect(
    "service",
    templates("""
        customer service
        the seller
        support
        the manufacturer
        the store
        the help desk
    """),
    Content(
        words("helpful, responsive, polite, quick to answer, generous, friendly, honest, kind, fair, patient"),
        words("help, apologies, replacements, straight answers, prompt replies, understanding, goodwill"),
        words(
            "answer the phone, send a replacement, refund me, make it right, reply the same day, care, keep its word,"
            " stand behind the product"
        ),
    ),
    Content(
        words(
            "rude, useless, unreachable, clueless, dismissive, slow to answer, dishonest, unhelpful, stubborn, evasive"
        ),
        words("runarounds, excuses, hassle, back and forth, finger pointing, arguments, restocking fees, rudeness"),
        words(
            "ignore my emails, blame me, hang up on me, charge a restocking fee, argue, refuse a refund, pass me"
            " around, close my ticket"
        ),
    ),
    is_past=True,
)
VALUE = Aspect(
    "value",
    templates("""
        it
        the {item}
        this {item}
        this purchase
    """),
    Content(
        words(
            "worth the money, a bargain, fairly priced, a steal, worth every penny, a good deal, good value, money well"
            " spent, reasonable"
        ),
        words("value for the money, quality for the price, savings, quality, craftsmanship"),
        words(
            "justify the price, feel like quality, beat the store models, pay for itself, look expensive, deserve its"
            " price, feel worth it"
        ),
    ),
    Content(
        words(
            "overpriced, a waste of money, cheaply made, a rip-off, junk, cheap, too expensive, poor quality, garbage,"
            " a bad deal"
        ),
        words("buyer's remorse, corner cutting, cheap plastic, particle board, hidden costs, wasted money, regret"),
        words(
            "feel cheap, look like a toy, cost too much, belong in the trash, look like cardboard, feel like plastic,"
            " insult the buyer"
        ),
    ),
)

ASPECTS: tuple[Aspect, ...] = (
    DURABILITY,
    COMFORT,
    DAMAGE,
    MISSING_PARTS,
    ASSEMBLY,
    SMELL,
    SIZE,
    COLOUR,
    DELIVERY,
    SERVICE,
    VALUE,
)
COMFORT_KINDS = ("seat", "bed")

# Base forms whose other forms do not follow the rule: (third person, past).
IRREGULAR: dict[str, tuple[str, str]] = {
    "hold": ("holds", "held"),
    "stand": ("stands", "stood"),
    "keep": ("keeps", "kept"),
    "take": ("takes", "took"),
    "feel": ("feels", "felt"),
    "fall": ("falls", "fell"),
    "break": ("breaks", "broke"),
    "come": ("comes", "came"),
    "snap": ("snaps", "snapped"),
    "give": ("gives", "gave"),
    "bend": ("bends", "bent"),
    "tip": ("tips", "tipped"),
    "fit": ("fits", "fit"),
    "let": ("lets", "let"),
    "sag": ("sags", "sagged"),
    "dig": ("digs", "dug"),
    "hurt": ("hurts", "hurt"),
    "sink": ("sinks", "sank"),
    "go": ("goes", "went"),
    "cut": ("cuts", "cut"),
    "show": ("shows", "showed"),
    "split": ("splits", "split"),
    "have": ("has", "had"),
    "leave": ("leaves", "left"),
    "run": ("runs", "ran"),
    "skip": ("skips", "skipped"),
    "make": ("makes", "made"),
    "drive": ("drives", "drove"),
    "strip": ("strips", "stripped"),
    "drag": ("drags", "dragged"),
    "stick": ("sticks", "stuck"),
    "hit": ("hits", "hit"),
    "hide": ("hides", "hid"),
    "rub": ("rubs", "rubbed"),
    "bleed": ("bleeds", "bled"),
    "drop": ("drops", "dropped"),
    "send": ("sends", "sent"),
    "hang": ("hangs", "hung"),
    "beat": ("beats", "beat"),
    "pay": ("pays", "paid"),
    "cost": ("costs", "cost"),
    "say": ("says", "said"),
    "buy": ("buys", "bought"),
}

"""The rows of a synthetic corpus: who rates which product when, with how many stars, and in which words."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, timedelta

from jobs.sample.aspects import ITEMS, MIXED, NEGATIVE, POSITIVE, Item, words
from jobs.sample.review import Review, without_body, write_review

FIRST_DAY = date(2005, 1, 1)
LAST_DAY = date(2015, 8, 31)
# Reviews of a month over those of the month before, as a growth rate: puts 11% of all rows into the last four months.
MONTHLY_GROWTH = 0.0291
DEFAULT_HEADLINES_SINCE = date(2014, 7, 1)
DROP_DAY = date(2015, 3, 1)
DROP_ASPECTS = ("durability", "damage")
# The falling product's share of all reviews with 1-2 stars, and of the rest: it turns from better than others to far
# worse.
DROP_SHARES_BEFORE, DROP_SHARES_AFTER = (0.012, 0.02), (0.12, 0.01)

DISSATISFIED_SHARE, THREE_STAR_SHARE = 0.16, 0.08
ONE_STAR_SHARE, FIVE_STAR_SHARE = 0.6, 0.78  # of the dissatisfied, of the satisfied
DUPLICATE_SHARE = 0.033
CORRECTED_SHARE = 0.001
# Ratings at odds with their text: some who are glad mix the scale up, and fewer complain under five stars. Together 2%
# of labelled rows.
NOISE_AMONG_DISSATISFIED, NOISE_AMONG_SATISFIED = 0.035, 0.013

_BRANDS = words(
    "Alderby, Brenmoor, Castwick, Dunhaven, Elmsworth, Farrowdale, Gildenhall, Harrowby, Inglemere, Jessamore, Kestrow,"
    " Norbeck"
)
_MATERIALS = words(
    "Oak, Walnut, Faux Leather, Solid Pine, Bonded Leather, Metal, Velvet, Mid-Century, Rustic, Compact, Linen,"
    " Upholstered"
)
_COLOURS = words("Black, Dark Brown, Cherry, White, Grey, Navy, Natural, Espresso, Honey Oak, Charcoal, Cream")
_ID_CHARACTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class Product:
    """A made-up product."""

    product_id: str
    product_parent: str
    title: str
    item: Item


@dataclass(frozen=True)
class Row:
    """One version of a review as it is written. Rows are written in order of `place`, newest day first."""

    review_id: str
    customer_id: str
    product: Product
    category: str
    stars: int
    intended_stars: int
    votes: tuple[int, int]
    is_vine: bool
    is_verified: bool
    text: Review
    day: date
    place: tuple[int, float, int]
    is_duplicate_text: bool = False
    is_superseded: bool = False

    @property
    def is_label_noise(self) -> bool:
        return self.stars != self.intended_stars

    def fields(self) -> list[str]:
        """The 15 columns of the raw file, in its order."""
        return [
            "US",
            self.customer_id,
            self.review_id,
            self.product.product_id,
            self.product.product_parent,
            self.product.title,
            self.category,
            str(self.stars),
            str(self.votes[0]),
            str(self.votes[1]),
            "Y" if self.is_vine else "N",
            "Y" if self.is_verified else "N",
            self.text.headline,
            self.text.body,
            self.day.isoformat(),
        ]


def polarity_of(stars: int) -> str:
    return MIXED if stars == 3 else POSITIVE if stars > 3 else NEGATIVE


class RowMaker:
    """Draws rows from one source of chance. `products[0]` is the one whose quality drops on DROP_DAY."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.products = _products(chance)
        self._popularity = [1 / (3 + rank) for rank in range(1, len(self.products))]
        self._review_ids: set[str] = set()

    def corpus(self, count: int) -> list[Row]:
        """`count` rows with distinct review ids, oldest first, duplicates of earlier texts among them."""
        rows: list[Row] = []
        by_stars: defaultdict[int, list[Row]] = defaultdict(list)
        for day, stars in zip(_days(self.chance, count), _stars(self.chance, count), strict=True):
            row = self.row(day, stars)
            if by_stars[stars] and self.chance.random() < DUPLICATE_SHARE:
                row = _with_text_of(self.chance.choice(by_stars[stars][-200:]), row)
            by_stars[stars].append(row)
            rows.append(row)
        return rows

    def row(self, day: date, stars: int, product: Product | None = None) -> Row:
        """A new review of that day with that many stars, of `product` or one drawn."""
        chance = self.chance
        intended = self._intended(stars)
        product = product or self._product(day, stars)
        has_fallen = product is self.products[0] and day >= DROP_DAY and intended < 3
        review = write_review(
            chance,
            product.item,
            polarity_of(intended),
            stars,
            self._has_default_headline(day),
            DROP_ASPECTS if has_fallen else (),
        )
        total_votes = 0 if chance.random() < 0.7 else int(chance.expovariate(0.2 if stars < 3 else 0.4)) + 1
        return Row(
            review_id=self._review_id(),
            customer_id=str(chance.randrange(90_000_000, 99_999_999)),
            product=product,
            category=chance.choices(["Furniture", "furniture", "FURNITURE"], weights=[90, 8, 2])[0],
            stars=stars,
            intended_stars=intended,
            votes=(chance.randint(0, total_votes), total_votes),
            is_vine=chance.random() < 0.01,
            is_verified=chance.random() < 0.85,
            text=without_body(review) if chance.random() < 0.0015 else review,
            day=day,
            place=(-day.toordinal(), chance.random(), 1),
        )

    def earlier_version(self, row: Row, is_same_day: bool) -> Row:
        """What `row` corrects: another rating and text under its review id, days before it or before it on the same
        day.
        """
        day = row.day if is_same_day else max(FIRST_DAY, row.day - timedelta(days=self.chance.randint(3, 120)))
        earlier = self.row(day, self.chance.randint(1, 5), row.product)
        place = (row.place[0], row.place[1], 0) if day == row.day else earlier.place
        return replace(earlier, review_id=row.review_id, customer_id=row.customer_id, place=place, is_superseded=True)

    def _intended(self, stars: int) -> int:
        if stars < 3 and self.chance.random() < NOISE_AMONG_DISSATISFIED:
            return self.chance.choice([4, 5])
        if stars > 3 and self.chance.random() < NOISE_AMONG_SATISFIED:
            return self.chance.choice([1, 2])
        return stars

    def _product(self, day: date, stars: int) -> Product:
        shares = DROP_SHARES_AFTER if day >= DROP_DAY else DROP_SHARES_BEFORE
        share = shares[0] if stars < 3 else shares[1]
        return (
            self.products[0]
            if self.chance.random() < share
            else self.chance.choices(self.products[1:], weights=self._popularity)[0]
        )

    def _has_default_headline(self, day: date) -> bool:
        return self.chance.random() < (0.35 if day >= DEFAULT_HEADLINES_SINCE else 0.002)

    def _review_id(self) -> str:
        while True:
            review_id = "RS" + "".join(self.chance.choices(_ID_CHARACTERS, k=12))
            if review_id not in self._review_ids:
                self._review_ids.add(review_id)
                return review_id


def _with_text_of(other: Row, row: Row) -> Row:
    return replace(
        row, product=other.product, intended_stars=other.intended_stars, text=other.text, is_duplicate_text=True
    )


def _products(chance: random.Random) -> list[Product]:
    products = []
    for number in range(240):
        item = ITEMS[number % len(ITEMS)]
        words = (chance.choice(_BRANDS), chance.choice(_MATERIALS), item.name.title(), chance.choice(_COLOURS))
        products.append(
            Product(f"FURN{number:06d}", str(700_000_000 + number // 2), "{} {} {}, {}".format(*words), item)
        )
    return products


def _days(chance: random.Random, count: int) -> list[date]:
    """`count` days in order, each month holding exactly its share (largest remainders) of a steadily growing volume."""
    months = [date(year, month, 1) for year in range(FIRST_DAY.year, LAST_DAY.year + 1) for month in range(1, 13)]
    months = [month for month in months if month <= LAST_DAY]
    weights = [math.exp(MONTHLY_GROWTH * number) for number in range(len(months))]
    expected = [count * weight / sum(weights) for weight in weights]
    counts = [int(number) for number in expected]
    by_remainder = sorted(range(len(months)), key=lambda number: counts[number] - expected[number])
    for number in by_remainder[: count - sum(counts)]:
        counts[number] += 1
    days = []
    for month, rows in zip(months, counts, strict=True):
        length = ((month + timedelta(days=32)).replace(day=1) - month).days
        days += [month + timedelta(days=chance.randrange(length)) for _ in range(rows)]
    return sorted(days)


def _stars(chance: random.Random, count: int) -> list[int]:
    """`count` ratings in random order, of each exactly its share."""
    dissatisfied, three = round(count * DISSATISFIED_SHARE), round(count * THREE_STAR_SHARE)
    satisfied = count - dissatisfied - three
    one, five = round(dissatisfied * ONE_STAR_SHARE), round(satisfied * FIVE_STAR_SHARE)
    stars = [1] * one + [2] * (dissatisfied - one) + [3] * three + [4] * (satisfied - five) + [5] * five
    chance.shuffle(stars)
    return stars

"""`reviewrisk sample`: synthetic furniture reviews in the raw 15-column TSV, and beside it what causes each rating.

No row is a real review. The file is as untidy as a real one: markup, typos, duplicate texts, corrected reviews, broken
lines. Its side file tells the truth of every row, so that ingest, models and explanations can be held to it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from jobs.lake.schemas import RAW_COLUMNS
from jobs.sample.rows import CORRECTED_SHARE, DROP_DAY, LAST_DAY, Row, RowMaker
from model.errors import ReviewriskError

BROKEN_SHARE = 0.003
# Named as ingest names the reasons in rejected_reviews.
BROKEN_KINDS = (
    "too_few_fields",
    "bad_review_date",
    "bad_star_rating",
    "not_utf8",
    "too_many_fields",
    "bad_review_id",
    "blank_line",
)
MINIMUM_ROWS = 500


@dataclass(frozen=True)
class QualityDrop:
    """The product whose quality drops: shares of 1-2 stars among its reviews with 1, 2, 4 or 5, before `day` and from
    then on.
    """

    product_id: str
    product_title: str
    day: str
    reviews_before: int
    reviews_after: int
    dissatisfied_share_before: float
    dissatisfied_share_after: float


@dataclass(frozen=True)
class SampleSummary:
    """What was written. `lines` = `rows` (reviews, in their latest version) + `superseded_lines` + all of
    `broken_lines`.
    """

    target: Path
    causes: Path
    seed: int
    lines: int
    rows: int
    superseded_lines: int
    broken_lines: dict[str, int]
    stars: dict[int, int]
    label_noise_rows: int
    duplicate_text_rows: int
    default_headline_rows: int
    constructions: dict[str, int]
    first_date: str
    last_date: str
    quality_drop: QualityDrop

    def __str__(self) -> str:
        """The summary for people, in a few lines."""
        dissatisfied = (self.stars[1] + self.stars[2]) / self.rows
        drop = self.quality_drop
        parts = [
            (
                f"{self.target}: {self.rows:,} synthetic reviews, {self.first_date} to {self.last_date},"
                f" {dissatisfied:.1%} with 1 or 2 stars"
            ),
            (
                f"  lines after the header: {self.lines:,} = {self.rows:,} reviews + {self.superseded_lines} corrected"
                f" later + {sum(self.broken_lines.values())} broken"
                f" ({', '.join(f'{kind} {count}' for kind, count in self.broken_lines.items())})"
            ),
            (
                f"  rating at odds with the text: {self.label_noise_rows:,}; copies of another text:"
                f" {self.duplicate_text_rows:,}; default headlines: {self.default_headline_rows:,}"
            ),
            (
                f"  quality of {drop.product_id} ({drop.product_title}) drops on {drop.day}:"
                f" {drop.dissatisfied_share_before:.0%} dissatisfied of {drop.reviews_before} before,"
                f" {drop.dissatisfied_share_after:.0%} of {drop.reviews_after} from then on"
            ),
            f"  what causes each rating: {self.causes}",
        ]
        return "\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The summary without the folder that it was written to."""
        return asdict(self) | {"target": self.target.name, "causes": self.causes.name}


@dataclass(frozen=True)
class _Line:
    """A line of the file without its end, where it belongs, and the row or the kind of break that it is."""

    place: tuple[int, float, int]
    content: bytes
    row: Row | None = None
    broken: str | None = None


def run_sample(target: Path, rows: int = 20_000, seed: int = 17) -> SampleSummary:
    """What was written: `rows` reviews into `target` (.tsv or .tsv.gz) and one JSON object a line into
    `<name>.causes.jsonl` beside it.

    Each object but the last stands for one readable line of the file (`line`, the header being line 1): the rating
    written and the one intended, the main construction, whether a later version of the review supersedes it, and its
    causes, each the literal phrase with its characters [char_start, char_end) in the stored headline or body. The last
    object, `{"summary": ...}`, is the SampleSummary, in which broken lines are counted by kind. The same arguments give
    the same bytes.

    Raises ReviewriskError where `target` is not a .tsv or .tsv.gz file, or `rows` is too small for every split to hold
    both classes.
    """
    causes = _causes_path(target)
    if rows < MINIMUM_ROWS:
        raise ReviewriskError(
            f"{rows} rows are too few for splits that each hold both classes; ask for {MINIMUM_ROWS} or more."
        )
    chance = random.Random(seed)  # noqa: S311 - invented reviews need no secrecy
    maker = RowMaker(chance)
    latest = maker.corpus(rows)
    corrected = chance.sample(latest, max(2, round(rows * CORRECTED_SHARE)))
    earlier = [maker.earlier_version(row, is_same_day=number % 2 == 0) for number, row in enumerate(corrected)]
    lines = [_Line(row.place, "\t".join(row.fields()).encode(), row=row) for row in latest + earlier]
    lines += _broken_lines(maker, round(rows * BROKEN_SHARE))
    lines.sort(key=lambda line: line.place)
    summary = _summary(target, causes, seed, lines, maker)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write_causes(causes, lines, summary)
    _write_reviews(target, lines)
    return summary


def _causes_path(target: Path) -> Path:
    for suffix in (".tsv.gz", ".tsv"):
        if target.name.endswith(suffix) and target.name != suffix:
            return target.with_name(target.name.removesuffix(suffix) + ".causes.jsonl")
    raise ReviewriskError(f"Cannot write reviews to {target}: name a file that ends in .tsv or .tsv.gz.")


# ---- broken lines ----


def _broken_lines(maker: RowMaker, count: int) -> list[_Line]:
    """`count` lines that no reader may accept, of each kind as many as of the others, give or take one."""
    kinds = [BROKEN_KINDS[number % len(BROKEN_KINDS)] for number in range(count)]
    rows = [
        maker.row(date.fromordinal(LAST_DAY.toordinal() - maker.chance.randrange(2000)), maker.chance.randint(1, 5))
        for _ in kinds
    ]
    return [
        _Line(row.place, _broken(row, kind, maker.chance), broken=kind) for row, kind in zip(rows, kinds, strict=True)
    ]


def _broken(row: Row, kind: str, chance: random.Random) -> bytes:
    fields = row.fields()
    if kind == "blank_line":
        return b""
    if kind == "too_few_fields":
        fields = fields[: chance.randint(3, 14)]
    elif kind == "too_many_fields":
        fields.insert(13, "a stray tab")
    elif kind == "bad_review_id":
        fields[2] = ""
    elif kind == "bad_review_date":
        fields[14] = chance.choice(["2014-02-30", "2015-13-01", "8/31/2015", "yesterday", ""])
    elif kind == "bad_star_rating":
        fields[7] = chance.choice(["0", "6", "five", "-1", ""])
    elif kind == "not_utf8":
        # Latin-1, as an export from an old system would have it.
        fields[13] = "Une chaise achetée à Québec. " + fields[13].encode("ascii", "ignore").decode()
        return "\t".join(fields).encode("latin-1")
    return "\t".join(fields).encode()


# ---- the truth beside the file ----


def _summary(target: Path, causes: Path, seed: int, lines: list[_Line], maker: RowMaker) -> SampleSummary:
    rows = [line.row for line in lines if line.row and not line.row.is_superseded]
    broken = Counter(line.broken for line in lines if line.broken)
    stars = Counter(row.stars for row in rows)
    constructions = Counter(row.text.construction for row in rows)
    return SampleSummary(
        target=target,
        causes=causes,
        seed=seed,
        lines=len(lines),
        rows=len(rows),
        superseded_lines=sum(1 for line in lines if line.row and line.row.is_superseded),
        broken_lines={kind: broken[kind] for kind in BROKEN_KINDS},
        stars={star: stars[star] for star in range(1, 6)},
        label_noise_rows=sum(row.is_label_noise for row in rows),
        duplicate_text_rows=sum(row.is_duplicate_text for row in rows),
        default_headline_rows=sum(
            any(cause.construction == "default headline" for cause in row.text.causes) for row in rows
        ),
        constructions=dict(sorted(constructions.items())),
        first_date=min(row.day for row in rows).isoformat(),
        last_date=max(row.day for row in rows).isoformat(),
        quality_drop=_quality_drop(rows, maker),
    )


def _quality_drop(rows: list[Row], maker: RowMaker) -> QualityDrop:
    product = maker.products[0]
    labelled = [row for row in rows if row.product is product and row.stars != 3]
    before = [row.stars < 3 for row in labelled if row.day < DROP_DAY]
    after = [row.stars < 3 for row in labelled if row.day >= DROP_DAY]
    shares = [round(sum(part) / len(part), 4) if part else 0.0 for part in (before, after)]
    return QualityDrop(product.product_id, product.title, DROP_DAY.isoformat(), len(before), len(after), *shares)


def _truth(number: int, row: Row) -> dict[str, Any]:
    """What the side file says of the row on line `number`."""
    return {
        "line": number,
        "review_id": row.review_id,
        "star_rating": row.stars,
        "intended_stars": row.intended_stars,
        "is_label_noise": row.is_label_noise,
        "polarity": row.text.polarity,
        "construction": row.text.construction,
        "is_duplicate_text": row.is_duplicate_text,
        "is_superseded": row.is_superseded,
        "causes": [asdict(cause) for cause in row.text.causes],
    }


# ---- files ----


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes `path`'s place once it is whole."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        yield file
    partial.replace(path)


def _write_reviews(target: Path, lines: list[_Line]) -> None:
    content = b"".join(line + b"\n" for line in ["\t".join(RAW_COLUMNS).encode(), *(line.content for line in lines)])
    with _replacing(target) as file:
        # No name and no time in the archive: the same rows give the same bytes.
        file.write(gzip.compress(content, compresslevel=6, mtime=0) if target.suffix == ".gz" else content)


def _write_causes(path: Path, lines: list[_Line], summary: SampleSummary) -> None:
    with _replacing(path) as file:
        for number, line in enumerate(lines, start=2):
            if line.row:
                file.write(json.dumps(_truth(number, line.row), ensure_ascii=False).encode() + b"\n")
        file.write(json.dumps({"summary": summary.to_json()}, ensure_ascii=False).encode() + b"\n")

"""Raw files of invented reviews as long as real ones: what the benchmarks read where nobody gives them a file."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

from jobs.lake.schemas import RAW_COLUMNS
from jobs.sample.rows import RowMaker

FIRST_DAY, DAYS = date(2015, 9, 1), 365  # after those of `reviewrisk sample`
DIFFERENT_TEXTS = 3000
# Characters of a body: a log-normal distribution with the quartiles of real reviews (119, 205, 350).
MEDIAN_LENGTH, LENGTH_SPREAD, LONGEST = 205, 0.8, 8000


def write_reviews(target: Path, rows: int, seed: int = 1) -> Path:
    """`target` with so many invented reviews, made of the sentences of a few thousand."""
    generator = random.Random(seed)  # noqa: S311 - invented reviews need no secrecy
    made = RowMaker(generator).corpus(DIFFERENT_TEXTS)
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(RAW_COLUMNS) + "\n")
        for number in range(rows):
            row = generator.choice(made)
            fields = dict(zip(RAW_COLUMNS, row.fields(), strict=True))
            fields["review_id"] = f"R{seed:03d}{number:09d}"
            fields["review_date"] = str(FIRST_DAY + timedelta(days=generator.randrange(DAYS)))
            length = min(LONGEST, int(generator.lognormvariate(0, LENGTH_SPREAD) * MEDIAN_LENGTH))
            body = row.text.body
            while len(body) < length:
                body += " " + generator.choice(made).text.body
            fields["review_body"] = body[:length].replace("\t", " ").replace("\n", " ")
            file.write("\t".join(fields.values()) + "\n")
    return target

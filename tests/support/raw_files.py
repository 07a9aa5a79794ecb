"""Raw review files for the tests: a base row and overrides, as invented by us."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import zstandard

from jobs.lake.schemas import RAW_COLUMNS

HEADER = "\t".join(RAW_COLUMNS)
BASE = {
    "marketplace": "US",
    "customer_id": "11",
    "review_id": "R1",
    "product_id": "P1",
    "product_parent": "77",
    "product_title": "oak stool",
    "product_category": "Furniture",
    "star_rating": "5",
    "helpful_votes": "0",
    "total_votes": "1",
    "vine": "N",
    "verified_purchase": "Y",
    "review_headline": "Sturdy",
    "review_body": "Holds me well.",
    "review_date": "2015-01-10",
}


def line(**overrides: str) -> str:
    """One raw line: the base row with some fields replaced."""
    return "\t".join({**BASE, **overrides}[name] for name in RAW_COLUMNS)


def write_source(path: Path, lines: list[str | bytes], header: str = HEADER, end: str = "\n") -> Path:
    """Write a source, compressed as its ending says."""
    body = b"".join((text if isinstance(text, bytes) else text.encode()) + end.encode() for text in [header, *lines])
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.ZstdCompressor().compress}.get(
        path.suffix, bytes
    )
    path.write_bytes(pack(body))
    return path


def corpus(rows_per_split: int = 4) -> list[str]:
    """Lines with both classes in train (2014), validation (January 2015) and test (May 2015)."""
    days = {"2014-06": "train", "2015-01": "validation", "2015-05": "test"}
    return [
        line(
            review_id=f"{split}-{i}",
            star_rating=str(1 + 4 * (i % 2)),
            review_date=f"{month}-{10 + i:02d}",
            review_body=f"text {split} {i}",
        )
        for month, split in days.items()
        for i in range(rows_per_split)
    ]

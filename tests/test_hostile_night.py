"""A night of rows made to break things: each is stored as written or refused with a reason, and gets a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.query import open_warehouse
from jobs.nightly import run_nightly
from tests.support.raw_files import line, write_source
from tests.support.trained_root import by_id

# Bodies that are valid: what is stored is what was written, and a score or a reason comes of each.
VALID = [
    "'; drop table reviews; --",
    '" or "1"="1',
    "$(rm -rf ~) `reboot` ${HOME} %PATH%",
    "{{ config(materialized='table') }} {% raw %}",
    "<script>alert(1)</script>",
    "<br /><br /><br />",
    "&lt;b&gt; &amp;amp; &#0; &#x110000; &nosuch;",
    "=cmd|' /C calc'!A0",
    "@sum(1+1)*cmd|' /C calc'!A0",
    "-2+3",
    "null",
    "NULL",
    "\\N",
    "NaN",
    "inf",
    "true",
    "0",
    "1e309",
    "\u202egnidaer desrever\u202c",
    "\u200b\u200b\u200b",
    "\ufeffbyte order mark first",
    "a\u0000b",
    "bell \x07 escape \x1b[31mred\x1b[0m",
    "line\u2028separator paragraph\u2029separator",
    "next\u0085line",
    "vertical\x0btab form\x0cfeed",
    "e\u0301 and é",
    "ﬁ ligature ｆｕｌｌｗｉｄｔｈ",
    "Z\u0351\u036b\u0313\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e"
    "\u0320\u034dA\u0334\u0335\u031c\u0330\u0354\u036b\u0357\u0362L\u0320\u0368\u0367\u0369\u0358G\u0334"
    "\u033b\u0348\u034d\u0354\u0339\u0311\u0357\u030e\u0305\u035b\u0301\u01ea\u0335\u0339\u033b\u031d"
    "\u0333\u0342\u030c\u030c\u0358!\u0356\u032c\u0330\u0319\u0317\u033f\u030b\u0365\u0365\u0302\u0363"
    "\u0310\u0301\u0301\u035c\u035e",
    "👨‍👩‍👧‍👦🏳️‍🌈🇺🇸",
    "𝕿𝖍𝖊 𝕮𝖍𝖆𝖎𝖗",
    "שלום עולם",
    "مرحبا بالعالم",
    "椅子坏了，很失望",
    "เก้าอี้พัง",
    "x" * 30_000,
    "broke " * 8_000,
    "!?!?!?" * 2_000,
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "##ing ##ed ##s",
    "C:\\temp\\new\\file.tsv",
    "../../../../etc/passwd",
    "file:///etc/passwd http://127.0.0.1:1/",
    "(",
    "   ",
    "​",
]
REFUSED = {
    "bad-stars": {"star_rating": "٥"},
    "bad-date": {"review_date": "2015-02-30"},
    "bad-votes": {"helpful_votes": "99999999999"},
}


def test_a_night_of_hostile_rows(spark: Any, trained: Config, tmp_path: Path) -> None:
    """46 bodies, each in a review of its own with a hostile title and headline, and three lines that are none."""
    assert len(VALID) == 46
    config = trained.model_copy(update={"ingest": trained.ingest.model_copy(update={"max_rejected_share": 0.5})})
    lines = [
        line(
            review_id=f"hostile-{place}",
            review_date="2015-09-15",
            review_headline=body[:40],
            review_body=body,
            product_title=body[:60],
            product_id=f"P'{place}\"",
            star_rating=str(1 + place % 5),
        )
        for place, body in enumerate(VALID)
    ]
    refused = [line(review_id=name, **fields) for name, fields in REFUSED.items()]
    source = write_source(tmp_path / "hostile.tsv", [*lines, *refused])
    summary = run_nightly(config, [str(source)], lambda _: None, lambda _: None)
    assert (summary.accepted, summary.rejected, summary.superseded) == (46, 3, 0)
    stored = {name: row for name, row in by_id(tables.read_arrow(config.root, "reviews")).items() if "hostile" in name}
    assert {name: row["review_body"] for name, row in stored.items()} == {
        f"hostile-{place}": body for place, body in enumerate(VALID)
    }
    rejected = tables.read_arrow(config.root, "rejected_reviews").to_pylist()
    mine = {row["raw_line"]: row["reason"] for row in rejected if row["source_file"] == "hostile.tsv"}
    assert mine == dict(zip(refused, ("bad_star_rating", "bad_review_date", "bad_helpful_votes"), strict=True))
    scores = [
        row for row in tables.read_arrow(config.root, "review_scores").to_pylist() if "hostile" in row["review_id"]
    ]
    assert len(scores) == 46
    assert all((row["probability"] is None) == (row["error"] is not None) for row in scores)
    assert all(row["probability"] is None or 0 < row["probability"] < 1 for row in scores)
    with open_warehouse(config.root) as warehouse:
        titles = warehouse.execute("select product_id, product_title from dim_products where product_id like 'P''%'")
        assert dict(titles.fetchall()) == {f"P'{place}\"": body[:60] for place, body in enumerate(VALID)}

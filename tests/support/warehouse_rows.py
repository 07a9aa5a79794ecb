"""Small invented tables for the tests of SQL, dbt, queries and the report: a base row of each table, plus what a test
changes of it.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from jobs.lake.schemas import TABLES
from tests import ROOT

Row = dict[str, Any]
CHAMPION = "minilm-aaaaaaaaaaaa"
RETIRED = "minilm-bbbbbbbbbbbb"
CHECKSUM = "c0ffee00" * 8
WRITTEN_AT = datetime.datetime(2015, 9, 1, 3, tzinfo=datetime.UTC)
SPLITS = {
    "train": (None, datetime.date(2015, 4, 30)),
    "validation": (datetime.date(2015, 5, 1), datetime.date(2015, 5, 31)),
    "test": (datetime.date(2015, 6, 1), datetime.date(2015, 7, 31)),
    "live": (datetime.date(2015, 8, 1), None),
}


def split_of(date: datetime.date) -> str:
    return next(name for name, (_, last) in SPLITS.items() if last is None or date <= last)


def review(review_id: str, **changes: Any) -> Row:
    date = changes.get("review_date", datetime.date(2015, 6, 10))
    row = {
        "marketplace": "US",
        "customer_id": "C1",
        "review_id": review_id,
        "product_id": "SOFA",
        "product_parent": "1",
        "product_title": "Grey sofa",
        "product_category": "Furniture",
        "star_rating": 5,
        "helpful_votes": 0,
        "total_votes": 1,
        "vine": False,
        "verified_purchase": True,
        "review_headline": "Sturdy",
        "review_body": "Stands in the hall since May.",
        "review_date": date,
        "split": split_of(date),
        "review_month": date.replace(day=1),
        "text_hash": f"hash-{review_id}",
        "source_checksum": CHECKSUM,
        "source_order": 1,
        "source_line": 2,
        "ingested_at": WRITTEN_AT,
        "run_id": "run-ingest",
    }
    return row | changes


def source(**changes: Any) -> Row:
    row = {
        "source_checksum": CHECKSUM,
        "source_file": "furniture.tsv",
        "source_bytes": 9000,
        "source_order": 1,
        "rows_read": 91,
        "rows_accepted": 90,
        "rows_rejected": 1,
        "rows_superseded": 0,
        "first_review_date": datetime.date(2015, 4, 1),
        "last_review_date": datetime.date(2015, 8, 30),
        "ingested_at": WRITTEN_AT,
        "run_id": "run-ingest",
    }
    return row | changes


def rejected(**changes: Any) -> Row:
    row = {
        "ingest_id": CHECKSUM[:16],
        "source_checksum": CHECKSUM,
        "source_file": "furniture.tsv",
        "source_line": 17,
        "reason": "bad_star_rating",
        "detail": "six",
        "raw_line": "US\tC1\tR17\t…",
        "raw_line_base64": None,
        "run_id": "run-ingest",
    }
    return row | changes


def split(name: str, **changes: Any) -> Row:
    first, last = SPLITS[name]
    return {"split": name, "first_date": first, "last_date": last, "origin": "given", "run_id": "run-ingest"} | changes


def model(model_version: str = CHAMPION, **changes: Any) -> Row:
    row = {
        "model_version": model_version,
        "status": "champion",
        "trained_at": WRITTEN_AT,
        "promoted_at": WRITTEN_AT,
        "score_since": None,
        "backbone": "bundled:minilm",
        "backbone_revision": "sha256:0123456789ab",
        "pooling": "mean",
        "max_length": 256,
        "lora_rank": 16,
        "lora_alpha": 32.0,
        "lora_targets": "all-linear",
        "trainable_parameters": 1_000_000,
        "total_parameters": 23_000_000,
        "calibration": "isotonic",
        "data_version": "data-1",
        "train_rows": 36,
        "validation_rows": 18,
        "test_rows": 18,
        "row_filter": None,
        "test_auc": 0.99,
        "test_average_precision": 0.95,
        "test_f1": 0.9,
        "test_ece": 0.01,
        "test_brier": 0.03,
        "test_log_loss": 0.1,
        "baseline_auc": 0.97,
        "baseline_f1": 0.85,
        "test_f1_low": 0.88,
        "test_f1_high": 0.92,
        "f1_gain": 0.05,
        "f1_gain_low": 0.02,
        "f1_gain_high": 0.08,
        "beats_baseline": True,
        "test_f1_ratings_masked": 0.87,
        "test_ece_debiased": 0.01,
        "promotion_reason": None,
        "bundle_path": f"models/{model_version}",
        "bundle_checksum": "b" * 64,
        "run_id": "run-train",
    }
    return row | changes


def threshold(model_version: str = CHAMPION, threshold_name: str = "f1_max", **changes: Any) -> Row:
    row = {
        "model_version": model_version,
        "threshold_name": threshold_name,
        "threshold": 0.5,
        "is_default": threshold_name == "f1_max",
        "is_active": True,
        "precision": 0.9,
        "recall": 0.8,
        "f1": 0.85,
        "flagged_share": 0.2,
        "precision_low": 0.85,
        "precision_high": 0.95,
        "recall_low": 0.75,
        "recall_high": 0.85,
        "flagged_share_low": 0.18,
        "flagged_share_high": 0.22,
        "purpose": "greatest F1 of the dissatisfied class",
        "run_id": "run-train",
    }
    return row | changes


def route(route_value: str = "kitchen", model_version: str = RETIRED, **changes: Any) -> Row:
    row = {
        "route_column": "product_category",
        "route_value": route_value,
        "model_version": model_version,
        "set_at": WRITTEN_AT,
        "run_id": "run-score",
    }
    return row | changes


def score(review_id: str, **changes: Any) -> Row:
    row = {
        "model_version": CHAMPION,
        "review_id": review_id,
        "review_month": datetime.date(2015, 6, 1),
        "text_hash": f"hash-{review_id}",
        "logit": -2.0,
        "raw_probability": 0.12,
        "probability": 0.1,
        "token_count": 12,
        "is_truncated": False,
        "has_rating_phrase": False,
        "engine": "torch",
        "precision": "float32",
        "error": None,
        "scored_at": WRITTEN_AT,
        "run_id": "run-score",
    }
    return row | changes


def attribution(review_id: str, attribution_rank: int = 1, **changes: Any) -> Row:
    row = {
        "model_version": CHAMPION,
        "review_id": review_id,
        "review_month": datetime.date(2015, 6, 1),
        "text_hash": f"hash-{review_id}",
        "attribution_rank": attribution_rank,
        "word": "Broken",
        "field": "headline",
        "char_start": 0,
        "char_end": 6,
        "attribution": 1.0 / max(attribution_rank, 1),
        "word_kind": "content",
        "phrase": "broken",
        "method": "integrated_gradients",
        "nodes": 16,
        "convergence_delta": 0.01,
        "is_converged": True,
        "error": None,
        "explained_at": WRITTEN_AT,
        "run_id": "run-explain",
    }
    return row | changes


def job_run(**changes: Any) -> Row:
    row = {
        "run_id": "run-ingest",
        "command": "ingest",
        "status": "succeeded",
        "started_at": WRITTEN_AT,
        "finished_at": WRITTEN_AT + datetime.timedelta(seconds=12),
        "wall_seconds": 12.0,
        "model_version": None,
        "rows_read": 91,
        "rows_written": 90,
        "rows_failed": 1,
        "details": "{}",
        "error": None,
    }
    return row | changes


def arrow_rows(table: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TABLES[table].schema)


def write_root(root: Path, rows: dict[str, list[Row]]) -> Path:
    """Make every table under a root, with the given rows (none for a table that is not named)."""
    for table in TABLES.values():
        folder = str(root / "tables" / table.name)
        DeltaTable.create(folder, table.schema, partition_by=list(table.partition_by))
        if rows.get(table.name):
            write_deltalake(folder, arrow_rows(table.name, rows[table.name]), mode="append")
    return root


def corpus() -> dict[str, list[Row]]:
    """90 reviews of April to August 2015, three products, two spellings of one category; a champion and a retired
    model, three thresholds each.

    Each month holds 18 reviews: 6 of the sofa (3 of them bad), 10 of the lamp (1 bad), 1 of the desk (bad) and 1 of no
    product with 3 stars. The champion gives bad ones 0.9 and good ones 0.1, except that in each month it misses one bad
    sofa (0.4: flagged by recall_90 alone) and flags one good lamp (0.6). 3 stars get 0.55, and the last of them an
    error.
    """
    reviews, scores, attributions = [], [], []
    line = 1
    for month in range(4, 9):
        for place in range(18):
            line += 1
            row = _corpus_review(month, place, line)
            reviews.append(row)
            month_start = row["review_month"]
            probability = _corpus_probability(row["star_rating"], place)
            failed = month == 8 and place == 17
            scores.append(score(row["review_id"], review_month=month_start, probability=probability))
            if failed:
                scores[-1] |= {"logit": None, "raw_probability": None, "probability": None, "error": "no text"}
            scores.append(score(row["review_id"], review_month=month_start, model_version=RETIRED, probability=0.95))
            if probability >= 0.3 and not failed:
                attributions += _corpus_words(row["review_id"], month_start, place)
    retired = model(RETIRED, status="retired")
    names = {"f1_max": 0.5, "recall_90": 0.3, "precision_90": 0.8}
    thresholds = [
        threshold(version, name, threshold=value) for version in (CHAMPION, RETIRED) for name, value in names.items()
    ]
    return {
        "reviews": reviews,
        "rejected_reviews": [rejected()],
        "sources": [source()],
        "splits": [split(name) for name in SPLITS],
        "models": [model(), retired],
        "model_thresholds": thresholds,
        "model_routes": [],
        "review_scores": scores,
        "token_attributions": attributions,
        "job_runs": [job_run()],
    }


def _corpus_review(month: int, place: int, line: int) -> Row:
    date = datetime.date(2015, month, 1 + place)
    changes: Row = {"review_date": date, "source_line": line}
    if place < 6:
        changes |= {"star_rating": 1 if place < 3 else 5}
    elif place < 16:
        changes |= {
            "product_id": "LAMP",
            "product_title": "Brass lamp",
            "product_category": "furniture ",
            "star_rating": 2 if place == 6 else 4,
        }
    elif place == 16:
        changes |= {"product_id": "DESK", "product_title": "Oak desk", "star_rating": 1}
    else:
        changes |= {"product_id": None, "product_title": None, "product_category": None, "star_rating": 3}
    return review(f"R{month:02}{place:02}", **changes)


def _corpus_probability(star_rating: int, place: int) -> float:
    special = {0: 0.4, 15: 0.6, 17: 0.55}
    return special.get(place, 0.9 if star_rating <= 2 else 0.1)


def _corpus_words(review_id: str, month: datetime.date, place: int) -> list[Row]:
    words = [("Broken" if place % 2 else "broken", 2.0), ("sturdy", -1.5), ("!", 1.0), ("late", 0.5)]
    return [
        attribution(
            review_id,
            rank,
            review_month=month,
            word=word,
            attribution=value,
            phrase=word.lower() if value > 0 and word.isalpha() else None,
            char_start=rank * 10,
            char_end=rank * 10 + len(word),
        )
        for rank, (word, value) in enumerate(words, start=1)
    ]


@functools.cache
def corpus_root() -> Path:
    """A root with the tables of `corpus`, made once per test process and removed at its end. Tests read it and do not
    change it.
    """
    folder = Path(tempfile.mkdtemp(prefix="reviewrisk-corpus-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_root(folder / "root", corpus())


@functools.cache
def built_root() -> Path:
    """`corpus_root` with the warehouse that a plain `dbt build` in dbt/ makes of it. dbt's own files lie in
    <root>/../target.
    """
    root = corpus_root()
    done = run_dbt("build", root)
    assert done.returncode == 0, done.stdout
    return root


def run_dbt(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A dbt command as a person types it in dbt/, with REVIEWRISK_ROOT alone; HOME is empty, so nothing can come from
    ~/.duckdb or ~/.dbt.
    """
    home = root.parent / "home"
    home.mkdir(exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "REVIEWRISK_"))}
    # not into the checkout
    places = {"DBT_TARGET_PATH": str(root.parent / "target"), "DBT_LOG_PATH": str(root.parent / "logs")}
    return subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", *command.split()],
        cwd=ROOT / "dbt",
        env=own | places | {"REVIEWRISK_ROOT": str(root), "HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )

"""Say what a training run would do and cost, before any training. Reads through pyarrow: no Spark, so a GPU machine
needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from jobs.config import Config
from jobs.lake import tables
from model.errors import ReviewriskError, needs_extra
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.training.plan import Plan


def run_plan(config: Config, report: Report) -> Plan:
    """What `train` would do with this config and these reviews; nothing is trained and nothing written."""
    with needs_extra("train", "Planning"):
        from model.data.reviews import COLUMNS
        from model.training.plan import plan
    root = config.root
    with progress("reading the reviews", report):
        reviews = tables.read_arrow(root, "reviews", COLUMNS, pc.field("split").isin(["train", "validation", "test"]))
    if reviews.num_rows == 0:
        raise ReviewriskError(f"{root.uri} has no reviews to plan a training on: run `reviewrisk ingest` first.")
    return plan(reviews, config.model, report)

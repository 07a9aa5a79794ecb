"""Say what a training run would do and cost, before any training. Reads through pyarrow: no Spark, so a GPU machine
needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.lake.labelled import labelled
from model.errors import needs_extra
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.training.plan import Plan


def run_plan(config: Config, report: Report) -> Plan:
    """What `train` would do with this config and these reviews; nothing is trained and nothing written."""
    with needs_extra("train", "Planning"):
        from model.data.reviews import COLUMNS, SPLITS
        from model.training.plan import plan
    with progress("reading the reviews", report):
        reviews = labelled(config.root, COLUMNS, SPLITS)
    return plan(reviews, config.model, report)

"""Judge a registered model on the reviews of another root.

Reads through pyarrow: no Spark, and nothing is published.
"""

from __future__ import annotations

from pathlib import Path

from jobs.config import Config
from jobs.lake.labelled import labelled
from jobs.registry import models as registry
from jobs.registry.bundles import local_bundle, serving_folder
from jobs.storage import parse_root
from model.errors import needs_extra
from model.progress import Report, progress


def run_evaluate(
    config: Config, version: str, population: str, rows: int | None, output: Path | None, report: Report
) -> list[str]:
    """Lines of Markdown: how the model does on all labelled reviews of the root `population`, or on at most `rows` of
    them, in every view and with intervals, beside TF-IDF fitted on the config's own corpus; also written to `output`.

    The model decides by its calibrator and its rows of `model_thresholds`. Raises ReviewriskError where there is no
    such model, or the other root has no labelled review.
    """
    with needs_extra("train", "Judging a model"):
        from model.data.reviews import COLUMNS
        from model.experiments.external import judge, population_page
        from model.experiments.pages import write_page
    row = registry.registered(config.root, version)
    thresholds = registry.thresholds(config.root, version)
    registry.default_threshold(config.root, version)
    with progress("reading the reviews", report):
        corpus = labelled(config.root, COLUMNS, ["train", "validation", "test"])
        others = labelled(parse_root(population, config.storage), COLUMNS, None)
    with progress("merging the model", report):
        bundle, serving = local_bundle(config, row), serving_folder(config, row)
    judgement = judge(bundle, serving, thresholds, corpus, others, rows, config.model.training.threads, report)
    name = Path(population).name
    command = f"reviewrisk models evaluate {version} {name}" + (f" --rows {rows}" if rows else "")
    lines = [line for part in population_page(judgement, name, command) for line in part.splitlines() or [""]]
    if output is not None:
        write_page(lines, output)
        report(f"The page is in {output}")
    return lines

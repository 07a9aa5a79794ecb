"""Train a model on the corpus and register it as a candidate. Reads through pyarrow: no Spark, so a GPU machine needs
none.
"""

from __future__ import annotations

from jobs.config import Config
from jobs.lake.labelled import stored_reviews
from jobs.lake.runs import JobRun
from jobs.registry.compare_champion import held_against_champion
from jobs.registry.models import current_champion, registered
from jobs.registry.reference import beside_published
from jobs.registry.register import figures_on_test, next_step, register
from model.errors import needs_extra
from model.progress import Report, progress


def run_train(config: Config, report: Report) -> str:
    """The version of a newly trained model, its bundle under <root>/models and its rows in `model_thresholds` and
    `models`.

    A model of the reviews that `model.rows` names is held against the champion on its test rows, which are of those
    reviews too.
    """
    with needs_extra("train", "Training"):
        from model.data.reviews import COLUMNS, SPLITS
        from model.training.pipeline import fit
    root = config.root
    with JobRun(root, "train") as run:
        with progress("reading the reviews", report):
            reviews = stored_reviews(root, COLUMNS, SPLITS, config.model.rows)
        output = root.local_path / "models" if root.is_local else config.scratch / "models"
        fitted = fit(
            reviews,
            config.model,
            output=output,
            work=config.scratch / "train",
            report=report,
            tolerance=config.score.parity_tolerance,
        )
        register(root, fitted, run)
        run.finish(model_version=fitted.model_version, rows_read=len(reviews), details=figures_on_test(fitted))
    for line in beside_published(config.reference, registered(root, fitted.model_version)):
        report(line)
    report(next_step(fitted))
    if config.model.rows.only:
        held_against_champion(config, current_champion(root), registered(root, fitted.model_version), report)
    return fitted.model_version

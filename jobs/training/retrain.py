"""Train a challenger from the base on old and new reviews, and hold it against the champion on both periods."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.lake.labelled import stored_reviews, with_live
from jobs.lake.runs import JobRun
from jobs.registry.compare_champion import challenge
from jobs.registry.models import champion, registered
from jobs.registry.register import figures_on_test, register
from model.errors import ReviewriskError, needs_extra
from model.progress import Report, progress

# Of the labelled live reviews, in order of time: training, validation, and the rest is the new period's test.
LIVE_SHARES = (0.6, 0.2)
FEWEST_LIVE = 200


def run_retrain(config: Config, report: Report) -> str:
    """The version of the challenger, registered as a candidate; the champion and it are printed side by side on both
    periods.

    It starts from the pretrained base, never from the last adapter: adapters trained on top of adapters carry every
    earlier mistake on and drift. Training takes the training split and the earlier live reviews; validation its split
    and later ones; the test split (the old period) and the latest live reviews (the new one) are kept out of both. The
    champion is compared where it has scored those rows, so `reviewrisk score` comes first. Where `model.rows` names
    some reviews, all this is of those alone. Raises ReviewriskError where too few new reviews have a label.
    """
    with needs_extra("train", "Training"):
        from model.data.reviews import COLUMNS, SPLITS
        from model.training.pipeline import fit
    root = config.root
    with JobRun(root, "retrain") as run:
        current = champion(root)
        with progress("reading the reviews", report):
            stored = stored_reviews(root, COLUMNS, (*SPLITS, "live"), config.model.rows)
            ends = live_ends(stored.places, config.model.rows.only)
            reviews = replace(stored, places=with_live(stored.places, ends), live_ends=ends)
        report(
            f"  live reviews up to {ends[0]} train, up to {ends[1]} validate, and later ones are the new period's test"
        )
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
        with progress("comparing with the champion", report):
            # a training is not to be done again because the storage failed after it
            held = challenge(config, current, registered(root, fitted.model_version), bears_outage=True)
        compared = {
            "compared": {one.period: one.gain for one in held.comparisons},
            "not compared on": "; ".join(held.missing()) or None,
        }
        details = {"champion": current["model_version"], **compared, **figures_on_test(fitted)}
        run.finish(model_version=fitted.model_version, rows_read=len(reviews), details=details)
    report(f"  registered {fitted.model_version} as a candidate beside the champion {current['model_version']}")
    for line in held.lines():
        report(line)
    return fitted.model_version


def live_ends(reviews: pa.Table, only: str | None = None) -> tuple[datetime.date, datetime.date]:
    """The last days of training and validation among the live reviews of these labelled ones (split, review_date).

    `only` is said in errors: what all these reviews have, such as product_category=furniture.
    """
    dates = sorted(reviews.filter(pc.equal(reviews["split"], "live"))["review_date"].to_pylist())
    if len(dates) < FEWEST_LIVE:
        of = f" with {only}" if only else ""
        raise ReviewriskError(
            f"Retraining needs at least {FEWEST_LIVE} labelled reviews{of} after the test split, and there are"
            f" {len(dates)}: ingest newer files first."
        )
    train_end = dates[round(LIVE_SHARES[0] * len(dates))]
    validation_end = dates[round(sum(LIVE_SHARES) * len(dates))]
    if not train_end < validation_end < dates[-1]:
        raise ReviewriskError(
            f"The live reviews, {dates[0]} to {dates[-1]}, are of too few days to be split by time: ingest newer files"
            " first."
        )
    return train_end, validation_end

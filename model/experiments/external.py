"""A registered model judged on a population that nothing of it was fitted on, beside TF-IDF fitted on the model's own
corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.bundle.bundle import verify_bundle
from model.data.folds import check_both_classes, drawn_by_product
from model.data.overlap import text_overlap
from model.data.reviews import LabelledReviews, PreparedData, labelled_reviews, prepare, prior_shift
from model.data.row_filter import chosen_rows
from model.evaluation.calibrators import Calibrator
from model.evaluation.cross_fitting import CalibratorChoice
from model.evaluation.results import results, slice_lines, threshold_table
from model.evaluation.thresholds import FittedThreshold
from model.evaluation.views import CalibratedModel, Logits, audit, slices, threshold_rows
from model.experiments.pages import wrapped
from model.files import read_json
from model.network.hardware import cpu_threads
from model.progress import Report, progress
from model.scoring.scorer import Scorer
from model.settings import ModelSettings, ScoringSettings
from model.training.pipeline import calibrated_tfidf, predict_test

_MOST_MONTHS = 24
_NOTHING = np.empty(0)


@dataclass(frozen=True)
class ExternalEvaluation:
    """What the model and TF-IDF did on the population: `test` as `views.audit` has it, `thresholds` as
    `views.threshold_rows`, `slices` as `views.slices`. `labelled` rows there are, `reviews` of which were
    judged; `is_same_corpus` where TF-IDF was fitted on the very rows that the model was trained on.
    """

    model_version: str
    labelled: int
    reviews: LabelledReviews
    test: dict[str, dict[str, Any]]
    thresholds: list[dict[str, Any]]
    slices: dict[str, Any]
    settings: ModelSettings
    is_same_corpus: bool


def judge(
    bundle: Path,
    serving: Path,
    thresholds: Sequence[dict[str, Any]],
    corpus: pa.Table,
    population: pa.Table,
    most: int | None,
    threads: int | None,
    log: Report,
) -> ExternalEvaluation:
    """The bundle's model, with its own calibrator and the given rows of `model_thresholds`, on the labelled rows of the
    population.

    Of more than `most` rows whole products are drawn with the model's seed. `corpus` is what the model was trained on,
    for TF-IDF, and for which texts and products of the population stand in its training split; both tables have the
    columns of `data.COLUMNS`, and any split of the population counts. Raises ReviewriskError where a class is missing,
    or the corpus cannot be prepared.
    """
    manifest = verify_bundle(bundle)
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    with progress("preparing the rows", log):
        labelled, data = _with_population(corpus, population, most, settings)
    with cpu_threads(threads):
        logits = Logits(_NOTHING, *predict_test(Scorer.load(serving, ScoringSettings()), data.test, log))
    with progress("fitting TF-IDF on the model's corpus", log):
        tfidf, _ = calibrated_tfidf(data, settings)
    network = _as_published(
        logits, Calibrator.from_json(read_json(bundle / "calibrator.json")), thresholds, data, settings
    )
    with progress("resampling the rows for intervals", log):
        test = audit({"model": network, "tfidf": tfidf}, data, settings)
        rows, parts = threshold_rows(network, data, settings), slices(network, data, settings)
    is_same = data.data_version == manifest["data_version"]
    return ExternalEvaluation(manifest["model_version"], labelled, data.test, test, rows, parts, settings, is_same)


def population_page(evaluation: ExternalEvaluation, name: str, command: str) -> list[str]:
    """Lines of Markdown with all figures; `name` says which population, `command` how it was made.

    It quotes no review.
    """
    reviews, by_slice = evaluation.reviews, dict(evaluation.slices["by"])
    drawn = ", whole products drawn at random" if len(reviews) < evaluation.labelled else ""
    corpus = (
        "the rows that the network was"
        if evaluation.is_same_corpus
        else "today's corpus, which is not the one that the network was trained on"
    )
    if len(by_slice["month"]) > _MOST_MONTHS:
        del by_slice["month"]
    lines = [
        f"# {evaluation.model_version} on {name}",
        "",
        "```",
        command,
        "```",
        "",
        (
            f"{len(reviews):,} of {evaluation.labelled:,} labelled reviews, {reviews.dates.min()} to"
            f" {reviews.dates.max()}{drawn}. Nothing was fitted on them: the network has the calibrator and the"
            " thresholds of its own validation, and TF-IDF is fitted, calibrated and cut on"
            f" {corpus}."
        ),
        "",
        *results("Results", evaluation.test, evaluation.settings).splitlines(),
        "",
        "## Thresholds",
        "",
        *threshold_table(evaluation.thresholds),
        "",
        "A guarantee is for reviews like those of validation; here stands what became of it.",
        "",
        "## Slices",
        "",
        *slice_lines(by_slice, evaluation.slices["worst"]),
    ]
    return list(wrapped(lines))


def _with_population(
    corpus: pa.Table, population: pa.Table, most: int | None, settings: ModelSettings
) -> tuple[int, PreparedData]:
    """How many labelled rows the population has, and the corpus with those drawn in place of its test rows."""
    mode, data = settings.text.headline, prepare(corpus, settings)
    train = labelled_reviews(chosen_rows(corpus, settings.rows), "train", mode)
    every = labelled_reviews(population, None, mode)
    test = every.take(drawn_by_product(every, most, settings.training.seed))
    check_both_classes(test, "the population's rows")
    return len(every), replace(
        data,
        test=test,
        test_overlap=text_overlap(test.texts, train.texts),
        test_product_is_new=~np.isin(test.product_ids, train.product_ids),
    )


def _as_published(
    logits: Logits, calibrator: Calibrator, rows: Sequence[dict[str, Any]], data: PreparedData, settings: ModelSettings
) -> CalibratedModel:
    """The model as it decides in the warehouse: nothing of it is fitted here."""
    fitted = {
        row["threshold_name"]: FittedThreshold(row["threshold_name"], row["threshold"], row["purpose"]) for row in rows
    }
    [default] = [fitted[row["threshold_name"]] for row in rows if row["is_default"]]
    shift = prior_shift(data.train.labels, settings.training.class_weighting)
    return CalibratedModel(CalibratorChoice(calibrator, 1, {}, {}), list(fitted.values()), default, logits, shift)

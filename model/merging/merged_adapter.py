"""From combined adapters to a bundle: calibrated and cut anew, and held beside its parents on the same test rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from peft import PeftModel

from model.bundle.bundle import BaselineFiles, BundleContents, build_serving_folder, write_bundle, write_serving_model
from model.data.reviews import LabelledReviews, PreparedData, ReviewSource, prepare
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator
from model.evaluation.metrics import Scored
from model.evaluation.model_card import only_in_words
from model.evaluation.plots import reliability_diagram
from model.evaluation.results import results, threshold_table
from model.evaluation.views import CalibratedModel, Logits, calibrate, prediction_table, threshold_rows
from model.files import temporary_folder_beside, write_json
from model.merging.combine import Parent, Recipe, combine, heads_began_alike
from model.merging.regression import COMBINED, figures_by_category, side_by_side
from model.network.backbone import Backbone
from model.network.lora import count_parameters
from model.progress import Report, progress
from model.scoring.scorer import Scorer
from model.settings import ModelSettings, ScoringSettings
from model.training.pipeline import FittedModel, assess, calibrated_tfidf, fitted_model, predict


def make_combined_model(
    parents: Sequence[Parent],
    thresholds: Mapping[str, float],
    recipe: Recipe,
    reviews: pa.Table | ReviewSource,
    output: Path,
    work: Path,
    tolerance: float,
    report: Report,
) -> FittedModel:
    """The combined model's bundle, output/<model_version>, and what is said of it.

    `reviews` is as `fit` takes it. Calibrator and thresholds are fitted on its validation split, cut as for the first
    parent; every parent and the combined model are then judged on its test split, in all and by category, each at its
    own default threshold: a parent's is that of `thresholds` by its version, as the one in its bundle may have been
    fitted anew since. `tolerance` is the greatest |logit difference| that merging a parent or the combined model may
    make. Raises ReviewriskError as `combine` and `prepare` do.
    """
    with progress("combining the adapters", report):
        adapted, backbone, settings = combine(parents, recipe)
    data = prepare(reviews, settings)
    with temporary_folder_beside(work / "combined") as folder:
        network = calibrate(_predict(adapted, backbone, data, settings, folder, tolerance, report), data, settings)
        report(str(network.choice))
        tfidf, baseline = calibrated_tfidf(data, settings)
        models = {"model": network, "tfidf": tfidf}
        scored = {
            parent.version: _score_parent(parent, thresholds[parent.version], data.test, folder, tolerance, report)
            for parent in parents
        }
    with progress("resampling the test rows of each category", report):
        every = {**scored, COMBINED: models["model"].scored(data)}
        by_category = figures_by_category(
            every, [name.strip() for name in data.test.categories], np.asarray(data.test.product_ids), settings
        )
    merge = _described(parents, recipe, settings.lora.rank, by_category)
    for line in _lines(merge):
        report(line)
    with progress("resampling the test rows for intervals", report):
        contents = _contents(adapted, backbone, settings, data, models, baseline, merge)
    bundle, manifest = write_bundle(output, contents)
    return fitted_model(bundle, manifest, contents, count_parameters(adapted), models["model"])


def _predict(
    adapted: PeftModel,
    backbone: Backbone,
    data: PreparedData,
    settings: ModelSettings,
    folder: Path,
    tolerance: float,
    report: Report,
) -> Logits:
    """Log-odds of the combined model, merged, as the scorer computes them, so that scoring gives the same."""
    serving = folder / COMBINED
    serving.mkdir()
    backbone.tokenizer.save_pretrained(serving / "tokenizer")
    write_json(serving / "calibrator.json", Calibrator().to_json())
    identity = {"model_version": COMBINED, "headline_mode": settings.text.headline}
    write_serving_model(serving, copy.deepcopy(adapted), backbone, tolerance, identity)
    return predict(Scorer.load(serving, ScoringSettings()), data, report)


def _score_parent(
    parent: Parent, threshold: float, test: LabelledReviews, folder: Path, tolerance: float, report: Report
) -> Scored:
    scorer = Scorer.load(build_serving_folder(parent.bundle, folder / parent.version, tolerance), ScoringSettings())
    with progress(f"scoring the test rows with {parent.version}", report):
        scores = scorer.score(test.headlines, test.bodies, score_blank=True)
    failed = [
        (review_id, error) for review_id, error in zip(test.review_ids, scores.error, strict=True) if error is not None
    ]
    if failed:
        raise ReviewriskError(f"{parent.version} cannot score review {failed[0][0]}: {failed[0][1]}")
    return Scored(scores.logit, scores.probability, test.labels, threshold)


def _described(
    parents: Sequence[Parent], recipe: Recipe, rank: int, by_category: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The part `merge` of metrics.json."""
    return {
        **asdict(recipe),
        "weights": list(recipe.weights),
        "rank": rank,
        "parents": [parent.version for parent in parents],
        "heads_began_alike": heads_began_alike(parents),
        "by_category": by_category,
    }


def _lines(merge: dict[str, Any]) -> list[str]:
    """How the combined model was made and what came of it, for the terminal and for its card."""
    pruned = (
        "" if merge["method"] in ("average", "arithmetic") else f", density {merge['density']:g}, seed {merge['seed']}"
    )
    weighed = " and ".join(
        f"{version} ({weight:g})" for version, weight in zip(merge["parents"], merge["weights"], strict=True)
    )
    lines = [
        f"The adapters of {weighed} are combined by method {merge['method']}{pruned} into one of rank {merge['rank']}.",
        "The head is the weighted mean of the parents' heads, by the same weights divided by their sum.",
    ]
    if not merge["heads_began_alike"]:
        lines.append(
            "The parents' heads began at different random weights (model.training.seed): their mean may be worth"
            " nothing."
        )
    legend, *tables = side_by_side(merge["by_category"])
    return [*lines, "", f"Each model at its own default threshold, with intervals; {legend}", *tables]


def _contents(
    adapted: PeftModel,
    backbone: Backbone,
    settings: ModelSettings,
    data: PreparedData,
    models: dict[str, CalibratedModel],
    baseline: BaselineFiles,
    merge: dict[str, Any],
) -> BundleContents:
    figures = {
        "rows": data.rows,
        "parameters": asdict(count_parameters(adapted)),
        "merge": merge,
        **assess(models, data, settings),
    }
    thresholds = threshold_rows(models["model"], data, settings)

    def describe(folder: Path, manifest: dict[str, Any]) -> None:
        reliability_diagram(
            {"combined model": figures["reliability"]["model"], "TF-IDF": figures["reliability"]["tfidf"]},
            folder / "reliability.png",
        )
        (folder / "README.md").write_text(_card(manifest, settings, figures, thresholds), encoding="utf-8")

    calibrator = models["model"].choice.calibrator.to_json()
    return BundleContents(
        adapted,
        backbone,
        settings,
        calibrator,
        thresholds,
        figures,
        prediction_table(models, data),
        data.data_version,
        describe,
        baseline,
    )


def _card(
    manifest: dict[str, Any], settings: ModelSettings, figures: dict[str, Any], thresholds: list[dict[str, Any]]
) -> str:
    """The whole README.md of a combined model's bundle. It quotes no review."""
    rows = figures["rows"]
    parts = [
        f"# {manifest['model_version']}",
        (
            "Tells from a review's headline and body how likely its author is critically dissatisfied: a low-rank"
            f" adapter and a head on\n`{manifest['backbone']['name']}`. It was not trained itself, but made of trained"
            f" models. Made {manifest['created_at']}."
        ),
        f"{only_in_words(settings)}The probability means **1–2 stars were given, given that it was not 3**.",
        "## Parents and combined model on the same test rows",
        "\n".join(_lines(figures["merge"])),
        results("Results on test", figures["test"], settings),
        "## Thresholds",
        "\n".join(threshold_table(thresholds)),
        (
            f"Calibrator ({figures['calibration']['model']['method']}) and thresholds were fitted anew on the"
            f" {rows['validation_calibration']:,} rows of validation's\ncalibration slice. Data version"
            f" `{manifest['data_version']}`.\nThe parents' cards say what each was trained on; their limits are this"
            " model's too."
        ),
    ]
    return "\n\n".join(parts) + "\n"

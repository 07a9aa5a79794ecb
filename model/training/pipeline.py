"""One training run from labelled reviews to a bundle: prepare, train, predict as scoring does, calibrate, evaluate,
write.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from peft import PeftModel
from sklearn.pipeline import Pipeline

from model.bundle.bundle import BaselineFiles, BundleContents, write_bundle, write_serving_model
from model.data.batches import tokenise
from model.data.reviews import LabelledReviews, PreparedData, ReviewSource, prepare
from model.errors import ReviewriskError
from model.evaluation.baseline import TFIDF_WEIGHTING, StoredBaseline, fit_tfidf
from model.evaluation.calibration_error import reliability_table
from model.evaluation.calibrators import Calibrator, FloatArray, sigmoid
from model.evaluation.model_card import model_card
from model.evaluation.plots import loss_curves, reliability_diagram
from model.evaluation.results import comparison
from model.evaluation.thresholds import check_names
from model.evaluation.views import (
    READ_AS,
    CalibratedModel,
    Logits,
    audit,
    calibrate,
    calibration_figures,
    error_lists,
    prediction_table,
    slices,
    threshold_rows,
)
from model.files import file_sha256, temporary_folder_beside, write_json
from model.network.backbone import Backbone, load_backbone, make_classifier
from model.network.hardware import cpu_threads
from model.network.lora import ParameterCounts, attach_adapter, count_parameters, move_to_base
from model.progress import Report, progress
from model.scoring.scorer import Scorer
from model.settings import ModelSettings, ScoringSettings
from model.text.compose import HeadlineMode, model_text
from model.training.checkpoints import drop_states
from model.training.defaults import resolve
from model.training.loop import TrainingResult, run_fingerprint, train

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class FittedModel:
    """A written bundle and what is said of it. `thresholds` are the rows of thresholds.json (see
    `views.threshold_rows`); `metrics` is metrics.json; `rows` are metrics["rows"]; `settings` are resolved (no
    None where the data's size decides); `bundle_checksum` is the sha256 of manifest.json.
    """

    model_version: str
    bundle: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: list[dict[str, Any]]
    counts: ParameterCounts
    rows: dict[str, int]
    settings: ModelSettings
    data_version: str
    calibration: str
    bundle_checksum: str


def fit(
    reviews: pa.Table | ReviewSource,
    settings: ModelSettings,
    output: Path,
    work: Path,
    report: Report,
    tolerance: float = ScoringSettings().parity_tolerance,
) -> FittedModel:
    """Train on the table's splits and write the bundle output/<model_version>.

    `reviews` is as `prepare` takes it. Checkpoints go under `work` until the bundle stands, so a killed run
    goes on when it is called again. `report` gets one line of text at a time, at least about every ten seconds in the
    long parts. `tolerance` is the greatest |logit difference| that merging the adapter may make. Raises ReviewriskError
    where the data, the settings or the machine do not allow it.
    """
    check_names(settings.thresholds)  # before hours of training, not after
    with cpu_threads(settings.training.threads):
        with progress("preparing the rows", report):
            data = prepare(reviews, settings)
        if settings.rows.only:
            report(f"Only reviews with {settings.rows.only}, in training, validation and test alike")
        report(rows_in_words(data.rows))
        settings, advice = resolve(settings, len(data.train))
        for line in advice:
            report(line)
        with progress("loading the backbone", report):
            backbone = load_backbone(settings.backbone, settings.lora.quantization)
            classifier = make_classifier(backbone, settings.training.head_dropout, settings.training.seed)
            adapted = attach_adapter(classifier, settings.lora, settings.training.seed)
        counts = count_parameters(adapted)
        report(f"Model: {counts}")
        result, checkpoints = _train(adapted, backbone, data, settings, work, report)
        network = calibrate(
            _predict(adapted, backbone, result.device, data, settings, work, tolerance, report), data, settings
        )
        report(str(network.choice))
        contents = _contents(adapted, backbone, settings, data, result, counts, network, report)
        bundle, manifest = write_bundle(output, contents)
        drop_states(checkpoints)
    report(f"Bundle {manifest['model_version']} is in {bundle}")
    return fitted_model(bundle, manifest, contents, counts, network)


def rows_in_words(rows: Mapping[str, int]) -> str:
    """The rows that `prepare` counts, in a line for the terminal."""
    return (
        f"Rows: {rows['train']:,} to train on (training split {rows['train_split']:,}, of them"
        f" {rows['train_duplicates_dropped']:,} whose text is in validation or test too), {rows['validation']:,} of"
        f" validation (early stopping {rows['validation_stopping']:,}, calibration"
        f" {rows['validation_calibration']:,}), {rows['test']:,} of test (text in the training split"
        f" {rows['test_in_train_split']:,}, nearly the same text there {rows['test_near_train_split']:,}, product not"
        f" there {rows['test_of_new_products']:,})"
    )


def fitted_model(
    bundle: Path, manifest: dict[str, Any], contents: BundleContents, counts: ParameterCounts, network: CalibratedModel
) -> FittedModel:
    """What is said of a bundle that was just written from these contents."""
    return FittedModel(
        model_version=manifest["model_version"],
        bundle=bundle,
        manifest=manifest,
        metrics=contents.metrics,
        thresholds=contents.thresholds,
        counts=counts,
        rows=contents.metrics["rows"],
        settings=contents.settings,
        data_version=contents.data_version,
        calibration=network.choice.calibrator.method,
        bundle_checksum=file_sha256(bundle / "manifest.json"),
    )


def _train(
    adapted: PeftModel, backbone: Backbone, data: PreparedData, settings: ModelSettings, work: Path, report: Report
) -> tuple[TrainingResult, Path]:
    """The training's result and the folder of its checkpoints, which outlive it until the bundle is written."""
    with progress("tokenising", report):
        training = tokenise(data.train, backbone.tokenizer, backbone.max_length)
        early_stopping = tokenise(data.early_stopping, backbone.tokenizer, backbone.max_length)
    report(f"Tokens: {training.lengths.sum():,} in training, {training.lengths.mean():.0f} a review")
    checkpoints = work / "training" / run_fingerprint(settings, backbone.revision, training, early_stopping)
    pad_id = int(backbone.tokenizer.pad_token_id)
    return train(adapted, training, early_stopping, settings, pad_id, checkpoints, report), checkpoints


def _predict(
    adapted: PeftModel,
    backbone: Backbone,
    device: str,
    data: PreparedData,
    settings: ModelSettings,
    work: Path,
    tolerance: float,
    report: Report,
) -> Logits:
    """Log-odds of the merged model in float32, computed by the scorer itself, so that scoring gives the same."""
    with temporary_folder_beside(work / "serving") as folder:
        backbone.tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / "calibrator.json", Calibrator().to_json())
        merged = _on_full_precision_base(adapted, settings)
        identity = {"model_version": "candidate", "headline_mode": settings.text.headline}
        write_serving_model(folder, merged, backbone, tolerance, identity)
        return predict(Scorer.load(folder, ScoringSettings(), device=device), data, report)


def _on_full_precision_base(adapted: PeftModel, settings: ModelSettings) -> PeftModel:
    """A copy of the trained model whose base is not quantised, so that the adapter can be merged into it."""
    if settings.lora.quantization == "none":
        return copy.deepcopy(adapted.cpu())
    plain = make_classifier(load_backbone(settings.backbone), settings.training.head_dropout, settings.training.seed)
    return move_to_base(adapted, plain)


def predict(scorer: Scorer, data: PreparedData, report: Report) -> Logits:
    """The scorer's log-odds on the calibration slice and on test, read in every way that the views of test need."""
    calibration = _logit(scorer, data.calibration, None, "calibration", report)
    return Logits(calibration, *predict_test(scorer, data.test, report))


def predict_test(scorer: Scorer, test: LabelledReviews, report: Report) -> tuple[FloatArray, dict[str, FloatArray]]:
    """The scorer's log-odds of test rows, and of the same rows read as in READ_AS."""
    logit = _logit(scorer, test, None, "test", report)
    return logit, {view: _read_as(scorer, test, view, logit, report) for view in READ_AS}


def _read_as(scorer: Scorer, test: LabelledReviews, view: str, logit: FloatArray, report: Report) -> FloatArray:
    """Log-odds of the test rows read as the view has it: those that read alike keep theirs, the others are scored."""
    mode = READ_AS[view]
    [changed] = np.nonzero([text != before for text, before in zip(_texts(test, mode), test.texts, strict=True)])
    found = logit.copy()
    found[changed] = _logit(scorer, test.take(changed), mode, f"test ({view})", report)
    return found


def _texts(reviews: LabelledReviews, mode: HeadlineMode) -> list[str]:
    return [model_text(*both, mode) for both in zip(reviews.headlines, reviews.bodies, strict=True)]


def _logit(
    scorer: Scorer, reviews: LabelledReviews, mode: HeadlineMode | None, name: str, report: Report
) -> FloatArray:
    logit = np.empty(len(reviews))
    done = 0
    with progress(f"scoring the {name} rows", report, lambda: f"{done:,} of {len(reviews):,}"):
        for start in range(0, len(reviews), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            scores = scorer.score(reviews.headlines[rows], reviews.bodies[rows], mode, score_blank=True)
            failed = [(row, error) for row, error in enumerate(scores.error, start=start) if error is not None]
            if failed:
                row, error = failed[0]
                raise ReviewriskError(f"The trained model cannot score review {reviews.review_ids[row]}: {error}")
            logit[rows] = scores.logit
            done = start + len(scores.error)
    return logit


def assess(models: dict[str, CalibratedModel], data: PreparedData, settings: ModelSettings) -> dict[str, Any]:
    """The part of metrics.json that follows from the models' scores (`model` and `tfidf`): calibration, test, slices,
    errors, reliability.
    """
    return {
        "calibration": {name: calibration_figures(calibrated, data, settings) for name, calibrated in models.items()},
        "test": audit(models, data, settings),
        "slices": slices(models["model"], data, settings),
        "errors": error_lists(models, data),
        "reliability": _reliability(models, data, settings.calibration.bins),
    }


def _contents(
    adapted: PeftModel,
    backbone: Backbone,
    settings: ModelSettings,
    data: PreparedData,
    result: TrainingResult,
    counts: ParameterCounts,
    network: CalibratedModel,
    report: Report,
) -> BundleContents:
    report("Fitting the baseline: TF-IDF + logistic regression")
    with progress("fitting the baseline", report):
        tfidf, baseline = calibrated_tfidf(data, settings)
    models = {"model": network, "tfidf": tfidf}
    with progress("resampling the test rows for intervals", report):
        metrics = {
            "rows": data.rows,
            "parameters": asdict(counts),
            "training": asdict(result),
            **assess(models, data, settings),
        }
        thresholds = threshold_rows(network, data, settings)
    for line in comparison(metrics["test"]):
        report(line)

    def describe(folder: Path, manifest: dict[str, Any]) -> None:
        loss_curves(result.history, result.best_epoch, folder / "curves.png")
        reliability_diagram(
            {_LINE_NAMES[name]: table for name, table in metrics["reliability"].items()}, folder / "reliability.png"
        )
        (folder / "README.md").write_text(model_card(manifest, settings, metrics, thresholds), encoding="utf-8")

    calibrator = network.choice.calibrator.to_json()
    return BundleContents(
        adapted,
        backbone,
        settings,
        calibrator,
        thresholds,
        metrics,
        prediction_table(models, data),
        data.data_version,
        describe,
        baseline,
    )


def calibrated_tfidf(data: PreparedData, settings: ModelSettings) -> tuple[CalibratedModel, BaselineFiles]:
    """The baseline, fitted on the very rows that the network is trained on, and what a bundle keeps of it."""
    model = fit_tfidf(data.train.texts, data.train.labels)
    calibrated = calibrate(_tfidf_logits(model, data), data, settings, TFIDF_WEIGHTING)
    calibrator = calibrated.choice.calibrator.to_json()
    return calibrated, BaselineFiles(StoredBaseline.of(model).to_arrays(), calibrator)


def _tfidf_logits(model: Pipeline, data: PreparedData) -> Logits:
    """Its log-odds, of test rows also read as the views of test need."""
    read_as = {view: model.decision_function(_texts(data.test, mode)) for view, mode in READ_AS.items()}
    calibration, test = (model.decision_function(part.texts) for part in (data.calibration, data.test))
    return Logits(calibration, test, read_as)


_LINE_NAMES = {
    "model": "fine-tuned network",
    "model_raw": "fine-tuned network before calibration",
    "tfidf": "TF-IDF + logistic regression",
}


def _reliability(models: dict[str, CalibratedModel], data: PreparedData, bins: int) -> dict[str, list[dict[str, Any]]]:
    """Reliability tables on test, by name; the uncalibrated one is left out where no calibrator was chosen."""
    probabilities = {name: calibrated.scored(data).probability for name, calibrated in models.items()}
    if models["model"].choice.calibrator.method != "none":
        probabilities["model_raw"] = sigmoid(models["model"].logits.test)
    return {name: reliability_table(probability, data.test.labels, bins) for name, probability in probabilities.items()}

"""One training run from labelled reviews to a bundle: prepare, train, predict as scoring does, calibrate, evaluate, write."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from peft import PeftModel

from model.backbone import Backbone, load_backbone, make_classifier
from model.baseline import fit_tfidf, majority_probability, tfidf_probability
from model.bundle import BundleContents, write_bundle, write_serving_model
from model.calibration import Calibrator, CalibratorChoice, FloatArray, choose_calibrator, reliability_table
from model.card import comparison_table, model_card
from model.checkpoints import drop_states
from model.data import LabelledReviews, PreparedData, prepare, tokenise
from model.errors import ReviewriskError
from model.evaluation import metrics_by_overlap
from model.files import file_sha256, temporary_folder_beside, write_json
from model.hardware import cpu_threads
from model.lora import ParameterCounts, attach_adapter, count_parameters
from model.plots import loss_curves, reliability_diagram
from model.progress import Report, progress
from model.scorer import Scorer
from model.settings import ModelSettings, ScoringSettings
from model.thresholds import f1_max_threshold, threshold_figures
from model.training import TrainingResult, run_fingerprint, train

DEFAULT_THRESHOLD = "f1_max"
_ROWS_AT_ONCE = 1024
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class FittedModel:
    """A written bundle and what is said of it. `thresholds` are the rows of thresholds.json: the fields of ThresholdFigures (figures
    on test) and is_default; `metrics` is metrics.json; `rows` are metrics["rows"]; `bundle_checksum` is the sha256 of manifest.json."""

    model_version: str
    bundle: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: list[dict[str, Any]]
    counts: ParameterCounts
    rows: dict[str, int]
    data_version: str
    calibration: str
    bundle_checksum: str


@dataclass(frozen=True)
class Predictions:
    """A model's raw probabilities on the three sets of rows that calibration and evaluation need."""

    fitting: FloatArray
    choosing: FloatArray
    test: FloatArray


@dataclass(frozen=True)
class Decided:
    """A model's calibrator and threshold, its raw and calibrated probabilities on test and its figures there."""

    choice: CalibratorChoice
    threshold: float
    raw_probability: FloatArray
    probability: FloatArray
    figures: dict[str, dict[str, Any]]


def fit(reviews: pa.Table, settings: ModelSettings, output: Path, work: Path, report: Report) -> FittedModel:
    """Train on the table's splits and write the bundle output/<model_version>.

    `reviews` has review_id, review_headline, review_body, star_rating, review_date and split. Checkpoints go under `work` until
    the bundle stands, so a killed run goes on when it is called again. `report` gets one line of text at a time, at least about
    every ten seconds in the long parts. Raises ReviewriskError where the data, the settings or the machine do not allow it.
    """
    with cpu_threads(settings.training.threads):
        with progress("preparing the rows", report):
            data = prepare(reviews, settings.training)
        report("Rows: " + ", ".join(f"{name} {count:,}" for name, count in data.rows.items()))
        with progress("loading the backbone", report):
            backbone = load_backbone(settings.backbone)
            classifier = make_classifier(backbone, settings.training.head_dropout, settings.training.seed)
            adapted = attach_adapter(classifier, settings.lora, settings.training.seed)
        counts = count_parameters(adapted)
        report(f"Model: {counts}")
        result, checkpoints = _train(adapted, backbone, data, settings, work, report)
        network = decide(_predict(adapted, backbone, result.device, data, work, report), data, settings)
        contents = _contents(adapted, backbone, settings, data, result, counts, network, report)
        bundle, manifest = write_bundle(output, contents)
        drop_states(checkpoints)
    report(f"Bundle {manifest['model_version']} is in {bundle}")
    return FittedModel(
        model_version=manifest["model_version"],
        bundle=bundle,
        manifest=manifest,
        metrics=contents.metrics,
        thresholds=contents.thresholds,
        counts=counts,
        rows=data.rows,
        data_version=data.data_version,
        calibration=network.choice.calibrator.method,
        bundle_checksum=file_sha256(bundle / "manifest.json"),
    )


def decide(raw: Predictions, data: PreparedData, settings: ModelSettings) -> Decided:
    """Calibrator and threshold as the two later parts of validation choose them, and the figures they give on test."""
    fitting, choosing = (raw.fitting, data.fitting.labels), (raw.choosing, data.choosing.labels)
    choice = choose_calibrator(settings.calibration.method, fitting, choosing)
    threshold = f1_max_threshold(choice.calibrator.apply(raw.choosing), data.choosing.labels)
    probability = choice.calibrator.apply(raw.test)
    figures = metrics_by_overlap(probability, data.test.labels, threshold, settings.calibration.bins, raw.test, data.test_in_train)
    return Decided(choice, threshold, raw.test, probability, figures)


def _train(adapted: PeftModel, backbone: Backbone, data: PreparedData, settings: ModelSettings, work: Path, report: Report) -> tuple[TrainingResult, Path]:
    """The training's result and the folder of its checkpoints, which outlive it until the bundle is written."""
    with progress("tokenising", report):
        training = tokenise(data.train, backbone.tokenizer, backbone.max_length)
        stopping = tokenise(data.stopping, backbone.tokenizer, backbone.max_length)
    report(f"Tokens: {training.lengths.sum():,} in training, {training.lengths.mean():.0f} a review")
    checkpoints = work / "training" / run_fingerprint(settings, backbone.revision, training, stopping)
    pad_id = int(backbone.tokenizer.pad_token_id)
    return train(adapted, training, stopping, settings, pad_id, checkpoints, report), checkpoints


def _predict(adapted: PeftModel, backbone: Backbone, device: str, data: PreparedData, work: Path, report: Report) -> Predictions:
    """Raw probabilities of the merged model in float32, computed by the scorer itself, so that scoring gives the same."""
    settings = ScoringSettings()
    with temporary_folder_beside(work / "serving") as folder:
        backbone.tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / "calibrator.json", Calibrator().to_json())
        write_json(folder / "thresholds.json", [])
        merged = copy.deepcopy(adapted.cpu())
        write_serving_model(folder, merged, backbone, settings.parity_tolerance, {"model_version": "candidate"})
        scorer = Scorer.load(folder, settings, device=device)
        parts = {"fitting": data.fitting, "choosing": data.choosing, "test": data.test}
        return Predictions(**{name: _raw_probability(scorer, part, name, report) for name, part in parts.items()})


def _raw_probability(scorer: Scorer, reviews: LabelledReviews, name: str, report: Report) -> FloatArray:
    probability = np.empty(len(reviews))
    last = time.monotonic()
    for start in range(0, len(reviews), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scores = scorer.score(reviews.headlines[rows], reviews.bodies[rows])
        failed = [(row, error) for row, error in enumerate(scores.error, start=start) if error is not None]
        if failed:
            row, error = failed[0]
            raise ReviewriskError(f"The trained model cannot score review {reviews.review_ids[row]}: {error}")
        probability[rows] = scores.raw_probability
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            report(f"scoring the {name} rows: {start + len(scores.error):,} of {len(reviews):,}")
    return probability


def _contents(
    adapted: PeftModel,
    backbone: Backbone,
    settings: ModelSettings,
    data: PreparedData,
    result: TrainingResult,
    counts: ParameterCounts,
    network: Decided,
    report: Report,
) -> BundleContents:
    report("Fitting the baseline: TF-IDF + logistic regression")
    with progress("fitting the baseline", report):
        tfidf = decide(_tfidf_predictions(data), data, settings)
    figures = {"model": network.figures, "tfidf": tfidf.figures, "majority": _majority_figures(data, settings)}
    metrics = {
        "rows": data.rows,
        "parameters": asdict(counts),
        "training": asdict(result),
        "calibration": {"model": _describe_choice(network), "tfidf": _describe_choice(tfidf)},
        "test": {name: by_overlap["as_is"] for name, by_overlap in figures.items()},
        "test_without_train_texts": {name: by_overlap["without_train_texts"] for name, by_overlap in figures.items()},
        "reliability": _reliability(network, tfidf, data, settings.calibration.bins),
    }
    report(f"On test, {len(data.test):,} rows:")
    for line in comparison_table(metrics["test"]):
        report(line)
    chosen = threshold_figures(DEFAULT_THRESHOLD, network.threshold, network.probability, data.test.labels)
    thresholds = [{**asdict(chosen), "is_default": True}]

    def describe(folder: Path, manifest: dict[str, Any]) -> None:
        loss_curves(result.history, result.best_epoch, folder / "curves.png")
        reliability_diagram({_LINE_NAMES[name]: table for name, table in metrics["reliability"].items()}, folder / "reliability.png")
        (folder / "README.md").write_text(model_card(manifest, settings, metrics, thresholds), encoding="utf-8")

    calibrator = network.choice.calibrator.to_json()
    return BundleContents(adapted, backbone, settings, calibrator, thresholds, metrics, data.data_version, describe)


def _tfidf_predictions(data: PreparedData) -> Predictions:
    model = fit_tfidf(data.train.texts, data.train.labels)
    parts = {"fitting": data.fitting, "choosing": data.choosing, "test": data.test}
    return Predictions(**{name: tfidf_probability(model, part.texts) for name, part in parts.items()})


def _majority_figures(data: PreparedData, settings: ModelSettings) -> dict[str, dict[str, Any]]:
    probability = majority_probability(data.train.labels, len(data.test))
    return metrics_by_overlap(probability, data.test.labels, 0.5, settings.calibration.bins, probability, data.test_in_train)


def _describe_choice(decided: Decided) -> dict[str, Any]:
    return {
        "method": decided.choice.calibrator.method,
        "choosing_log_loss": decided.choice.log_loss,
        "threshold": decided.threshold,
    }


_LINE_NAMES = {
    "model": "fine-tuned network",
    "model_raw": "fine-tuned network before calibration",
    "tfidf": "TF-IDF + logistic regression",
}


def _reliability(network: Decided, tfidf: Decided, data: PreparedData, bins: int) -> dict[str, list[dict[str, Any]]]:
    """Reliability tables on test, by name; the uncalibrated one is left out where no calibrator was chosen."""
    probabilities = {"model": network.probability, "tfidf": tfidf.probability}
    if network.choice.calibrator.method != "none":
        probabilities["model_raw"] = network.raw_probability
    return {name: reliability_table(probability, data.test.labels, bins) for name, probability in probabilities.items()}

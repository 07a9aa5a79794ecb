"""A whole training run on planted reviews: bundle, figures, and scoring that gives the same numbers again."""

from __future__ import annotations

import datetime
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from model.assessment import VIEWS, refit_thresholds
from model.backbone import load_backbone
from model.bundle import build_serving_folder, verify_bundle
from model.calibration import Calibrator, fit_calibrator
from model.data import labelled_reviews
from model.errors import ReviewriskError
from model.evaluation import FIGURES, Scored, metrics
from model.files import read_json
from model.fit import FittedModel, fit
from model.scorer import Scorer
from model.settings import ScoringSettings
from tests.tiny_models import planted_review, planted_reviews, reviews_table, tiny_encoder, tiny_settings


def corpus() -> pa.Table:
    """Planted reviews; two of the test texts stand in training too, and each split has a review of three stars."""
    rows = planted_reviews(300, 240, 120).to_pylist()
    test = [row for row in rows if row["split"] == "test"][:2]
    copied = [{**row, "review_id": f"copy-{number}", "split": "train", "review_date": datetime.date(2014, 2, 2)} for number, row in enumerate(test)]
    ambivalent = [
        planted_review(split, 999, day, random.Random(1), star_rating=3, review_id=f"{split}-three")
        for split, day in (("train", datetime.date(2014, 2, 2)), ("validation", datetime.date(2015, 2, 2)), ("test", datetime.date(2015, 5, 5)))
    ]
    return reviews_table([*rows, *copied, *ambivalent])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def run(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedModel, Path, list[str]]:
    """The fitted model, its root and the reported lines."""
    root, lines = tmp_path_factory.mktemp("root"), []
    fitted = fit(corpus(), tiny_settings(encoder, epochs=3), root / "models", root / "work", lines.append)
    return fitted, root, lines


def test_bundle_is_complete_and_verifies(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted, root, _ = run
    assert verify_bundle(fitted.bundle) == fitted.manifest
    assert fitted.bundle == root / "models" / fitted.model_version
    files = {path.relative_to(fitted.bundle).as_posix() for path in fitted.bundle.rglob("*") if path.is_file()}
    assert files >= {
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "calibrator.json",
        "curves.png",
        "manifest.json",
        "metrics.json",
        "predictions.parquet",
        "reliability.png",
        "settings.json",
        "thresholds.json",
        "tokenizer/tokenizer.json",
    }
    assert (fitted.data_version, fitted.manifest["data_version"]) == (fitted.manifest["data_version"], fitted.data_version)
    assert fitted.calibration == read_json(fitted.bundle / "calibrator.json")["method"]


def test_nothing_but_the_bundle_is_left(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted, root, _ = run
    assert [path.name for path in (root / "models").iterdir()] == [fitted.model_version]
    assert [path for path in (root / "work").rglob("*") if path.is_file()] == []


def test_rows_are_counted(run: tuple[FittedModel, Path, list[str]]) -> None:
    rows = run[0].rows
    assert (rows["train_split"], rows["train_duplicates_dropped"], rows["train"]) == (302, 2, 300)
    assert (rows["validation_stopping"], rows["validation_fitting"], rows["validation_choosing"]) == (120, 60, 60)
    assert (rows["test"], rows["test_in_train_split"]) == (120, 2)


def test_scoring_through_the_bundle_gives_the_figures_of_the_training_run(run: tuple[FittedModel, Path, list[str]], tmp_path: Path) -> None:
    fitted, _, _ = run
    scorer = Scorer.load(build_serving_folder(fitted.bundle, tmp_path / "serving", 1e-3), ScoringSettings(), threads=1)
    test = labelled_reviews(corpus(), "test")
    for view, mode in {"as_is": None, "without_headline": "drop", "ratings_masked": "mask_ratings"}.items():
        scores = scorer.score(test.headlines, test.bodies, mode)
        again = metrics(Scored(scores.logit, scores.probability, test.labels, default(fitted)["threshold"]), 10)
        written = fitted.metrics["test"][view]["model"]
        assert {name: again[name] for name in FIGURES} == pytest.approx({name: written[name]["value"] for name in FIGURES}, abs=1e-6)
    assert scorer.model_version == fitted.model_version
    assert scorer.thresholds == fitted.thresholds


def default(fitted: FittedModel) -> dict[str, Any]:
    [row] = [row for row in fitted.thresholds if row["is_default"]]
    return row


def test_calibrator_and_threshold_come_from_the_two_later_parts_of_validation(run: tuple[FittedModel, Path, list[str]], tmp_path: Path) -> None:
    fitted, _, _ = run
    scorer = Scorer.load(build_serving_folder(fitted.bundle, tmp_path / "serving", 1e-3), ScoringSettings(), threads=1)
    validation = labelled_reviews(corpus(), "validation")
    scores = scorer.score(validation.headlines, validation.bodies)
    later = slice(120, 240)
    tried = [f1(scores.probability[later] >= threshold, validation.labels[later]) for threshold in np.linspace(0, 1, 201)]
    assert f1(scores.probability[later] >= default(fitted)["threshold"], validation.labels[later]) >= max(tried) - 1e-9
    rungs = fitted.metrics["calibration"]["model"]["rungs"]
    assert fitted.calibration == min(rungs, key=lambda rung: rungs[rung]["choosing_log_loss"])
    shift = fitted.metrics["calibration"]["model"]["prior_shift"]
    refitted = fit_calibrator(fitted.calibration, shift, scores.logit[later], validation.labels[later])
    np.testing.assert_allclose(refitted.apply(scores.logit), scores.probability, atol=1e-4)


def f1(flagged: np.ndarray, label: np.ndarray) -> float:
    return float(2 * (flagged & (label == 1)).sum() / max(1, flagged.sum() + label.sum()))


def test_all_three_models_stand_beside_each_other_in_every_view_of_the_same_rows(run: tuple[FittedModel, Path, list[str]]) -> None:
    test = run[0].metrics["test"]
    assert set(test) == set(VIEWS)
    assert [test[view]["rows"] for view in ("as_is", "without_headline", "ratings_masked")] == [120] * 3
    assert test["without_train_texts"]["rows"] == 120 - run[0].rows["test_in_train_split"] - run[0].rows["test_near_train_split"]
    assert test["unseen_products"]["rows"] == run[0].rows["test_of_new_products"] > 0
    as_is = test["as_is"]
    assert as_is["model"]["auc"]["value"] > 0.9 and as_is["tfidf"]["auc"]["value"] > 0.95
    assert (as_is["majority"]["auc"]["value"], as_is["majority"]["f1"]["value"]) == (0.5, 0)
    for figure in FIGURES:
        assert as_is["gain"][figure]["value"] == pytest.approx(as_is["model"][figure]["value"] - as_is["tfidf"][figure]["value"])
        assert as_is["model"][figure]["low"] <= as_is["model"][figure]["value"] <= as_is["model"][figure]["high"]


def test_the_bundle_can_be_judged_again_without_scoring(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted = run[0]
    predictions = pq.read_table(fitted.bundle / "predictions.parquet")
    assert not {"review_headline", "review_body"} & set(predictions.column_names)
    calibrator = Calibrator.from_json(read_json(fitted.bundle / "calibrator.json"))
    rows, not_set = refit_thresholds(predictions, calibrator, fitted.settings)
    assert rows == fitted.thresholds and not_set == fitted.metrics["calibration"]["model"]["thresholds_not_set"]
    test = predictions.filter(pc.equal(predictions["part"], "test"))
    assert set(test["review_id"].to_pylist()) == set(labelled_reviews(corpus(), "test").review_ids)
    for listed in fitted.metrics["errors"].values():
        assert all(set(row) == {"review_id", "label", "probability"} for row in listed)


def test_thresholds_carry_their_figures_on_test(run: tuple[FittedModel, Path, list[str]]) -> None:
    row, test = default(run[0]), run[0].metrics["test"]["as_is"]["model"]
    assert row["threshold_name"] == "f1_max" and row["is_active"]
    assert row["f1"] == test["f1"]["value"]
    for name in ("precision", "recall", "flagged_share"):
        assert {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]} == test[name]
    names = {one["threshold_name"] for one in run[0].thresholds} | set(run[0].metrics["calibration"]["model"]["thresholds_not_set"])
    assert names == {"f1_max", "cost_5_1", "precision_90", "recall_90"}


def test_report_and_card_say_what_was_done(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted, _, lines = run
    card = (fitted.bundle / "README.md").read_text()
    assert card.startswith(f"# {fitted.model_version}\n")
    assert "1–2 stars were given, given that it was not 3" in card
    assert "| … dropped, as their exact text stands in validation or test too | 2 |" in card
    assert f"{fitted.counts.lora:,} of the adapter" in card
    assert fitted.manifest["backbone"]["revision"] in card
    views = [line for line in lines if line.startswith(("| as is", "| without headline", "| rows of products"))]
    assert len(views) == 3 and all(line in card for line in views)
    bodies = {body for body in corpus()["review_body"].to_pylist() if body}
    assert not [body for body in bodies if body in card]
    assert any(str(fitted.counts) in line for line in lines)
    assert len([line for line in lines if re.match(r" *\d ", line)]) == 3


def test_the_same_run_again_is_the_same_model(run: tuple[FittedModel, Path, list[str]], encoder: Path, tmp_path: Path) -> None:
    again = fit(corpus(), tiny_settings(encoder, epochs=3), tmp_path / "models", tmp_path / "work", lambda line: None)
    assert again.model_version == run[0].model_version
    assert again.metrics == run[0].metrics


def test_settings_reach_the_calibrator_and_the_draw(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder, epochs=1, max_rows=100)
    settings = settings.model_copy(update={"calibration": settings.calibration.model_copy(update={"method": "isotonic"})})
    fitted = fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    assert fitted.rows["train"] == 100
    assert Calibrator.from_json(read_json(fitted.bundle / "calibrator.json")).method == "isotonic"


def test_killed_after_training_the_bundle_comes_without_training_again(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_cut(*arguments: Any) -> None:
        raise KeyboardInterrupt

    settings = tiny_settings(encoder, epochs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("model.fit.write_bundle", power_cut)
        fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    lines: list[str] = []
    fitted = fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lines.append)
    assert "Training goes on after epoch 1, which an earlier run finished." in lines
    verify_bundle(fitted.bundle)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_trains_alike_on_a_gpu(run: tuple[FittedModel, Path, list[str]], encoder: Path, tmp_path: Path) -> None:
    fitted = fit(corpus(), tiny_settings(encoder, epochs=3, device="cuda"), tmp_path / "models", tmp_path / "work", lambda line: None)
    assert fitted.metrics["training"]["device"].startswith("cuda")
    assert fitted.metrics["test"]["model"]["auc"] == pytest.approx(run[0].metrics["test"]["model"]["auc"], abs=0.05)


def test_data_without_a_class_ends_before_anything_is_loaded(encoder: Path, tmp_path: Path) -> None:
    rows = [{**row, "star_rating": 5} for row in planted_reviews(40, 40, 20).to_pylist()]
    with pytest.raises(ReviewriskError, match="the train split has 40 labelled rows"):
        fit(reviews_table(rows), tiny_settings(encoder), tmp_path / "models", tmp_path / "work", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_backbone_is_put_into_the_bundle_as_it_was_resolved(run: tuple[FittedModel, Path, list[str]], encoder: Path) -> None:
    resolved = load_backbone(tiny_settings(encoder).backbone)
    assert run[0].manifest["backbone"] == {"name": str(encoder), "revision": resolved.revision, "pooling": "cls", "max_length": 64}

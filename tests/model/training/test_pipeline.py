"""A whole training run on planted reviews: bundle, figures, and scoring that gives the same numbers again."""

from __future__ import annotations

import datetime
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from model.bundle.bundle import build_serving_folder, verify_bundle
from model.data.reviews import labelled_reviews
from model.errors import ReviewriskError
from model.evaluation.calibration_error import reliability_table
from model.evaluation.calibrators import Calibrator
from model.evaluation.cross_fitting import CalibrationRows, choose_calibrator
from model.evaluation.markdown import interval
from model.evaluation.metrics import FIGURES, Scored, intervals, metrics
from model.evaluation.results import comparison, gain_in_words, view_table
from model.evaluation.views import READ_AS, VIEWS, refit_thresholds
from model.files import read_json
from model.network.backbone import load_backbone
from model.scoring.scorer import Scorer, Scores
from model.settings import ScoringSettings, TextSettings, ThresholdSettings
from model.text.compose import HeadlineMode, model_text
from model.training.pipeline import FittedModel, fit, predict_test, rows_in_words
from tests.support.tiny_models import planted_review, planted_reviews, reviews_table, tiny_encoder, tiny_settings


def corpus() -> pa.Table:
    """Planted reviews; two of the test texts stand in training too, and each split has a review of three stars."""
    rows = planted_reviews(300, 240, 120).to_pylist()
    test = [row for row in rows if row["split"] == "test"][:2]
    copied = [
        {**row, "review_id": f"copy-{number}", "split": "train", "review_date": datetime.date(2014, 2, 2)}
        for number, row in enumerate(test)
    ]
    ambivalent = [
        planted_review(split, 999, day, random.Random(1), star_rating=3, review_id=f"{split}-three")
        for split, day in (
            ("train", datetime.date(2014, 2, 2)),
            ("validation", datetime.date(2015, 2, 2)),
            ("test", datetime.date(2015, 5, 5)),
        )
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


def default_of(fitted: FittedModel) -> dict[str, Any]:
    [row] = [row for row in fitted.thresholds if row["is_default"]]
    return row


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
    assert (fitted.data_version, fitted.manifest["data_version"]) == (
        fitted.manifest["data_version"],
        fitted.data_version,
    )
    assert fitted.calibration == read_json(fitted.bundle / "calibrator.json")["method"]


def test_nothing_but_the_bundle_is_left(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted, root, _ = run
    assert [path.name for path in (root / "models").iterdir()] == [fitted.model_version]
    assert [path for path in (root / "work").rglob("*") if path.is_file()] == []


def test_the_rows_in_words_say_what_each_is_for(run: tuple[FittedModel, Path, list[str]]) -> None:
    rows = {
        "train_split": 3_020,
        "train_duplicates_dropped": 20,
        "train": 3_000,
        "validation": 240,
        "validation_stopping": 120,
        "validation_calibration": 121,
        "test": 130,
        "test_in_train_split": 4,
        "test_near_train_split": 5,
        "test_of_new_products": 6,
    }
    assert rows_in_words(rows) == (
        "Rows: 3,000 to train on (training split 3,020, of them 20 whose text is in validation or test too), 240 of"
        " validation (early stopping 120, calibration 121), 130 of test (text in the training split 4,"
        " nearly the same text there 5, product not there 6)"
    )
    fitted, _, lines = run
    assert rows_in_words(fitted.rows) in lines


def test_rows_are_counted(run: tuple[FittedModel, Path, list[str]]) -> None:
    rows = run[0].rows
    assert (rows["train_split"], rows["train_duplicates_dropped"], rows["train"]) == (302, 2, 300)
    assert (rows["validation_stopping"], rows["validation_calibration"]) == (120, 120)
    assert (rows["test"], rows["test_in_train_split"], rows["test_near_train_split"], rows["test_of_new_products"]) == (
        120,
        2,
        0,
        15,
    )


def test_scoring_through_the_bundle_gives_the_figures_of_the_training_run(
    run: tuple[FittedModel, Path, list[str]], tmp_path: Path
) -> None:
    fitted, _, _ = run
    scorer = Scorer.load(build_serving_folder(fitted.bundle, tmp_path / "serving", 1e-3), ScoringSettings(), threads=1)
    test = labelled_reviews(corpus(), "test")
    threshold = default_of(fitted)["threshold"]
    for view, mode in {"as_is": None, **READ_AS}.items():
        scores = scorer.score(test.headlines, test.bodies, mode)
        again = metrics(Scored(scores.logit, scores.probability, test.labels, threshold), 10)
        shown = {name: estimate["value"] for name, estimate in fitted.metrics["test"][view]["model"].items()}
        assert shown == {name: pytest.approx(value, abs=1e-4) for name, value in again.items() if name in FIGURES}, view
    assert (scorer.model_version, scorer.headline_mode) == (fitted.model_version, "keep")


def test_a_view_scores_only_the_rows_that_it_reads_otherwise() -> None:
    day, no_luck = datetime.date(2015, 5, 5), random.Random(1)
    texts = [("One Star", "Broke."), ("Nice", "Holds well."), (None, "I gave it 4 stars. Solid."), ("Blue", None)]
    rows = [
        planted_review("test", 1, day, no_luck, review_id=str(number), review_headline=headline, review_body=body)
        for number, (headline, body) in enumerate(texts)
    ]
    test = labelled_reviews(reviews_table(rows), "test")
    passes: list[list[str]] = []

    class LengthScorer:
        headline_mode = "keep"

        def score(
            self, headlines: list[str], bodies: list[str], mode: HeadlineMode | None, score_blank: bool
        ) -> Scores:
            assert score_blank
            passes.append([model_text(*both, mode or "keep") for both in zip(headlines, bodies, strict=True)])
            return replace(Scores.empty(len(bodies)), logit=np.array([float(len(text)) for text in passes[-1]]))

    logit, read_as = predict_test(cast(Scorer, LengthScorer()), test, lambda line: None)
    assert passes == [test.texts, ["Broke.", "Holds well.", ""], ["Broke.", model_text(*texts[2], "mask_ratings")]]
    assert logit.tolist() == [len(text) for text in test.texts]
    for view, mode in READ_AS.items():
        assert read_as[view].tolist() == [len(model_text(*both, mode)) for both in texts], view


def test_all_figures_follow_from_the_predictions_in_the_bundle(run: tuple[FittedModel, Path, list[str]]) -> None:
    """metrics.json, thresholds.json and calibrator.json agree with predictions.parquet: whoever has the bundle can work
    them out again.
    """
    bundle = run[0].bundle
    predictions, shown = pq.read_table(bundle / "predictions.parquet"), read_json(bundle / "metrics.json")
    calibrator, thresholds = (
        Calibrator.from_json(read_json(bundle / "calibrator.json")),
        read_json(bundle / "thresholds.json"),
    )
    assert refit_thresholds(predictions, calibrator, run[0].settings) == (
        thresholds,
        shown["calibration"]["model"]["thresholds_not_set"],
    )
    [threshold] = [row["threshold"] for row in thresholds if row["is_default"]]
    test = predictions.filter(pc.equal(predictions["part"], "test"))
    logit, label, products = (test[name].to_numpy() for name in ("model_logit", "label", "product_id"))
    scored = Scored(logit, calibrator.apply(logit), label, threshold)
    assert shown["test"]["as_is"]["model"] == intervals(scored, 10, products, 0.95, run[0].settings.training.seed)
    assert shown["reliability"]["model"] == reliability_table(scored.probability, label, 10)
    assert shown["rows"]["test"] == shown["test"]["as_is"]["rows"] == test.num_rows == 120
    validation = predictions.filter(pc.equal(predictions["part"], "calibration"))
    columns = ("model_logit", "label", "product_id", "review_date")
    rows, calibration = (
        CalibrationRows(*(validation[name].to_numpy() for name in columns)),
        shown["calibration"]["model"],
    )
    choice = choose_calibrator("auto", calibration["prior_shift"], rows)
    assert (run[0].calibration, calibrator, calibration["folds"]) == (
        choice.calibrator.method,
        choice.calibrator,
        choice.folds,
    )
    for method, values in calibration["rungs"].items():
        assert (values["out_of_fold_log_loss"], values["standard_error"]) == (
            choice.log_loss[method],
            choice.standard_error[method],
        )


def test_predictions_are_of_the_later_half_of_validation_and_of_test(
    run: tuple[FittedModel, Path, list[str]], tmp_path: Path
) -> None:
    fitted, _, _ = run
    predictions = pq.read_table(fitted.bundle / "predictions.parquet")
    validation, test = (labelled_reviews(corpus(), split) for split in ("validation", "test"))
    assert predictions["review_id"].to_pylist() == [*validation.review_ids[120:], *test.review_ids]
    assert predictions["part"].to_pylist() == ["calibration"] * 120 + ["test"] * 120
    scorer = Scorer.load(build_serving_folder(fitted.bundle, tmp_path / "serving", 1e-3), ScoringSettings(), threads=1)
    logit = np.r_[
        scorer.score(validation.headlines, validation.bodies).logit[120:],
        scorer.score(test.headlines, test.bodies).logit,
    ]
    np.testing.assert_allclose(predictions["model_logit"].to_numpy(), logit, atol=1e-4)


def test_all_three_models_stand_beside_each_other_on_the_same_rows(run: tuple[FittedModel, Path, list[str]]) -> None:
    test = run[0].metrics["test"]
    assert list(test) == list(VIEWS)
    assert {view: found["rows"] for view, found in test.items()} == {
        "as_is": 120,
        "without_headline": 120,
        "ratings_masked": 120,
        "no_default_headline": sum(headline is None for headline in labelled_reviews(corpus(), "test").headlines),
        "without_train_texts": 118,
        "unseen_products": 15,
    }
    as_is = test["as_is"]
    assert as_is["model"]["auc"]["value"] > 0.9
    assert as_is["tfidf"]["auc"]["value"] > 0.95
    assert (as_is["majority"]["auc"]["value"], as_is["majority"]["f1"]["value"]) == (0.5, 0)
    gain = as_is["gain"]["f1"]
    assert gain["value"] == pytest.approx(as_is["model"]["f1"]["value"] - as_is["tfidf"]["f1"]["value"])


def test_thresholds_carry_their_figures_on_test(run: tuple[FittedModel, Path, list[str]]) -> None:
    assert [row["threshold_name"] for row in run[0].thresholds] == ["f1_max", "cost_5_1", "recall_90"]
    # 120 rows are too few for it
    assert list(run[0].metrics["calibration"]["model"]["thresholds_not_set"]) == ["precision_90"]
    threshold, as_is = default_of(run[0]), run[0].metrics["test"]["as_is"]["model"]
    assert (threshold["threshold_name"], threshold["is_active"]) == ("f1_max", True)
    for name in ("precision", "recall", "flagged_share"):
        assert {"value": threshold[name], "low": threshold[f"{name}_low"], "high": threshold[f"{name}_high"]} == as_is[
            name
        ]
    assert threshold["f1"] == as_is["f1"]["value"]


def test_report_and_card_say_what_was_done(run: tuple[FittedModel, Path, list[str]]) -> None:
    fitted, _, lines = run
    card = (fitted.bundle / "README.md").read_text()
    assert card.startswith(f"# {fitted.model_version}\n")
    assert "1–2 stars were given, given that it was not 3" in card
    assert "| … dropped, as their exact text stands in validation or test too | 2 |" in card
    assert "| … of products without a review there | 15 |" in card
    assert f"{fitted.counts.lora:,} of the adapter" in card
    assert fitted.manifest["backbone"]["revision"] in card
    test = fitted.metrics["test"]
    for key in ("f1", "auc"):
        for line in view_table(test, key):
            assert line in card
    for figure in ("auc", "brier", "ece_debiased", "log_loss"):
        assert interval(test["as_is"]["model"][figure]) in card
    for row in fitted.thresholds:
        assert re.search(
            rf"\| {row['threshold_name']} .*{re.escape(row['purpose'])}.*\| +{row['threshold']:.4f} \|", card
        ), row
    for line in comparison(test):
        assert line in lines
    assert gain_in_words(test["as_is"]["gain"]["f1"]) in card
    assert any(str(fitted.counts) in line for line in lines)
    assert any(line.startswith(f"Calibrator: {fitted.calibration}; log-loss out of fold: none 0.") for line in lines)
    assert len([line for line in lines if re.match(r" *\d ", line)]) == 3
    assert any(re.match(rf"weight decay \S+ for {fitted.rows['train']:,} training rows", line) for line in lines), (
        "a default is printed with its reason"
    )


def test_no_review_is_quoted_anywhere_in_the_bundle(run: tuple[FittedModel, Path, list[str]]) -> None:
    bodies = [body for body in corpus()["review_body"].to_pylist() if body]
    for name in ("README.md", "metrics.json", "thresholds.json"):
        content = (run[0].bundle / name).read_text()
        assert not [body for body in bodies if body in content], name
    assert not set(pq.read_schema(run[0].bundle / "predictions.parquet").names) & {
        "review_body",
        "review_headline",
        "text",
    }


def test_the_same_run_again_is_the_same_model(
    run: tuple[FittedModel, Path, list[str]], encoder: Path, tmp_path: Path
) -> None:
    again = fit(corpus(), tiny_settings(encoder, epochs=3), tmp_path / "models", tmp_path / "work", lambda line: None)
    assert again.model_version == run[0].model_version
    assert again.metrics == run[0].metrics


def test_settings_reach_the_calibrator_and_the_draw(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder, epochs=1, max_rows=100)
    settings = settings.model_copy(
        update={"calibration": settings.calibration.model_copy(update={"method": "isotonic"})}
    )
    fitted = fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    assert fitted.rows["train"] == 100
    assert Calibrator.from_json(read_json(fitted.bundle / "calibrator.json")).method == "isotonic"


def test_a_model_that_is_to_read_the_body_alone_is_trained_and_judged_on_it(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder, epochs=1).model_copy(update={"text": TextSettings(headline="drop")})
    fitted = fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    test = fitted.metrics["test"]
    assert test["as_is"]["model"] == test["without_headline"]["model"]
    assert test["as_is"]["tfidf"] == test["without_headline"]["tfidf"]
    scorer = Scorer.load(build_serving_folder(fitted.bundle, tmp_path / "serving", 1e-3), ScoringSettings(), threads=1)
    assert scorer.headline_mode == "drop"
    assert "trained to read the body alone" in (fitted.bundle / "README.md").read_text()


def test_a_threshold_name_that_there_is_not_ends_it_before_anything_is_loaded(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder).model_copy(update={"thresholds": ThresholdSettings(default="precision_95")})
    with pytest.raises(
        ReviewriskError, match="names 'precision_95', but these settings give f1_max, cost_5_1, precision_90, recall_90"
    ):
        fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_killed_after_training_the_bundle_comes_without_training_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*arguments: Any) -> None:
        raise KeyboardInterrupt

    settings = tiny_settings(encoder, epochs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("model.training.pipeline.write_bundle", power_cut)
        fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lambda line: None)
    lines: list[str] = []
    fitted = fit(corpus(), settings, tmp_path / "models", tmp_path / "work", lines.append)
    assert "Training goes on after epoch 1, which an earlier run finished." in lines
    verify_bundle(fitted.bundle)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_trains_alike_on_a_gpu(run: tuple[FittedModel, Path, list[str]], encoder: Path, tmp_path: Path) -> None:
    fitted = fit(
        corpus(),
        tiny_settings(encoder, epochs=3, device="cuda"),
        tmp_path / "models",
        tmp_path / "work",
        lambda line: None,
    )
    assert fitted.metrics["training"]["device"].startswith("cuda")
    auc, on_cpu = (one.metrics["test"]["as_is"]["model"]["auc"]["value"] for one in (fitted, run[0]))
    assert auc == pytest.approx(on_cpu, abs=0.05)


def test_data_without_a_class_ends_before_anything_is_loaded(encoder: Path, tmp_path: Path) -> None:
    rows = [{**row, "star_rating": 5} for row in planted_reviews(40, 40, 20).to_pylist()]
    with pytest.raises(ReviewriskError, match="the train split has 40 labelled rows"):
        fit(reviews_table(rows), tiny_settings(encoder), tmp_path / "models", tmp_path / "work", lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_backbone_is_put_into_the_bundle_as_it_was_resolved(
    run: tuple[FittedModel, Path, list[str]], encoder: Path
) -> None:
    resolved = load_backbone(tiny_settings(encoder).backbone)
    assert run[0].manifest["backbone"] == {
        "name": str(encoder),
        "revision": resolved.revision,
        "pooling": "cls",
        "max_length": 64,
    }

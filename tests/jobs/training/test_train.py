"""Training as a command: what it prints beside published figures, and that the same training again changes no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config import Config
from jobs.lake import tables
from jobs.registry.models import run_show
from jobs.registry.refit_thresholds import run_thresholds
from jobs.training.train import run_train
from model.errors import ReviewriskError
from model.files import read_json
from tests.jobs.registry.test_reference import PUBLISHED
from tests.support.tiny_models import planted_reviews, tiny_encoder
from tests.support.trained_root import tiny_config, versions
from tests.support.warehouse_rows import review, write_root


@pytest.fixture
def ready(config: Config, tmp_path: Path) -> Config:
    """A root with reviews to train on and no model."""
    write_root(config.root.local_path, {"reviews": [review(**row) for row in planted_reviews().to_pylist()]})
    return tiny_config(config, tiny_encoder(tmp_path / "encoder"))


def test_a_model_of_some_reviews_has_another_version_even_where_these_are_all(ready: Config) -> None:
    general, special = run_train(ready, lambda _: None), run_train(ready.with_only("marketplace=us"), lambda _: None)
    rows = {row["model_version"]: row for row in tables.read_arrow(ready.root, "models").to_pylist()}
    assert rows.keys() == {general, special} and general != special
    assert (
        rows[general]["data_version"] == rows[special]["data_version"]
        and rows[general]["test_f1"] == rows[special]["test_f1"]
    )
    assert (rows[general]["row_filter"], rows[special]["row_filter"]) == (None, "marketplace=us")
    with_figures = ready.model_copy(update={"reference": PUBLISHED})
    heads = [
        sum(line.startswith("Beside published") for line in shown_lines(with_figures, version))
        for version in (general, special)
    ]
    assert heads == [1, 0], "published figures are of all reviews"


def test_a_registered_model_has_the_figures_of_its_bundle_and_the_mark_that_follows(ready: Config) -> None:
    version = run_train(ready, lambda _: None)
    [row] = tables.read_arrow(ready.root, "models").to_pylist()
    test = read_json(ready.root.local_path / "models" / version / "metrics.json")["test"]
    model, gain = test["as_is"]["model"], test["as_is"]["gain"]["f1"]
    for name in ("auc", "average_precision", "f1", "ece", "brier", "log_loss", "ece_debiased"):
        assert row[f"test_{name}"] == model[name]["value"], name
    assert (row["test_f1_low"], row["test_f1_high"]) == (model["f1"]["low"], model["f1"]["high"])
    assert (row["f1_gain"], row["f1_gain_low"], row["f1_gain_high"]) == (gain["value"], gain["low"], gain["high"])
    assert (
        row["beats_baseline"] == (gain["low"] > 0)
        and row["test_f1_ratings_masked"] == test["ratings_masked"]["model"]["f1"]["value"]
    )
    assert (row["baseline_auc"], row["baseline_f1"]) == (
        test["as_is"]["tfidf"]["auc"]["value"],
        test["as_is"]["tfidf"]["f1"]["value"],
    )


def with_cost(config: Config, missed: float) -> Config:
    thresholds = config.model.thresholds.model_copy(update={"cost_false_negative": missed})
    return config.model_copy(update={"model": config.model.model_copy(update={"thresholds": thresholds})})


def test_the_same_training_again_leaves_every_table_as_it_is(ready: Config) -> None:
    """Thresholds that were fitted for the model since stay, too; the published figures stand beside its own."""
    version = run_train(ready, lambda _: None)
    run_thresholds(with_cost(ready, 20), version, lambda _: None)
    before = versions(ready)
    printed: list[str] = []
    assert run_train(ready.model_copy(update={"reference": PUBLISHED}), printed.append) == version
    assert versions(ready) == before
    names = {row["threshold_name"] for row in tables.read_arrow(ready.root, "model_thresholds").to_pylist()}
    assert {"f1_max", "cost_20_1"} <= names and "cost_5_1" not in names, "training again brings no row back"
    shown = shown_lines(ready.model_copy(update={"reference": PUBLISHED}), version)
    head = "Beside published figures (an invented article; not run):"
    assert printed[printed.index(head) : printed.index(head) + 10] == shown[shown.index(head) : shown.index(head) + 10]
    assert not any("Beside published figures" in line for line in shown_lines(ready, version))


def shown_lines(config: Config, version: str) -> list[str]:
    lines: list[str] = []
    run_show(config, version, lines.append)
    return lines


def test_the_configs_tolerance_holds_in_training_too(ready: Config) -> None:
    strict = ready.model_copy(update={"score": ready.score.model_copy(update={"parity_tolerance": 1e-30})})
    with pytest.raises(
        ReviewriskError, match=r"Merging the adapter moves a logit by .*, more than score\.parity_tolerance 1e-30"
    ):
        run_train(strict, lambda _: None)

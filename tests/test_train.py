"""Training as a command: what it prints beside published figures, and that the same training again changes no table."""

from __future__ import annotations

import pytest

from jobs import tables
from jobs.config import Config
from jobs.registry import champion, run_show
from jobs.thresholding import run_thresholds
from jobs.train import run_train
from model.errors import ReviewriskError
from tests.test_reference import PUBLISHED
from tests.trained_root import versions


def with_cost(config: Config, missed: float) -> Config:
    thresholds = config.model.thresholds.model_copy(update={"cost_false_negative": missed})
    return config.model_copy(update={"model": config.model.model_copy(update={"thresholds": thresholds})})


def test_the_same_training_again_leaves_every_table_as_it_is(trained: Config) -> None:
    """Thresholds that were fitted for the model since stay, too; the published figures stand beside its own."""
    run_thresholds(with_cost(trained, 20), None, lambda _: None)
    before = versions(trained)
    printed: list[str] = []
    version = run_train(trained.model_copy(update={"reference": PUBLISHED}), printed.append)
    assert version == champion(trained.root)["model_version"]
    assert versions(trained) == before
    names = {row["threshold_name"] for row in tables.read_arrow(trained.root, "model_thresholds").to_pylist()}
    assert {"f1_max", "cost_5_1", "cost_20_1"} <= names
    shown: list[str] = []
    run_show(trained.model_copy(update={"reference": PUBLISHED}), version, shown.append)
    head = "Beside published figures (an invented article; not run):"
    assert printed[printed.index(head) : printed.index(head) + 10] == shown[shown.index(head) : shown.index(head) + 10]
    assert not any("Beside published figures" in line for line in _shown(trained, version))


def _shown(config: Config, version: str) -> list[str]:
    lines: list[str] = []
    run_show(config, version, lines.append)
    return lines


def test_the_configs_tolerance_holds_in_training_too(trained: Config) -> None:
    strict = trained.model_copy(update={"score": trained.score.model_copy(update={"parity_tolerance": 1e-30})})
    with pytest.raises(ReviewriskError, match=r"Merging the adapter moves a logit by .*, more than score\.parity_tolerance 1e-30"):
        run_train(strict, lambda _: None)

"""Exactly one champion, promoted against the config's limits."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import tables
from jobs.config import Config
from jobs.registry import champion, list_models, run_promote
from jobs.schemas import MODELS
from model.errors import ReviewriskError
from model.settings import PromotionSettings

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
BASE = {
    "status": "candidate",
    "backbone": "tiny",
    "backbone_revision": "sha256:1",
    "pooling": "cls",
    "max_length": 64,
    "lora_rank": 4,
    "lora_alpha": 8.0,
    "lora_targets": "all-linear",
    "trainable_parameters": 1,
    "total_parameters": 2,
    "calibration": "none",
    "data_version": "d",
    "train_rows": 1,
    "validation_rows": 1,
    "test_rows": 1,
    "test_auc": 0.95,
    "test_average_precision": 0.9,
    "test_f1": 0.85,
    "test_ece": 0.02,
    "test_brier": 0.05,
    "test_log_loss": 0.2,
    "baseline_auc": 0.9,
    "baseline_f1": 0.8,
    "bundle_path": "models/x",
    "bundle_checksum": "c",
    "run_id": "r",
}
LIMITS = PromotionSettings(minimum_auc=0.9, minimum_f1=0.8, maximum_ece=0.03)


def register(config: Config, *versions: str, **overrides: float) -> None:
    tables.create_tables(config.root)
    rows = [{**BASE, **overrides, "model_version": name, "trained_at": DAY + datetime.timedelta(days=place)} for place, name in enumerate(versions)]
    tables.replace_rows(config.root, "models", "r", lambda before: pa.concat_tables([before, pa.Table.from_pylist(rows, schema=MODELS.schema)]))


def promote(config: Config, version: str | None = None, since: datetime.date | None = None) -> str:
    return run_promote(config.root, LIMITS, version, since, lambda _: None)


def statuses(config: Config) -> dict[str, str]:
    return {row["model_version"]: row["status"] for row in tables.read_arrow(config.root, "models").to_pylist()}


def test_the_newest_candidate_is_promoted_and_the_old_champion_retired(config: Config) -> None:
    register(config, "a", "b")
    assert promote(config) == "b"
    assert promote(config) == "a"
    assert statuses(config) == {"a": "champion", "b": "retired"}
    assert champion(config.root)["promoted_at"] is not None
    assert promote(config, "b") == "b" and statuses(config) == {"a": "retired", "b": "champion"}


def test_since_is_kept_and_promoting_again_can_lift_it(config: Config) -> None:
    register(config, "a")
    promote(config, since=datetime.date(2015, 1, 1))
    first = champion(config.root)
    assert first["score_since"] == datetime.date(2015, 1, 1)
    promote(config, "a")
    assert champion(config.root)["score_since"] is None and champion(config.root)["promoted_at"] == first["promoted_at"]


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"test_auc": 0.8}, r"AUC 0\.8000 is below the config's 0\.9"),
        ({"test_f1": 0.7}, r"F1 0\.7000 is below the config's 0\.8"),
        ({"test_ece": 0.04}, r"ECE 0\.0400 is above the config's 0\.03"),
    ],
)
def test_a_model_that_misses_a_limit_is_not_promoted(config: Config, figures: dict[str, float], message: str) -> None:
    register(config, "a", **figures)
    with pytest.raises(ReviewriskError, match=message):
        promote(config)
    assert statuses(config) == {"a": "candidate"}
    assert [row["status"] for row in tables.read_arrow(config.root, "job_runs").to_pylist()] == ["failed"]


def test_unknown_versions_and_empty_registries_are_sentences(config: Config, tmp_path: Path) -> None:
    tables.create_tables(config.root)
    assert list_models(config.root) == ["no model yet: run `reviewrisk train`"]
    with pytest.raises(ReviewriskError, match="no candidate to promote"):
        promote(config)
    register(config, "a")
    with pytest.raises(ReviewriskError, match="There is no model z; there are: a"):
        promote(config, "z")
    assert "a " in list_models(config.root)[1] and "candidate" in list_models(config.root)[1]

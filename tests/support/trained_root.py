"""A root with an ingested corpus and a champion: a tiny encoder trained on planted words, made once and copied for each
test.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.torch import load_file, save_file

from jobs.config import Config, RoutingSettings
from jobs.ingest.merge import run_ingest
from jobs.lake import tables
from jobs.registry.promote import run_promote
from jobs.training.train import run_train
from tests.support.raw_files import line, write_source
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings, vocabulary

POISON = "("  # its embedding is not a number, so a text with it cannot be scored; no planted review has it
SPLITS = {"mode": "given", "train_end": "2014-12-31", "validation_end": "2015-04-30", "test_end": "2015-08-31"}
ODD = {
    "empty": {"review_headline": "", "review_body": ""},
    "no-headline": {"review_headline": "", "review_body": "broke broken waste"},
    "emoji": {"review_headline": "😀", "review_body": "👍🏽 love 💕 it"},
    "huge": {"review_body": "great sturdy chair " * 6000},
    "html": {"review_headline": "Bad", "review_body": "It broke<br /><br />after &#34;two&#34; weeks"},
    "three": {"star_rating": "3", "review_body": "the chair is nice but broke"},
    "poison": {"star_rating": "3", "review_body": "love it (the chair"},
}


def raw_line(row: dict[str, Any]) -> str:
    """A planted review as a line of the raw file."""
    written = {**row, "verified_purchase": {True: "Y", False: "N", None: ""}[row["verified_purchase"]]}
    fields = {name: "" if value is None else str(value) for name, value in written.items() if name != "split"}
    return line(**fields)


def tiny_config(config: Config, encoder: Path, **overrides: Any) -> Config:
    """The test config with the tiny encoder, given splits, and any section replaced."""
    values = {**config.model_dump(), "splits": SPLITS, "model": tiny_settings(encoder).model_dump()}
    return Config.model_validate({**values, **overrides})


def poisoned_encoder(folder: Path) -> Path:
    encoder = tiny_encoder(folder)
    weights = load_file(encoder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    weights[name][vocabulary()[POISON]] = float("nan")
    save_file(weights, encoder / "model.safetensors", metadata={"format": "pt"})
    return encoder


def build(spark: Any, config: Config, folder: Path) -> Config:
    """Ingest, train and promote on `config`'s root; the config with the encoder in it."""
    chosen = tiny_config(config, poisoned_encoder(folder / "encoder"))
    odd = [
        line(**{"review_id": name, "review_date": "2015-06-15", "star_rating": "1", **fields})
        for name, fields in ODD.items()
    ]
    lines = [raw_line(row) for row in planted_reviews().to_pylist()]
    source = write_source(folder / "planted.tsv.gz", [*lines, *odd])
    run_ingest(spark, chosen, [str(source)], lambda _: None)
    run_train(chosen, lambda _: None)
    run_promote(chosen, None, None, None, lambda _: None)
    return chosen


def with_second_model(config: Config, seed: int = 5) -> str:
    """Trains another model on the same root, with another seed; the version of this candidate."""
    training = config.model.training.model_copy(update={"seed": seed})
    return run_train(
        config.model_copy(update={"model": config.model.model_copy(update={"training": training})}), lambda _: None
    )


def routed(config: Config, models: dict[str, str], column: str = "product_category") -> Config:
    """The config with these routes."""
    return config.model_copy(update={"routing": RoutingSettings.model_validate({"column": column, "models": models})})


def copied(config: Config, root: Path) -> Config:
    """The same config on a copy of its root."""
    shutil.copytree(config.root.local_path, root)
    return config.model_copy(update={"paths": config.paths.model_copy(update={"root": str(root)})})


def versions(config: Config) -> dict[str, int]:
    """The version of every table but job_runs."""
    return {name: tables.current_version(config.root, name) for name in tables.TABLES if name != "job_runs"}


def by_id(rows: pa.Table) -> dict[str, dict[str, Any]]:
    found = {row["review_id"]: row for row in rows.to_pylist()}
    assert len(found) == rows.num_rows, "one row per review"
    return found

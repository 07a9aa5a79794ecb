"""Serving folders and scorers for tests of engines: a tiny model of each family, its OpenVINO graphs made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.bundle.bundle import build_serving_folder
from model.scoring.engines.interface import EngineKind
from model.scoring.engines.openvino_engine import compile_graph
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings
from tests.support.tiny_models import tiny_baseline, tiny_bundle

SMALL = ScoringSettings(tokens_per_batch=512, rows_per_buffer=16)
WORDS = ["the", "leg", "broke", "chair", "nice", "love", "awful", "again", "good", "smell", "two", "weeks"]


def compiled_serving(folder: Path, family: Any = "distilbert") -> Path:
    """A serving folder below `folder` with its graphs and a baseline."""
    serving = build_serving_folder(
        tiny_bundle(folder, family, baseline=tiny_baseline()), folder / "serving", tolerance=1e-3
    )
    compile_graph(serving, "float32")
    compile_graph(serving, "int8")
    return serving


def scorer_on(serving: Path, kind: EngineKind) -> Scorer:
    settings = SMALL.model_copy(update={"engine": kind.name, "precision": kind.precision})
    return Scorer.load(serving, settings, threads=1)


def texts(rows: int, seed: int = 5) -> list[str]:
    """Texts of 1 to 89 known words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=length)) for length in random.integers(1, 90, size=rows)]

"""A comparison as tests make it."""

from __future__ import annotations

from typing import Any

import torch

from model.experiments.cells import Outcome
from model.experiments.compare.inputs import Cell, Inputs
from model.experiments.compare.rule import Comparison
from model.experiments.methods import METHODS
from model.settings import ModelSettings
from tests import ROOT

PAIRS = ROOT / "tests" / "data" / "minimal_pairs.jsonl"
IDS = torch.tensor([[2, *range(40, 80), 3]])


def silent(_: str) -> None:
    pass


def made(figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings) -> Comparison:
    outcomes = [
        Outcome(Cell(name, 200), "done", figures[name])
        if name in figures
        else Outcome(Cell(name, 200), "refused", reason="because.")
        for name in METHODS
    ]
    return Comparison(outcomes, inputs, settings, 200)

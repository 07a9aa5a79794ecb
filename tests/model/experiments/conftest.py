"""Inputs, settings and figures of a small comparison, made once for all its tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from model.experiments.compare.figures import run_cell
from model.experiments.compare.inputs import Cell, Inputs, prepare_inputs
from model.settings import ModelSettings
from tests.support.comparisons import IDS, PAIRS, silent
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings, tiny_tokenizer, vocabulary


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    return tiny_settings(tiny_encoder(tmp_path_factory.mktemp("encoder"), "bert"), epochs=1, learning_rate=5e-3)


@pytest.fixture(scope="session")
def inputs(settings: ModelSettings) -> Inputs:
    return prepare_inputs(planted_reviews(), planted_reviews(40, 40, 40, seed=9), PAIRS, settings, 90)


@pytest.fixture(scope="session")
def figures(
    settings: ModelSettings, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The figures of one cell of each kind, run in this process, as JSON gives them back."""
    names = ("tfidf", "majority", "linear_head", "lora_all", "full")
    return {
        name: json.loads(
            json.dumps(
                run_cell(Cell(name, 200), inputs, settings, tmp_path_factory.mktemp(name), silent), allow_nan=False
            )
        )
        for name in names
    }


@pytest.fixture
def with_masked_token_head(tmp_path: Path) -> ModelSettings:
    """Settings of an encoder whose checkpoint has a head that guesses masked tokens, and has learnt to."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=len(vocabulary()), **shape))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path / "masked"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return tiny_settings(folder, epochs=1)

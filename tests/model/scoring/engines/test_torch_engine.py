"""PyTorch's engine: weights in its precision, and few shapes where shapes cost memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.scoring.engines.torch_engine import TorchEngine
from tests.support.engines import compiled_serving


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_serving(tmp_path_factory.mktemp("engine"))


def test_bfloat16_weights_are_cast_once(serving: Path) -> None:
    engine = TorchEngine.load(serving, torch.device("cpu"), "bfloat16")
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    assert engine.few_shapes and not TorchEngine.load(serving, torch.device("cpu"), "float32").few_shapes

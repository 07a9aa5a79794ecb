"""PyTorch on a CPU or a GPU: the reference in float32, and bfloat16 and float16 with the weights themselves in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network.backbone import load_classifier
from model.network.classifier import ReviewClassifier, margin
from model.scoring.engines.interface import EngineKind, Precision


@dataclass(eq=False)
class TorchEngine:
    """A classifier in evaluation mode whose weights are in the engine's precision already."""

    model: ReviewClassifier
    device: torch.device
    precision: Precision = "float32"

    @classmethod
    def load(cls, serving_folder: Path, device: torch.device, precision: Precision) -> TorchEngine:
        """The merged classifier of a serving folder.

        Weights are cast once: autocast would cast them again for every batch, at half the speed (docs/benchmarks.md).
        """
        model = load_classifier(serving_folder).requires_grad_(False)
        return cls(model.to(device, getattr(torch, precision)), device, precision)

    @property
    def kind(self) -> EngineKind:
        return EngineKind("torch", self.precision)

    @property
    def few_shapes(self) -> bool:
        # On a CPU, PyTorch keeps a compiled bfloat16 kernel for every shape it has met: memory would grow without end.
        return self.device.type == "cpu" and self.precision == "bfloat16"

    @torch.inference_mode()
    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = self.model(input_ids=self._moved(ids), attention_mask=self._moved(mask))
        values: NDArray[np.float32] = margin(logits).cpu().numpy()
        return values

    def _moved(self, values: NDArray[np.int64]) -> Tensor:
        """The values on the engine's device; to a GPU they go from pinned memory, so that nothing waits for them."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

"""How the encoder computes while it is trained: its own dropout, and on CPU an attention that is fast forwards and
backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel


def encoder_of(network: nn.Module) -> PreTrainedModel:
    """The pretrained encoder in a classifier, also where peft has wrapped it."""
    return next(module for module in network.modules() if isinstance(module, PreTrainedModel))


def set_encoder_dropout(network: nn.Module, share: float | None) -> None:
    """Drop this share in every dropout layer that the encoder came with; None leaves each as it is. LoRA's dropout is
    its own setting.
    """
    if share is None:
        return
    for name, module in encoder_of(network).named_modules():
        if isinstance(module, nn.Dropout) and "lora_dropout" not in name:
            module.p = share


@contextmanager
def training_attention(network: nn.Module, device: torch.device) -> Iterator[None]:
    """On CPU, PyTorch's fused attention is left for plain matrix products: it is slow with dropout, and backwards in
    bfloat16 (docs/benchmarks.md).
    """
    encoder = encoder_of(network)
    fused = encoder.config._attn_implementation
    if device.type != "cpu" or fused != "sdpa":
        yield
        return
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(fused)

"""Base weights in 8 or 4 bits while the adapter trains (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), on hardware
that has it.

Needs an NVIDIA GPU and the package bitsandbytes. Run on an H100 with bitsandbytes 0.50.2: docs/results.md has the
accuracy that it costs, docs/benchmarks.md the speed and memory, both worse than bfloat16's for encoders of this size.
With the CPU code of bitsandbytes, which is too slow to be offered, tiny DistilBERT, BERT and DeBERTa-v2 models
trained on 8- and 4-bit weights and were moved to the plain base; DoRA did so in 4 bits alone (peft 0.21 loses the
scales of 8-bit weights on a CPU).
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any, Literal

import torch
from peft import prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, PreTrainedModel

from model.errors import ReviewriskError
from model.network.hardware import resolve_precision

Quantization = Literal["none", "8bit", "4bit"]


def check_quantization(quantization: Quantization) -> None:
    """Raises ReviewriskError where this machine cannot train on base weights of so few bits."""
    if quantization == "none":
        return
    missing = []
    if not torch.cuda.is_available():
        missing.append("an NVIDIA GPU (PyTorch sees none here)")
    if importlib.util.find_spec("bitsandbytes") is None:
        missing.append("the package bitsandbytes (pip install bitsandbytes)")
    if missing:
        raise ReviewriskError(
            f"model.lora.quantization is {quantization!r}, which needs {' and '.join(missing)}: set it to 'none', or"
            " train on a machine that has it."
        )


def loading_options(quantization: Quantization) -> dict[str, Any]:
    """Options of from_pretrained that put the linear layers on the GPU in so few bits; none for `none`.

    4bit is QLoRA's own recipe: NormalFloat4, the quantisation constants quantised again, arithmetic in bfloat16 where
    the GPU computes it.
    """
    check_quantization(quantization)
    if quantization == "none":
        return {}
    device = torch.device("cuda", torch.cuda.current_device())
    if quantization == "8bit":
        # it says for every product that it casts to float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        in_8_bits = BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
        return {"quantization_config": in_8_bits, "device_map": {"": device}}
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=resolve_precision("auto", device),
    )
    return {"quantization_config": config, "device_map": {"": device}}


def prepared_for_training(encoder: PreTrainedModel) -> PreTrainedModel:
    """The quantised encoder, frozen, with layer norms and embeddings in float32.

    Gradient checkpointing stays off: it trades time for memory that encoders of this size do not need.
    """
    prepare: Callable[..., PreTrainedModel] = prepare_model_for_kbit_training  # peft leaves it without types
    return prepare(encoder, use_gradient_checkpointing=False)


def is_quantised(encoder: PreTrainedModel) -> bool:
    """Whether the encoder's linear layers are in 8 or 4 bits."""
    return bool(getattr(encoder, "is_loaded_in_8bit", False) or getattr(encoder, "is_loaded_in_4bit", False))

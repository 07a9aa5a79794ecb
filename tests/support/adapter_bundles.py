"""Bundles of untrained tiny models that share a base, each with an adapter and head of its own: parents to combine, and
models to export.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from model.bundle.bundle import BundleContents, write_bundle
from model.evaluation.calibrators import Calibrator
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter
from model.settings import ModelSettings
from tests.support.tiny_models import tiny_settings


def varied_settings(encoder: Path, **changes: Any) -> ModelSettings:
    """The tiny settings with single fields changed: lora_rank=8 is lora.rank, backbone_pooling is backbone.pooling, and
    so on.
    """
    values = tiny_settings(encoder).model_dump()
    for name, value in changes.items():
        section, field = name.split("_", 1)
        values[section][field] = value
    return ModelSettings.model_validate(values)


def adapter_bundle(folder: Path, encoder: Path, seed: int = 0, **changes: Any) -> Path:
    """folder/models/<version> of a model whose LoRA's B and whose head are drawn with the seed."""
    settings = varied_settings(encoder, **changes)
    backbone = load_backbone(settings.backbone)
    adapted = attach_adapter(make_classifier(backbone, settings.training.head_dropout, seed), settings.lora, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3, generator=generator)
    contents = BundleContents(
        adapted=adapted,
        backbone=backbone,
        settings=settings,
        calibrator=Calibrator().to_json(),
        thresholds=[{"threshold_name": "f1_max", "threshold": 0.5, "is_default": True}],
        metrics={},
        predictions=pa.table({"review_id": ["r1"]}),
        data_version=f"seed-{seed}",
        describe=lambda path, manifest: (
            (path / "README.md").write_text(f"# {manifest['model_version']}\n\non `{backbone.name}`\n") and None
        ),
    )
    return write_bundle(folder / "models", contents)[0]

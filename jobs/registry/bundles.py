"""The bundle of a registered model as a local folder, and the merged model that is made from it once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jobs.config import Config
from model.errors import ReviewriskError, needs_extra


def serving_folder(config: Config, row: dict[str, Any]) -> Path:
    """A local folder with a model merged in fp32, made from the verified bundle of a row of `models`; made once, then
    kept.
    """
    with needs_extra("train", "Scoring"):
        from model.bundle.bundle import build_serving_folder
    return build_serving_folder(
        local_bundle(config, row), config.scratch / "serving" / row["model_version"], config.score.parity_tolerance
    )


def local_bundle(config: Config, row: dict[str, Any]) -> Path:
    """The bundle of a row of `models` as a local folder; an error where it is not the one that was registered."""
    parts = row["bundle_path"].split("/")
    if "\\" in row["bundle_path"] or set(parts) & {"", ".", ".."}:
        raise ReviewriskError(
            f"The table models has the bundle of {row['model_version']} in {row['bundle_path']!r}, which is not a"
            f" folder below {config.root.uri}: train the model again."
        )
    copy = config.scratch / "bundles" / f"{row['model_version']}-{row['bundle_checksum'][:12]}"
    bundle = config.root.local_copy(copy, *parts)
    manifest = bundle / "manifest.json"
    if not manifest.is_file() or hashlib.sha256(manifest.read_bytes()).hexdigest() != row["bundle_checksum"]:
        raise ReviewriskError(
            f"The bundle {bundle} is not the one that was registered (manifest.json is missing or changed): put it"
            " back, or train and promote again."
        )
    return bundle

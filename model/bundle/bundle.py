"""A model version as a folder of data: written once, verified by checksums, turned into a folder that scoring loads."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peft
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from model.bundle.listing import check_keys, read_listing, verify_files
from model.errors import ReviewriskError
from model.files import (
    canonical_json,
    file_sha256,
    folder_sha256,
    put_folder,
    read_json,
    temporary_folder_beside,
    write_json,
)
from model.network.backbone import Backbone, encode, load_backbone, load_classifier, make_classifier
from model.network.lora import load_adapter, merge_adapter, save_adapter
from model.settings import BackboneSettings, ModelSettings

FORMAT_VERSION = 2
BASELINE = "baseline"  # a bundle's folder of its TF-IDF baseline
# What describes the model to people, or is made from the rest, is no part of its identity.
_NOT_IN_VERSION = ("README.md", "manifest.json", "curves.png", "reliability.png")
_REQUIRED = (
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "calibrator.json",
    "thresholds.json",
    "metrics.json",
    "predictions.parquet",
    "settings.json",
    "tokenizer/tokenizer.json",
)
_MANIFEST_KINDS = {
    "model_version": str,
    "data_version": str,
    "backbone": dict,
    "created_at": str,
    "software": dict,
}
_BACKBONE_KINDS = {"name": str, "revision": str, "pooling": str, "max_length": int}
# Invented texts for the parity check: common, empty, long (truncated), and outside the alphabet.
_PROBES = (
    "Five Stars. Love this chair, easy to put together.",
    "Broke after two weeks. The leg snapped off and nobody answered my emails.",
    "",
    "Not bad at all! 10/10 \U0001f600 très confortable",
    "Looks nice but wobbles. " * 60,
)

Describe = Callable[[Path, dict[str, Any]], None]


@dataclass(frozen=True)
class BundleContents:
    """What a bundle is made of. `thresholds`, `calibrator` and `metrics` go into their JSON files as they are,
    `predictions` (see `views.prediction_table`) into predictions.parquet.

    `describe(folder, manifest)` writes README.md, curves.png and reliability.png; the manifest has no checksums yet.
    """

    adapted: PeftModel
    backbone: Backbone
    settings: ModelSettings
    calibrator: dict[str, Any]
    thresholds: list[dict[str, Any]]
    metrics: dict[str, Any]
    predictions: pa.Table
    data_version: str
    describe: Describe
    baseline: BaselineFiles | None = None


@dataclass(frozen=True)
class BaselineFiles:
    """What the folder `baseline` holds: the arrays of `evaluation.baseline.StoredBaseline`, and its calibrator as JSON.

    Bundles of earlier versions of the code lack the folder.
    """

    arrays: Mapping[str, NDArray[Any]]
    calibrator: dict[str, Any]

    def write(self, folder: Path) -> None:
        folder.mkdir()
        save_arrays(dict(self.arrays), folder / "weights.safetensors")
        write_json(folder / "calibrator.json", self.calibrator)

    @classmethod
    def read(cls, folder: Path) -> BaselineFiles:
        """What `write` put into the folder."""
        return cls(load_arrays(folder / "weights.safetensors"), read_json(folder / "calibrator.json"))


def write_bundle(parent: Path, contents: BundleContents) -> tuple[Path, dict[str, Any]]:
    """Write parent/<model_version>/ whole or not at all; its path and its manifest.

    The version is made from the files' checksums, the data's version and the backbone's revision. Where a valid bundle
    of that version stands already, it is left as it is.
    """
    with temporary_folder_beside(parent / "bundle") as folder:
        _write_data(folder, contents)
        manifest = _manifest(folder, contents)
        target = parent / manifest["model_version"]
        if (target / "manifest.json").is_file():
            return target, verify_bundle(target)
        contents.describe(folder, manifest)
        manifest["files"] = folder_sha256(folder)
        write_json(folder / "manifest.json", manifest)
        put_folder(folder, target)
    return target, manifest


def verify_bundle(folder: Path) -> dict[str, Any]:
    """The manifest: format_version, model_version, data_version, backbone {name, revision, pooling, max_length},
    created_at, software and files {path: sha256}.

    Raises ReviewriskError naming the file that is missing, added, a link, or whose sha256 differs, or what is wrong
    with the manifest itself.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ReviewriskError(f"{folder} is no model bundle, as it has no manifest.json: copy the folder again.")
    manifest = read_listing(path, {"format_version": int})
    if manifest["format_version"] != FORMAT_VERSION:
        raise ReviewriskError(
            f"{path} has format {manifest['format_version']}, and this version reads format {FORMAT_VERSION}: train the"
            " model again."
        )
    check_keys(path, manifest, _MANIFEST_KINDS)
    check_keys(path, manifest["backbone"], _BACKBONE_KINDS, " in backbone")
    unlisted = [name for name in _REQUIRED if name not in manifest["files"]]
    if unlisted:
        raise ReviewriskError(f"{path} does not list {unlisted[0]}, so the bundle is not whole: copy the folder again.")
    verify_files(folder, manifest["files"], path.name)
    if _model_version(manifest) != manifest["model_version"]:
        raise ReviewriskError(
            f"{path} was changed, as its model_version {manifest['model_version']} does not follow from its files: copy"
            " the folder again."
        )
    return manifest


def build_serving_folder(bundle: Path, target: Path, tolerance: float) -> Path:
    """The bundle as scoring loads it, at `target`: one merged classifier in float32, without peft and without the
    backbone's files.

    A valid serving folder of the same bundle is left as it is. Raises ReviewriskError where the bundle does not verify,
    the backbone of this machine has other weights than the bundle's, or merging moves a probe's logit by more than
    `tolerance`.
    """
    manifest = verify_bundle(bundle)
    checksum = file_sha256(bundle / "manifest.json")
    if _is_built_from(target, checksum):
        return target
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    backbone = bundle_backbone(manifest)
    classifier = make_classifier(backbone, settings.training.head_dropout, seed=0)
    adapted = load_adapter(classifier, bundle / "adapter")
    with temporary_folder_beside(target) as folder:
        shutil.copytree(bundle / "tokenizer", folder / "tokenizer")
        shutil.copy2(bundle / "calibrator.json", folder)
        if (bundle / BASELINE).is_dir():
            shutil.copytree(bundle / BASELINE, folder / BASELINE)
        identity = {
            "model_version": manifest["model_version"],
            "bundle_checksum": checksum,
            "headline_mode": settings.text.headline,
        }
        write_serving_model(folder, adapted, backbone, tolerance, identity)
        _put_serving(folder, target, checksum)
    return target


def bundle_backbone(manifest: dict[str, Any]) -> Backbone:
    """The backbone that the bundle was trained on; an error where this machine's copy has other weights."""
    described = dict(manifest["backbone"])
    trained_on = described.pop("revision")
    is_hub_commit = not trained_on.startswith("sha256:")
    backbone = load_backbone(BackboneSettings(**described, revision=trained_on if is_hub_commit else None))
    if backbone.revision != trained_on:
        raise ReviewriskError(
            f"The bundle {manifest['model_version']} was trained on backbone {backbone.name!r} with weights"
            f" {trained_on}, but here that name stands for {backbone.revision}: put the same weights back, or train"
            " again."
        )
    return backbone


def write_serving_model(
    folder: Path, adapted: PeftModel, backbone: Backbone, tolerance: float, identity: dict[str, Any]
) -> None:
    """Merge the adapted model (which is used up), write config.json and model.safetensors, check parity, and write
    serving.json.

    `folder` holds the tokenizer and calibrator already. serving.json has the identity (model_version,
    headline_mode), pooling, max_length, head_dropout, parity_difference (greatest |logit difference| on the probes),
    files {path: sha256} and a checksum of all that.
    """
    classifier: Any = adapted.get_base_model()
    description = {
        "pooling": classifier.pooling,
        "max_length": backbone.max_length,
        "head_dropout": classifier.dropout.p,
    }
    before = _probe_logits(adapted, backbone.tokenizer, backbone.max_length)
    merged = merge_adapter(adapted)
    merged.encoder.config.save_pretrained(folder)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in merged.state_dict().items()},
        folder / "model.safetensors",
    )
    write_json(folder / "serving.json", description)
    after = _probe_logits(load_classifier(folder), backbone.tokenizer, backbone.max_length)
    difference = float((after - before).abs().max())
    if not difference <= tolerance:  # also where it is NaN
        raise ReviewriskError(
            f"Merging the adapter moves a logit by {difference:.2g}, more than score.parity_tolerance {tolerance:.2g}:"
            " the merged model is not the trained one, so train again with a lower model.training.learning_rate or"
            " model.lora.alpha."
        )
    files = {name: checksum for name, checksum in folder_sha256(folder).items() if name != "serving.json"}
    serving = {**identity, **description, "parity_difference": difference, "files": files}
    write_json(folder / "serving.json", {**serving, "checksum": _checksum(serving)})


def verify_serving_folder(folder: Path) -> dict[str, Any]:
    """serving.json, once it and every file that it lists were found whole; raises ReviewriskError naming the one that
    is not.
    """
    serving = read_serving(folder)
    for name, expected in serving["files"].items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise _damaged(folder / name)
    return serving


def read_serving(folder: Path) -> dict[str, Any]:
    """serving.json, once its own checksum was found right; the files beside it are not looked at."""
    path = folder / "serving.json"
    if not path.is_file():
        raise ReviewriskError(
            f"{folder} is no serving folder, as it has no serving.json: make it from the bundle again."
        )
    try:
        serving = read_listing(path, {"model_version": str, "checksum": str})
    except ReviewriskError:
        raise _damaged(path) from None
    if serving.pop("checksum") != _checksum(serving):
        raise _damaged(path)
    return serving


def _damaged(path: Path) -> ReviewriskError:
    return ReviewriskError(f"{path} is damaged: run the command again, and the folder is made anew from the bundle.")


def _checksum(serving: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(serving).encode()).hexdigest()


def model_slug(name: str) -> str:
    """The backbone's name as the start of a model_version: lower-case letters, digits and single hyphens."""
    last = re.split(r"[/\\:]", name.rstrip("/\\"))[-1]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model"


def _write_data(folder: Path, contents: BundleContents) -> None:
    (folder / "adapter").mkdir()
    save_adapter(contents.adapted, folder / "adapter")
    contents.backbone.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "calibrator.json", contents.calibrator)
    write_json(folder / "thresholds.json", contents.thresholds)
    write_json(folder / "metrics.json", contents.metrics)
    pq.write_table(contents.predictions, folder / "predictions.parquet", compression="zstd")
    write_json(folder / "settings.json", contents.settings.model_dump(mode="json"))
    if contents.baseline:
        contents.baseline.write(folder / BASELINE)


def _manifest(folder: Path, contents: BundleContents) -> dict[str, Any]:
    backbone = contents.backbone
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "data_version": contents.data_version,
        "backbone": {
            "name": backbone.name,
            "revision": backbone.revision,
            "pooling": backbone.pooling,
            "max_length": backbone.max_length,
        },
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "files": folder_sha256(folder),
    }
    manifest["model_version"] = _model_version(manifest)
    return manifest


def _model_version(manifest: dict[str, Any]) -> str:
    files = {name: checksum for name, checksum in manifest["files"].items() if name not in _NOT_IN_VERSION}
    identity = canonical_json([files, manifest["data_version"], manifest["backbone"]["revision"]])
    return f"{model_slug(manifest['backbone']['name'])}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _is_built_from(target: Path, bundle_checksum: str) -> bool:
    try:
        return bool(verify_serving_folder(target).get("bundle_checksum") == bundle_checksum)
    except ReviewriskError:
        return False


def _put_serving(folder: Path, target: Path, bundle_checksum: str) -> None:
    try:
        put_folder(folder, target)
    except OSError:
        if not _is_built_from(target, bundle_checksum):  # otherwise another process was first, with the same content
            raise


@torch.inference_mode()
def _probe_logits(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, max_length: int) -> torch.Tensor:
    """Logits of the probe texts, shape (probes, 2), in float32 on the CPU."""
    model = model.cpu().float().eval()
    ids, _ = encode(tokenizer, _PROBES, max_length)
    rows = [torch.tensor([row]) for row in ids]
    return torch.cat([model(input_ids=row, attention_mask=torch.ones_like(row)) for row in rows])

"""A bundle is verified file by file, its version follows its content, and a serving folder gives the trained model's
logits.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.bundle.bundle import build_serving_folder, model_slug, verify_bundle, verify_serving_folder
from model.errors import ReviewriskError
from model.files import file_sha256, read_json, write_json
from model.network.backbone import encode, load_backbone, load_classifier, load_tokenizer, make_classifier
from model.network.lora import load_adapter
from model.settings import BackboneSettings
from tests.support.tiny_models import tiny_bundle

TEXTS = ["the leg broke after two weeks", "", "love it", "awful awful " * 60]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy that the test may harm."""
    return shutil.copytree(made, tmp_path / made.name)


@torch.no_grad()
def logits(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    ids, _ = encode(load_tokenizer(folder), TEXTS, 64)
    return torch.cat(
        [model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.int64)) for row in ids]
    )


def test_manifest_lists_every_file_and_names_data_and_backbone(made: Path) -> None:
    manifest = verify_bundle(made)
    on_disk = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == on_disk
    data_files = {"calibrator.json", "thresholds.json", "metrics.json", "predictions.parquet", "settings.json"}
    assert {"adapter/adapter_model.safetensors", "README.md", *data_files} < on_disk
    assert manifest["files"]["calibrator.json"] == file_sha256(made / "calibrator.json")
    assert (manifest["format_version"], manifest["data_version"]) == (2, "none")
    assert manifest["backbone"]["revision"].startswith("sha256:")
    assert (manifest["backbone"]["pooling"], manifest["backbone"]["max_length"]) == ("cls", 64)
    assert made.name == manifest["model_version"]
    assert re.fullmatch(r"encoder-distilbert-0-[0-9a-f]{12}", manifest["model_version"])


def test_bundle_holds_data_only(made: Path) -> None:
    assert {path.suffix for path in made.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".parquet",
        ".md",
        ".png",
    }


def test_predictions_are_kept_as_they_were_given_and_are_a_part_of_the_version(made: Path, bundle: Path) -> None:
    assert pq.read_table(made / "predictions.parquet").to_pylist() == [{"review_id": "r1"}]
    change_manifest(
        bundle,
        files={
            **read_json(bundle / "manifest.json")["files"],
            "predictions.parquet": file_sha256(bundle / "README.md"),
        },
    )
    shutil.copy(bundle / "README.md", bundle / "predictions.parquet")
    with pytest.raises(ReviewriskError, match="does not follow from its files"):
        verify_bundle(bundle)


def test_version_follows_the_content(made: Path, tmp_path: Path) -> None:
    assert tiny_bundle(tmp_path / "other", threshold=0.6).name != made.name
    assert tiny_bundle(tmp_path / "seed", seed=1).name.rsplit("-", 1)[1] != made.name.rsplit("-", 1)[1]


def test_writing_the_same_bundle_again_leaves_it_as_it_is(tmp_path: Path) -> None:
    first = tiny_bundle(tmp_path)
    before = (first / "manifest.json").stat().st_mtime_ns
    assert tiny_bundle(tmp_path) == first
    assert (first / "manifest.json").stat().st_mtime_ns == before
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.parametrize(
    "name",
    [
        "adapter/adapter_model.safetensors",
        "tokenizer/tokenizer.json",
        "calibrator.json",
        "predictions.parquet",
        "README.md",
    ],
)
def test_changed_file_is_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ReviewriskError, match=f"{name} has another sha256 than its manifest says"):
        verify_bundle(bundle)


def test_missing_file_is_named(bundle: Path) -> None:
    (bundle / "thresholds.json").unlink()
    with pytest.raises(ReviewriskError, match=r"thresholds\.json is missing"):
        verify_bundle(bundle)


def change_manifest(bundle: Path, **changes: Any) -> None:
    write_json(bundle / "manifest.json", {**read_json(bundle / "manifest.json"), **changes})


def test_manifest_that_does_not_fit_is_refused(bundle: Path) -> None:
    manifest = read_json(bundle / "manifest.json")
    change_manifest(bundle, data_version="another")
    with pytest.raises(ReviewriskError, match="does not follow from its files"):
        verify_bundle(bundle)
    for lost in ("calibrator.json", "predictions.parquet"):
        change_manifest(
            bundle,
            data_version="none",
            files={name: value for name, value in manifest["files"].items() if name != lost},
        )
        with pytest.raises(ReviewriskError, match=f"does not list {lost}"):
            verify_bundle(bundle)
    change_manifest(bundle, format_version=1)
    with pytest.raises(ReviewriskError, match="has format 1; this version reads format 2"):
        verify_bundle(bundle)
    (bundle / "manifest.json").unlink()
    with pytest.raises(ReviewriskError, match=r"is no model bundle: it has no manifest\.json"):
        verify_bundle(bundle)


@pytest.mark.parametrize("family", ["distilbert", "bert"])
def test_serving_folder_gives_the_unmerged_models_logits_without_peft_or_backbone(family: Any, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, family)
    encoder = Path(verify_bundle(bundle)["backbone"]["name"])
    base = make_classifier(load_backbone(BackboneSettings(name=str(encoder), max_length=64)), 0.2, seed=99)
    expected = logits(load_adapter(base, bundle / "adapter"), encoder)
    folder = build_serving_folder(bundle, tmp_path / "serving", tolerance=1e-3)
    shutil.rmtree(encoder)
    shutil.rmtree(bundle)
    torch.testing.assert_close(logits(load_classifier(folder), folder / "tokenizer"), expected, atol=1e-5, rtol=1e-5)
    serving = verify_serving_folder(folder)
    assert (serving["model_version"], serving["headline_mode"]) == (bundle.name, "keep")
    assert (serving["pooling"], serving["max_length"], serving["head_dropout"]) == ("cls", 64, 0.2)
    assert 0 <= serving["parity_difference"] < 1e-4
    assert set(serving["files"]) == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {"serving.json"}
    assert not (folder / "thresholds.json").exists()


def test_serving_folder_is_built_once_and_again_after_harm(made: Path, tmp_path: Path) -> None:
    folder = build_serving_folder(made, tmp_path / "serving", 1e-3)
    before = (folder / "serving.json").stat().st_mtime_ns
    build_serving_folder(made, folder, 1e-3)
    assert (folder / "serving.json").stat().st_mtime_ns == before
    (folder / "model.safetensors").write_bytes(b"harm")
    with pytest.raises(ReviewriskError, match=r"model\.safetensors is damaged"):
        verify_serving_folder(folder)
    build_serving_folder(made, folder, 1e-3)
    verify_serving_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["serving"]


def test_harmed_bundle_is_not_served(bundle: Path, tmp_path: Path) -> None:
    (bundle / "calibrator.json").write_text("{}")
    with pytest.raises(ReviewriskError, match=r"calibrator\.json has another sha256"):
        build_serving_folder(bundle, tmp_path / "serving", 1e-3)
    assert not (tmp_path / "serving").exists()


def test_merge_that_moves_logits_beyond_the_tolerance_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ReviewriskError, match=r"Merging the adapter moves a logit by .*, more than score\.parity_tolerance 1e-30"
    ):
        build_serving_folder(made, tmp_path / "serving", 1e-30)
    assert list(tmp_path.iterdir()) == []


def test_backbone_with_other_weights_is_refused(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    weights = Path(verify_bundle(bundle)["backbone"]["name"]) / "model.safetensors"
    changed = {name: tensor + 0.01 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    with pytest.raises(
        ReviewriskError,
        match=r"was trained on backbone .* with weights sha256:\w{12}, but here that name stands for sha256:",
    ):
        build_serving_folder(bundle, tmp_path / "serving", 1e-3)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("bundled:minilm", "minilm"),
        ("distilbert/distilbert-base-uncased", "distilbert-base-uncased"),
        ("/data/My Models/BERT_v2.1/", "bert-v2-1"),
        ("C:\\models\\été", "t"),
        ("模型", "model"),
    ],
)
def test_slug_is_plain(name: str, slug: str) -> None:
    assert model_slug(name) == slug


def test_settings_in_the_bundle_are_those_of_the_run(made: Path) -> None:
    settings = json.loads((made / "settings.json").read_text())
    assert settings["lora"]["rank"] == 4
    assert settings["backbone"]["max_length"] == 64

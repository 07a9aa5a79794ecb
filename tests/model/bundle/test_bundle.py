"""A bundle is verified file by file, its version follows its content, and a serving folder gives the trained model's
logits.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.bundle.bundle import build_serving_folder, bundle_backbone, model_slug, verify_bundle, verify_serving_folder
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


def test_a_flipped_byte_in_any_file_is_refused_by_name(made: Path, bundle: Path) -> None:
    names = sorted(verify_bundle(made)["files"])
    assert {"adapter/adapter_model.safetensors", "tokenizer/tokenizer.json", "calibrator.json", "README.md"} < {*names}
    for place, name in enumerate(names):
        content = bytearray((made / name).read_bytes())
        content[place * 7919 % len(content)] ^= 1
        (bundle / name).write_bytes(content)
        with pytest.raises(ReviewriskError, match=f"{re.escape(name)} has another sha256 than manifest.json says, so "):
            verify_bundle(bundle)
        shutil.copy(made / name, bundle / name)
    assert verify_bundle(bundle) == verify_bundle(made)


@pytest.mark.parametrize("key", ["format_version", "model_version", "data_version", "backbone", "files", "created_at"])
def test_a_manifest_without_a_key_is_refused(bundle: Path, key: str) -> None:
    manifest = read_json(bundle / "manifest.json")
    write_json(bundle / "manifest.json", {name: value for name, value in manifest.items() if name != key})
    with pytest.raises(
        ReviewriskError, match=rf"manifest\.json has no {key}, so it was cut or changed: copy the folder"
    ):
        verify_bundle(bundle)


@pytest.mark.parametrize("key", ["name", "revision", "pooling", "max_length"])
def test_a_backbone_without_a_key_is_refused(bundle: Path, key: str) -> None:
    backbone = read_json(bundle / "manifest.json")["backbone"]
    change_manifest(bundle, backbone={name: value for name, value in backbone.items() if name != key})
    with pytest.raises(ReviewriskError, match=rf"manifest\.json has no {key} in backbone, so it was cut or changed"):
        verify_bundle(bundle)
    change_manifest(bundle, backbone={**backbone, key: None})
    with pytest.raises(ReviewriskError, match=rf"has a value of another kind as {key} in backbone"):
        verify_bundle(bundle)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"format_version": 2', "\ufeff{}", "null", "[1]"])
def test_a_cut_manifest_is_refused(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(ReviewriskError, match=r"manifest\.json (is not whole JSON|holds no JSON object), so it was "):
        verify_bundle(bundle)


def test_a_manifest_cut_anywhere_is_refused(bundle: Path) -> None:
    whole = (bundle / "manifest.json").read_bytes().rstrip()
    for end in range(0, len(whole), 97):
        (bundle / "manifest.json").write_bytes(whole[:end])
        with pytest.raises(ReviewriskError, match=r"manifest\.json is not whole JSON"):
            verify_bundle(bundle)


@pytest.mark.parametrize("name", ["extra.json", ".hidden", "adapter/pytorch_model.bin", "deep/er/x.pkl"])
def test_a_file_that_the_manifest_does_not_list_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(b"")
    with pytest.raises(ReviewriskError, match=rf"{re.escape(name)} is not listed in manifest\.json: take it away"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["calibrator.json", "tokenizer"])
def test_a_link_in_a_bundle_is_refused_though_its_content_is_right(bundle: Path, tmp_path: Path, name: str) -> None:
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReviewriskError, match=f"{name} is a link: put the file itself there"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../secret.json", "adapter/../../secret.json", "a//b", "./a", "", "C:\\a", "..\\a", "c:/a"],
)
def test_a_manifest_that_lists_a_path_outside_its_folder_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "secret.json").write_text("{}")
    files = read_json(bundle / "manifest.json")["files"]
    change_manifest(bundle, files={**files, name: file_sha256(bundle.parent / "secret.json")})
    with pytest.raises(ReviewriskError, match=rf"lists {re.escape(repr(name))}, which is no path inside its folder"):
        verify_bundle(bundle)


@pytest.mark.parametrize("checksum", ["", None, 1, "A" * 64, "0" * 63])
def test_a_checksum_that_is_none_is_refused(bundle: Path, checksum: Any) -> None:
    files = read_json(bundle / "manifest.json")["files"]
    change_manifest(bundle, files={**files, "README.md": checksum})
    with pytest.raises(ReviewriskError, match=r"manifest\.json has no sha256 of README\.md"):
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
    with pytest.raises(ReviewriskError, match="has format 1, and this version reads format 2: train the model again"):
        verify_bundle(bundle)
    (bundle / "manifest.json").unlink()
    with pytest.raises(ReviewriskError, match=r"is no model bundle, as it has no manifest\.json"):
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
    for cut in ("", '{"files": {}}'):
        (folder / "serving.json").write_text(cut)
        with pytest.raises(ReviewriskError, match=r"serving\.json is damaged"):
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


def test_a_merge_that_moves_logits_by_just_the_tolerance_is_served(made: Path, tmp_path: Path) -> None:
    moved = verify_serving_folder(build_serving_folder(made, tmp_path / "serving", 1e-3))["parity_difference"]
    assert moved > 0
    build_serving_folder(made, tmp_path / "exact", moved)
    with pytest.raises(ReviewriskError, match="Merging the adapter moves a logit"):
        build_serving_folder(made, tmp_path / "below", np.nextafter(moved, 0))


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


@pytest.mark.parametrize(("revision", "asked_for"), [("0a1b2c", "0a1b2c"), ("sha256:0123456789ab", None)])
def test_a_backbone_of_the_hub_is_asked_for_by_its_commit_and_one_of_a_folder_is_not(
    revision: str, asked_for: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BackboneSettings] = []

    def load(settings: BackboneSettings) -> Any:
        asked.append(settings)
        return SimpleNamespace(revision=revision)

    monkeypatch.setattr("model.bundle.bundle.load_backbone", load)
    described = {"name": "somebody/encoder", "revision": revision, "pooling": "mean", "max_length": 64}
    bundle_backbone({"model_version": "encoder-1", "backbone": described})
    [settings] = asked
    assert (settings.name, settings.revision) == ("somebody/encoder", asked_for)
    assert (settings.pooling, settings.max_length) == ("mean", 64)


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

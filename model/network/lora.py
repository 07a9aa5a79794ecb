"""Low-rank adapters: attach exactly where asked, count honestly, save, load and merge."""

from __future__ import annotations

import copy
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from model.errors import ReviewriskError
from model.files import read_json, write_json
from model.network.classifier import ReviewClassifier
from model.network.quantisation import is_quantised
from model.settings import LoraSettings

HEAD_MODULES = ("pre_classifier", "classifier")
# By model family: what each word stands for, as ends of the places that `module_place` gives.
TARGETS: dict[str, dict[str, tuple[str, ...]]] = {
    "attention": {
        "distilbert": ("q_lin", "v_lin"),
        "bert": ("query", "value"),
        "deberta-v2": ("query_proj", "value_proj"),
    },
    "feed-forward": {
        "distilbert": ("ffn.lin1", "ffn.lin2"),
        "bert": ("layer.*.intermediate.dense", "layer.*.output.dense"),  # and not layer.*.attention.output.dense
        "deberta-v2": ("layer.*.intermediate.dense", "layer.*.output.dense"),
    },
}


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters. peft counts the frozen copy of the head that it keeps beside the trained one; `distinct`
    does not.
    """

    trainable: int
    total_as_peft_counts: int
    lora: int
    head: int
    distinct: int
    biases: int = 0

    def __str__(self) -> str:
        biases = f" + {self.biases:,} biases" if self.biases else ""
        return (
            f"{self.trainable:,} trainable of {self.total_as_peft_counts:,} parameters as peft counts; "
            f"{self.lora:,} LoRA + {self.head:,} head{biases}, {self.distinct:,} distinct"
        )


def attach_adapter(classifier: ReviewClassifier, settings: LoraSettings, seed: int) -> PeftModel:
    """The classifier with LoRA on its encoder's targeted linear layers and a trainable head; the rest, but for chosen
    biases, is frozen.

    Raises ReviewriskError where a target matches no linear layer or not every layer of the encoder, where a layer is
    out of range, where PiSSA cannot start from such weights, and where peft adapted anything but exactly the targeted
    modules.
    """
    if settings.dropout is None:
        raise ValueError("model.lora.dropout is None: give the settings that model.training.defaults.resolve returns")
    expected = targeted_modules(classifier, settings.targets, settings.layers)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=cast(int, settings.effective_alpha),  # peft computes with any number here
        lora_dropout=settings.dropout,
        target_modules=expected,
        modules_to_save=list(HEAD_MODULES),
        bias=settings.bias,
        use_rslora=settings.rank_stabilised,
        use_dora=settings.dora,
        init_lora_weights="pissa" if settings.initialisation == "pissa" else True,
    )
    if settings.initialisation == "pissa":
        _check_pissa(classifier, expected, settings.rank)
    _tell_peft_of_quantisation(classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = cast(PeftModel, get_peft_model(classifier, config))
    _check_adapted(adapted, expected)
    if settings.initialisation == "pissa":
        # PiSSA takes B A out of the base weights; what was taken is needed to say what training changed.
        cast(Any, adapted).first_factors = {
            name: tensor.detach().cpu().clone() for name, tensor in _factors(adapted).items()
        }
    return adapted


def targeted_modules(
    classifier: ReviewClassifier, targets: Iterable[str], layers: Iterable[int] | None = None
) -> list[str]:
    """Full names of the linear layers that the targets stand for, such as encoder.encoder.layer.0.attention.self.query.

    `layers` are the numbers of the encoder's layers to keep, the first being 0; None keeps all.
    """
    linear = _linear_modules(classifier)
    depth = int(classifier.encoder.config.num_hidden_layers)
    matched: set[str] = set()
    for target in targets:
        if target == "all-linear":
            matched.update(linear)
            continue
        for name in _names(classifier, target):
            modules = [
                module
                for module in linear
                if f".{module}".endswith(f".{name}") or f".{module_place(module)}".endswith(f".{name}")
            ]
            _check_every_layer(name, modules, depth, linear)
            matched.update(modules)
    chosen = None if layers is None else _checked_layers(layers, depth)
    return [module for module in linear if module in matched and (chosen is None or _layer(module) in chosen)]


def module_place(module: str) -> str:
    """The module's name with the layer's number replaced by *, such as encoder.encoder.layer.*.output.dense."""
    return re.sub(r"\.\d+(?=\.)", ".*", module)


def count_parameters(adapted: PeftModel) -> ParameterCounts:
    """The counts of an adapted classifier; the sum of lora, head and biases is what is trained."""
    trainable, total = adapted.get_nb_trainable_parameters()
    parameters = list(adapted.named_parameters())
    lora = sum(parameter.numel() for name, parameter in parameters if ".lora_" in name)
    head = sum(parameter.numel() for name, parameter in parameters if ".modules_to_save." in name)
    copies = sum(parameter.numel() for name, parameter in parameters if ".original_module." in name)
    biases = sum(
        parameter.numel()
        for name, parameter in parameters
        if parameter.requires_grad and _is_chosen_bias(adapted, name)
    )
    return ParameterCounts(
        trainable=trainable, total_as_peft_counts=total, lora=lora, head=head, distinct=total - copies, biases=biases
    )


def trained_base_parameters(adapted: PeftModel) -> int:
    """Number of trainable parameters outside adapter, head and chosen biases: 0, unless something thawed the base."""
    return sum(
        parameter.numel()
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
        and ".lora_" not in name
        and ".modules_to_save." not in name
        and not _is_chosen_bias(adapted, name)
    )


def lora_b_norm(adapted: PeftModel) -> float:
    """Frobenius norm over all B together. Before the first step it is 0, but for PiSSA, whose B starts as singular
    vectors.
    """
    return math.sqrt(
        sum(
            float(tensor.detach().double().square().sum())
            for name, tensor in _factors(adapted).items()
            if ".lora_B." in name
        )
    )


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors (LoRA, head and trained biases); the same weights give
    the same bytes.

    What is written fits the base as it was loaded. A PiSSA adapter is turned into the plain LoRA of twice the rank that
    makes the same change, since the base it trained on lacks what it began with.
    """
    config = copy.copy(adapted.peft_config["default"])
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    # With bias "all", peft adds the biases of the head's two copies a second time.
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if ".original_module." not in name and ".modules_to_save." not in name
    }
    if hasattr(adapted, "first_factors"):
        _make_difference(config, state, cast(Any, adapted).first_factors)
    config.save_pretrained(str(folder))
    written = read_json(folder / "adapter_config.json")
    # peft keeps names in a set, whose order changes from run to run.
    write_json(
        folder / "adapter_config.json",
        {key: sorted(value) if key == "target_modules" else value for key, value in written.items()},
    )
    save_file(state, folder / "adapter_model.safetensors")


def load_adapter(classifier: ReviewClassifier, folder: Path) -> PeftModel:
    """The classifier with a saved adapter and head, unmerged, in evaluation mode."""
    return PeftModel.from_pretrained(classifier, str(folder)).eval()


def move_to_base(adapted: PeftModel, classifier: ReviewClassifier) -> PeftModel:
    """The trained adapter and head on another copy of the base: after training on 8- or 4-bit weights, on the full
    ones.

    Merging must start there: what is added to quantised weights would be rounded away with them.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(adapted, Path(folder))
        return load_adapter(classifier, Path(folder))


def merge_adapter(adapted: PeftModel) -> ReviewClassifier:
    """The plain classifier in float32, the adapter added to its weights and the trained head in place.

    The adapted model is used up. Raises ReviewriskError where a merged weight is not finite or the base is quantised.
    """
    if is_quantised(cast(ReviewClassifier, adapted.get_base_model()).encoder):
        raise ReviewriskError(
            "An adapter cannot be merged into 8- or 4-bit weights: move it to the plain base first"
            " (model.network.lora.move_to_base)."
        )
    try:
        merged = adapted.float().merge_and_unload(safe_merge=True)
    except ValueError as error:  # peft's answer to NaN
        raise ReviewriskError(
            f"The adapter cannot be merged ({error}): train again with a lower model.training.learning_rate."
        ) from error
    return cast(ReviewClassifier, merged).eval()


def _linear_modules(classifier: ReviewClassifier) -> list[str]:
    return [f"encoder.{name}" for name, module in classifier.encoder.named_modules() if isinstance(module, nn.Linear)]


def _names(classifier: ReviewClassifier, target: str) -> tuple[str, ...]:
    """The ends of module names that a target stands for: itself, where it is no word of `TARGETS`."""
    if target not in TARGETS:
        return (target,)
    family = classifier.encoder.config.model_type
    if family not in TARGETS[target]:
        raise ReviewriskError(
            f"model.lora.targets {target!r} is known for {', '.join(TARGETS[target])}, not for {family}: use"
            " 'all-linear' or module names. " + _known_names(_linear_modules(classifier))
        )
    return TARGETS[target][family]


def _check_every_layer(name: str, modules: list[str], layers: int, linear: list[str]) -> None:
    """A name must stand for the same modules in every layer: a partial match trains a fraction of the model without a
    word.
    """
    if not modules:
        raise ReviewriskError(
            f"model.lora.targets: no linear layer of the encoder is called {name!r}. {_known_names(linear)}"
        )
    per_place = Counter(map(module_place, modules))
    partial = [f"{place} in {count}" for place, count in per_place.items() if count != layers]
    if partial:
        raise ReviewriskError(
            f"model.lora.targets: {name!r} matches {', '.join(partial)} of {layers} layers; to adapt some layers alone,"
            f" set model.lora.layers. {_known_names(linear)}"
        )


def _known_names(linear: list[str]) -> str:
    return (
        "Linear layers of this encoder (* is the layer's number): "
        + ", ".join(dict.fromkeys(map(module_place, linear)))
        + "."
    )


def _checked_layers(layers: Iterable[int], depth: int) -> set[int]:
    chosen = set(layers)
    unknown = sorted(layer for layer in chosen if not 0 <= layer < depth)
    if unknown or not chosen:
        raise ReviewriskError(
            f"model.lora.layers {'names no layer' if not chosen else f'has {unknown}'}, but the encoder has {depth}"
            f" layers, 0 to {depth - 1}; null adapts all."
        )
    return chosen


def _layer(module: str) -> int | None:
    """The number of the encoder's layer that holds the module."""
    number = re.search(r"\.(\d+)\.", module)
    return int(number[1]) if number else None


def _check_pissa(classifier: ReviewClassifier, modules: list[str], rank: int) -> None:
    if is_quantised(classifier.encoder):
        raise ReviewriskError(
            "model.lora.initialisation 'pissa' decomposes the base weights, which is impossible for 8- and 4-bit"
            " weights: set model.lora.initialisation or model.lora.quantization to its default."
        )
    narrowest = min(min(cast(nn.Linear, classifier.get_submodule(module)).weight.shape) for module in modules)
    if rank > narrowest:
        raise ReviewriskError(
            f"model.lora.rank is {rank}, but a targeted layer has only {narrowest} singular vectors for PiSSA:"
            " lower it."
        )


def _tell_peft_of_quantisation(classifier: ReviewClassifier) -> None:
    """peft looks for these marks on the outermost model, while transformers sets them on the encoder."""
    for mark in ("is_loaded_in_8bit", "is_loaded_in_4bit"):
        setattr(classifier, mark, getattr(classifier.encoder, mark, False))


def _is_chosen_bias(adapted: PeftModel, name: str) -> bool:
    if not isinstance(adapted, PeftModel):  # a network of model.experiments.methods without LoRA
        return False
    bias = cast(LoraConfig, adapted.peft_config["default"]).bias
    if bias == "none" or ".modules_to_save." in name:
        return False
    return name.endswith(".base_layer.bias" if bias == "lora_only" else ".bias")


def _factors(adapted: PeftModel) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in adapted.named_parameters() if ".lora_A." in name or ".lora_B." in name}


def _make_difference(config: Any, state: dict[str, Tensor], first: dict[str, Tensor]) -> None:
    """Turn a PiSSA adapter, in place, into the LoRA that makes the same change to the unchanged base.

    With A0 and B0 taken out of the base, the weight is W - s B0 A0 + s B A = W + s [B, -B0] [A; A0]: rank 2r, and alpha
    such that alpha / rank (rsLoRA: alpha / sqrt(rank)) stays s.
    """
    for name, tensor in first.items():
        saved = name.replace(".default.", ".")
        state[saved] = (
            torch.cat([state[saved], tensor], dim=0)
            if ".lora_A." in name
            else torch.cat([state[saved], -tensor], dim=1)
        )
    config.r *= 2
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.init_lora_weights = True


def _check_adapted(adapted: PeftModel, expected: list[str]) -> None:
    actual = list(adapted.targeted_module_names)
    if sorted(actual) != sorted(expected):
        raise ReviewriskError(
            f"LoRA was attached to {len(actual)} modules instead of {len(expected)}; unexpected:"
            f" {sorted(set(actual) - set(expected))}, missing: {sorted(set(expected) - set(actual))}."
        )

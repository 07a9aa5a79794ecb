"""Adapters of one base combined into one, and one adapter held against the weights it was folded into."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from model.bundle.bundle import bundle_backbone, verify_bundle
from model.errors import ReviewriskError
from model.files import read_json
from model.network.backbone import Backbone, make_classifier
from model.network.hardware import cpu_threads
from model.network.lora import attach_adapter
from model.scoring.engines.interface import Engine, EngineKind
from model.scoring.parity import unmerged_scorer
from model.scoring.scorer import Scorer
from model.settings import ModelSettings, RowSettings, ScoringSettings

Method = Literal["average", "arithmetic", "ties", "dare_linear", "dare_ties"]
# All of them work on the products B A, the changes of the weights themselves. peft's own "linear", "ties" and so on
# work on A and on B apart, and the product of two means is not the mean of the products.
_PEFT_NAMES = {
    "average": "cat",
    "arithmetic": "cat",
    "ties": "ties_svd",
    "dare_linear": "dare_linear_svd",
    "dare_ties": "dare_ties_svd",
}
_LATENCY_ROWS = 256


@dataclass(frozen=True)
class Folded:
    """One model as adapter + base against the same model merged, on the same rows; differences are of the logit
    (log-odds).

    The seconds are medians over several passes over the same batches, on one thread.
    """

    rows: int
    greatest_difference: float
    mean_difference: float
    flipped: int
    unmerged_seconds: float
    merged_seconds: float


@dataclass(frozen=True)
class Recipe:
    """How adapters are combined. `weights` has one entry per parent; `density` and `seed` matter to ties and dare
    alone; `rank` None means the sum of the parents' ranks, at which average and arithmetic are exact.
    """

    method: Method
    weights: tuple[float, ...]
    density: float = 0.5
    rank: int | None = None
    seed: int = 17


@dataclass(frozen=True)
class Parent:
    """A bundle whose adapter is to be combined: `factors` are its LoRA tensors, `head` its head's, both by peft's
    names.
    """

    version: str
    bundle: Path
    manifest: dict[str, Any]
    settings: ModelSettings
    config: LoraConfig
    factors: dict[str, Tensor]
    head: dict[str, Tensor]


def compare_folded(
    bundle: Path,
    serving: Path,
    headlines: Sequence[str | None],
    bodies: Sequence[str | None],
    threshold: float,
    passes: int = 5,
) -> Folded:
    """The bundle's adapter + base against its serving folder on these reviews.

    A decision is flipped where just one of the two calibrated probabilities is at least `threshold`.
    """
    with cpu_threads(1):
        merged, unmerged = Scorer.load(serving, ScoringSettings()), unmerged_scorer(bundle, serving)
        before, after = unmerged.score(headlines, bodies), merged.score(headlines, bodies)
        both = np.isfinite(before.logit) & np.isfinite(after.logit)
        if not both.any():
            raise ReviewriskError(
                "The merged and the unmerged model cannot be compared, as no review was scored by both: name reviews"
                " that have text."
            )
        difference = np.abs(before.logit - after.logit)[both]
        flipped = ((before.probability >= threshold) != (after.probability >= threshold))[both]
        seconds = _forward_seconds([unmerged, merged], headlines[:_LATENCY_ROWS], bodies[:_LATENCY_ROWS], passes)
    return Folded(int(both.sum()), float(difference.max()), float(difference.mean()), int(flipped.sum()), *seconds)


def make_recipe(
    method: Method,
    parents: int,
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    rank: int | None = None,
    seed: int = 17,
) -> Recipe:
    """The checked recipe for so many parents; without weights all count alike: 1 / parents each, but 1 each for ties
    and dare_ties, which take a mean by themselves. Raises ReviewriskError where the parts do not fit each other.
    """
    if parents < 2:
        raise ReviewriskError("Combining needs at least two models: name another.")
    if method == "average" and weights:
        raise ReviewriskError(
            "Method average gives all models the same weight: leave the weights out, or use method arithmetic."
        )
    if method == "arithmetic" and not weights:
        raise ReviewriskError("Method arithmetic needs weights, one per model, such as 1 and -0.5.")
    if weights and len(weights) != parents:
        raise ReviewriskError(f"There are {parents} models but {len(weights)} weights: give one weight per model.")
    chosen = tuple(weights) if weights else (1.0 if method.endswith("ties") else 1 / parents,) * parents
    if not all(map(math.isfinite, chosen)) or sum(chosen) <= 0:
        raise ReviewriskError(
            f"The weights {', '.join(f'{weight:g}' for weight in chosen)} must sum to more than 0: the heads get their"
            " weighted mean."
        )
    if not 0 < density <= 1:
        raise ReviewriskError(f"density is {density:g}, but it is a share above 0 and at most 1.")
    return Recipe(method, chosen, density, rank, seed)


def load_parent(bundle: Path) -> Parent:
    """The verified bundle's adapter. Raises ReviewriskError where it has parts that cannot be combined (DoRA, trained
    biases).
    """
    manifest = verify_bundle(bundle)
    config = LoraConfig.from_pretrained(str(bundle / "adapter"))
    if config.use_dora or config.bias != "none":
        part = "DoRA's magnitudes" if config.use_dora else "trained biases"
        raise ReviewriskError(
            f"{manifest['model_version']} has {part}, which cannot be combined: train it again with model.lora.dora"
            " false and model.lora.bias none."
        )
    tensors = load_file(bundle / "adapter" / "adapter_model.safetensors")
    factors = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    return Parent(
        version=manifest["model_version"],
        bundle=bundle,
        manifest=manifest,
        settings=ModelSettings.model_validate(read_json(bundle / "settings.json")),
        config=config,
        factors=factors,
        head={name: tensor for name, tensor in tensors.items() if name not in factors},
    )


def combine(parents: Sequence[Parent], recipe: Recipe) -> tuple[PeftModel, Backbone, ModelSettings]:
    """The combined model: adapted model with the parents' changes combined and the weighted mean of their heads, its
    base, and its settings.

    The settings are the first parent's with its own rank, scaled by 1; parents of different reviews (`model.rows`)
    give a model for all reviews. Raises ReviewriskError where the parents do not sit on the same places of the same
    base or read other texts, or where the rank is more than a layer has.
    """
    check_alike(parents)
    rank = _combined_rank(parents, recipe)
    first = parents[0].settings
    lora = first.lora.model_copy(
        update={
            "rank": rank,
            "alpha": float(rank),
            "dropout": 0.0,
            "rank_stabilised": False,
            "initialisation": "default",
            "quantization": "none",
        }
    )
    settings = first.model_copy(update={"lora": lora, "rows": combined_rows(parents)})
    factors = _combined_factors(parents, recipe, rank)
    backbone = bundle_backbone(parents[0].manifest)
    adapted = attach_adapter(make_classifier(backbone, first.training.head_dropout, seed=0), lora, seed=0)
    _set_tensors(adapted, {**factors, **_mean_head(parents, recipe.weights)}, "default")
    return adapted.eval(), backbone, settings


def combined_rows(parents: Sequence[Parent]) -> RowSettings:
    """Which reviews the combined model is for: those of its parents where these are the same, else all."""
    return parents[0].settings.rows if len({parent.settings.rows.only for parent in parents}) == 1 else RowSettings()


def check_alike(parents: Sequence[Parent]) -> None:
    """Raise ReviewriskError, naming both models and what differs, where two of them cannot be combined."""
    first = parents[0]
    for other in parents[1:]:
        ours, theirs = first.manifest["backbone"], other.manifest["backbone"]
        differing = [
            f"{name} {ours[name]} and {theirs[name]}"
            for name in ("name", "revision", "pooling", "max_length")
            if ours[name] != theirs[name]
        ]
        if first.settings.text != other.settings.text:
            differing.append(f"model.text.headline {first.settings.text.headline} and {other.settings.text.headline}")
        if first.factors.keys() != other.factors.keys():
            differing.append(
                f"adapted layers ({len(first.factors) // 2} and {len(other.factors) // 2}; model.lora.targets,"
                " model.lora.layers)"
            )
        if differing:
            raise ReviewriskError(
                f"{first.version} and {other.version} cannot be combined, as they differ in {'; '.join(differing)}:"
                " train them with the same settings."
            )


def heads_began_alike(parents: Sequence[Parent]) -> bool:
    """Whether the parents' heads grew from the same random weights: the mean of two that did not may
    be worth nothing.
    """
    return len({parent.settings.training.seed for parent in parents}) == 1


def _combined_rank(parents: Sequence[Parent], recipe: Recipe) -> int:
    greatest = min(
        min(tensor.shape[-1] for name, tensor in parents[0].factors.items() if ".lora_A." in name),
        _least_outputs(parents[0]),
    )
    total = sum(parent.config.r for parent in parents)
    if recipe.rank is not None and not 1 <= recipe.rank <= greatest:
        raise ReviewriskError(
            f"rank is {recipe.rank}, but the smallest adapted layer has rank {greatest}: choose 1 to {greatest}."
        )
    return recipe.rank or (total if _peft_name(recipe) == "cat" else min(total, greatest))


def _least_outputs(parent: Parent) -> int:
    return min(tensor.shape[0] for name, tensor in parent.factors.items() if ".lora_B." in name)


def _peft_name(recipe: Recipe) -> str:
    """peft's name of the method: a chosen rank makes even the exact ones the nearest matrix of that rank."""
    name = _PEFT_NAMES[recipe.method]
    return "svd" if name == "cat" and recipe.rank is not None else name


def _combined_factors(parents: Sequence[Parent], recipe: Recipe, rank: int) -> dict[str, Tensor]:
    """The combined A and B by peft's names, scaled so that B A is the whole change."""
    classifier = make_classifier(bundle_backbone(parents[0].manifest), 0.0, seed=0)
    names = [f"parent{number}" for number in range(len(parents))]
    with torch.random.fork_rng(devices=[]):  # peft draws first weights, and dare the entries that it drops
        model = get_peft_model(classifier, _without_head(parents[0].config), adapter_name=names[0])
        for name, parent in zip(names[1:], parents[1:], strict=True):
            model.add_adapter(name, _without_head(parent.config))
        for name, parent in zip(names, parents, strict=True):
            _set_tensors(model, parent.factors, name)
        torch.manual_seed(recipe.seed)
        cast(Any, model).add_weighted_adapter(
            names,
            list(recipe.weights),
            "combined",
            _peft_name(recipe),
            svd_rank=rank,
            svd_full_matrices=False,
            density=recipe.density,
        )
    combined: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name="combined", save_embedding_layers=False)
    return combined


def _without_head(config: LoraConfig) -> LoraConfig:
    """The same change of the encoder alone, scaled by alpha / rank: peft combines no heads, and would give one of
    rsLoRA a scale of its own.
    """
    # peft computes with any number here
    alpha: Any = config.lora_alpha * math.sqrt(config.r) if config.use_rslora else config.lora_alpha
    return dataclasses.replace(
        config, modules_to_save=None, use_rslora=False, lora_alpha=alpha, lora_dropout=0.0, inference_mode=True
    )


def _set_tensors(model: PeftModel, tensors: dict[str, Tensor], adapter: str) -> None:
    result: Any = set_peft_model_state_dict(model, tensors, adapter_name=adapter)
    if result.unexpected_keys:
        raise ReviewriskError(
            f"The adapter does not fit its base: {result.unexpected_keys[0]} has no place there; copy the bundle again."
        )


def _mean_head(parents: Sequence[Parent], weights: Sequence[float]) -> dict[str, Tensor]:
    total = sum(weights)
    pairs = list(zip(parents, weights, strict=True))
    return {
        name: torch.stack([parent.head[name] * (weight / total) for parent, weight in pairs]).sum(dim=0)
        for name in parents[0].head
    }


@dataclass(eq=False)
class _Timed:
    """An engine that adds up the seconds of its forward passes."""

    engine: Engine
    seconds: float = 0.0

    @property
    def kind(self) -> EngineKind:
        return self.engine.kind

    @property
    def few_shapes(self) -> bool:
        return self.engine.few_shapes

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        start = time.perf_counter()
        logits = self.engine.logits(ids, mask)
        self.seconds += time.perf_counter() - start
        return logits


def _forward_seconds(
    scorers: Sequence[Scorer], headlines: Sequence[str | None], bodies: Sequence[str | None], passes: int
) -> list[float]:
    """Median seconds in each scorer's engine over the same reviews, the scorers taken in turn; the first pass is thrown
    away.
    """
    seconds: list[list[float]] = [[] for _ in scorers]
    for _ in range(passes + 1):
        for scorer, taken in zip(scorers, seconds, strict=True):
            timed = _Timed(scorer.engine)
            dataclasses.replace(scorer, engine=timed).score(headlines, bodies)
            taken.append(timed.seconds)
    return [median(taken[1:]) for taken in seconds]

"""What training did to each adapted weight W: the singular values of its change, and directions of W + change that W
has no match for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from model.bundle.bundle import bundle_backbone, verify_bundle
from model.network.backbone import make_classifier
from model.network.lora import load_adapter
from model.terminal import align

# Both as in the code that Shuttleworth et al. published with arXiv 2410.21228, and as peft's own
# reduce_intruder_dimension has them.
TOP_DIRECTIONS = 10
INTRUDER_COSINE = 0.5


@dataclass(frozen=True)
class ModuleChange:
    """What training did to one linear layer's weight W.

    `singular_values` are those of the low-rank change alpha / rank · B A, greatest first, as many as its rank allows
    (twice model.lora.rank for PiSSA, as it is saved). `relative_change` is the Frobenius norm of the whole change over
    that of W; `cosines` has, for each of the 10 greatest left singular vectors of W + change, its greatest |cosine|
    with any left singular vector of W. With DoRA the whole change also has the trained magnitudes, which give it full
    rank; otherwise the two are the same.
    """

    name: str
    singular_values: tuple[float, ...]
    relative_change: float
    cosines: tuple[float, ...]

    @property
    def rank(self) -> int:
        """The greatest rank that the low-rank change can have."""
        return len(self.singular_values)

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the squared singular values' shares: 1 where one direction does it all, `rank` where
        all do alike; 0 where none moved.
        """
        shares = torch.tensor(self._shares, dtype=torch.float64)
        return float(torch.special.entr(shares).sum().exp()) if self._shares else 0.0

    @property
    def first_share(self) -> float:
        """The first direction's share of the sum of squared singular values; 0 where none moved."""
        return self._shares[0] if self._shares else 0.0

    @property
    def intruders(self) -> int:
        """How many of the top directions W has no match for: |cosine| below 0.5 with all of its own."""
        return sum(cosine < INTRUDER_COSINE for cosine in self.cosines)

    @property
    def _shares(self) -> list[float]:
        squares = [value**2 for value in self.singular_values]
        return [square / sum(squares) for square in squares] if sum(squares) > 0 else []


@dataclass(frozen=True)
class WeightEvidence:
    """Every adapted module of a model, in the network's order."""

    modules: tuple[ModuleChange, ...]
    has_dora: bool

    @property
    def greatest_change(self) -> float:
        """The greatest `relative_change` of all modules."""
        return max(module.relative_change for module in self.modules)

    @property
    def rank_use(self) -> float:
        """Median over the modules of effective rank / rank."""
        return median(module.effective_rank / module.rank for module in self.modules)


def read_weights(bundle: Path) -> WeightEvidence:
    """The evidence of a bundle's adapter on its backbone as scoring merges the two, in full precision whatever the base
    was trained in.

    Raises ReviewriskError where the bundle does not verify or this machine has another backbone.
    """
    classifier = make_classifier(bundle_backbone(verify_bundle(bundle)), head_dropout=0.0, seed=0)
    return weight_evidence(load_adapter(classifier, bundle / "adapter"))


def weight_evidence(adapted: PeftModel) -> WeightEvidence:
    """The evidence of an adapted classifier, which is left as it is.

    Takes two singular value decompositions a module.
    """
    config: Any = adapted.peft_config["default"]
    return WeightEvidence(
        tuple(_module_change(name, layer) for name, layer in _adapted_layers(adapted)), bool(config.use_dora)
    )


@torch.no_grad()
def base_and_change(layer: Any) -> tuple[Tensor, Tensor]:
    """(W, change of W that merging makes) of one of peft's LoRA layers, both of shape (outputs, inputs), in float64."""
    layer = copy.deepcopy(layer).double()  # a change far smaller than W would drown in float32's rounding of the sum
    base = layer.get_base_layer().weight.clone()
    layer.merge()
    return base, layer.get_base_layer().weight - base


def greatest_cosines(base: Tensor, changed: Tensor) -> Tensor:
    """Of each of the 10 greatest left singular vectors of `changed`, its greatest |cosine| with any of `base`, shape
    (10 or fewer,).
    """
    overlap: Tensor = _left_vectors(changed)[:, :TOP_DIRECTIONS].T @ _left_vectors(base)
    return overlap.abs().amax(dim=1)


def weight_table(evidence: WeightEvidence) -> list[str]:
    """A line for each module: its change, its rank and how much of it is used, its singular values and its intruder
    dimensions.
    """
    head = ("module", "change", "effective rank", "first", "intruders", "least cosine", "singular values")
    lines = [
        (
            module.name,
            f"{module.relative_change:.2%}",
            f"{module.effective_rank:.1f} of {module.rank}",
            f"{module.first_share:.0%}",
            str(module.intruders),
            f"{min(module.cosines):.2f}",
            _shortened(module.singular_values),
        )
        for module in evidence.modules
    ]
    return align([head, *lines], right=[False, True, True, True, True, True, False])


def _adapted_layers(adapted: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    for name, layer in adapted.named_modules():
        if isinstance(layer, LoraLayer):
            yield name.removeprefix("base_model.model."), layer


def _module_change(name: str, layer: Any) -> ModuleChange:
    base, change = base_and_change(layer)
    values = _low_rank_values(layer)
    relative = float(change.norm() / base.norm())
    return ModuleChange(name, tuple(values.tolist()), relative, tuple(greatest_cosines(base, base + change).tolist()))


@torch.no_grad()
def _low_rank_values(layer: Any) -> Tensor:
    """Singular values of scale · B A from the triangular parts of B and A, which have them too and are no larger than
    the rank.
    """
    left = torch.linalg.qr(layer.lora_B["default"].weight.double()).R
    right = torch.linalg.qr(layer.lora_A["default"].weight.double().T).R
    values: Tensor = torch.linalg.svdvals(left @ right.T) * layer.scaling["default"]
    return values


def _left_vectors(matrix: Tensor) -> Tensor:
    """Left singular vectors as columns, those of the greatest values first."""
    matrix = matrix.float()  # enough for a cosine, and twice as fast
    is_wide = matrix.shape[0] < matrix.shape[1]  # then the transposed is decomposed several times faster
    vectors: Tensor = (
        torch.linalg.svd(matrix.T, full_matrices=False)[2].T
        if is_wide
        else torch.linalg.svd(matrix, full_matrices=False)[0]
    )
    return vectors


def _shortened(values: tuple[float, ...]) -> str:
    shown = [f"{value:.3g}" for value in values]
    return " ".join(shown if len(shown) <= 6 else [*shown[:4], "…", shown[-1]])

"""Which of the failures that LoRA runs are known for a finished run looks like, from its recorded curves and its
weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.files import read_json
from model.settings import ModelSettings
from model.training.spectrum import INTRUDER_COSINE, TOP_DIRECTIONS, ModuleChange, WeightEvidence, read_weights

COIN_TOSS = math.log(2)  # the loss of saying one half to every row, which is about where a new head starts

# Rounding a weight matrix to bfloat16 moves it by 0.0017 of its norm: a change of less than 0.001 hardly exists.
LEAST_CHANGE = 1e-3
# Shares of the loss of a model that knows the class shares alone. A run that learns ends far below half of it; noisy
# labels may hold it higher.
HIGH_LOSS = 0.5
LEARNT_LOSS = 0.7
UNLEARNT_LOSS = 0.9
STUCK_LOSS = 0.95
# AUC is 0.5 by chance; with some hundred validation rows luck reaches 0.6, and something learnt soon passes 0.7.
LEAST_AUC = 0.7
# Of two successive thirds of a run: a loss that falls by less than a twentieth has stopped falling.
FLAT_SHARE = 0.95
# In runs that learnt at ranks 4 to 16, the median module used 0.3 to 0.5 of its rank; where the rank binds, the
# singular values come nearer to each other. A rank of 1 is always used whole.
WHOLE_RANK = 0.7
# Validation losses of a healthy run wander by some per cent from epoch to epoch, and by any share when they are next to
# nothing.
OVERFITTING_RISE = 1.2
OVERFITTING_LEAST_RISE = 0.05
# A stretch's loss above that of a coin toss takes confident errors; single batches of 16 rows reach 1.5 times it by
# chance alone.
SPIKE = 2 * COIN_TOSS
SPIKE_OF_STUCK_RUN = 1.5 * COIN_TOSS
# Against the first epoch's norms: those of runs that learn well grow up to fivefold. Where the loss is near zero, a
# single odd row raises them thirtyfold without harm: so they count above the loss of a coin toss alone.
EXPLOSION = 10.0
_WORST_MODULES = 5


@dataclass(frozen=True)
class Finding:
    """One failure: whether the run looks like it, the numbers that say so or not, and the setting to try."""

    name: str
    is_found: bool
    evidence: str
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """The findings about a bundle, the found ones first, and its weights. Without training the curves' findings are
    missing.
    """

    findings: list[Finding]
    weights: WeightEvidence
    has_training: bool


def diagnose_bundle(bundle: Path) -> Diagnosis:
    """What `diagnose` finds in a bundle's own files and its backbone.

    Raises ReviewriskError where the bundle does not verify or this machine has another backbone than it was trained on.
    """
    weights = read_weights(bundle)
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    training = read_json(bundle / "metrics.json").get("training", {})
    share = _dissatisfied_share(bundle) if training and settings.training.class_weighting == "none" else 0.5
    return Diagnosis(diagnose(settings, training, weights, share), weights, bool(training))


def diagnose(
    settings: ModelSettings, training: Mapping[str, Any], weights: WeightEvidence, dissatisfied_share: float = 0.5
) -> list[Finding]:
    """A finding for each known failure, the found ones first.

    `training` is TrainingResult as a dict (metrics.json's `training`); empty for a model that was combined from others,
    of which the weights alone are judged. `dissatisfied_share` is that of the validation rows; it matters where
    class_weighting is none. Losses are natural.
    """
    findings = [_never_moved(settings, weights), _intruders(weights)]
    if training:
        curves = _Curves.of(training["history"], settings, dissatisfied_share)
        rate = _rate_too_high(settings, curves)
        findings = [
            _base_not_frozen(training["start"]),
            _b_not_zero(settings, training["start"]),
            rate,
            _rank_too_low(settings, curves, weights, is_unstable=rate.is_found),
            _wrong_layers(settings, curves),
            _overfitting(settings, curves, int(training["best_epoch"])),
            *findings,
        ]
    return sorted(findings, key=lambda finding: not finding.is_found)


@dataclass(frozen=True)
class _Curves:
    """The recorded curves: means per epoch, and losses and gradient norms per stretch over all epochs. `chance` is the
    loss of a model that knows the class shares alone; `usual_norm` is the first stretch's norm or the first epoch's
    median, whichever is greater.
    """

    training: list[float]
    validation: list[float]
    auc: list[float]
    average_precision: list[float]
    stretches: list[float]
    norms: list[float]
    usual_norm: float
    chance: float

    @classmethod
    def of(cls, history: Sequence[Mapping[str, Any]], settings: ModelSettings, share: float) -> _Curves:
        return cls(
            training=[entry["train_loss"] for entry in history],
            validation=[entry["validation_loss"] for entry in history],
            auc=[entry["auc"] for entry in history],
            average_precision=[entry["average_precision"] for entry in history],
            stretches=[loss for entry in history for loss in entry["train_losses"]],
            norms=[norm for entry in history for norm in entry["gradient_norms"]],
            usual_norm=max(history[0]["gradient_norms"][0], median(history[0]["gradient_norms"])),
            chance=_entropy(share) if settings.training.class_weighting == "none" else COIN_TOSS,
        )

    @property
    def has_learnt(self) -> bool:
        """Whether validation was better than chance in any epoch."""
        return self.had_low_loss or max(self.auc) >= LEAST_AUC

    @property
    def had_low_loss(self) -> bool:
        """Whether validation loss was clearly below that of chance in any epoch."""
        return min(self.validation) <= UNLEARNT_LOSS * self.chance

    @property
    def ends_at_chance(self) -> bool:
        """Whether the last epoch's losses are no better than chance, on training and validation rows alike."""
        return min(self.training[-1], self.validation[-1]) > STUCK_LOSS * self.chance

    def third(self, number: int) -> float:
        """Mean loss of the first (0), middle (1) or last (2) third of all stretches."""
        count = len(self.stretches)
        return fmean(self.stretches[number * count // 3 : (number + 1) * count // 3] or self.stretches)


def _base_not_frozen(start: Mapping[str, Any]) -> Finding:
    count = int(start["trained_base_parameters"])
    return Finding(
        "base_not_frozen",
        count > 0,
        f"{count:,} parameters outside adapter, head and chosen biases were trainable when training began",
        "Freeze the base (model.network.lora.attach_adapter does) and train again: the bundle lacks the trained base"
        " weights, so its scores are not those of the trained model.",
    )


def _b_not_zero(settings: ModelSettings, start: Mapping[str, Any]) -> Finding:
    norm, is_pissa = float(start["lora_b_norm"]), settings.lora.initialisation == "pissa"
    return Finding(
        "b_not_zero_at_start",
        norm > 0 and not is_pissa,
        f"the norm of all B was {norm:.3g} before the first step"
        + (", as PiSSA wants it" if is_pissa else "; it must be 0"),
        "Train again with model.lora.initialisation default: only with B at 0 does training start from the pretrained"
        " model.",
    )


def _never_moved(settings: ModelSettings, weights: WeightEvidence) -> Finding:
    greatest = weights.greatest_change
    return Finding(
        "adapter_never_moved",
        greatest < LEAST_CHANGE,
        f"the greatest change of a weight is {greatest:.2g} of its norm ({len(weights.modules)} modules; limit"
        f" {LEAST_CHANGE:g})",
        f"Raise model.training.learning_rate (now {settings.training.learning_rate:g}; usual for LoRA is 1e-4 to 4e-4)"
        f" or model.lora.alpha (now {settings.lora.effective_alpha:g}), or train for more epochs.",
    )


def _rate_too_high(settings: ModelSettings, curves: _Curves) -> Finding:
    highest, lowest, usual = max(curves.stretches), min(curves.validation), curves.usual_norm
    was_lost = curves.ends_at_chance and (highest > SPIKE_OF_STUCK_RUN or curves.had_low_loss)
    exploded = [
        norm
        for norm, loss in zip(curves.norms, curves.stretches, strict=True)
        if norm > EXPLOSION * usual and loss > COIN_TOSS
    ]
    return Finding(
        "learning_rate_too_high",
        highest > SPIKE or was_lost or bool(exploded),
        f"training loss was {highest:.3g} at most (limit {SPIKE:.3g}, or {SPIKE_OF_STUCK_RUN:.3g} where it ends at"
        f" chance, {curves.chance:.3g}) and {curves.training[-1]:.3g} in the last epoch; validation loss was"
        f" {lowest:.3g} at best and {curves.validation[-1]:.3g} in the last epoch; the gradient norm was about"
        f" {usual:.3g} in the first epoch and {max(curves.norms):.3g} at most, and gradients exploded {len(exploded)}"
        f" times (a norm of {EXPLOSION:g} times the first epoch's with a loss above {COIN_TOSS:.3g})",
        f"Divide model.training.learning_rate (now {settings.training.learning_rate:g}) by 3 to 10. A lower"
        f" model.lora.learning_rate_ratio (now {settings.lora.learning_rate_ratio:g}) or model.lora.alpha (now"
        f" {settings.lora.effective_alpha:g}) has the same effect.",
    )


def _rank_too_low(settings: ModelSettings, curves: _Curves, weights: WeightEvidence, is_unstable: bool) -> Finding:
    lowest, middle, last = min(curves.training), curves.third(1), curves.third(2)
    is_flat = last > FLAT_SHARE * middle
    has_moved = weights.greatest_change >= LEAST_CHANGE
    is_found = (
        lowest > HIGH_LOSS * curves.chance
        and is_flat
        and has_moved
        and weights.rank_use > WHOLE_RANK
        and not is_unstable
    )
    return Finding(
        "rank_too_low",
        is_found,
        f"the lowest training loss of an epoch is {lowest:.3g} (chance {curves.chance:.3g}); it was {middle:.3g} over"
        f" the middle third of the run and {last:.3g} over the last; weights changed by up to"
        f" {weights.greatest_change:.1%}, and the median module uses {weights.rank_use:.0%} of its rank"
        + (" (of DoRA's direction)" if weights.has_dora else ""),
        f"Raise model.lora.rank (now {settings.lora.rank}) two- to fourfold or adapt more layers (model.lora.targets,"
        f" now {', '.join(settings.lora.targets)}). If the training loss stays high, check the labels: they may not"
        " follow from the texts.",
    )


def _wrong_layers(settings: ModelSettings, curves: _Curves) -> Finding:
    last, best = curves.training[-1], min(curves.validation)
    return Finding(
        "wrong_layers",
        last < LEARNT_LOSS * curves.chance and not curves.has_learnt,
        f"the last epoch's training loss is {last:.3g}, the lowest validation loss of an epoch {best:.3g} (chance"
        f" {curves.chance:.3g}); on validation the greatest AUC is {max(curves.auc):.3f} (chance 0.5) and the greatest"
        f" average precision {max(curves.average_precision):.3f}",
        f"Adapt other places: model.lora.targets all-linear (now {', '.join(settings.lora.targets)}),"
        f" model.lora.layers null (now {'null' if settings.lora.layers is None else list(settings.lora.layers)}). Then"
        " check that labels mean the same in training and validation, as the training rows were learnt by heart.",
    )


def _overfitting(settings: ModelSettings, curves: _Curves, best_epoch: int) -> Finding:
    lowest, last = min(curves.validation), curves.validation[-1]
    turn = curves.validation.index(lowest)
    before, after = curves.training[turn], min(curves.training[turn:])
    has_risen = last > OVERFITTING_RISE * lowest and last - lowest > OVERFITTING_LEAST_RISE * curves.chance
    return Finding(
        "overfitting",
        has_risen and after < before and curves.has_learnt,
        f"validation loss is lowest in epoch {turn + 1} ({lowest:.3g}) and {last:.3g} in the last, epoch"
        f" {len(curves.validation)}; training loss goes from {before:.3g} down to {after:.3g} meanwhile; the weights"
        f" kept are those of epoch {best_epoch}",
        f"Get more training rows, or fewer model.training.epochs (now {settings.training.epochs}), a lower"
        f" model.lora.rank (now {settings.lora.rank}), more model.lora.dropout and model.training.weight_decay (null"
        " sets both by the number of rows).",
    )


def _intruders(weights: WeightEvidence) -> Finding:
    having = sorted((module for module in weights.modules if module.intruders), key=_badness)
    directions = sum(len(module.cosines) for module in weights.modules)
    least = min(cosine for module in weights.modules for cosine in module.cosines)
    worst = "; ".join(
        f"{module.name} {module.intruders} (least cosine {min(module.cosines):.2f})"
        for module in having[:_WORST_MODULES]
    )
    return Finding(
        "intruder_dimensions",
        bool(having),
        f"{sum(module.intruders for module in having)} of {directions} main directions of the changed weights are new:"
        f" their |cosine| with the nearest old one is below {INTRUDER_COSINE:g} (the least is {least:.2f}; main are the"
        f" {TOP_DIRECTIONS} greatest left singular vectors of each of {len(weights.modules)} modules)"
        + (f"; worst: {worst}" if worst else ""),
        "Lower model.training.learning_rate or model.lora.alpha, or raise model.lora.rank with"
        " model.lora.rank_stabilised true. A model with such directions forgets more of what its base knew"
        " (Shuttleworth et al. 2024), which matters for reviews unlike the training rows.",
    )


def _dissatisfied_share(bundle: Path) -> float:
    """Share of dissatisfied rows in the later half of validation, the nearest that a bundle knows to that of the half
    which stops training.
    """
    rows = pq.read_table(bundle / "predictions.parquet", columns=["part", "label"])
    return float(pc.mean(rows.filter(pc.not_equal(rows["part"], "test"))["label"]).as_py())


def _badness(module: ModuleChange) -> tuple[int, float]:
    return -module.intruders, min(module.cosines)


def _entropy(share: float) -> float:
    """Loss of a model that says `share` to every row, where that is the share of rows of class 1."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part > 0)

"""What a newcomer should be told about a LoRA run before it starts: regularisation by the data's size, and settings
that often go wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from model.settings import LoraSettings, ModelSettings

LEAST_OF_A_CLASS = 50
SCALE_RANGE = (0.5, 4.0)  # of the default alpha
FULL_FINE_TUNING_RATE = 5e-5
UNSTABLE_RATE = 5e-4


@dataclass(frozen=True)
class Regularisation:
    """LoRA dropout and weight decay for a number of training rows, with the reason to be printed."""

    dropout: float
    weight_decay: float
    reason: str


# Fewer training rows than the first number: dropout, weight decay, rows in words, why.
_BANDS: tuple[tuple[float, float, float, str, str], ...] = (
    (1_000, 0.2, 0.1, "fewer than 1,000", "so few are soon learnt by heart; strong dropout and weight decay slow that"),
    (10_000, 0.1, 0.05, "1,000 to 9,999", "an adapter can still learn these by heart within a few epochs"),
    (100_001, 0.05, 0.01, "10,000 to 100,000", "so many rows limit overfitting themselves, so a little is enough"),
    (math.inf, 0.0, 0.01, "more than 100,000", "with so many, dropout only slows learning; AdamW's usual decay stays"),
)


def regularisation(rows: int) -> Regularisation:
    """LoRA dropout and weight decay for so many training rows: high for few, none and 0.01 for more than 100,000."""
    _, dropout, weight_decay, words, why = next(band for band in _BANDS if rows < band[0])
    return Regularisation(dropout, weight_decay, f"{rows:,} training rows ({words}): {why}")


def resolve(settings: ModelSettings, rows: int) -> tuple[ModelSettings, list[str]]:
    """The settings with numbers for model.lora.dropout and model.training.weight_decay, and lines that say where they
    come from.

    `rows` is the number of training rows before any are repeated. What is set stays; settings without None come back as
    they are.
    """
    default = regularisation(rows)
    lora, training = settings.lora, settings.training
    dropout = default.dropout if lora.dropout is None else lora.dropout
    weight_decay = default.weight_decay if training.weight_decay is None else training.weight_decay
    resolved = settings.model_copy(
        update={
            "lora": lora.model_copy(update={"dropout": dropout}),
            "training": training.model_copy(update={"weight_decay": weight_decay}),
        }
    )
    named = (
        ("LoRA dropout", lora.dropout, default.dropout),
        ("weight decay", training.weight_decay, default.weight_decay),
    )
    chosen = [f"{name} {by_rows:g}" for name, given, by_rows in named if given is None]
    lines = [f"{' and '.join(chosen)} for {default.reason}"] if chosen else []
    lines += [
        f"{name} {given:g} as set; by the data's size it would be {by_rows:g}"
        for name, given, by_rows in named
        if given is not None
    ]
    return resolved, lines


def rank_limit(rows: int) -> int:
    """The rank above which so few training rows give no reason to go: 8 under 1,000, 16 under 10,000, else 64.

    A rule of thumb of this project's. Hu et al. 2021 (table 6) saw rank 64 do no better than 8 on tasks of some 56,000
    and 393,000 examples; what rank adds on fewer is mostly room to learn them by heart.
    """
    return 8 if rows < 1_000 else 16 if rows < 10_000 else 64


def setting_warnings(settings: ModelSettings, rows: int, shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    """A sentence for each setting that often goes wrong; none where all are in their usual ranges.

    `shapes` has (inputs, outputs) of each targeted place.
    """
    return [
        *_scale_warnings(settings.lora),
        *_rank_warnings(settings.lora.rank, rows, shapes),
        *_rate_warnings(settings.training.learning_rate),
    ]


def class_warnings(classes: Mapping[str, tuple[int, int]]) -> list[str]:
    """A sentence for each part of the data with fewer than 50 rows of a class; `classes` has (satisfied, dissatisfied)
    rows by part.
    """
    return [
        f"{part} has {rows} {name} rows, fewer than {LEAST_OF_A_CLASS}: get more, since anything fitted or measured on"
        " so few is mostly chance."
        for part, counts in classes.items()
        for name, rows in zip(("satisfied", "dissatisfied"), counts, strict=True)
        if rows < LEAST_OF_A_CLASS
    ]


def rule_of_thumb() -> list[str]:
    """The rule by which to choose between LoRA and its simpler or costlier rivals, from the figures of
    docs/results/generated/all-rows.md and docs/results.md.
    """
    return [
        (
            "LoRA or not: take the cheapest model that no other one beats by more than chance; `reviewrisk compare`"
            " measures this on your reviews."
        ),
        (
            "  On real reviews with 20,344 training rows LoRA's F1 less TF-IDF's was 0.040 [0.021, 0.058] on later"
            " months of the same shop, 0.059 [0.035, 0.082]"
        ),
        (
            "  with ratings masked and 0.081 [0.061, 0.099] on another population; other seeds had 0.033 to 0.040 on"
            " the same months. With 1,271 rows it was"
        ),
        (
            "  0.047 [0.018, 0.076] there; with 250 or fewer TF-IDF was better. A frozen encoder was worse than TF-IDF,"
            " and full fine-tuning gained"
        ),
        "  nothing over LoRA: its F1 less LoRA's was -0.004 [-0.015, 0.006].",
    ]


def _scale_warnings(lora: LoraSettings) -> list[str]:
    """Plain LoRA is judged by alpha / rank, rsLoRA by alpha itself, as its scale is meant to fall with the root of the
    rank.
    """
    default = lora.default_alpha
    low, high = (share * default for share in SCALE_RANGE)
    if low <= lora.effective_alpha <= high:
        return []
    effect = (
        "the adapter hardly reaches the weights"
        if lora.effective_alpha < low
        else "each step moves the weights far, as a high learning rate does"
    )
    by, formula, advice = (
        (1, "alpha with model.lora.rank_stabilised", "usual")
        if lora.rank_stabilised
        else (lora.rank, "alpha / rank", "twice the rank")
    )
    return [
        f"{formula} is {lora.effective_alpha / by:.3g}, outside {low / by:g} to {high / by:g}: {effect}; set"
        f" model.lora.alpha to {default:g}, {advice}."
    ]


def _rank_warnings(rank: int, rows: int, shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    found = []
    limit = rank_limit(rows)
    if rank > limit:
        found.append(
            f"model.lora.rank {rank} is high for {rows:,} training rows: set {limit} or less, since a higher one mostly"
            " learns rows by heart (in Hu et al. 2021, table 6, rank 64 was no better than 8 on 56,000 rows and more)."
        )
    wide = [place for place, (inputs, outputs) in shapes.items() if rank * (inputs + outputs) >= inputs * outputs]
    if wide:
        found.append(
            f"model.lora.rank {rank} gives {', '.join(wide)} as many parameters as the layer itself or more: lower it."
        )
    return found


def _rate_warnings(rate: float) -> list[str]:
    if rate <= FULL_FINE_TUNING_RATE:
        return [
            f"model.training.learning_rate {rate:g} is low for LoRA and hardly moves an adapter (5e-5 and less suits"
            " full fine-tuning): set 1e-4 to 4e-4, which is usual."
        ]
    if rate >= UNSTABLE_RATE:
        return [
            f"model.training.learning_rate {rate:g} is high for LoRA (5e-4 and more): halve it if in the first epoch"
            " the loss jumps up, gradient norms grow or validation figures swing; the bundled encoder trains well at"
            " 5e-4 and 1e-3, a larger one may not."
        ]
    return []

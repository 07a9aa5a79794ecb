"""What a training run will do and cost, said before it starts: rows, parameters, memory, time, and settings that often
go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pyarrow as pa
from peft import PeftModel
from torch import nn

from model.data.audit import PERCENTILES, DuplicateAudit, LengthSummary, class_balance, duplicate_audit, length_summary
from model.data.batches import tokenise
from model.data.reviews import LabelledReviews, PreparedData, draw, labelled_reviews, prepare
from model.data.row_filter import chosen_rows
from model.network.backbone import Backbone, load_backbone, make_classifier
from model.network.hardware import cpu_threads
from model.network.lora import HEAD_MODULES, ParameterCounts, attach_adapter, count_parameters, module_place
from model.progress import Report, progress
from model.settings import ModelSettings, RowSettings
from model.training.cost_estimate import MemoryEstimate, StepTimes, epoch_seconds, estimate_cost
from model.training.defaults import class_warnings, resolve, rule_of_thumb, setting_warnings

# Lengths and step times are read off at most so many rows; beyond that they change little.
SAMPLED_ROWS = 20_000


@dataclass(frozen=True)
class Place:
    """The adapted modules of one place, the layer's number being *: how many, their shape, and LoRA
    parameters in each.
    """

    name: str
    modules: int
    inputs: int
    outputs: int
    parameters_each: int


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds of an epoch with its validation, and of all epochs; a run that stops early takes less."""

    epoch_seconds: float
    seconds: float
    steps: StepTimes
    threads: int


@dataclass(frozen=True)
class Plan:
    """All that `plan` found. `settings` are those that training will use, without None; `balance` has (satisfied,
    dissatisfied) rows.
    """

    settings: ModelSettings
    rows: dict[str, int]
    balance: dict[str, tuple[int, int]]
    lengths: LengthSummary
    duplicates: DuplicateAudit
    places: list[Place]
    head: dict[str, int]
    counts: ParameterCounts
    memory: MemoryEstimate
    time: TimeEstimate
    warnings: list[str]


def plan(reviews: pa.Table, settings: ModelSettings, report: Report) -> Plan:
    """What training on the table would do, reported line by line as it is found; nothing is written.

    `reviews` has the columns of model.data.reviews.COLUMNS. Raises ReviewriskError wherever `fit` would before its
    first epoch.
    """
    with cpu_threads(settings.training.threads) as threads:
        with progress("preparing the rows", report):
            data, reviews = prepare(reviews, settings), chosen_rows(reviews, settings.rows)
            duplicates = duplicate_audit(
                {
                    split: labelled_reviews(reviews, split, settings.text.headline)
                    for split in ("train", "validation", "test")
                }
            )
        balance, rows = class_balance(data), len(data.train)
        settings, regularisation = resolve(settings, rows)
        with progress("loading the backbone", report):
            backbone, adapted = _load(settings)
        with progress("measuring texts", report):
            sample = draw(data.train, SAMPLED_ROWS, settings.training.seed)
            lengths = length_summary(sample, backbone.tokenizer, backbone.max_length)
        _say(report, _data_lines(data, settings.rows, balance, lengths, duplicates))
        places, head, counts = adapted_places(adapted), _head(adapted), count_parameters(adapted)
        _say(
            report,
            [*_parameter_lines(places, head, counts), "Regularisation", *(f"  {line}" for line in regularisation)],
        )
        with progress("timing a few steps", report):
            memory, time = _cost(adapted, backbone, data, sample, settings, threads)
        shapes = {place.name: (place.inputs, place.outputs) for place in places}
        warnings = [*class_warnings(balance), *setting_warnings(settings, rows, shapes)]
        _say(report, [*_cost_lines(memory, time, settings), *_warning_lines(warnings), *rule_of_thumb()])
    return Plan(settings, data.rows, balance, lengths, duplicates, places, head, counts, memory, time, warnings)


def adapted_places(adapted: PeftModel) -> list[Place]:
    """The adapted modules by place, in the encoder's order."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for name in adapted.targeted_module_names:
        module = cast(nn.Linear, adapted.get_submodule(f"base_model.model.{name}"))
        lora = sum(parameter.numel() for part, parameter in module.named_parameters() if part.startswith("lora_"))
        found.setdefault(module_place(name), []).append((module.in_features, module.out_features, lora))
    return [Place(name, len(modules), *modules[0]) for name, modules in found.items()]


def _load(settings: ModelSettings) -> tuple[Backbone, PeftModel]:
    backbone = load_backbone(settings.backbone, settings.lora.quantization)
    classifier = make_classifier(backbone, settings.training.head_dropout, settings.training.seed)
    return backbone, attach_adapter(classifier, settings.lora, settings.training.seed)


def _cost(
    adapted: PeftModel,
    backbone: Backbone,
    data: PreparedData,
    sample: LabelledReviews,
    settings: ModelSettings,
    threads: int,
) -> tuple[MemoryEstimate, TimeEstimate]:
    """Memory and time, where `sample` are the training rows to read lengths and step times off."""
    validation_sample = draw(data.early_stopping, SAMPLED_ROWS, settings.training.seed)
    training, validation = (
        tokenise(part, backbone.tokenizer, backbone.max_length) for part in (sample, validation_sample)
    )
    memory, steps = estimate_cost(adapted, training, settings, int(backbone.tokenizer.pad_token_id))
    train_seconds, validation_seconds = epoch_seconds(steps, training, validation, settings)
    epoch = train_seconds * len(data.train) / len(sample) + validation_seconds * len(data.early_stopping) / len(
        validation_sample
    )
    return memory, TimeEstimate(epoch, epoch * settings.training.epochs, steps, threads)


def _say(report: Report, lines: list[str]) -> None:
    for line in lines:
        report(line)


def _head(adapted: PeftModel) -> dict[str, int]:
    """Trained parameters of each layer of the head."""
    return {
        name: sum(
            parameter.numel()
            for parameter in adapted.get_submodule(f"base_model.model.{name}.modules_to_save").parameters()
        )
        for name in HEAD_MODULES
    }


def _data_lines(
    data: PreparedData,
    chosen: RowSettings,
    balance: dict[str, tuple[int, int]],
    lengths: LengthSummary,
    duplicates: DuplicateAudit,
) -> list[str]:
    width = max(map(len, balance))
    only = f" among reviews with {chosen.only} alone" if chosen.only else ""
    lines = [
        f"Rows with a label{only} (training without {data.rows['train_duplicates_dropped']:,} whose text stands in"
        " validation or test)"
    ]
    lines += [
        f"  {name:<{width}} {sum(counts):>9,}, {counts[1]:>8,} dissatisfied ({counts[1] / sum(counts):.1%})"
        for name, counts in balance.items()
    ]
    spread = ", ".join(
        f"{'longest' if percent == 100 else f'{percent}%'} {value:,}"
        for percent, value in zip(PERCENTILES, lengths.percentiles, strict=True)
    )
    return [
        *lines,
        (
            f"Tokens a text in {lengths.rows:,} training rows: mean {lengths.mean:.0f}, {spread};"
            f" {lengths.truncated_share:.1%} longer than max_length {lengths.max_length} are cut"
        ),
        "Duplicate texts, as stored",
        (
            f"  {duplicates.train_repeats:,} training rows repeat an earlier one; {duplicates.train_in_validation:,}"
            f" also stand in validation and {duplicates.train_in_test:,} in test; {duplicates.validation_in_test:,}"
            " validation rows stand in test"
        ),
        f"  {duplicates.contradictory_texts:,} texts ({duplicates.contradictory_rows:,} rows) are labelled both ways",
    ]


def _parameter_lines(places: list[Place], head: dict[str, int], counts: ParameterCounts) -> list[str]:
    width = max(len(place.name) for place in places)
    lines = [
        f"Parameters to train (* is the layer's number)\n  {'place':<{width}} {'modules':>7} {'LoRA each':>10}"
        f" {'sum':>12}"
    ]
    lines += [
        f"  {place.name:<{width}} {place.modules:>7,} {place.parameters_each:>10,}"
        f" {place.modules * place.parameters_each:>12,}"
        for place in places
    ]
    lines += [f"  {f'head: {name}':<{width}} {1:>7} {'':>10} {parameters:>12,}" for name, parameters in head.items()]
    if counts.biases:
        lines.append(f"  {'biases':<{width}} {'':>7} {'':>10} {counts.biases:>12,}")
    share = counts.trainable / counts.distinct
    return [
        *lines,
        f"  {'total':<{width}} {'':>7} {'':>10} {counts.trainable:>12,}  {share:.2%} of {counts.distinct:,}",
        f"  {counts}",
    ]


def _cost_lines(memory: MemoryEstimate, cost: TimeEstimate, settings: ModelSettings) -> list[str]:
    steps, batch = cost.steps, settings.training.batch_size
    timed = ", ".join(
        f"{length} tokens {seconds:.2f} s" for length, seconds in zip(steps.lengths, steps.training, strict=True)
    )
    return [
        (
            f"Memory, estimated: {_mib(memory.total)}, and on a CPU up to as much again in its allocator; Python and"
            " PyTorch come on top"
        ),
        (
            f"  parameters {_mib(memory.parameters)}, gradients {_mib(memory.gradients)} (4 bytes per trained one),"
            f" AdamW's moments {_mib(memory.moments)} (8),"
        ),
        (
            f"  copies of the last and the best epoch {_mib(memory.copies)} (16), activations"
            f" {_mib(memory.activations)} (counted in the longest batch)"
        ),
        (
            f"Time, estimated: {_duration(cost.seconds)} for {settings.training.epochs} epochs of"
            f" {_duration(cost.epoch_seconds)} with validation; calibration, test and baseline come on top"
        ),
        (
            f"  from steps timed here ({steps.device}, {steps.precision}, threads: {cost.threads}), {batch} rows of"
            f" {timed}"
        ),
    ]


def _warning_lines(warnings: list[str]) -> list[str]:
    return [f"Warnings: {len(warnings)}", *(f"  {warning}" for warning in warnings)] if warnings else ["Warnings: none"]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )

"""Memory and time of a training run are estimated from real steps of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model.data.batches import TokenisedReviews
from model.network.attention import encoder_of
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter
from model.training.cost_estimate import StepTimes, epoch_seconds, estimate_cost, saved_bytes
from tests.support.tiny_models import tiny_encoder, tiny_settings


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def test_activations_are_counted_as_autograd_keeps_them() -> None:
    linear = nn.Linear(8, 16, bias=False)
    rows = torch.randn(10, 8, requires_grad=True)
    kept = 10 * 16 * 4 + 10 * 8 * 4  # relu keeps its result, the linear layer its input and its weight
    assert saved_bytes(lambda: torch.relu(linear(rows)), {linear.weight.untyped_storage().data_ptr()}) == kept
    assert saved_bytes(lambda: torch.relu(linear(rows)), set()) == kept + 16 * 8 * 4
    with torch.no_grad():
        assert saved_bytes(lambda: torch.relu(linear(rows)), set()) == 0


def rows_of(lengths: list[int]) -> TokenisedReviews:
    return TokenisedReviews([np.full(length, 7, dtype=np.int32) for length in lengths], np.arange(len(lengths)) % 2)


def test_steps_are_timed_from_the_shortest_to_the_longest_batch(encoder: Path) -> None:
    settings = tiny_settings(encoder, batch_size=2)
    adapted = attach_adapter(make_classifier(load_backbone(settings.backbone), 0.0, 1), settings.lora, 1)
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    encoder_of(adapted).register_forward_pre_hook(
        lambda module, _: seen[module.training].add(module.config._attn_implementation)
    )
    _, times = estimate_cost(adapted, rows_of([10, 10, 30, 30, 60, 60]), settings, 0)
    assert seen == {True: {"eager"}, False: {"sdpa"}}, "as training and its validation compute"
    assert sorted(times.lengths) == [16, 32, 60]
    assert all(seconds > 0 for seconds in (*times.training, *times.evaluation))
    assert (times.device, times.precision) == ("cpu", "float32")


def test_time_of_an_epoch_is_the_sum_over_its_batches(encoder: Path) -> None:
    settings = tiny_settings(encoder, batch_size=2)
    times = StepTimes(lengths=(16, 64), training=(1.0, 4.0), evaluation=(0.5, 2.0), device="cpu", precision="float32")
    training, validation = rows_of([16, 16, 40, 40, 64, 64]), rows_of([64, 64, 10])
    # 40 is padded to 48
    assert epoch_seconds(times, training, validation, settings) == pytest.approx((1 + 3 + 4, 2 + 0.5))
    oversampled = tiny_settings(encoder, batch_size=2, class_weighting="oversampled")
    uneven = TokenisedReviews([*training.token_ids, *training.token_ids], np.array([0] * 10 + [1] * 2))
    assert (
        epoch_seconds(times, uneven, validation, oversampled)[0]
        > 1.5 * epoch_seconds(times, uneven, validation, settings)[0] - 1e-9
    )

"""What an encoder has forgotten: its drift, its probes and its masked tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.data.batches import TokenisedReviews, tokenise
from model.experiments.compare.inputs import Inputs
from model.experiments.forgetting import embedding_drift, masked_token_loss, probe_loss, probe_task
from model.experiments.methods import read_texts
from model.network.backbone import load_backbone, make_classifier
from model.settings import ModelSettings
from tests.support.comparisons import IDS
from tests.support.tiny_models import vocabulary


def test_an_untouched_encoder_has_forgotten_nothing(settings: ModelSettings, inputs: Inputs) -> None:
    backbone = load_backbone(settings.backbone)
    classifier = make_classifier(backbone, 0.2, 17)
    tokens = tokenise(inputs.data.test, backbone.tokenizer, 64)
    before, after = (read_texts(classifier, tokens, 0).pooled for _ in range(2))
    assert embedding_drift(before, after) == pytest.approx(0, abs=1e-9)
    task = probe_task(inputs.data.test)
    assert task is not None
    assert probe_loss(before, task[1], inputs.data.test.product_ids) == probe_loss(
        after, task[1], inputs.data.test.product_ids
    )


def test_drift_is_the_mean_cosine_distance() -> None:
    before = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    after = np.array([[5, 0], [7, 0], [-1, 0]], dtype=np.float32)
    assert embedding_drift(before, after) == pytest.approx((0 + 1 + 2) / 3)


def test_a_probe_reads_what_the_vectors_hold_and_misses_what_they_have_lost(inputs: Inputs) -> None:
    reviews = inputs.data.train
    task = probe_task(reviews)
    assert task is not None
    name, classes = task
    assert name == "product category" and set(classes) == {"furniture", "kitchen", "unknown"}
    generator = np.random.default_rng(1)
    drawn = generator.choice(sorted(set(classes)), size=len(reviews))
    noise = generator.normal(size=(len(reviews), 4)).astype(np.float32)
    told = np.stack([drawn == category for category in sorted(set(drawn))], axis=1).astype(np.float32)
    known, lost = (probe_loss(vectors, drawn, reviews.product_ids) for vectors in (np.hstack([told, noise]), noise))
    assert known < 0.6 * lost and lost == pytest.approx(np.log(3), abs=0.05)


def test_without_several_categories_the_probe_asks_whether_the_purchase_was_verified(inputs: Inputs) -> None:
    reviews = replace(inputs.data.train, categories=["furniture"] * len(inputs.data.train))
    task = probe_task(reviews)
    assert task is not None and task[0] == "verified purchase" and set(task[1]) == {"yes", "no"}
    assert probe_task(replace(reviews, is_verified=np.zeros(len(reviews), dtype=np.bool_))) is None


def test_masked_token_loss_is_measured_where_the_checkpoint_has_the_head(
    settings: ModelSettings, with_masked_token_head: ModelSettings
) -> None:
    backbone = load_backbone(with_masked_token_head.backbone)
    tokens = TokenisedReviews([IDS[0].numpy().astype(np.int32)] * 30, np.zeros(30, dtype=np.int64))
    untouched = masked_token_loss(backbone.encoder, backbone, tokens, 17)
    assert untouched is not None and untouched < 0.9 * np.log(len(vocabulary())), (
        "better than chance on the words it has learnt"
    )
    assert masked_token_loss(backbone.encoder, backbone, tokens, 17) == untouched
    with torch.no_grad():
        for parameter in backbone.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    changed = masked_token_loss(backbone.encoder, backbone, tokens, 17)
    assert changed is not None and changed > 1.2 * untouched
    bare = load_backbone(settings.backbone)
    assert masked_token_loss(bare.encoder, bare, tokens, 17) is None

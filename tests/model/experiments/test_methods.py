from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from model.data.batches import TokenisedReviews, tokenise
from model.data.reviews import labelled_reviews
from model.errors import ReviewriskError
from model.experiments.methods import (
    BOTTLENECK,
    METHODS,
    SOFT_TOKENS,
    attach_prefix,
    attach_prompt,
    read_texts,
    trained_parameters,
)
from model.network.backbone import load_backbone, make_classifier
from model.network.classifier import ReviewClassifier
from model.network.lora import count_parameters, merge_adapter
from model.settings import ModelSettings
from model.training.loop import train
from tests.support.tiny_models import Family, planted_reviews, tiny_encoder, tiny_settings

WIDTH, LAYERS = 32, 2
HEAD = WIDTH * WIDTH + WIDTH + 2 * WIDTH + 2
NETWORKS = [name for name, method in METHODS.items() if method.kind == "network" and name not in ("lora_8bit", "qlora")]
# Of the tiny encoder: six linear layers per encoder layer, two of them of the feed-forward block, which is twice as
# wide.
ALL_LINEAR = LAYERS * 4 * (4 * 2 * WIDTH + 2 * 3 * WIDTH)
TRAINED_IN_ENCODER = {
    "frozen": 0,
    "lora_attention": LAYERS * 4 * 2 * 2 * WIDTH,
    "lora_feed_forward": LAYERS * 4 * 2 * 3 * WIDTH,
    "lora_all": ALL_LINEAR,
    "lora_unweighted": ALL_LINEAR,
    "lora_oversampled": ALL_LINEAR,
    "dora_all": ALL_LINEAR + LAYERS * (4 * WIDTH + 2 * WIDTH + WIDTH),
    "prompt_tuning": SOFT_TOKENS * WIDTH,
    "prefix_tuning": LAYERS * 2 * SOFT_TOKENS * WIDTH,
    "bottleneck_adapter": LAYERS * (2 * BOTTLENECK * WIDTH + BOTTLENECK + WIDTH),
}


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def settings(request: Any, tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    return tiny_settings(tiny_encoder(tmp_path_factory.mktemp("encoder"), request.param), epochs=3, head_dropout=0.0)


def network_of(name: str, settings: ModelSettings) -> tuple[nn.Module, ModelSettings]:
    method = METHODS[name]
    own = method.settings(settings)
    assert method.attach is not None
    return method.attach(make_classifier(load_backbone(own.backbone), 0.0, own.training.seed), own), own


def texts_of(split: str, settings: ModelSettings, rows: int) -> TokenisedReviews:
    reviews = labelled_reviews(planted_reviews(), split)
    return tokenise(reviews.take(np.arange(rows)), load_backbone(settings.backbone).tokenizer, 64)


def base_weights(network: nn.Module) -> dict[str, Tensor]:
    """The encoder's own tensors by the names that they had when it was loaded."""
    added = (
        ".lora_",
        ".adapter.",
        "soft_prompt",
        ".prefix",
        "modules_to_save",
        "pre_classifier",
        "classifier.",
        "original_module",
    )
    found = {name: tensor for name, tensor in network.state_dict().items() if not any(part in name for part in added)}
    return {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor.clone()
        for name, tensor in found.items()
    }


def test_quantised_weights_of_the_config_are_for_no_method_but_those_named_so(settings: ModelSettings) -> None:
    quantised = settings.model_copy(update={"lora": settings.lora.model_copy(update={"quantization": "4bit"})})
    found = {name: method.settings(quantised).lora.quantization for name, method in METHODS.items()}
    assert {name: bits for name, bits in found.items() if bits != "none"} == {"lora_8bit": "8bit", "qlora": "4bit"}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_method_trains_what_it_says_and_leaves_the_base_as_it_was(
    name: str, settings: ModelSettings, tmp_path: Path
) -> None:
    network, own = network_of(name, settings)
    own = own.model_copy(
        update={"training": own.training.model_copy(update={"learning_rate": max(own.training.learning_rate, 2e-3)})}
    )
    before, trained_before = (
        base_weights(network),
        {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad},
    )
    assert before.keys() == base_weights(make_classifier(load_backbone(own.backbone), 0.0, 1)).keys()
    result = train(
        network, texts_of("train", own, 320), texts_of("validation", own, 64), own, 0, tmp_path, lambda _: None
    )  # type: ignore[arg-type]
    losses = [entry["train_loss"] for entry in result.history]
    assert losses[-1] < losses[0]
    moved = {
        n
        for n, p in network.named_parameters()
        if n in trained_before and not torch.equal(p.detach().cpu(), trained_before[n])
    }
    assert moved == trained_before.keys(), "every trained parameter has moved"
    after = base_weights(network)
    unchanged = all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert unchanged == (name != "full")


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_parameters_are_counted_apart_for_encoder_and_head(name: str, settings: ModelSettings) -> None:
    network, own = network_of(name, settings)
    counts = trained_parameters(network)
    assert counts.head == HEAD
    everything = sum(p.numel() for p in make_classifier(load_backbone(own.backbone), 0.0, 1).encoder.parameters())
    assert counts.adapter == (everything if name == "full" else TRAINED_IN_ENCODER[name])
    assert counts.adapter + counts.head == sum(p.numel() for p in network.parameters() if p.requires_grad)
    if isinstance(network, PeftModel):
        assert (counts.adapter, counts.head) == (count_parameters(network).lora, count_parameters(network).head)


@pytest.mark.parametrize("family", ["bert", "distilbert", "deberta-v2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_no_logit(name: str, family: Family, tmp_path: Path) -> None:
    if (name, family) == ("prefix_tuning", "deberta-v2"):
        pytest.skip("prefix tuning refuses DeBERTa, see below")
    network = shaken(network_of(name, tiny_settings(tiny_encoder(tmp_path, family)))[0])
    ids = torch.tensor([[2, 7, 9, 11, 30, 3]])
    padded = torch.cat([ids, torch.zeros(1, 7, dtype=torch.long)], dim=1)
    mask = (torch.arange(13) < 6).long()[None]
    alone = network(input_ids=ids, attention_mask=torch.ones_like(ids))
    both = network(
        input_ids=torch.cat([padded, padded.flip(1).clamp(min=5)]),
        attention_mask=torch.cat([mask, torch.ones_like(mask)]),
    )
    assert torch.allclose(alone[0], both[0], atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-4)


@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning", "bottleneck_adapter"])
def test_what_is_added_reaches_the_logits_and_word_embeddings_give_the_same(name: str, settings: ModelSettings) -> None:
    network, _ = network_of(name, settings)
    ids = torch.tensor([[2, 7, 9, 11, 30, 3]])
    mask = torch.ones_like(ids)
    network.eval()
    first = network(input_ids=ids, attention_mask=mask)
    moved = shaken(network)(input_ids=ids, attention_mask=mask)
    assert not torch.allclose(first, moved, atol=1e-4)
    assert isinstance(network, ReviewClassifier)
    embeds = network.encoder.get_input_embeddings()(ids)
    assert torch.allclose(network(inputs_embeds=embeds, attention_mask=mask), moved, atol=1e-6)


def test_soft_tokens_stand_after_the_first_token_and_are_not_among_the_outputs(settings: ModelSettings) -> None:
    network, own = network_of("prompt_tuning", settings)
    plain = load_backbone(own.backbone).encoder.eval()
    ids = torch.tensor([[2, 7, 9, 11, 30, 3]])
    embeds = plain.get_input_embeddings()(ids)
    prompt = network.encoder.soft_prompt[None]
    every = torch.cat([embeds[:, :1], prompt, embeds[:, 1:]], dim=1)
    expected = plain(inputs_embeds=every, attention_mask=torch.ones(1, 6 + SOFT_TOKENS)).last_hidden_state
    found = network.eval().encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.allclose(found[:, 0], expected[:, 0], atol=1e-6)
    assert torch.allclose(found[:, 1:], expected[:, 1 + SOFT_TOKENS :], atol=1e-6)


def test_a_bottleneck_adapter_begins_as_the_plain_encoder(settings: ModelSettings) -> None:
    network, own = network_of("bottleneck_adapter", settings)
    plain = make_classifier(load_backbone(own.backbone), 0.0, own.training.seed)
    texts = texts_of("test", own, 12)
    assert np.array_equal(read_texts(network, texts, 0).margin, read_texts(plain, texts, 0).margin)


def test_a_prefix_of_zero_keys_and_values_takes_its_share_of_the_attention(settings: ModelSettings) -> None:
    """With keys of 0 each prefix position scores 0: the same as plain attention with twenty empty
    positions in front.
    """
    network, _ = network_of("prefix_tuning", settings)
    attention = next(module for module in network.modules() if hasattr(module, "prefix"))
    with torch.no_grad():
        attention.prefix.zero_()
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 5, 16, generator=generator) for _ in range(3))
    from model.experiments.methods import _prefix_attention

    found, _ = _prefix_attention(attention, query, key, value, None, scaling=0.25)
    scores = torch.cat([torch.zeros(1, 2, 5, SOFT_TOKENS), query @ key.transpose(2, 3) * 0.25], dim=-1).softmax(-1)
    assert torch.allclose(found.transpose(1, 2), scores[..., SOFT_TOKENS:] @ value, atol=1e-6)


def test_readings_are_in_the_texts_order_and_pooled_vectors_are_what_the_head_reads(settings: ModelSettings) -> None:
    network, own = network_of("lora_all", settings)
    texts = texts_of("test", own, 70)
    reading = read_texts(shaken(network), texts, 0)
    one = TokenisedReviews([texts.token_ids[40]], texts.labels[40:41])
    alone = read_texts(network, one, 0)
    assert reading.margin.shape == (70,) and reading.pooled.shape == (70, WIDTH)
    assert reading.margin[40] == pytest.approx(alone.margin[0], abs=1e-5)
    merged = merge_adapter(network)  # type: ignore[arg-type]
    assert np.allclose(read_texts(merged, texts, 0).margin, reading.margin, atol=1e-4)
    with torch.no_grad():
        logits = merged.classifier(torch.relu(merged.pre_classifier(torch.from_numpy(reading.pooled))))
    assert np.allclose((logits[:, 1] - logits[:, 0]).numpy(), reading.margin, atol=1e-4)


def test_prefix_tuning_says_that_it_cannot_do_deberta(tmp_path: Path) -> None:
    settings = tiny_settings(tiny_encoder(tmp_path, "deberta-v2"))
    with pytest.raises(ReviewriskError, match="prefix tuning is not made for deberta-v2"):
        attach_prefix(make_classifier(load_backbone(settings.backbone), 0.0, 1), settings)


def test_prompt_tuning_says_when_the_encoder_has_too_few_positions(settings: ModelSettings) -> None:
    backbone = load_backbone(settings.backbone)
    longest = settings.model_copy(update={"backbone": settings.backbone.model_copy(update={"max_length": 500})})
    with pytest.raises(ReviewriskError, match=r"20 soft tokens and 500 .* lower model\.backbone\.max_length"):
        attach_prompt(make_classifier(backbone, 0.0, 1), longest)


def shaken(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, its trained parameters moved at random."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()

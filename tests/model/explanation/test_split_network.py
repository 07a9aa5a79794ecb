"""A classifier in two parts computes what it computes whole, for every family, and gets its layers back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model, DistilBertConfig, DistilBertModel

from model.errors import ReviewriskError
from model.explanation.split_network import SplitNetwork
from model.network.classifier import ReviewClassifier, margin

IDS = torch.tensor([[2, 20, 21, 22, 23, 3], [2, 30, 31, 3, 0, 0]])
MASK = (IDS != 0).long()
SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 64}
V3 = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 16}


def classifier(family: str) -> ReviewClassifier:
    torch.manual_seed(5)
    encoder: Any
    if family == "distilbert":
        encoder = DistilBertModel(DistilBertConfig(vocab_size=60, dim=32, n_heads=2, n_layers=4, hidden_dim=64))
    elif family == "bert":
        encoder = BertModel(BertConfig(vocab_size=60, **SHAPE), add_pooling_layer=False)
    else:
        encoder = DebertaV2Model(DebertaV2Config(vocab_size=60, **SHAPE, **V3))
    return ReviewClassifier(encoder, "mean").eval()


@pytest.mark.parametrize("family", ["distilbert", "bert", "deberta-v2"])
@pytest.mark.parametrize(("depth", "layers_below"), [(0.0, 0), (0.1, 0), (0.33, 1), (0.5, 2), (0.99, 3)])
def test_both_parts_together_are_the_whole(family: str, depth: float, layers_below: int) -> None:
    whole = classifier(family)
    network = SplitNetwork(whole, depth)
    assert network.layers_below == layers_below
    states = network.states(network.embed(IDS), MASK)
    with torch.no_grad():
        expected = margin(whole(input_ids=IDS, attention_mask=MASK))
        found = network.logits(states, MASK)
    torch.testing.assert_close(found, expected)
    assert (states - network.embed(IDS)).abs().max() == 0 if layers_below == 0 else states.shape == (2, 6, 32)


def test_the_upper_part_goes_by_the_states_and_computes_no_layer_below_them() -> None:
    whole = classifier("bert")
    network, computed = SplitNetwork(whole, 0.5), []
    for number, layer in enumerate(whole.encoder.encoder.layer):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    states = network.states(network.embed(IDS), MASK).requires_grad_(True)
    assert computed == [0, 1]
    logits = network.logits(states, MASK)
    assert computed == [0, 1, 2, 3]
    (gradient,) = torch.autograd.grad(logits.sum(), states)
    assert gradient.abs().sum(dim=-1)[MASK.bool()].min() > 0 and gradient[1, 4:].abs().max() == 0
    assert not torch.allclose(network.logits(states + 1, MASK), logits)


def test_the_layers_are_given_back_whatever_happens() -> None:
    whole = classifier("distilbert")
    layers = whole.encoder.transformer.layer
    network = SplitNetwork(whole, 0.5)
    for part in (network.states, network.logits):
        with pytest.raises(Exception, match=r"size|shape|dimension"):
            part(torch.zeros(2, 6, 7), MASK)
        assert whole.encoder.transformer.layer is layers and len(layers) == 4
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def test_an_encoder_without_a_list_of_layers_can_be_explained_from_its_embeddings_alone() -> None:
    whole = classifier("bert")
    whole.encoder.config.num_hidden_layers = 5
    assert SplitNetwork(whole, 0).layers_below == 0
    with pytest.raises(ReviewriskError, match=r"BertModel has no list of its layers.*explain\.depth to 0\."):
        SplitNetwork(whole, 0.5)

"""Integrated Gradients: what adds up, what captum says, and what padding, batching and wrapping must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import LayerIntegratedGradients
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from model.errors import ReviewriskError
from model.explanation.integrated_gradients import IntegratedGradients, SpecialTokens, TokenAttributions
from model.network.classifier import Pooling, ReviewClassifier, margin
from model.settings import AttributionSettings
from tests.support.tiny_models import vocabulary

CPU = torch.device("cpu")
PAD, CLS, SEP, MASK = 0, 2, 3, 4
ROWS = [
    [CLS, 20, 21, 22, 23, 24, SEP],
    [CLS, 30, SEP],
    [CLS, *range(20, 60), SEP],
    [CLS, SEP],
    [CLS, 45, 46, 47, 45, 46, 47, 45, SEP],
]
FAMILIES = [("distilbert", "cls"), ("distilbert", "mean"), ("bert", "cls"), ("bert", "mean")]


def fine(
    nodes: tuple[int, ...] = (64,), max_delta: float = 0.05, tokens_per_batch: int = 4096, **others: Any
) -> AttributionSettings:
    return AttributionSettings(nodes=nodes, max_delta=max_delta, tokens_per_batch=tokens_per_batch, **others)


def tiny_classifier(family: str, pooling: Pooling, seed: int = 3, spread: float = 0.3) -> ReviewClassifier:
    """A random classifier whose weights are large enough that the path from baseline to review is not straight."""
    torch.manual_seed(seed)
    size = len(vocabulary())
    if family == "distilbert":
        encoder: Any = DistilBertModel(
            DistilBertConfig(vocab_size=size, dim=32, n_heads=2, n_layers=2, hidden_dim=64, initializer_range=spread)
        )
    else:
        shape = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
        encoder = BertModel(BertConfig(vocab_size=size, initializer_range=spread, **shape), add_pooling_layer=False)
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.5)  # [PAD] too, as in a pretrained encoder
    return ReviewClassifier(encoder, pooling).eval()


def method(classifier: nn.Module, settings: AttributionSettings, mask: int | None = MASK) -> IntegratedGradients:
    return IntegratedGradients(classifier, SpecialTokens(PAD, mask), settings, CPU, max_length=64)


def attribute(classifier: nn.Module, rows: list[list[int]], settings: AttributionSettings) -> list[TokenAttributions]:
    return method(classifier, settings).attributions(rows)


def logit_of(classifier: ReviewClassifier, ids: list[int]) -> float:
    with torch.no_grad():
        return float(
            margin(classifier(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)))
        )


@pytest.mark.parametrize("depth", [0.0, 0.5])
@pytest.mark.parametrize(("baseline", "token"), [("pad", PAD), ("mask", MASK)])
@pytest.mark.parametrize(("family", "pooling"), FAMILIES)
def test_attributions_of_all_tokens_add_up_to_the_change_in_logit(
    family: str, pooling: Pooling, baseline: str, token: int, depth: float
) -> None:
    classifier = tiny_classifier(family, pooling)
    changes = []
    settings = fine((64, 512), depth=depth, baseline=baseline)
    for ids, tokens in zip(ROWS, attribute(classifier, ROWS, settings), strict=True):
        change = logit_of(classifier, ids) - logit_of(classifier, [CLS, *[token] * (len(ids) - 2), SEP])
        assert tokens.values.shape == (len(ids),)
        assert tokens.values.sum() == pytest.approx(change, abs=0.05)
        assert tokens.convergence_delta == pytest.approx(tokens.values.sum() - change, abs=1e-5)
        assert tokens.is_converged
        assert tokens.logit == pytest.approx(logit_of(classifier, ids), abs=1e-5)
        assert (tokens.values[[0, -1]].tolist() == [0, 0]) == (depth == 0 or len(ids) == 2)
        changes.append(abs(change))
    assert max(changes) > 0.2


@pytest.mark.parametrize("depth", [0.0, 0.5])
@pytest.mark.parametrize("baseline", ["pad", "mask", "zero"])
@pytest.mark.parametrize(("family", "pooling"), [FAMILIES[0], FAMILIES[3]])
def test_single_rows_equal_captum(family: str, pooling: Pooling, baseline: str, depth: float) -> None:
    classifier = tiny_classifier(family, pooling)
    embed = classifier.encoder.get_input_embeddings()
    layers = classifier.encoder.transformer.layer if family == "distilbert" else classifier.encoder.encoder.layer

    def forward(embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return margin(classifier(inputs_embeds=embeddings, attention_mask=mask))

    captum: Any = LayerIntegratedGradients(forward, layers[0]) if depth else CaptumIntegratedGradients(forward)
    settings = fine((16,), depth=depth, baseline=baseline)
    for ids, tokens in zip(ROWS, attribute(classifier, ROWS, settings), strict=True):
        review = embed(torch.tensor([ids])).detach()
        filler = torch.zeros(32) if baseline == "zero" else embed(torch.tensor(PAD if baseline == "pad" else MASK))
        empty = review.clone()
        empty[0, 1:-1] = filler.detach()
        mask = torch.ones(1, len(ids), dtype=torch.long)
        expected, delta = captum.attribute(
            review,
            empty,
            additional_forward_args=mask,
            n_steps=16,
            method="riemann_middle",
            return_convergence_delta=True,
        )
        expected = expected[0] if isinstance(expected, tuple) else expected
        np.testing.assert_allclose(tokens.values, expected.sum(dim=-1)[0].detach(), atol=1e-4)
        assert tokens.convergence_delta == pytest.approx(float(delta), abs=1e-4)


@pytest.mark.parametrize(("family", "pooling"), FAMILIES)
@pytest.mark.parametrize("tokens_per_batch", [512, 100_000])
def test_a_padded_batch_equals_single_rows(family: str, pooling: Pooling, tokens_per_batch: int) -> None:
    classifier = tiny_classifier(family, pooling)
    together = attribute(classifier, ROWS, fine((16,), tokens_per_batch=tokens_per_batch))
    for ids, tokens in zip(ROWS, together, strict=True):
        (alone,) = attribute(classifier, [ids], fine((16,)))
        np.testing.assert_allclose(tokens.values, alone.values, atol=1e-5)
        assert tokens.convergence_delta == pytest.approx(alone.convergence_delta, abs=1e-4)


def test_a_wrapper_of_peft_changes_nothing() -> None:
    classifier = tiny_classifier("distilbert", "cls")
    config = LoraConfig(
        r=2,
        target_modules=["q_lin", "v_lin"],
        modules_to_save=["pre_classifier", "classifier"],
        init_lora_weights=False,
    )
    adapted = get_peft_model(classifier, config).eval()  # type: ignore[arg-type]
    wrapped = attribute(adapted, ROWS, fine((16,)))
    assert all(parameter.grad is None for parameter in adapted.parameters())
    plain = attribute(tiny_classifier("distilbert", "cls"), ROWS, fine((16,)))
    assert np.abs(wrapped[2].values - plain[2].values).max() > 1e-3
    merged = attribute(adapted.merge_and_unload().eval(), ROWS, fine((16,)))
    for one, other in zip(wrapped, merged, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-4)


def test_only_rows_that_need_more_nodes_get_them_and_the_cap_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, limit = tiny_classifier("bert", "cls"), 0.005
    first, capped = (attribute(classifier, ROWS, fine(nodes, limit, depth=0)) for nodes in ((2,), (2, 4)))
    computed: list[tuple[int, int]] = []
    real = IntegratedGradients._computed

    def counted(self: IntegratedGradients, rows: list[list[int]], length: int, nodes: int) -> Any:
        computed.extend((nodes, len(row)) for row in rows)
        return real(self, rows, length, nodes)

    monkeypatch.setattr(IntegratedGradients, "_computed", counted)
    escalated = attribute(classifier, ROWS, fine((2, 4, 512), limit, depth=0))
    expected = [
        2 if one.is_converged else 4 if four.is_converged else 512 for one, four in zip(first, capped, strict=True)
    ]
    assert [tokens.nodes for tokens in escalated] == expected
    assert expected[3] == 2 and expected.count(512) >= 2
    for nodes in (2, 4, 512):
        wanted = sorted(len(ids) for ids, least in zip(ROWS, expected, strict=True) if least >= nodes)
        assert sorted(length for found, length in computed if found == nodes) == wanted
    assert all(tokens.is_converged == (abs(tokens.convergence_delta) < limit) for tokens in escalated)
    assert [tokens.is_converged for tokens in capped] == [nodes < 512 for nodes in expected]
    assert [tokens.nodes for tokens in capped] == [min(nodes, 4) for nodes in expected]


@pytest.mark.parametrize("nodes", [(), (0,), (16, 16), (32, 16)])
def test_nodes_that_no_rule_can_use_are_refused(nodes: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="whole numbers of 1 and more in rising order"):
        AttributionSettings(nodes=nodes)


def passes(classifier: ReviewClassifier, rows: list[list[int]], settings: AttributionSettings) -> list[tuple[int, ...]]:
    """The shape of every pass whose gradient is taken."""
    shapes = []

    def note(_module: Any, _inputs: Any, named: dict[str, Any], _logits: Any) -> None:
        if named["inputs_embeds"].requires_grad:
            shapes.append(tuple(named["inputs_embeds"].shape[:2]))

    classifier.register_forward_hook(note, with_kwargs=True)
    attribute(classifier, rows, settings)
    return shapes


@pytest.mark.parametrize(
    ("lengths", "nodes", "expected"),
    [
        ([10] * 8, 4, [(32, 16)]),
        ([10] * 11, 4, [(32, 16), (8, 16), (4, 16)]),
        ([60, 10, 60, 10, 10, 10], 4, [(16, 16), (8, 64)]),
        ([60], 16, [(8, 64), (8, 64)]),
        ([60], 10, [(8, 64), (2, 64)]),
    ],
)
def test_a_pass_has_rows_of_like_length_at_all_nodes_within_the_budget(
    lengths: list[int], nodes: int, expected: list[tuple[int, int]]
) -> None:
    """512 padded tokens: eight rows of 16 at four nodes; rows are distinct, and as many as a power of two."""
    rows = [[CLS, *[20 + number] * (length - 2), SEP] for number, length in enumerate(lengths)]
    settings = fine((nodes,), tokens_per_batch=512, depth=0)
    assert passes(tiny_classifier("distilbert", "cls"), rows, settings) == expected


def test_identical_rows_are_computed_once() -> None:
    classifier = tiny_classifier("distilbert", "mean")
    rows = [ROWS[0], ROWS[4], ROWS[0], ROWS[0]]
    assert passes(classifier, rows, fine((4,), depth=0)) == [(8, 16)]
    first, other, second, third = attribute(classifier, rows, fine((4,)))
    assert first is second is third and first is not other


def test_gradients_in_bfloat16_go_with_those_in_float32() -> None:
    exact = attribute(tiny_classifier("bert", "mean"), [ROWS[2]], fine((8,)))[0].values
    coarse = attribute(tiny_classifier("bert", "mean").to(torch.bfloat16), [ROWS[2]], fine((8,)))[0].values
    assert np.corrcoef(exact, coarse)[0, 1] > 0.98 and np.abs(exact - coarse).max() > 0


def test_a_tokenizer_without_mask_has_no_such_baseline() -> None:
    classifier = tiny_classifier("bert", "cls")
    with pytest.raises(ReviewriskError, match=r"no \[MASK\] to explain with: set explain\.baseline to pad\."):
        method(classifier, fine(baseline="mask"), mask=None).attributions(ROWS)
    assert len(method(classifier, fine((4,)), mask=None).attributions(ROWS)) == len(ROWS)


def test_no_review_has_no_attribution() -> None:
    assert attribute(tiny_classifier("bert", "cls"), [], fine((16, 32))) == []

"""Integrated Gradients: what adds up, what captum says, what padding and wrapping must not change, and
where words are.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from model.evaluation.calibrators import Calibrator
from model.explanation.integrated_gradients import (
    AttributionPath,
    Explanation,
    TokenAttributions,
    explain,
    explain_each,
    integrated_gradients,
)
from model.explanation.quadrature import Quadrature, refined_quadrature
from model.network.classifier import Pooling, ReviewClassifier, margin
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.faults import Failure, MachineFaultError
from model.scoring.scorer import Scorer
from model.settings import AttributionSettings, ScoringSettings
from model.text.compose import HeadlineMode
from tests.support.tiny_models import tiny_tokenizer, vocabulary

CPU = torch.device("cpu")
PAD, CLS, SEP = 0, 2, 3
ROWS = [
    [CLS, 20, 21, 22, 23, 24, SEP],
    [CLS, 30, SEP],
    [CLS, *range(20, 60), SEP],
    [CLS, SEP],
    [CLS, 45, 46, 47, 45, 46, 47, 45, SEP],
]
FAMILIES = [("distilbert", "cls"), ("distilbert", "mean"), ("bert", "cls"), ("bert", "mean")]


def fine(nodes: tuple[int, ...] = (64,), max_delta: float = 0.05, tokens_per_batch: int = 4096) -> AttributionSettings:
    return AttributionSettings(nodes=nodes, max_delta=max_delta, tokens_per_batch=tokens_per_batch)


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


def attribute(classifier: nn.Module, rows: list[list[int]], settings: AttributionSettings) -> list[TokenAttributions]:
    return integrated_gradients(classifier, rows, PAD, settings, CPU)


def logit_of(classifier: ReviewClassifier, ids: list[int]) -> float:
    with torch.no_grad():
        return float(
            margin(classifier(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)))
        )


@pytest.mark.parametrize(("family", "pooling"), FAMILIES)
def test_attributions_of_all_tokens_add_up_to_the_change_in_logit(family: str, pooling: Pooling) -> None:
    classifier = tiny_classifier(family, pooling)
    changes = []
    for ids, tokens in zip(ROWS, attribute(classifier, ROWS, fine((64, 512))), strict=True):
        change = logit_of(classifier, ids) - logit_of(classifier, [CLS, *[PAD] * (len(ids) - 2), SEP])
        assert tokens.values.shape == (len(ids),)
        assert tokens.values.sum() == pytest.approx(change, abs=0.05)
        assert tokens.convergence_delta == pytest.approx(tokens.values.sum() - change, abs=1e-5)
        assert tokens.is_converged
        assert tokens.logit == pytest.approx(logit_of(classifier, ids), abs=1e-5)
        assert tokens.values[[0, -1]].tolist() == [0, 0]
        changes.append(abs(change))
    assert max(changes) > 0.2


@pytest.mark.parametrize(("family", "pooling"), FAMILIES)
def test_single_rows_equal_captum_at_the_same_places(
    family: str, pooling: Pooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, weights = np.polynomial.legendre.leggauss(16)
    monkeypatch.setattr(
        "model.explanation.integrated_gradients.first_quadrature",
        lambda nodes: Quadrature((places + 1) / 2, weights / 2),
    )
    classifier = tiny_classifier(family, pooling)
    embed = classifier.encoder.get_input_embeddings()

    def forward(embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return margin(classifier(inputs_embeds=embeddings, attention_mask=mask))

    for ids, tokens in zip(ROWS, attribute(classifier, ROWS, fine((16,))), strict=True):
        review = embed(torch.tensor([ids])).detach()
        baseline = embed(torch.tensor([[CLS, *[PAD] * (len(ids) - 2), SEP]])).detach()
        mask = torch.ones(1, len(ids), dtype=torch.long)
        expected, delta = IntegratedGradients(forward).attribute(
            review,
            baseline,
            additional_forward_args=mask,
            n_steps=16,
            method="gausslegendre",
            return_convergence_delta=True,
        )
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
    exact = attribute(classifier, ROWS, fine((512,)))
    first, capped = (attribute(classifier, ROWS, fine(nodes, limit)) for nodes in ((2,), (2, 4)))
    refined: list[int] = []

    def counted(nodes: int, *seen: Any) -> Quadrature:
        refined.append(nodes)
        return refined_quadrature(nodes, *seen)

    monkeypatch.setattr("model.explanation.integrated_gradients.refined_quadrature", counted)
    escalated = attribute(classifier, ROWS, fine((2, 4, 64), limit))
    expected = [
        2 if one.is_converged else 4 if four.is_converged else 64 for one, four in zip(first, capped, strict=True)
    ]
    assert [tokens.nodes for tokens in escalated] == expected
    assert expected[3] == 2 and expected.count(64) >= 2
    assert (refined.count(4), refined.count(64)) == (len(expected) - expected.count(2), expected.count(64))
    for tokens, known in zip(escalated, exact, strict=True):
        assert tokens.is_converged == (abs(tokens.convergence_delta) < limit)
        if tokens.nodes == 64:
            np.testing.assert_allclose(tokens.values, known.values, atol=0.02)
    assert [tokens.is_converged for tokens in capped] == [nodes < 64 for nodes in expected]
    assert [tokens.nodes for tokens in capped] == [min(nodes, 4) for nodes in expected]


@pytest.mark.parametrize("nodes", [(), (1,), (16, 16), (32, 16)])
def test_nodes_that_no_rule_can_use_are_refused(nodes: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="whole numbers of 2 and more in rising order"):
        AttributionSettings(nodes=nodes)


@pytest.mark.parametrize(("budget", "batches"), [(21, [3, 2]), (20, [2, 2, 1]), (14, [2, 2, 1]), (6, [1] * 5)])
def test_a_batch_may_meet_the_budget_exactly(budget: int, batches: list[int]) -> None:
    """Five rows of seven tokens."""
    classifier, sizes = tiny_classifier("distilbert", "cls"), []
    classifier.register_forward_hook(lambda module, inputs, logits: sizes.append(len(logits)))
    path = AttributionPath(classifier, PAD, CPU, budget)
    assert len(path.logits([ROWS[0]] * 5)) == 5
    assert sizes == batches


def test_short_rows_come_first_and_no_batch_has_more_padded_tokens_than_it_may() -> None:
    long, short = ROWS[0], [*ROWS[0][:2], SEP]
    classifier, shapes = tiny_classifier("distilbert", "cls"), []
    classifier.register_forward_hook(
        lambda module, inputs, named, logits: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    found = AttributionPath(classifier, PAD, CPU, 14).logits([long, short, long, short])
    assert shapes == [(2, 3), (2, 7)]
    assert found[0] == found[2] != found[1] == found[3]


def test_no_review_has_no_attribution() -> None:
    assert attribute(tiny_classifier("bert", "cls"), [], fine((16, 32))) == []


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """A tiny model trained for a few steps: "broken", planted among other words, means dissatisfied."""
    classifier = tiny_classifier("distilbert", "cls", spread=0.1)
    words = [index for word, index in vocabulary().items() if word.isalpha() and len(word) > 2 and word != "broken"]
    planted = vocabulary()["broken"]
    random = np.random.default_rng(1)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=3e-3)
    for _ in range(60):
        content = torch.tensor(random.choice(words, size=(32, 8)))
        label = torch.arange(32) % 2
        content[label == 1, int(random.integers(8))] = planted
        ids = torch.cat([torch.full((32, 1), CLS), content, torch.full((32, 1), SEP)], dim=1)
        loss = nn.functional.cross_entropy(classifier(input_ids=ids, attention_mask=torch.ones_like(ids)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
    engine = TorchEngine(classifier.eval(), CPU)
    return Scorer(engine, tiny_tokenizer(), Calibrator(), "planted", 64, "keep", ScoringSettings())


def stored_words(explanation: Explanation, headline: str | None, body: str | None) -> list[str]:
    """What the stored fields hold at the explained words' offsets, in rank order."""
    fields = {"headline": headline or "", "body": body or ""}
    return [fields[word.field][word.char_start : word.char_end] for word in explanation.words]


@pytest.mark.parametrize(
    ("headline", "body", "field", "char_start"),
    [
        ("One star", "the chair was broken again", "body", 14),
        ("Broken!", "the chair <br />was nice", "headline", 0),
        ("&#34;Nice&#34; sofa", "<br />very &#34;broken&#34;, poor legs", "body", 16),
        (None, "[[ASIN:B000FAKE01 great table]] &amp; broken\r\n", "body", 38),
        ("It was BROKEN", None, "headline", 7),
    ],
)
def test_a_planted_word_ranks_first_and_is_found_in_the_stored_field(
    scorer: Scorer, headline: str | None, body: str | None, field: str, char_start: int
) -> None:
    (explanation,) = explain(scorer, [headline], [body], fine((16, 64)))
    first = explanation.words[0]
    assert (first.attribution_rank, first.word.lower(), first.field, first.char_start, first.char_end) == (
        1,
        "broken",
        field,
        char_start,
        char_start + 6,
    )
    assert first.attribution > 0
    assert stored_words(explanation, headline, body)[0] == first.word
    assert explanation.is_converged == (abs(explanation.convergence_delta) < 0.05)
    assert explanation.logit == pytest.approx(float(scorer.score([headline], [body]).logit[0]), abs=1e-5)


def test_words_are_ranked_merged_and_add_up(scorer: Scorer) -> None:
    headline, body = "Don&#39;t buy: 5.5 stars", "heavy-duty chair, \U0001f600 unbelievable (broken)..."
    settings = AttributionSettings(nodes=(64,), top_words=50)
    (explanation,) = explain(scorer, [headline], [body], settings)
    words = sorted(explanation.words, key=lambda word: (word.field != "headline", word.char_start))
    assert [word.word for word in words] == [
        "Don't",
        "buy",
        "5.5",
        "stars",
        "heavy-duty",
        "chair",
        "\U0001f600",
        "unbelievable",
        "broken",
    ]
    assert [word.attribution_rank for word in explanation.words] == list(range(1, len(words) + 1))
    sizes = [abs(word.attribution) for word in explanation.words]
    assert sizes == sorted(sizes, reverse=True)
    (limited,) = explain(scorer, [headline], [body], AttributionSettings(nodes=(64,), top_words=3))
    assert limited.words == explanation.words[:3]


def test_a_word_has_the_sum_of_its_pieces(scorer: Scorer) -> None:
    body = "chairs broken isn't"
    (encoded,) = scorer.encode([body])
    pieces = scorer.tokenizer.convert_ids_to_tokens(encoded.ids)
    assert pieces == ["[CLS]", "chair", "##s", "broken", "isn", "'", "t", "[SEP]"]
    (tokens,) = attribute(scorer.model, [encoded.ids], fine((32,)))
    (explanation,) = explain(scorer, [None], [body], fine((32,)))
    expected = {"chairs": tokens.values[1:3].sum(), "broken": tokens.values[3], "isn't": tokens.values[4:7].sum()}
    assert {word.word: word.attribution for word in explanation.words} == pytest.approx(expected)


def test_explanations_read_what_scores_read(scorer: Scorer) -> None:
    body = "the chair was nice, " * 15 + "broken broken broken"
    (explanation,) = explain(scorer, ["Nice"], [body], AttributionSettings(nodes=(16,), top_words=100))
    (score,) = scorer.score(["Nice"], [body]).logit
    assert explanation.logit == pytest.approx(score, abs=1e-5)
    assert all(word.word != "broken" for word in explanation.words)
    assert max(word.char_end for word in explanation.words) < body.index("broken")


def test_what_the_model_does_not_read_is_not_explained(scorer: Scorer) -> None:
    headline, body = "Broken, one star", "the chair was broken, 1 star &amp; poor"
    read = {
        mode: explain(dataclasses.replace(scorer, headline_mode=mode), [headline], [body], fine((16,)))[0]
        for mode in get_args(HeadlineMode)
    }
    words = {mode: sorted(set(stored_words(explanation, headline, body))) for mode, explanation in read.items()}
    assert words["keep"] == ["1", "Broken", "broken", "chair", "one", "poor", "star", "the", "was"]
    assert words["mask_ratings"] == ["Broken", "broken", "chair", "poor", "the", "was"]
    assert words["drop"] == ["1", "broken", "chair", "poor", "star", "the", "was"]
    for mode, explanation in read.items():
        assert explanation.logit == pytest.approx(float(scorer.score([headline], [body], mode).logit[0]), abs=1e-5)


def test_punctuation_is_listed_only_where_there_is_nothing_else(scorer: Scorer) -> None:
    both, marks, empty, emoji = explain(
        scorer, ["!!!", "!!!", None, "\U0001f600"], ["nice ??", "?! ...", "", None], fine((16,))
    )
    assert [word.word for word in both.words] == ["nice"]
    assert sorted((word.word, word.field) for word in marks.words) == [
        ("!!!", "headline"),
        ("...", "body"),
        ("?!", "body"),
    ]
    assert (empty.words, empty.convergence_delta, empty.is_converged) == ([], 0.0, True)
    assert [(word.word, word.char_start, word.char_end) for word in emoji.words] == [("\U0001f600", 0, 1)]


def test_explanations_come_in_the_order_of_the_reviews(scorer: Scorer) -> None:
    bodies = ["the chair is broken and the table was never nice " * (1 + index % 3) + "broken" for index in range(5)]
    together = explain(scorer, [None] * 5, bodies, fine((16, 32), tokens_per_batch=512))
    for body, explanation in zip(bodies, together, strict=True):
        (alone,) = explain(scorer, [None], [body], fine((16, 32)))
        assert explanation.logit == pytest.approx(alone.logit, abs=1e-5)
        assert {(word.char_start, word.word) for word in explanation.words[:3]} == {
            (word.char_start, word.word) for word in alone.words[:3]
        }


def test_a_review_that_fails_is_alone_with_its_error(scorer: Scorer) -> None:
    not_text: Any = 3.5
    bodies = ["broken chair", not_text, "nice sofa"]
    first, second, third = explain_each(scorer, [None] * 3, bodies, fine((16,)))
    assert isinstance(second, Failure) and second.error.startswith("TypeError: ")
    for found, body in ((first, bodies[0]), (third, bodies[2])):
        assert isinstance(found, Explanation)
        (alone,) = explain(scorer, [None], [body], fine((16,)))
        assert [word.word for word in found.words] == [word.word for word in alone.words]


@pytest.mark.parametrize("function", [explain, explain_each])
def test_a_headline_without_a_body_is_refused(scorer: Scorer, function: Any) -> None:
    with pytest.raises(ValueError, match="shorter"):
        function(scorer, [None, "Nice"], ["broken chair"], fine((16,)))


def test_where_the_machine_fails_no_review_has_an_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AttributionPath, "products", out_of_memory)
    with pytest.raises(MachineFaultError, match="CUDA out of memory"):
        explain_each(scorer, [None] * 2, ["broken chair", "nice sofa"], fine((16,)))

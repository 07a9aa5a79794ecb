"""Explanations of reviews: words ranked, located in the stored text, read as scores read, each failure alone, and the
same whatever they are computed beside.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertModel

from model.evaluation.calibrators import Calibrator
from model.explanation.integrated_gradients import IntegratedGradients, SpecialTokens
from model.explanation.word_attributions import Explanation, explain, explain_each, gradient_precision
from model.network.classifier import ReviewClassifier
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.faults import Failure, MachineFaultError
from model.scoring.scorer import Scorer
from model.settings import AttributionSettings, ScoringSettings
from model.text.compose import HeadlineMode
from tests.support.tiny_models import tiny_tokenizer, vocabulary

CPU = torch.device("cpu")
PAD, CLS, SEP, MASK = 0, 2, 3, 4


def fine(nodes: tuple[int, ...] = (16,), **others: Any) -> AttributionSettings:
    return AttributionSettings(nodes=nodes, **others)


def tiny_classifier() -> ReviewClassifier:
    torch.manual_seed(3)
    shape = {"dim": 32, "n_heads": 2, "n_layers": 2, "hidden_dim": 64, "initializer_range": 0.1}
    encoder = DistilBertModel(DistilBertConfig(vocab_size=len(vocabulary()), **shape))
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.5)  # [PAD] too, as in a pretrained encoder
    return ReviewClassifier(encoder, "cls").eval()


@functools.cache
def trained_weights() -> dict[str, torch.Tensor]:
    """Weights after a few steps of training: "broken", planted among other words, means dissatisfied."""
    classifier = tiny_classifier()
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
    return classifier.state_dict()


def tiny_trained() -> ReviewClassifier:
    classifier = tiny_classifier()
    classifier.load_state_dict(trained_weights())
    return classifier


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    engine = TorchEngine(tiny_trained(), CPU)
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
    assert explanation.is_converged == (abs(explanation.convergence_delta) < 1.0)
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
    method = IntegratedGradients(scorer.model, SpecialTokens(PAD, MASK), fine((32,)), CPU, scorer.max_length)
    (tokens,) = method.attributions([encoded.ids])
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


def test_of_a_huge_text_the_start_is_explained_like_a_short_one(scorer: Scorer) -> None:
    huge = "the broken legs of a nice chair " + "very nice sofa " * 6000
    short = huge[:3000]
    [of_huge, of_short] = explain(scorer, [None, None], [huge, short], AttributionSettings())
    assert len(huge) > 65_536 and of_huge.words == of_short.words
    assert "broken" in stored_words(of_huge, None, huge)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_review_has_the_same_top_words_in_any_order_and_company(scorer: Scorer, precision: Any) -> None:
    """Reviews of unequal length in passes of one and of many, one of them twice."""
    model: Any = scorer.model if precision == "float32" else tiny_trained().to(torch.bfloat16)
    scorer = dataclasses.replace(scorer, engine=TorchEngine(model, CPU, precision))
    bodies = ["the chair is broken and the table was never nice " * (1 + index % 3) + "broken" for index in range(7)]
    bodies += ["great sofa", "the legs are broken", "!!!"]
    together = explain(scorer, [None] * 10, bodies, fine((4, 16), tokens_per_batch=4096))
    backwards = explain(scorer, [None] * 10, bodies[::-1], fine((4, 16), tokens_per_batch=512))[::-1]
    for body, one, other in zip(bodies, together, backwards, strict=True):
        (alone,) = explain(scorer, [None], [body], fine((4, 16)))
        for beside in (one, other):
            assert beside.logit == pytest.approx(alone.logit, abs=1e-5 if precision == "float32" else 0.1)
            assert top_words(beside) == top_words(alone)
    assert together[0] == together[3] == together[6]


def top_words(explanation: Explanation) -> list[tuple[str, int]]:
    return [(word.word, word.char_start) for word in explanation.words[:3]]


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

    monkeypatch.setattr(IntegratedGradients, "attributions", out_of_memory)
    with pytest.raises(MachineFaultError, match="CUDA out of memory"):
        explain_each(scorer, [None] * 2, ["broken chair", "nice sofa"], fine((16,)))


@pytest.mark.parametrize(
    ("setting", "has_bfloat16", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", False, "bfloat16"),
    ],
)
def test_gradients_are_in_bfloat16_where_the_processor_computes_it(
    monkeypatch: pytest.MonkeyPatch, setting: str, has_bfloat16: bool, expected: str
) -> None:
    monkeypatch.setattr("model.explanation.word_attributions.computes_bfloat16", lambda device: has_bfloat16)
    assert gradient_precision(AttributionSettings(precision=setting)) == expected

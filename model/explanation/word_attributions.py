"""Which words moved a review's logit, where they stand in the stored text, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.errors import ReviewriskError
from model.explanation.integrated_gradients import IntegratedGradients, SpecialTokens, TokenAttributions
from model.explanation.phrases import find_phrases
from model.network.hardware import computes_bfloat16
from model.scoring.engines.interface import Precision
from model.scoring.faults import Failure, isolate_failures
from model.scoring.scorer import Scorer, readable_start
from model.settings import AttributionSettings
from model.text.compose import FieldName, ModelText, compose
from model.text.word_kinds import WordKind, word_kinds
from model.text.words import find_words, sum_pieces


@dataclass(frozen=True)
class WordAttribution:
    """One word's share of the logit: above 0 towards dissatisfied. `word` is as the model read it; the offsets are
    characters of the stored field. `phrase`, in lower case, is what it and the words beside it say together; None where
    it says nothing of its own or pushes the other way.
    """

    attribution_rank: int
    word: str
    field: FieldName
    char_start: int
    char_end: int
    attribution: float
    word_kind: WordKind
    phrase: str | None


@dataclass(frozen=True)
class Explanation:
    """One review's words that moved its logit most, greatest absolute attribution first, and how well
    the sum came out.
    """

    words: list[WordAttribution]
    nodes: int
    convergence_delta: float
    is_converged: bool
    logit: float


def explain(
    scorer: Scorer, headlines: Sequence[str | None], bodies: Sequence[str | None], settings: AttributionSettings
) -> list[Explanation]:
    """One explanation per review, in the input's order, in the scorer's arithmetic; its engine must be PyTorch.

    A review is read as in scoring: the same text, the same tokens, the same truncation. Words past it are not listed,
    and an empty review has none. Raises what the model raises, and ReviewriskError where a logit is not finite: reviews
    that could not be scored are not to be explained.
    """
    composed = [compose(headline, body, scorer.headline_mode) for headline, body in zip(headlines, bodies, strict=True)]
    rows = [encoded.ids for encoded in scorer.encode([text.text for text in composed])]
    attributions = _method(scorer, settings).attributions(rows)
    if not all(np.isfinite(found.convergence_delta) for found in attributions):
        raise ReviewriskError(
            "The logit of a review is not finite along the way from its baseline: it cannot be explained."
        )
    offsets = token_offsets(scorer, [text.text for text in composed], rows)
    return [_explanation(*row, settings.top_words) for row in zip(composed, offsets, attributions, strict=True)]


def explain_each(
    scorer: Scorer, headlines: Sequence[str | None], bodies: Sequence[str | None], settings: AttributionSettings
) -> list[Explanation | Failure]:
    """`explain` of each review, in the input's order, or what went wrong with it; raises MachineFaultError where it is
    not the review that fails.
    """

    def explained(reviews: Sequence[tuple[str | None, str | None]]) -> list[Explanation]:
        return explain(scorer, [headline for headline, _ in reviews], [body for _, body in reviews], settings)

    return isolate_failures(explained, list(zip(headlines, bodies, strict=True)), (None, "good"))


def gradient_precision(settings: AttributionSettings) -> Precision:
    """The arithmetic that the settings come to on this processor."""
    if settings.precision == "auto":
        return "bfloat16" if computes_bfloat16(torch.device("cpu")) else "float32"
    return settings.precision


def _method(scorer: Scorer, settings: AttributionSettings) -> IntegratedGradients:
    special = SpecialTokens(scorer.pad_id, scorer.tokenizer.mask_token_id)
    return IntegratedGradients(scorer.model, special, settings, scorer.device, scorer.max_length)


def token_offsets(scorer: Scorer, texts: Sequence[str], rows: Sequence[list[int]]) -> list[list[tuple[int, int]]]:
    """Per text the span of each token that the model reads, but for [CLS] and [SEP]."""
    encodings = scorer.tokenizer.backend_tokenizer.encode_batch(
        [readable_start(scorer.tokenizer, text) for text in texts]
    )
    return [encoding.offsets[1 : len(row) - 1] for encoding, row in zip(encodings, rows, strict=True)]


def _explanation(
    text: ModelText, offsets: list[tuple[int, int]], tokens: TokenAttributions, top_words: int
) -> Explanation:
    spans = find_words(text)
    kinds = word_kinds(text, spans)
    sums = sum_pieces(spans, offsets, tokens.values[1:-1].tolist())
    phrases, kind_of = find_phrases(text, spans, kinds, sums), dict(zip(spans, kinds, strict=True))
    strongest = sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0]))[:top_words]
    words = [
        _word(rank, text, span, attribution, kind_of[span], phrases.get(span))
        for rank, (span, attribution) in enumerate(strongest, start=1)
    ]
    return Explanation(words, tokens.nodes, tokens.convergence_delta, tokens.is_converged, tokens.logit)


def _word(
    rank: int, text: ModelText, span: tuple[int, int], attribution: float, kind: WordKind, phrase: str | None
) -> WordAttribution:
    located = text.locate(*span)
    if located is None:
        raise RuntimeError(f"a word at {span} lies in no field: words are looked for inside fields only")
    return WordAttribution(rank, text.text[slice(*span)], *located, attribution, kind, phrase)

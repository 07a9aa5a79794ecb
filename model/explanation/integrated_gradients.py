"""Which words moved a review's logit: Integrated Gradients of the log-odds of dissatisfaction.

Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks" (arXiv 1703.01365), equation 1: with x the
word embeddings of a review, b the baseline and f the log-odds, token i is given (x_i - b_i) times the mean of df/dx_i
along the straight line from b to x. The mean is taken at a few places of the line (see `model.explanation.quadrature`).
The baseline keeps [CLS] and [SEP] and puts [PAD] in all other places; only word embeddings lie on the line, position
embeddings are added inside the model as always. The attributions of all tokens add up to f(x) - f(b); how far the
quadrature misses that sum is the convergence delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import ReviewriskError
from model.explanation.quadrature import Quadrature, first_quadrature, refined_quadrature
from model.network.classifier import margin
from model.scoring.batches import pad_rows
from model.scoring.faults import Failure, isolate_failures
from model.scoring.scorer import Scorer, readable_start
from model.settings import AttributionSettings
from model.text.compose import FieldName, ModelText, compose
from model.text.words import find_words, sum_pieces


@dataclass(frozen=True)
class WordAttribution:
    """One word's share of the logit: above 0 towards dissatisfied. `word` is as the model read it; the offsets are
    characters of the stored field.
    """

    attribution_rank: int
    word: str
    field: FieldName
    char_start: int
    char_end: int
    attribution: float


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


@dataclass(frozen=True)
class TokenAttributions:
    """One review's attribution per token (special ones are 0) with f(x), f(baseline) and the quadrature's nodes and
    delta.
    """

    values: NDArray[np.float64]
    logit: float
    baseline_logit: float
    nodes: int
    convergence_delta: float
    is_converged: bool


def explain(
    scorer: Scorer, headlines: Sequence[str | None], bodies: Sequence[str | None], settings: AttributionSettings
) -> list[Explanation]:
    """One explanation per review, in the input's order, in float32 whatever precision the scorer has.

    A review is read as in scoring: the same text, the same tokens, the same truncation. Words past it are not listed,
    and an empty review has none. Raises what the model raises, and ReviewriskError where a logit is not finite: reviews
    that could not be scored are not to be explained.
    """
    composed = [compose(headline, body, scorer.headline_mode) for headline, body in zip(headlines, bodies, strict=True)]
    rows = [encoded.ids for encoded in scorer.encode([text.text for text in composed])]
    attributions = integrated_gradients(scorer.model, rows, scorer.pad_id, settings, scorer.device)
    if not all(np.isfinite(found.convergence_delta) for found in attributions):
        raise ReviewriskError(
            "The logit of a review is not finite along the way from its baseline: it cannot be explained."
        )
    offsets = _offsets(scorer, [text.text for text in composed], rows)
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


def integrated_gradients(
    classifier: nn.Module, rows: Sequence[list[int]], pad_id: int, settings: AttributionSettings, device: torch.device
) -> list[TokenAttributions]:
    """Attributions of every token of each row of token ids ([CLS] … [SEP]), in the rows' order.

    `classifier` is a ReviewClassifier in evaluation mode, also one that peft has wrapped. Only rows whose |delta| is
    not below `max_delta` are computed again, with more nodes, which lie where the last ones saw the logit change; a row
    that is still not there with the last number is marked.
    """
    path = AttributionPath(classifier, pad_id, device, settings.tokens_per_batch)
    logits = path.logits(rows)
    baselines = path.baseline_logits(rows)
    results: dict[int, TokenAttributions] = {}
    chosen = dict.fromkeys(range(len(rows)), first_quadrature(settings.nodes[0]))
    for nodes, more in zip(settings.nodes, [*settings.nodes[1:], None], strict=True):
        for index, products in zip(
            chosen, path.products([rows[index] for index in chosen], list(chosen.values())), strict=True
        ):
            values = chosen[index].weights @ products
            delta = float(values.sum() - (logits[index] - baselines[index]))
            is_converged = abs(delta) < settings.max_delta
            results[index] = TokenAttributions(values, logits[index], baselines[index], nodes, delta, is_converged)
            if more is not None and not is_converged:
                chosen[index] = refined_quadrature(more, chosen[index].places, products.sum(axis=1))
        chosen = {index: quadrature for index, quadrature in chosen.items() if not results[index].is_converged}
        if not chosen:
            break
    return [results[index] for index in range(len(rows))]


class AttributionPath:
    """The straight line from each row's baseline to its word embeddings, and the classifier along it."""

    def __init__(self, classifier: nn.Module, pad_id: int, device: torch.device, tokens_per_batch: int) -> None:
        wrapper: Any = classifier
        # peft's adapters stay in the model that its wrapper gives back
        self.classifier: Any = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
        self.embed: nn.Module = self.classifier.encoder.get_input_embeddings()
        self.pad_id = pad_id
        self.device = device
        self.tokens_per_batch = tokens_per_batch

    @torch.no_grad()
    def logits(self, rows: Sequence[list[int]]) -> list[float]:
        """f at the end of each row's line: the log-odds of its token ids."""
        logits = [0.0] * len(rows)
        for batch in self._batches([len(row) for row in rows], 1):
            ids, mask = self._pad([rows[index] for index, _ in batch])
            values = margin(self.classifier(input_ids=ids, attention_mask=mask)).tolist()
            for (index, _), value in zip(batch, values, strict=True):
                logits[index] = value
        return logits

    def baseline_logits(self, rows: Sequence[list[int]]) -> list[float]:
        """f at the start of each row's line, which depends on nothing but its length."""
        baselines = {len(row): [row[0], *[self.pad_id] * (len(row) - 2), row[-1]] for row in rows}
        by_length = dict(zip(baselines, self.logits(list(baselines.values())), strict=True))
        return [by_length[len(row)] for row in rows]

    def products(self, rows: Sequence[list[int]], quadratures: Sequence[Quadrature]) -> list[NDArray[np.float64]]:
        """Per row (x - b) · df/dx of each token at each place of its quadrature, shape (nodes, tokens); all have as
        many nodes.
        """
        if not rows:
            return []
        nodes = len(quadratures[0].places)
        found = [np.empty((nodes, len(row))) for row in rows]
        for batch in self._batches([len(row) for row in rows], nodes):
            at = torch.tensor(
                [quadratures[index].places[node] for index, node in batch], dtype=torch.float32, device=self.device
            )
            products = self._products([rows[index] for index, _ in batch], at)
            for (index, node), product in zip(batch, products, strict=True):
                found[index][node] = product[: len(rows[index])]
        return found

    def _products(self, rows: Sequence[list[int]], at: Tensor) -> NDArray[np.float64]:
        """(x - b) · df/dx of each token, shape (rows, length), each row at its own place on its line (0 baseline, 1
        review).
        """
        ids, mask = self._pad(rows)
        with torch.no_grad():
            review = self.embed(ids)
            baseline = self.embed(self._without_content(ids, mask))
        way = review - baseline  # zero at [CLS], [SEP] and padding
        point = (baseline + at[:, None, None] * way).requires_grad_(True)
        logits = margin(self.classifier(inputs_embeds=point, attention_mask=mask))
        (gradient,) = torch.autograd.grad(logits.sum(), point)
        products: NDArray[np.float64] = (gradient * way).sum(dim=-1).double().cpu().numpy()
        return products

    def _without_content(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The baseline's token ids: all but the first and the last real token of each row become [PAD]."""
        position = torch.arange(ids.shape[1], device=ids.device)
        last = mask.sum(dim=1, keepdim=True) - 1
        return torch.where((position > 0) & (position < last), self.pad_id, ids)

    def _pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        ids, mask = pad_rows(rows, max(len(row) for row in rows), self.pad_id)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _batches(self, lengths: Sequence[int], nodes: int) -> Iterator[list[tuple[int, int]]]:
        """All pairs of row and node, short rows first, cut so that no batch has more padded tokens than it may."""
        batch: list[tuple[int, int]] = []
        for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
            for node in range(nodes):
                if batch and (len(batch) + 1) * lengths[index] > self.tokens_per_batch:
                    yield batch
                    batch = []
                batch.append((index, node))
        if batch:
            yield batch


def _offsets(scorer: Scorer, texts: Sequence[str], rows: Sequence[list[int]]) -> list[list[tuple[int, int]]]:
    """Per text the span of each token that the model reads, but for [CLS] and [SEP]."""
    encodings = scorer.tokenizer.backend_tokenizer.encode_batch(
        [readable_start(scorer.tokenizer, text) for text in texts]
    )
    return [encoding.offsets[1 : len(row) - 1] for encoding, row in zip(encodings, rows, strict=True)]


def _explanation(
    text: ModelText, offsets: list[tuple[int, int]], tokens: TokenAttributions, top_words: int
) -> Explanation:
    sums = sum_pieces(find_words(text), offsets, tokens.values[1:-1].tolist())
    strongest = sorted(sums.items(), key=lambda item: (-abs(item[1]), item[0]))[:top_words]
    words = [_word(rank, text, span, attribution) for rank, (span, attribution) in enumerate(strongest, start=1)]
    return Explanation(words, tokens.nodes, tokens.convergence_delta, tokens.is_converged, tokens.logit)


def _word(rank: int, text: ModelText, span: tuple[int, int], attribution: float) -> WordAttribution:
    located = text.locate(*span)
    if located is None:
        raise RuntimeError(f"a word at {span} lies in no field: words are looked for inside fields only")
    return WordAttribution(rank, text.text[slice(*span)], *located, attribution)

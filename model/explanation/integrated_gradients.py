"""Which tokens moved a review's logit: Integrated Gradients of the log-odds of dissatisfaction.

Sundararajan, Taly and Yan 2017, "Axiomatic Attribution for Deep Networks" (arXiv 1703.01365), equation 1: with x the
states of a review's tokens, b those of its baseline and f the log-odds, token i is given (x_i - b_i) times the mean of
df/dx_i along the straight line from b to x. The mean is taken at midpoints of equal steps. The baseline keeps [CLS] and
[SEP] and puts [PAD] (or [MASK], or zeros) in all other places.

The states are taken `depth` of the way up the encoder, where captum has LayerIntegratedGradients: the line is
straighter there, so fewer places suffice, and the layers below are not gone through again for each of them
(docs/benchmarks.md). The attributions of all tokens add up to f(x) - f(b); how far the quadrature misses that sum is
the convergence delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import ReviewriskError
from model.explanation.split_network import SplitNetwork
from model.network.attention import training_attention
from model.scoring.batches import length_batches, pad_rows
from model.settings import AttributionSettings

Row = list[int]


@dataclass(frozen=True)
class TokenAttributions:
    """One review's attribution per token with f(x), f(baseline), and the quadrature's nodes and delta.

    [CLS] and [SEP] have 0 where the line starts at the word embeddings; further up they have gathered some of the text.
    """

    values: NDArray[np.float64]
    logit: float
    baseline_logit: float
    nodes: int
    convergence_delta: float
    is_converged: bool


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that a baseline is made of; `mask` is None where the tokenizer has none."""

    pad: int
    mask: int | None


class IntegratedGradients:
    """The attributions of one classifier, a ReviewClassifier in evaluation mode, also one that peft has wrapped; of
    texts of at most `max_length` tokens.
    """

    def __init__(
        self,
        classifier: nn.Module,
        special: SpecialTokens,
        settings: AttributionSettings,
        device: torch.device,
        max_length: int,
    ) -> None:
        self.network = SplitNetwork(classifier, settings.depth)
        self.special, self.settings, self.device, self.max_length = special, settings, device, max_length

    def attributions(self, rows: Sequence[Row]) -> list[TokenAttributions]:
        """Attributions of every token of each row of token ids ([CLS] … [SEP]), in the rows' order; of identical rows
        one is computed.

        Only rows whose |delta| is not below `max_delta` are computed again, with more nodes; a row that is still not
        there with the last number is marked.
        """
        found: dict[tuple[int, ...], TokenAttributions] = {}
        todo = list(dict.fromkeys(map(tuple, rows)))
        with training_attention(self.network.encoder, self.device):
            for nodes in self.settings.nodes:
                for length, batch in self._batches(todo, nodes):
                    found.update(zip(map(tuple, batch), self._computed(batch, length, nodes), strict=True))
                todo = [row for row in todo if not found[row].is_converged]
        return [found[tuple(row)] for row in rows]

    def _batches(self, rows: Sequence[tuple[int, ...]], nodes: int) -> Iterator[tuple[int, list[Row]]]:
        """(padded length, rows of about it) so that all tokens at all nodes fit into one pass, or a row is alone.

        They come in few shapes: on a CPU, PyTorch keeps compiled bfloat16 code for each.
        """
        numbered = [(list(row), number) for number, row in enumerate(rows)]
        budget = self.settings.tokens_per_batch // nodes
        for length, batch in length_batches(numbered, self.max_length, budget, few_shapes=True):
            yield length, [row for row, _ in batch]

    def _computed(self, rows: Sequence[Row], length: int, nodes: int) -> list[TokenAttributions]:
        """The attributions of one batch."""
        ids, mask = (torch.from_numpy(part).to(self.device) for part in pad_rows(rows, length, self.special.pad))
        with torch.no_grad():
            embeddings = self.network.embed(ids)
            review = self.network.states(embeddings, mask)
            logits = self.network.logits(review, mask).double().cpu().numpy()
            baseline, baseline_logits = self._baselines([len(row) for row in rows], embeddings, mask)
        values = self._integral(baseline, review - baseline, mask, nodes)
        deltas = values.sum(axis=1) - (logits - baseline_logits)
        return [
            TokenAttributions(
                values[place, : len(row)],
                float(logits[place]),
                float(baseline_logits[place]),
                nodes,
                float(deltas[place]),
                bool(abs(deltas[place]) < self.settings.max_delta),
            )
            for place, row in enumerate(rows)
        ]

    def _baselines(
        self, lengths: Sequence[int], embeddings: Tensor, mask: Tensor
    ) -> tuple[Tensor, NDArray[np.float64]]:
        """The states and log-odds of each row's baseline, which depends on nothing but the row's length."""
        firsts = [lengths.index(length) for length in lengths]
        chosen = sorted(set(firsts))
        position = torch.arange(embeddings.shape[1], device=embeddings.device)
        last = mask[chosen].sum(dim=1, keepdim=True) - 1
        is_content = (position > 0) & (position < last)
        empty = torch.where(is_content[:, :, None], self._filler(), embeddings[chosen])
        states = self.network.states(empty, mask[chosen])
        logits: NDArray[np.float64] = self.network.logits(states, mask[chosen]).double().cpu().numpy()
        places = [chosen.index(first) for first in firsts]
        return states[places], logits[places]

    def _filler(self) -> Tensor:
        """The word embedding that stands for nothing."""
        tokens = {"mask": self.special.mask, "pad": self.special.pad, "zero": self.special.pad}
        token = tokens[self.settings.baseline]
        if token is None:
            raise ReviewriskError("The model's tokenizer has no [MASK] to explain with: set explain.baseline to pad.")
        embedding: Tensor = self.network.embed(torch.tensor([token], device=self.device))[0]
        return torch.zeros_like(embedding) if self.settings.baseline == "zero" else embedding

    @staticmethod
    def places(nodes: int) -> Tensor:
        """Where on the line from baseline (0) to review (1) gradients are taken, each of equal weight."""
        return (torch.arange(nodes) + 0.5) / nodes

    def _integral(self, baseline: Tensor, way: Tensor, mask: Tensor, nodes: int) -> NDArray[np.float64]:
        """(x - b) times the mean of df/dx over places of the line from b to x, summed to each token: shape (rows,
        length).
        """
        total = torch.zeros(way.shape[:2], dtype=torch.float64, device=way.device)
        at_once = max(1, self.settings.tokens_per_batch // way[..., 0].numel())
        for places in torch.split(self.places(nodes), at_once):
            at = places.to(way)[:, None, None, None]
            point = (baseline + at * way).flatten(0, 1).requires_grad_(True)
            logits = self.network.logits(point, mask.repeat(len(places), 1))
            (gradient,) = torch.autograd.grad(logits.sum(), point)
            products = (gradient.view(len(places), *way.shape).float() * way.float()).sum(dim=-1)
            total += products.double().sum(dim=0)
        values: NDArray[np.float64] = (total / nodes).cpu().numpy()
        return values

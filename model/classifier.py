"""The network: a pretrained encoder, a pooling rule and a two-layer head, the same for every model family."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Pooling = Literal["cls", "mean"]


class ReviewClassifier(nn.Module):
    """Two logits (satisfied, critically dissatisfied) per text.

    The head is DistilBERT's own (`pre_classifier`, ReLU, dropout, `classifier`), on the pooled vector: with a 768-wide
    encoder it has 768 * 768 + 768 + 2 * 768 + 2 = 592,130 parameters.
    """

    def __init__(self, encoder: PreTrainedModel, pooling: Pooling, head_dropout: float = 0.2) -> None:
        super().__init__()
        width = int(encoder.config.hidden_size)
        self.encoder = encoder
        self.pooling = pooling
        self.pre_classifier = nn.Linear(width, width)
        self.dropout = nn.Dropout(head_dropout)
        self.classifier = nn.Linear(width, 2)

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None) -> Tensor:
        """Logits, shape (rows, 2), from token ids or from their word embeddings (rows, length, width)."""
        if attention_mask is None:
            raise ValueError("attention_mask is required: padding must not be pooled")
        if inputs_embeds is None:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        else:
            states = self.encoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        logits: Tensor = self.classifier(self.dropout(torch.relu(self.pre_classifier(pooled))))
        return logits


def margin(logits: Tensor) -> Tensor:
    """The log-odds of dissatisfaction, shape (rows,): the second logit minus the first, in float32."""
    logits = logits.float()
    return logits[:, 1] - logits[:, 0]

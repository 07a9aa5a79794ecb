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

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
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


def share_equal_tensors(model: nn.Module, other: nn.Module) -> None:
    """Let the model hold the other's memory for every parameter and buffer that is equal to the other's of the same
    name, bit by bit.

    Two merged adapters of one base differ in the weights that they adapt and in the head; embeddings, norms and the
    rest are equal. Neither model may be trained afterwards.
    """
    theirs = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in theirs and _same_bits(tensor, theirs[name]):
            tensor.data = theirs[name].data


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether both have the same type, place, shape and bytes: a NaN is then equal to itself, and 0 is not -0."""
    if (one.dtype, one.device, one.shape) != (other.dtype, other.device, other.shape):
        return False
    left, right = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(left, right)

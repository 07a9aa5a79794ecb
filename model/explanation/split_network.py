"""A classifier cut in two between two layers of its encoder, whatever the encoder's family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from model.errors import ReviewriskError
from model.network.attention import encoder_of
from model.network.classifier import margin


class SplitNetwork:
    """The lower part, from word embeddings to the states that `layers_below` layers give, and the upper one, from there
    to the log-odds. Without layers below, the states are the word embeddings themselves.

    `classifier` is a ReviewClassifier in evaluation mode, also one that peft has wrapped. It must not be used by
    another thread meanwhile: it is given its layers back after each call.
    """

    def __init__(self, classifier: nn.Module, depth: float) -> None:
        wrapper: Any = classifier
        # peft's adapters stay in the model that its wrapper gives back
        self.classifier: Any = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
        self.encoder: Any = encoder_of(self.classifier)
        self.embed: Any = self.encoder.get_input_embeddings()
        self.owner, self.name = _place_of_layers(self.encoder) if depth else (self.encoder, "")
        layers = len(getattr(self.owner, self.name)) if depth else 1
        self.layers_below = min(round(depth * layers), layers - 1)

    @torch.no_grad()
    def states(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """The states (rows, length, width) of word embeddings (rows, length, embedding width)."""
        if not self.layers_below:
            return embeddings
        caught: list[Any] = []
        with self._only(0, self.layers_below) as layers:
            hook = layers[-1].register_forward_hook(lambda _layer, _inputs, output: caught.append(output))
            try:
                self.encoder(inputs_embeds=embeddings, attention_mask=mask)
            finally:
                hook.remove()
        [output] = caught
        states: Tensor = output[0] if isinstance(output, tuple) else output
        return states

    def logits(self, states: Tensor, mask: Tensor) -> Tensor:
        """The log-odds (rows,) of states, with what a gradient with respect to them needs."""
        if not self.layers_below:
            return margin(self.classifier(inputs_embeds=states, attention_mask=mask))
        # the hook puts aside what the encoder makes of these
        nothing = states.new_zeros(*states.shape[:2], self.embed.weight.shape[1])
        with self._only(self.layers_below, None) as layers:
            hook = layers[0].register_forward_pre_hook(
                lambda _layer, arguments, named: _with_states(states, arguments, named), with_kwargs=True
            )
            try:
                return margin(self.classifier(inputs_embeds=nothing, attention_mask=mask))
            finally:
                hook.remove()

    @contextmanager
    def _only(self, first: int, end: int | None) -> Iterator[nn.ModuleList]:
        """Within it, the encoder has but these of its layers."""
        layers = getattr(self.owner, self.name)
        setattr(self.owner, self.name, layers[first:end])
        try:
            yield getattr(self.owner, self.name)
        finally:
            setattr(self.owner, self.name, layers)


def _with_states(states: Tensor, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A layer's arguments with these states for its own."""
    if arguments:
        return (states, *arguments[1:]), named
    return arguments, {**named, "hidden_states": states}


def _place_of_layers(encoder: Any) -> tuple[nn.Module, str]:
    """The module that holds the list of the encoder's layers, and the list's name in it."""
    for module in encoder.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == encoder.config.num_hidden_layers:
                return module, name
    raise ReviewriskError(
        f"The encoder {type(encoder).__name__} has no list of its layers, so no explanation can start among them: set"
        " explain.depth to 0."
    )

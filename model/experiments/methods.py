"""The ways to fit a pretrained encoder to this task that `reviewrisk compare` holds side by side: what each adds,
trains and leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from model.data.batches import TokenisedReviews, batches, evaluation_order
from model.errors import ReviewriskError
from model.network.classifier import ReviewClassifier, margin
from model.network.lora import HEAD_MODULES, attach_adapter, targeted_modules
from model.settings import ModelSettings

SOFT_TOKENS = 20
BOTTLENECK = 48
_FIRST_SCALE = 0.02  # standard deviation with which BERT's own embeddings began
_ROWS_AT_ONCE = 32
_PREFIX_ATTENTION = "reviewrisk_prefix"
Kind = Literal["majority", "tfidf", "probe", "network"]


@dataclass(frozen=True)
class TrainedParameters:
    """Numbers of trained parameters: in the encoder or beside it, and in the head."""

    adapter: int
    head: int


_NO_LORA = {"quantization": "none"}  # quantised base weights are for an adapter alone


@dataclass(frozen=True)
class Method:
    """One way, by the name that cells carry. What it does not override (epochs, batch size, rows, stopping) is equal
    for all.

    `learning_rate` None is that of the settings, which are meant for LoRA; `reason` says where it comes from. `lora`
    overrides settings.lora, and `training` settings.training. `attach` turns a fresh classifier into the network to
    train (None: nothing is trained by gradient).
    """

    name: str
    title: str
    kind: Kind
    reason: str
    learning_rate: float | None = None
    lora: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    attach: Callable[[ReviewClassifier, ModelSettings], nn.Module] | None = None

    def settings(self, settings: ModelSettings) -> ModelSettings:
        """The settings with this method's learning rate, LoRA and training settings in them."""
        rate = self.learning_rate or settings.training.learning_rate
        training = settings.training.model_copy(update={"learning_rate": rate, **(self.training or {})})
        lora = settings.lora.model_copy(update=_NO_LORA if self.lora is None else self.lora)
        return settings.model_copy(update={"training": training, "lora": lora})


def attach_head(classifier: ReviewClassifier, _: ModelSettings) -> ReviewClassifier:
    """The classifier with its encoder frozen; the head is trained."""
    classifier.encoder.requires_grad_(False)
    return classifier


def attach_nothing(classifier: ReviewClassifier, _: ModelSettings) -> ReviewClassifier:
    """The classifier with every parameter trained."""
    return classifier


def attach_lora(classifier: ReviewClassifier, settings: ModelSettings) -> PeftModel:
    """The classifier with LoRA as settings.lora says."""
    return attach_adapter(classifier, settings.lora, settings.training.seed)


def attach_prompt(classifier: ReviewClassifier, settings: ModelSettings) -> ReviewClassifier:
    """The classifier with trained vectors between [CLS] and the text (Lester et al. 2021, arXiv 2104.08691), the
    encoder frozen.

    They are read by every layer but not pooled: the encoder's output has the text's own positions alone.
    Raises ReviewriskError where the encoder has too few positions for them.
    """
    encoder, length = attach_head(classifier, settings).encoder, settings.backbone.max_length
    limit = getattr(encoder.config, "max_position_embeddings", length + SOFT_TOKENS)
    if length + SOFT_TOKENS > limit:
        raise ReviewriskError(
            f"{SOFT_TOKENS} soft tokens and {length} of a text are more than the encoder's {limit} positions: lower"
            " model.backbone.max_length."
        )
    encoder.soft_prompt = nn.Parameter(_drawn((SOFT_TOKENS, int(encoder.config.hidden_size)), settings))
    encoder.register_forward_pre_hook(_insert_prompt, with_kwargs=True)
    encoder.register_forward_hook(_leave_prompt_out)
    return classifier


def attach_prefix(classifier: ReviewClassifier, settings: ModelSettings) -> ReviewClassifier:
    """The classifier with trained keys and values that every text attends to, in each layer (Li and Liang 2021, arXiv
    2101.00190), the encoder frozen. They are trained directly, without the network that makes them there (P-tuning v2,
    Liu et al. 2022, arXiv 2110.07602).

    peft's own prefix tuning goes through the cache of a decoder, which encoders ignore; so this one is an attention
    function of its own. Raises ReviewriskError for DeBERTa, whose attention cannot be replaced.
    """
    encoder = attach_head(classifier, settings).encoder
    if encoder.config.model_type not in ("bert", "distilbert"):
        raise ReviewriskError(
            f"prefix tuning is not made for {encoder.config.model_type}, whose attention computes positions of its own"
        )
    heads = int(encoder.config.num_attention_heads)
    shape = (2, SOFT_TOKENS, heads, int(encoder.config.hidden_size) // heads)
    for place, name in enumerate(targeted_modules(classifier, ("attention",))[::2]):  # a query and a value per layer
        attention = classifier.get_submodule(name.rpartition(".")[0])
        attention.prefix = nn.Parameter(_drawn(shape, settings, place))
    encoder.set_attn_implementation(_PREFIX_ATTENTION)
    return classifier


def attach_bottleneck(classifier: ReviewClassifier, settings: ModelSettings) -> ReviewClassifier:
    """The classifier with a bottleneck adapter on the output of each layer's feed-forward block, before its residual
    sum, the encoder frozen.

    The adapter of Houlsby et al. 2019 (arXiv 1902.00751) in the one place that Pfeiffer et al. 2021 (arXiv 2005.00247)
    kept of its two.
    """
    attach_head(classifier, settings)
    # two linear layers per encoder layer, the second comes back to its width
    outputs = targeted_modules(classifier, ("feed-forward",))[1::2]
    for place, name in enumerate(outputs):
        linear = cast(nn.Linear, classifier.get_submodule(name))
        linear.adapter = Bottleneck(_drawn((BOTTLENECK, linear.out_features), settings, place))
        linear.register_forward_hook(_add_bottleneck)
    return classifier


class Bottleneck(nn.Module):
    """What is added to its input: down to a few numbers, GELU, up again. It begins as nothing, so the encoder begins as
    it was.
    """

    def __init__(self, first: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(first.shape[1], first.shape[0])
        self.up = nn.Linear(first.shape[0], first.shape[1])
        with torch.no_grad():
            self.down.weight.copy_(first)
            for parameter in (self.down.bias, self.up.weight, self.up.bias):
                parameter.zero_()

    def forward(self, states: Tensor) -> Tensor:
        """Shape as the input."""
        added: Tensor = self.up(nn.functional.gelu(self.down(states)))
        return added


@dataclass(frozen=True)
class Reading:
    """What a network makes of some texts: the log-odds of dissatisfaction, shape (rows,), and the pooled vectors,
    (rows, width).
    """

    margin: NDArray[np.float64]
    pooled: NDArray[np.float32]


@torch.inference_mode()
def read_texts(network: nn.Module, texts: TokenisedReviews, pad_id: int) -> Reading:
    """The network's reading of each text, in float32 and evaluation mode, on the device it lies on."""
    network.eval()
    device = next(network.parameters()).device
    vectors: list[Tensor] = []
    margins, pooled = np.empty(len(texts)), None
    [head] = [module for name, module in network.named_modules() if name.endswith("pre_classifier")]
    handle = head.register_forward_pre_hook(lambda _, args: vectors.append(args[0]))
    try:
        order = evaluation_order(texts.lengths, _ROWS_AT_ONCE)
        for batch in batches(texts, order, _ROWS_AT_ONCE, pad_id, np.ones(2, dtype=np.float32)):
            rows = len(batch.positions)
            ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
            logits = margin(network(input_ids=ids, attention_mask=mask))
            margins[batch.positions] = logits[:rows].double().cpu()
            read = vectors.pop()[:rows].float().cpu().numpy()
            pooled = np.empty((len(texts), read.shape[1]), dtype=np.float32) if pooled is None else pooled
            pooled[batch.positions] = read
    finally:
        handle.remove()
    return Reading(margins, np.empty((0, 0), dtype=np.float32) if pooled is None else pooled)


def trained_parameters(network: nn.Module) -> TrainedParameters:
    """How many parameters of the network are trained."""
    counts = {True: 0, False: 0}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            counts[any(part in HEAD_MODULES for part in name.split("."))] += parameter.numel()
    return TrainedParameters(adapter=counts[False], head=counts[True])


def _drawn(shape: tuple[int, ...], settings: ModelSettings, place: int = 0) -> Tensor:
    """Small random numbers that follow from the seed and the place."""
    generator = torch.Generator().manual_seed(1000 * settings.training.seed + place)
    return torch.randn(shape, generator=generator) * _FIRST_SCALE


def _insert_prompt(
    encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    embeds = kwargs.get("inputs_embeds")
    if embeds is None:
        embeds = encoder.get_input_embeddings()(kwargs["input_ids"])
    mask = kwargs["attention_mask"]
    prompt = encoder.soft_prompt.to(embeds.dtype).expand(len(embeds), -1, -1)
    ones = mask.new_ones(len(mask), prompt.shape[1])
    inserted = {
        "inputs_embeds": torch.cat([embeds[:, :1], prompt, embeds[:, 1:]], dim=1),
        "attention_mask": torch.cat([mask[:, :1], ones, mask[:, 1:]], dim=1),
    }
    return args, {**{name: value for name, value in kwargs.items() if name != "input_ids"}, **inserted}


def _leave_prompt_out(encoder: Any, _: tuple[Any, ...], output: Any) -> Any:
    states = output.last_hidden_state
    output.last_hidden_state = torch.cat([states[:, :1], states[:, 1 + len(encoder.soft_prompt) :]], dim=1)
    return output


def _prefix_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """PyTorch's attention with the layer's prefix in front of keys and values, open to every row."""
    first_key, first_value = (part.transpose(0, 1).to(key.dtype).expand(len(key), -1, -1, -1) for part in module.prefix)
    if attention_mask is not None:
        open_to = attention_mask.new_full(
            (*attention_mask.shape[:-1], first_key.shape[2]), attention_mask.dtype == torch.bool
        )
        attention_mask = torch.cat([open_to, attention_mask], dim=-1)
    return sdpa_attention_forward(
        module,
        query,
        torch.cat([first_key, key], dim=2),
        torch.cat([first_value, value], dim=2),
        attention_mask,
        **kwargs,
    )


def _add_bottleneck(linear: Any, _: tuple[Any, ...], output: Tensor) -> Tensor:
    added: Tensor = output + linear.adapter(output)
    return added


AttentionInterface.register(_PREFIX_ATTENTION, _prefix_attention)
AttentionMaskInterface.register(_PREFIX_ATTENTION, sdpa_mask)

_AS_SET = "as the settings have it for LoRA"
_PLAIN_LORA = {"dora": False, "quantization": "none", "initialisation": "default", "bias": "none", "layers": None}
_SOFT_RATE = "within 5e-3 to 1e-2, which the scripts of P-tuning v2's authors use for BERT"


def _lora(name: str, title: str, training: dict[str, Any] | None = None, **lora: Any) -> Method:
    return Method(name, title, "network", _AS_SET, lora={**_PLAIN_LORA, **lora}, training=training, attach=attach_lora)


# In the order in which a comparison runs them: what is cheap and what is asked for most comes first.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("tfidf", "TF-IDF + logistic regression", "tfidf", "no gradient steps"),
        Method("majority", "majority class", "majority", "nothing is trained"),
        Method(
            "linear_head",
            "frozen encoder + linear head",
            "probe",
            "logistic regression on the pooled vectors, solved to its end",
        ),
        _lora("lora_all", "LoRA, all linear layers", targets=("all-linear",)),
        Method(
            "frozen",
            "frozen encoder + two-layer head",
            "network",
            "Adam's own default, as only a new head is trained",
            1e-3,
            attach=attach_head,
        ),
        _lora("lora_attention", "LoRA, attention (query, value)", targets=("attention",)),
        Method(
            "full",
            "full fine-tuning",
            "network",
            "the greatest of those that Devlin et al. 2019 (appendix A.3) tried",
            5e-5,
            attach=attach_nothing,
        ),
        _lora("lora_feed_forward", "LoRA, feed-forward", targets=("feed-forward",)),
        Method(
            "bottleneck_adapter",
            f"bottleneck adapters, width {BOTTLENECK}",
            "network",
            "between the 3e-4 and 3e-3 that Houlsby et al. 2019 tried",
            1e-3,
            attach=attach_bottleneck,
        ),
        _lora(
            "lora_unweighted",
            "LoRA, all linear layers, classes unweighted",
            {"class_weighting": "none"},
            targets=("all-linear",),
        ),
        _lora(
            "lora_oversampled",
            "LoRA, all linear layers, rarer class oversampled",
            {"class_weighting": "oversampled"},
            targets=("all-linear",),
        ),
        _lora("dora_all", "DoRA, all linear layers", targets=("all-linear",), dora=True),
        Method(
            "prompt_tuning",
            f"prompt tuning, {SOFT_TOKENS} soft tokens",
            "network",
            _SOFT_RATE,
            5e-3,
            attach=attach_prompt,
        ),
        Method(
            "prefix_tuning",
            f"prefix tuning, {SOFT_TOKENS} keys and values a layer",
            "network",
            _SOFT_RATE,
            5e-3,
            attach=attach_prefix,
        ),
        _lora("lora_8bit", "LoRA, all linear layers on 8-bit weights", targets=("all-linear",), quantization="8bit"),
        _lora("qlora", "QLoRA, all linear layers on 4-bit weights", targets=("all-linear",), quantization="4bit"),
    )
}


def check_methods(names: Iterable[str]) -> None:
    """Raises ReviewriskError, with the methods there are, for a name that is none of METHODS."""
    if unknown := [name for name in names if name not in METHODS]:
        raise ReviewriskError(f"{unknown[0]!r} is no method (--method): there are {', '.join(METHODS)}.")

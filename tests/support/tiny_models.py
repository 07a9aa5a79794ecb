"""Tiny random encoders with a small WordPiece tokenizer, a bundle of one, and reviews that they learn in seconds: real
transformers all.
"""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
)

from model.bundle.bundle import BaselineFiles, BundleContents, write_bundle
from model.data.reviews import COLUMNS
from model.evaluation.baseline import StoredBaseline, fit_tfidf
from model.evaluation.calibrators import Calibrator
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter
from model.settings import BackboneSettings, LoraSettings, ModelSettings, TrainingSettings

Family = Literal["distilbert", "bert", "deberta-v2"]

_WORDS = """
the a it i my this that and but not bad at all is was were very after two weeks chair table sofa leg legs broke broken
broken fell apart
love loved great good nice easy to put together five four one star stars comfortable sturdy cheap smell smells awful
terrible never again
returned refund missing screws damaged box arrived late wobbles wobble looks perfect happy with waste of money poor
quality excellent
don t isn doesn recommend
"""
_PIECES = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-:()"


def vocabulary() -> dict[str, int]:
    """Token ids: special tokens, whole words, then every letter alone and as a continuation, so that any word has
    pieces.
    """
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *_WORDS.split(),
        *_PIECES,
        *(f"##{piece}" for piece in _PIECES if piece.isalnum()),
    ]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def tiny_tokenizer(own_limit: int | None = None) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer as BERT's; with `own_limit` it truncates and pads by itself, as the bundled
    one does.
    """
    ids = vocabulary()
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special
    )
    if own_limit is not None:
        tokenizer.enable_truncation(own_limit)
        tokenizer.enable_padding(length=own_limit)
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)


def tiny_encoder(
    folder: Path,
    family: Family = "distilbert",
    width: int = 32,
    layers: int = 2,
    own_limit: int | None = None,
    seed: int = 0,
) -> Path:
    """The folder, with a random encoder of the family and the tokenizer in it, as from_pretrained reads them."""
    torch.manual_seed(seed)
    size = len(vocabulary())
    encoder: Any
    if family == "distilbert":
        encoder = DistilBertModel(
            DistilBertConfig(vocab_size=size, dim=width, n_heads=2, n_layers=layers, hidden_dim=2 * width)
        )
    else:
        shape = {
            "vocab_size": size,
            "hidden_size": width,
            "num_attention_heads": 2,
            "num_hidden_layers": layers,
            "intermediate_size": 2 * width,
        }
        if family == "bert":
            encoder = BertModel(BertConfig(**shape))
        else:  # with DeBERTa-v3's own choices
            v3 = {
                "relative_attention": True,
                "pos_att_type": ["p2c", "c2p"],
                "share_att_key": True,
                "position_buckets": 16,
                "norm_rel_ebd": "layer_norm",
            }
            encoder = DebertaV2Model(DebertaV2Config(**shape, **v3))
    encoder.save_pretrained(folder)
    tiny_tokenizer(own_limit).save_pretrained(folder)
    return folder


def tiny_settings(folder: Path, **training: Any) -> ModelSettings:
    """Settings that train the folder's encoder in seconds on one core, in float32; `training` overrides
    TrainingSettings.
    """
    defaults = {
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
    }
    return ModelSettings(
        backbone=BackboneSettings(name=str(folder), max_length=64),
        lora=LoraSettings(rank=4, dropout=0.0),
        training=TrainingSettings(**{**defaults, **training}),
    )


def tiny_bundle(
    folder: Path,
    family: Family = "distilbert",
    seed: int = 0,
    threshold: float = 0.5,
    baseline: BaselineFiles | None = None,
) -> Path:
    """A complete bundle of an untrained tiny model (LoRA's B set at random, so that merging changes something); without
    a baseline it is as earlier versions of the code wrote it.
    """
    encoder = tiny_encoder(folder / f"encoder-{family}-{seed}", family, seed=seed)
    settings = tiny_settings(encoder)
    backbone = load_backbone(settings.backbone)
    adapted = attach_adapter(make_classifier(backbone, settings.training.head_dropout, seed), settings.lora, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    contents = BundleContents(
        adapted=adapted,
        backbone=backbone,
        settings=settings,
        calibrator=Calibrator().to_json(),
        thresholds=[{"threshold_name": "f1_max", "threshold": threshold, "is_default": True}],
        metrics={},
        predictions=pa.table({"review_id": ["r1"]}),
        data_version="none",
        describe=lambda path, manifest: (path / "README.md").write_text(f"# {manifest['model_version']}\n") and None,
        baseline=baseline,
    )
    bundle, _ = write_bundle(folder / "models", contents)
    return bundle


def tiny_baseline() -> BaselineFiles:
    """A baseline to which "love" and "nice" are good, "broke" and "awful" bad, with a calibrator of its own."""
    texts = ["love the chair", "nice chair", "nice smell again", "love it"] * 3
    texts += ["the leg broke", "awful smell", "broke again", "awful leg"] * 3
    model = fit_tfidf(texts, np.repeat([0, 1], 12))
    return BaselineFiles(StoredBaseline.of(model).to_arrays(), Calibrator("temperature", 0.5, (2.0,)).to_json())


_BAD = ("broke", "broken", "returned", "refund", "damaged", "terrible", "awful", "waste", "missing")
_GOOD = ("love", "loved", "great", "good", "nice", "sturdy", "comfortable", "perfect", "happy")
_NEUTRAL = ("the", "chair", "table", "sofa", "is", "was", "it", "my", "after", "weeks", "to", "put", "together")


def planted_review(
    split: str, number: int, day: datetime.date, generator: random.Random, **overrides: Any
) -> dict[str, Any]:
    """A review whose words tell its stars: about a third are dissatisfied, each with bad words among neutral ones."""
    is_bad = generator.random() < 0.35
    words = generator.choices(_BAD if is_bad else _GOOD, k=3) + generator.choices(_NEUTRAL, k=6)
    generator.shuffle(words)
    row = {
        "review_id": f"{split}-{number}",
        # an eighth of the test rows is of new products
        "product_id": f"product-{number % 40 + (5 if split == 'test' else 0)}",
        "marketplace": "US",
        "product_category": ("Furniture", "furniture", "Kitchen", None)[number % 4],
        "verified_purchase": (True, True, False, None, True)[number % 5],
        "review_headline": generator.choice(["One Star", "Five Stars", None]),
        "review_body": " ".join(words),
        "star_rating": generator.choice([1, 2] if is_bad else [4, 5]),
        "review_date": day,
        "split": split,
    }
    return {**row, **overrides}


def reviews_table(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows with the column types of the reviews table."""
    kinds = {"star_rating": pa.int32(), "review_date": pa.date32(), "verified_purchase": pa.bool_()}
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS]))


def planted_reviews(train: int = 400, validation: int = 240, test: int = 120, seed: int = 3) -> pa.Table:
    """Reviews of 2014 (training), January to March 2015 (validation) and from May 2015 on (test), one
    to eight a day.
    """
    generator = random.Random(seed)
    starts = {
        "train": datetime.date(2014, 1, 1),
        "validation": datetime.date(2015, 1, 1),
        "test": datetime.date(2015, 5, 1),
    }
    sizes = {"train": train, "validation": validation, "test": test}
    return reviews_table(
        [
            planted_review(split, number, starts[split] + datetime.timedelta(days=number * 80 // size), generator)
            for split, size in sizes.items()
            for number in range(size)
        ]
    )

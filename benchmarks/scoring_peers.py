"""How others score texts on Spark: peers of `reviewrisk score`, each a pandas UDF as tutorials and manuals write it.

Each maps a column of texts to a column of log-odds. All keep their model in the worker process between tasks, which
most tutorials do not. Imported by Spark's workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    pipeline,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

BATCH = 32


class MeanPooledConfig(BertConfig):
    """BERT whose tokens' mean is classified, as the MiniLM of sentence-transformers was trained."""

    model_type = "mean-pooled-bert"


class MeanPooledBertForSequenceClassification(BertPreTrainedModel):
    """transformers has BERT with the first token alone; this is what people write for the mean."""

    config_class = MeanPooledConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.pre_classifier = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Logits, shape (rows, 2)."""
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.classifier(torch.relu(self.pre_classifier(pooled))))


REVIEW_MODELS = {
    DistilBertConfig: DistilBertForSequenceClassification,
    MeanPooledConfig: MeanPooledBertForSequenceClassification,
}
logging.disable_progress_bar()  # type: ignore[no-untyped-call]
AutoConfig.register(MeanPooledConfig.model_type, MeanPooledConfig)
AutoModelForSequenceClassification.register(MeanPooledConfig, MeanPooledBertForSequenceClassification)


def pipeline_udf(hub: str, max_length: int, is_padded: bool) -> Any:
    """transformers' pipeline in float32: padded to `max_length` in order of arrival, or, sorted by length within an
    Arrow batch, to the longest text of each batch of 32.
    """
    from pyspark.sql.functions import pandas_udf

    def score(series: Iterator[pd.Series]) -> Iterator[pd.Series]:
        classify = _pipeline(hub)
        options = {"padding": "max_length" if is_padded else True, "truncation": True, "max_length": max_length}
        for texts in series:
            ordered = texts if is_padded else texts.iloc[np.argsort(texts.str.len(), kind="stable")]
            found = classify(ordered.tolist(), batch_size=BATCH, top_k=None, function_to_apply="none", **options)
            logits = pd.Series([_margin_of_labels(labels) for labels in found], index=ordered.index)
            yield logits.loc[texts.index]

    return pandas_udf(score, "double")


def onnx_udf(hub: str, graph: str, max_length: int, rows: int) -> Any:
    """predict_batch_udf with ONNX Runtime on an int8 graph.

    pyspark hands it so many `rows` at once. With more than 32 they are sorted by length and computed by 32.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import DoubleType

    def make_predict() -> Callable[[NDArray[Any]], NDArray[np.float64]]:
        tokenizer, session = _tokenizer(hub), _onnx_session(graph)

        def predict(texts: NDArray[Any]) -> NDArray[np.float64]:
            order = np.argsort([len(text) for text in texts], kind="stable")
            found = np.empty(len(texts))
            for start in range(0, len(texts), BATCH):
                places = order[start : start + BATCH]
                batch = tokenizer(
                    list(texts[places]), padding=True, truncation=True, max_length=max_length, return_tensors="np"
                )
                inputs = {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
                logits = session.run(["logits"], inputs)[0]
                found[places] = logits[:, 1] - logits[:, 0]
            return found

        return predict

    return predict_batch_udf(make_predict, return_type=DoubleType(), batch_size=rows)


def cross_encoder_udf(hub: str, max_length: int, precision: str) -> Any:
    """sentence-transformers' CrossEncoder, which sorts by length itself, on its backend torch."""
    from pyspark.sql.functions import pandas_udf

    def score(series: Iterator[pd.Series]) -> Iterator[pd.Series]:
        encoder = _cross_encoder(hub, max_length, precision)
        for texts in series:
            logits = encoder.predict(texts.tolist(), batch_size=BATCH, show_progress_bar=False)
            yield pd.Series(np.asarray(logits[:, 1] - logits[:, 0], dtype=np.float64))

    return pandas_udf(score, "double")


def _margin_of_labels(labels: list[dict[str, Any]]) -> float:
    scores = {label["label"]: label["score"] for label in labels}
    return float(scores["LABEL_1"] - scores["LABEL_0"])


@lru_cache(maxsize=1)
def _pipeline(hub: str) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(hub)
    return pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(hub), device="cpu")


@lru_cache(maxsize=1)
def _tokenizer(hub: str) -> Any:
    return AutoTokenizer.from_pretrained(hub)


@lru_cache(maxsize=1)
def _onnx_session(graph: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def _cross_encoder(hub: str, max_length: int, precision: str) -> Any:
    from sentence_transformers import CrossEncoder

    options: dict[str, Any] = {"model_kwargs": {"dtype": getattr(torch, precision)}}
    encoder: Any = CrossEncoder(hub, max_length=max_length, device="cpu", **options)
    encoder.is_singular_input = lambda _: False  # else it takes a list of texts for one pair of them
    return encoder

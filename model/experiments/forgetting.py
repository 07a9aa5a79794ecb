"""What an encoder has lost by being trained for one task: how far its vectors moved, and what can no longer be read off
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModelForMaskedLM, PreTrainedModel

from model.data.batches import TokenisedReviews, batches, evaluation_order
from model.data.reviews import LabelledReviews
from model.network.backbone import Backbone

VectorArray = NDArray[np.float32]
_FEWEST_OF_A_CLASS = 10  # in each half; with fewer a probe's loss is mostly chance
_MASKED_SHARE = 0.15
_ROWS_AT_ONCE = 32


def embedding_drift(before: VectorArray, after: VectorArray) -> float:
    """Mean cosine distance (1 - cosine similarity, 0 to 2) between the same texts' vectors, each of shape (texts,
    width).
    """
    first, second = before.astype(np.float64), after.astype(np.float64)
    cosine = (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    return float(np.maximum(0.0, 1 - cosine).mean())


def probe_task(reviews: LabelledReviews) -> tuple[str, NDArray[Any]] | None:
    """Something else than satisfaction that can be asked of the same reviews: (its name, each review's class).

    The product category where there are two or more of enough rows, else whether the purchase was verified; None where
    neither varies. Rows of a class too rare to be learnt have the class "".
    """
    for name, classes in (
        ("product category", np.asarray(reviews.categories)),
        ("verified purchase", np.where(reviews.is_verified, "yes", "no")),
    ):
        kept = _learnable(classes, reviews.product_ids)
        if len(set(kept) - {""}) > 1:
            return name, kept
    return None


def probe_loss(vectors: VectorArray, classes: NDArray[Any], product_ids: Sequence[str]) -> float:
    """Log-loss in nats of a logistic regression that reads the class off frozen vectors (a linear probe, Alain and
    Bengio 2016, arXiv 1610.01644), fitted on one half of the products and judged on the other, and the mean of both
    ways round.

    The vectors are standardised first, so that the probe's regularisation (C = 0.01) means the same whatever their
    scale.
    """
    known, half = classes != "", _halves(product_ids)
    names, losses = sorted(set(classes[known])), []
    for side in (False, True):
        fitted_on, judged_on = known & (half == side), known & (half != side)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(
            vectors[fitted_on], classes[fitted_on]
        )
        losses.append(log_loss(classes[judged_on], probe.predict_proba(vectors[judged_on]), labels=names))
    return float(np.mean(losses))


@torch.inference_mode()
def masked_token_loss(encoder: PreTrainedModel, backbone: Backbone, texts: TokenisedReviews, seed: int) -> float | None:
    """Mean cross-entropy in nats of the checkpoint's own masked-token head on the given encoder; None where the
    checkpoint has none.

    15% of each text's tokens, drawn with the seed, are replaced by the mask token and guessed.
    """
    model = _with_masked_token_head(backbone)
    if model is None:
        return None
    device = next(encoder.parameters()).device
    setattr(model, model.base_model_prefix, encoder)
    model.to(device).eval()
    generator = np.random.default_rng(seed)
    loss, masked = 0.0, 0
    pad_id, mask_id = int(backbone.tokenizer.pad_token_id), int(backbone.tokenizer.mask_token_id)
    special = torch.tensor(backbone.tokenizer.all_special_ids, device=device)
    order = evaluation_order(texts.lengths, _ROWS_AT_ONCE)
    for batch in batches(texts, order, _ROWS_AT_ONCE, pad_id, np.ones(2, dtype=np.float32)):
        ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
        drawn = torch.from_numpy(generator.random(ids.shape) < _MASKED_SHARE).to(device)
        chosen = drawn & ~torch.isin(ids, special)
        logits = model(input_ids=ids.masked_fill(chosen, mask_id), attention_mask=mask).logits
        loss += float(F.cross_entropy(logits[chosen].float(), ids[chosen], reduction="sum"))
        masked += int(chosen.sum())
    return loss / masked if masked else None


def _with_masked_token_head(backbone: Backbone) -> Any:
    """The backbone's checkpoint with its masked-token head, or None: bundled ones and those trained without one have
    none.
    """
    if backbone.name.startswith("bundled:") or backbone.tokenizer.mask_token_id is None:
        return None
    folder = Path(backbone.name).expanduser()
    where: dict[str, Any] = {"local_files_only": True} if folder.is_dir() else {"revision": backbone.revision}
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(
            folder if folder.is_dir() else backbone.name,
            trust_remote_code=False,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
    except (OSError, ValueError):
        return None
    return None if report["missing_keys"] else model  # transformers fills missing ones with random numbers


def _learnable(classes: NDArray[Any], product_ids: Sequence[str]) -> NDArray[Any]:
    half = _halves(product_ids)
    enough = [
        name
        for name in sorted(set(classes))
        if min(int(((classes == name) & (half == side)).sum()) for side in (False, True)) >= _FEWEST_OF_A_CLASS
    ]
    return np.where(np.isin(classes, enough), classes, "")


def _halves(product_ids: Sequence[str]) -> NDArray[np.bool_]:
    """Which half each row's product is in: every second one in the order of their names."""
    _, number = np.unique(np.asarray(product_ids), return_inverse=True)
    return np.asarray(number % 2 == 1, dtype=np.bool_)

"""Models of one pass: what two merged adapters of one base have in common lies in memory once, and scores stay what
they were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle.bundle import build_serving_folder
from model.scoring.scorer import Scorer, cached
from model.settings import ScoringSettings
from tests.support.adapter_bundles import adapter_bundle
from tests.support.trained_root import poisoned_encoder

SETTINGS = ScoringSettings(tokens_per_batch=512, rows_per_buffer=8)
HEADLINES = ["Five Stars", "Broken", None]
BODIES = ["Love this chair, easy to put together", "the leg broke after two weeks", "wobbles"]


@pytest.fixture(scope="module")
def two_adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Serving folders of two adapters on one base; in the base's embeddings is a number that is none."""
    folder = tmp_path_factory.mktemp("two")
    encoder = poisoned_encoder(folder)
    bundles = [adapter_bundle(folder, encoder, seed=seed) for seed in (1, 2)]
    first, second = (
        build_serving_folder(bundle, folder / f"serving-{place}", 1e-3) for place, bundle in enumerate(bundles)
    )
    return first, second


def test_models_of_one_pass_keep_what_they_have_in_common_once(two_adapters: tuple[Path, Path]) -> None:
    alone = [Scorer.load(folder, SETTINGS, threads=1) for folder in two_adapters]
    versions = [one.model_version for one in alone]
    first, second = (cached(folder, SETTINGS, threads=1, beside=versions) for folder in two_adapters)
    assert cached(two_adapters[0], SETTINGS, threads=1, beside=versions) is first, "the second did not take its place"
    theirs = dict(first.model.named_parameters())
    shared = {name for name, tensor in second.model.named_parameters() if tensor.data_ptr() == theirs[name].data_ptr()}
    values = [{name: tensor.nan_to_num(7) for name, tensor in one.model.named_parameters()} for one in alone]
    equal = {name for name, tensor in values[1].items() if torch.equal(tensor, values[0][name])}
    assert (
        shared == equal
        and {"encoder.embeddings.word_embeddings.weight", "encoder.transformer.layer.0.sa_layer_norm.weight"} <= shared
    )
    assert not {name for name in shared if "classifier" in name or "lin1.weight" in name or "q_lin.weight" in name}
    for one, other in zip((first, second), alone, strict=True):
        np.testing.assert_array_equal(one.score(HEADLINES, BODIES).logit, other.score(HEADLINES, BODIES).logit)


def test_a_model_of_another_pass_makes_room(two_adapters: tuple[Path, Path]) -> None:
    first = cached(two_adapters[0], SETTINGS, threads=1)
    cached(two_adapters[1], SETTINGS, threads=1)
    assert cached(two_adapters[0], SETTINGS, threads=1) is not first

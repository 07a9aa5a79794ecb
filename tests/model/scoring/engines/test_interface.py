"""Every engine gives the reference's logits, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.scorer import Scorer, Scores
from model.settings import ScoringSettings
from tests.support.engines import SMALL, compiled_serving, scorer_on, texts

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05, "int8": 0.05}
KINDS = [
    EngineKind("torch", "float32"),
    EngineKind("torch", "bfloat16"),
    EngineKind("openvino", "float32"),
    EngineKind("openvino", "bfloat16"),
    EngineKind("openvino", "int8"),
]


@pytest.fixture(scope="module", params=["distilbert", "bert"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_serving(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_engine_gives_the_logits_of_the_reference(serving: Path, kind: EngineKind) -> None:
    bodies = texts(40)
    expected = scorer_on(serving, REFERENCE).score([None] * 40, bodies).logit
    found = scorer_on(serving, kind)
    assert found.engine.kind == kind
    np.testing.assert_allclose(found.score([None] * 40, bodies).logit, expected, atol=TOLERANCE[kind.precision])
    assert np.ptp(expected) > 0.01, "the texts differ, so a mixed-up order would show"


@pytest.mark.parametrize("has_cascade", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_score_belongs_to_its_text_whatever_comes_before_and_beside_it(
    serving: Path, kind: EngineKind, has_cascade: bool
) -> None:
    scorer, bodies = scorer_on(serving, kind), texts(60)
    cut = float(np.median([scorer.baseline.model.logit(body) for body in bodies])) if has_cascade else None
    alone = Scores.joined([scorer.score([None], [body], cut=cut) for body in bodies])
    assert alone.by_baseline.sum() == (30 if has_cascade else 0)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(60)
        together = scorer.score([None] * 60, [bodies[place] for place in order], cut=cut)
        np.testing.assert_array_equal(together.by_baseline, alone.by_baseline[order])
        np.testing.assert_allclose(together.logit, alone.logit[order], atol=TOLERANCE[kind.precision])
        skipped = together.by_baseline
        np.testing.assert_array_equal(together.logit[skipped], alone.logit[order][skipped])


def test_auto_is_the_reference_until_somebody_chose(serving: Path) -> None:
    assert ScoringSettings().engine == ScoringSettings().precision == "auto"
    assert Scorer.load(serving, SMALL).engine.kind == REFERENCE

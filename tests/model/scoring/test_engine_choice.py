"""The fastest engine serves, of those that decide like the reference; a damaged one never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.bundle.bundle import build_serving_folder
from model.errors import ReviewriskError
from model.scoring import engine_choice
from model.scoring.engine_choice import ComparedReviews, Trial, candidates, fastest, named, try_engines
from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.parity import Parity
from model.settings import ParitySettings, ScoringSettings
from tests.support.engines import texts
from tests.support.tiny_models import tiny_bundle

EQUAL = Parity(100, 0, 0.0, 0.0, {"f1_max": 0}, 0.0, 1.0)
OPENVINO = EngineKind("openvino", "float32")
HALF = EngineKind("torch", "bfloat16")
SETTINGS = ScoringSettings(tokens_per_batch=512, rows_per_buffer=64, parity=ParitySettings(rows=50))


def trial(kind: EngineKind, speed: float, *problems: str) -> Trial:
    return Trial(kind, speed, EQUAL, list(problems))


def test_the_fastest_that_may_serve_is_taken() -> None:
    trials = [trial(REFERENCE, 10), trial(HALF, 30, "ECE changes"), trial(OPENVINO, 20)]
    assert fastest(trials).kind == OPENVINO


def test_where_none_may_serve_each_reason_is_named() -> None:
    with pytest.raises(ReviewriskError) as caught:
        fastest([trial(OPENVINO, 20, "ECE changes by +0.0200", "more"), trial(HALF, 9, "flips")])
    assert "(openvino float32: ECE changes by +0.0200; torch bfloat16: flips): set score.engine to torch" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("engine", "precision", "expected"),
    [
        ("auto", "auto", ["torch float32", "torch bfloat16", "openvino float32", "openvino bfloat16", "openvino int8"]),
        ("auto", "bfloat16", ["torch bfloat16", "openvino bfloat16"]),
        ("openvino", "auto", ["openvino float32", "openvino bfloat16", "openvino int8"]),
        ("auto", "int8", ["openvino int8"]),
        ("torch", "float32", ["torch float32"]),
    ],
)
def test_what_the_settings_leave_open(
    engine: Any, precision: Any, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "_is_here", lambda kind: True)
    assert [str(kind) for kind in candidates(ScoringSettings(engine=engine, precision=precision))] == expected


def test_what_the_machine_lacks_is_left_out_unless_it_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "computes_bfloat16", lambda device: False)
    monkeypatch.setattr(engine_choice.importlib.util, "find_spec", lambda name: None)
    assert candidates(ScoringSettings()) == [REFERENCE]
    asked = ScoringSettings(engine="torch", precision="bfloat16")
    assert candidates(asked) == [EngineKind("torch", "bfloat16")]
    with pytest.raises(ReviewriskError, match="leave no engine that this machine has"):
        candidates(ScoringSettings(engine="openvino"))


def test_bfloat16_and_int8_of_openvino_need_the_processors_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice.openvino_engine, "computes_bfloat16", lambda: False)
    monkeypatch.setattr(engine_choice, "computes_int8", lambda: False)
    assert candidates(ScoringSettings(engine="openvino")) == [OPENVINO]


@pytest.mark.parametrize("other", [{"engine": "torch"}, {"device": "cuda"}])
def test_only_openvino_has_int8(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="precision int8 is of engine openvino, on CPUs: set engine to openvino"):
        ScoringSettings(precision="int8", **other)


@pytest.mark.parametrize(
    ("precision", "has_bfloat16", "expected"),
    [
        ("auto", True, ["torch float32", "torch bfloat16", "torch float16"]),
        ("auto", False, ["torch float32", "torch float16"]),
        ("float16", False, ["torch float16"]),
    ],
)
def test_a_gpu_has_torch_alone_in_three_precisions(
    precision: Any, has_bfloat16: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "find_device", torch.device)
    monkeypatch.setattr(engine_choice, "computes_bfloat16", lambda device: has_bfloat16)
    settings = ScoringSettings(device="cuda", precision=precision)
    assert [str(kind) for kind in candidates(settings)] == expected


def test_without_a_gpu_there_is_nothing_to_try_on_one() -> None:
    with pytest.raises(ReviewriskError, match="Device 'cuda' was asked for"):
        candidates(ScoringSettings(device="cuda"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engine_gets_the_batches_of_its_device(device: Any) -> None:
    settings = ScoringSettings(device=device, tokens_per_batch=512, tokens_per_batch_gpu=65_536, rows_per_buffer=64)
    found = named(settings, HALF)
    expected = {"cpu": (512, 64), "cuda": (65_536, 8_192)}
    assert (found.tokens_per_batch, found.rows_per_buffer) == expected[device]
    assert named(found, HALF) == found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("choice")
    bundle = tiny_bundle(folder)
    return bundle, build_serving_folder(bundle, folder / "serving", tolerance=1e-3)


def compared() -> ComparedReviews:
    bodies = texts(60)
    return ComparedReviews([None] * 60, bodies, np.arange(60) % 2, {"f1_max": 0.5})


def run(model: tuple[Path, Path], *kinds: EngineKind, every: bool = True) -> tuple[list[Trial], list[str]]:
    lines: list[str] = []
    return try_engines(*model, kinds, compared(), SETTINGS, 1, every, lines.append), lines


def with_speeds(monkeypatch: pytest.MonkeyPatch, speeds: dict[EngineKind, float]) -> None:
    monkeypatch.setattr(engine_choice, "_speed", lambda scorer, *_: speeds[scorer.engine.kind])


def test_engines_are_timed_and_held_against_the_unmerged_model_fastest_first(
    model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    with_speeds(monkeypatch, {REFERENCE: 10.0, OPENVINO: 20.0})
    trials, lines = run(model, REFERENCE, OPENVINO)
    assert [(found.kind, found.rows_per_second) for found in trials] == [(OPENVINO, 20.0), (REFERENCE, 10.0)]
    for found in trials:
        assert found.problems == [] and found.parity
        assert found.parity.rows == 60 and found.parity.flipped == {"f1_max": 0}
        assert 0 < found.parity.greatest_difference < 1e-4, "merged, so nearly and not wholly equal"
    assert lines == [
        "  torch float32 is timed",
        "  openvino float32 is timed",
        "  the reference, torch float32 unmerged, reads 60 reviews",
        "  openvino float32 reads them",
        "  torch float32 reads them",
    ]
    assert torch.get_num_threads() == threads


def test_a_speed_is_that_of_scoring(model: tuple[Path, Path]) -> None:
    (found,), _ = run(model, REFERENCE)
    assert found.rows_per_second > 0


def test_slower_engines_are_not_compared_once_one_may_serve(
    model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_speeds(monkeypatch, {REFERENCE: 10.0, OPENVINO: 20.0, HALF: 5.0})
    trials, _ = run(model, REFERENCE, HALF, OPENVINO, every=False)
    assert [found.kind for found in trials if found.parity] == [OPENVINO]
    assert [found.may_serve for found in trials] == [True, False, False]
    assert fastest(trials).kind == OPENVINO


def shifted(logits: Any) -> Any:
    return logits + 0.5


def reversed_rows(logits: Any) -> Any:
    return logits[::-1].copy()


@pytest.mark.parametrize(
    ("damage", "said"), [(shifted, "logits differ by 0.5 on average"), (reversed_rows, "ranks' correlation is")]
)
def test_a_damaged_engine_is_refused(
    model: tuple[Path, Path], damage: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.scoring.engines.openvino_engine import OpenVinoEngine

    whole = OpenVinoEngine.logits
    monkeypatch.setattr(OpenVinoEngine, "logits", lambda self, ids, mask: damage(whole(self, ids, mask)))
    with_speeds(monkeypatch, {REFERENCE: 10.0, OPENVINO: 20.0})
    trials, _ = run(model, REFERENCE, OPENVINO, every=False)
    assert any(said in problem for problem in trials[0].problems), trials[0].problems
    assert fastest(trials).kind == REFERENCE


def test_an_engine_is_named_in_the_settings() -> None:
    found = named(SETTINGS, OPENVINO)
    assert (found.engine, found.precision, found.tokens_per_batch) == ("openvino", "float32", 512)

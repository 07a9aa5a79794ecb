"""Every engine gives the reference's logits, whatever the batch, and refuses what is damaged or not its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle.bundle import build_serving_folder
from model.errors import ReviewriskError
from model.files import read_json, write_json
from model.scoring.engines import openvino_engine
from model.scoring.engines.interface import REFERENCE, EngineKind
from model.scoring.engines.openvino_engine import OpenVinoEngine, compile_graph, has_graph
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings
from tests import ROOT
from tests.support.tiny_models import tiny_bundle

SMALL = ScoringSettings(tokens_per_batch=512, rows_per_buffer=16)
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
KINDS = [EngineKind(name, precision) for name in ("torch", "openvino") for precision in ("float32", "bfloat16")]
WORDS = ["the", "leg", "broke", "chair", "nice", "love", "awful", "again", "good", "smell", "two", "weeks"]


@pytest.fixture(scope="module", params=["distilbert", "bert"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    built = build_serving_folder(tiny_bundle(folder, request.param), folder / "serving", tolerance=1e-3)
    compile_graph(built)
    return built


def scorer_on(serving: Path, kind: EngineKind) -> Scorer:
    return Scorer.load(serving, SMALL.model_copy(update={"engine": kind.name, "precision": kind.precision}), threads=1)


def texts(rows: int, seed: int = 5) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=length)) for length in random.integers(1, 90, size=rows)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_engine_gives_the_logits_of_the_reference(serving: Path, kind: EngineKind) -> None:
    bodies = texts(40)
    expected = scorer_on(serving, REFERENCE).score([None] * 40, bodies).logit
    found = scorer_on(serving, kind)
    assert found.engine.kind == kind
    np.testing.assert_allclose(found.score([None] * 40, bodies).logit, expected, atol=TOLERANCE[kind.precision])
    assert np.ptp(expected) > 0.01, "the texts differ, so a mixed-up order would show"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_score_belongs_to_its_text_whatever_comes_before_and_beside_it(serving: Path, kind: EngineKind) -> None:
    scorer, bodies = scorer_on(serving, kind), texts(60)
    alone = np.array([scorer.score([None], [body]).logit[0] for body in bodies])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(60)
        together = scorer.score([None] * 60, [bodies[place] for place in order]).logit
        np.testing.assert_allclose(together, alone[order], atol=TOLERANCE[kind.precision])


def test_an_answer_is_not_overwritten_by_the_next(serving: Path) -> None:
    engine = OpenVinoEngine.load(serving, "float32", 1)
    ids = np.array([[2, 7, 3], [2, 9, 3]])
    first = engine.logits(ids, np.ones_like(ids))
    before = first.copy()
    engine.logits(ids[::-1].copy(), np.ones_like(ids))
    np.testing.assert_array_equal(first, before)
    assert first.shape == (2,) and first.dtype == np.float32


def test_bfloat16_weights_are_cast_once(serving: Path) -> None:
    engine = TorchEngine.load(serving, torch.device("cpu"), "bfloat16")
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    assert engine.few_shapes and not TorchEngine.load(serving, torch.device("cpu"), "float32").few_shapes


def test_a_scorer_without_a_pytorch_module_says_so(serving: Path) -> None:
    scorer = scorer_on(serving, EngineKind("openvino", "float32"))
    with pytest.raises(TypeError, match="openvino float32 has no PyTorch module"):
        _ = scorer.model


def test_auto_is_the_reference_until_somebody_chose(serving: Path) -> None:
    assert ScoringSettings().engine == ScoringSettings().precision == "auto"
    assert Scorer.load(serving, SMALL).engine.kind == REFERENCE


def test_openvino_computes_on_cpus_alone(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.scoring.scorer._find_device", lambda name: torch.device(name))
    settings = SMALL.model_copy(update={"engine": "openvino", "precision": "float32"})
    with pytest.raises(ReviewriskError, match=r"openvino computes on CPUs, not on cuda: set score\.engine to torch"):
        Scorer.load(serving, settings, device="cuda")


def test_a_graph_is_made_once_and_again_where_it_does_not_fit(
    serving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    before = (folder / "openvino" / "graph.json").stat().st_mtime_ns
    compile_graph(folder)
    assert (folder / "openvino" / "graph.json").stat().st_mtime_ns == before
    listing = read_json(folder / "openvino" / "graph.json")
    write_json(folder / "openvino" / "graph.json", {**listing, "openvino": "2020.1"})
    assert not has_graph(folder)
    compile_graph(folder)
    assert has_graph(folder) and read_json(folder / "openvino" / "graph.json")["openvino"] == listing["openvino"]


def damage(folder: Path, what: str) -> None:
    if what == "gone":
        shutil.rmtree(folder)
    elif what == "flipped":
        weights = bytearray((folder / "model.bin").read_bytes())
        weights[len(weights) // 2] ^= 1
        (folder / "model.bin").write_bytes(weights)
    elif what == "added":
        (folder / "other.bin").write_bytes(b"0")
    else:
        write_json(folder / "graph.json", {**read_json(folder / "graph.json"), "serving": "0" * 64})


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gone", "has no OpenVINO graph: make it with `reviewrisk models compile`"),
        ("flipped", "model.bin has another sha256 than graph.json says"),
        ("added", "other.bin is not listed in graph.json"),
        ("foreign", "was made of another model than"),
    ],
)
def test_a_graph_that_is_not_this_models_whole_one_is_refused(
    serving: Path, tmp_path: Path, what: str, said: str
) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    damage(folder / "openvino", what)
    assert not has_graph(folder)
    with pytest.raises(ReviewriskError, match=said):
        OpenVinoEngine.load(folder, "float32", 1)
    compile_graph(folder)
    assert has_graph(folder)


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys; from model.scoring.engines.openvino_engine import computes_bfloat16; computes_bfloat16();"
        "print(sys.modules['openvino_telemetry'])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "None"


def test_where_the_package_is_not_installed_a_sentence_says_so(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ReviewriskError, match="The engine openvino needs openvino, which is not installed"):
        openvino_engine.computes_bfloat16()

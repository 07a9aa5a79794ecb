"""OpenVINO's graph: made once, verified before it serves, and told to nobody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import ReviewriskError
from model.files import read_json, write_json
from model.scoring.engines import openvino_engine
from model.scoring.engines.interface import EngineKind
from model.scoring.engines.openvino_engine import OpenVinoEngine, compile_graph, has_graph
from model.scoring.scorer import Scorer
from tests import ROOT
from tests.support.engines import SMALL, compiled_serving, scorer_on


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_serving(tmp_path_factory.mktemp("engine"))


def test_an_answer_is_not_overwritten_by_the_next(serving: Path) -> None:
    engine = OpenVinoEngine.load(serving, "float32", 1)
    ids = np.array([[2, 7, 3], [2, 9, 3]])
    first = engine.logits(ids, np.ones_like(ids))
    before = first.copy()
    engine.logits(ids[::-1].copy(), np.ones_like(ids))
    np.testing.assert_array_equal(first, before)
    assert first.shape == (2,) and first.dtype == np.float32


def test_two_processes_of_a_machine_do_not_meet_on_one_core(serving: Path) -> None:
    compiled = OpenVinoEngine.load(serving, "float32", 1).request.get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_scorer_without_a_pytorch_module_says_so(serving: Path) -> None:
    scorer = scorer_on(serving, EngineKind("openvino", "float32"))
    with pytest.raises(TypeError, match="openvino float32 has no PyTorch module"):
        _ = scorer.model


def test_openvino_computes_on_cpus_alone(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.scoring.scorer.find_device", lambda name: torch.device(name))
    settings = SMALL.model_copy(update={"engine": "openvino", "precision": "float32"})
    with pytest.raises(ReviewriskError, match=r"openvino computes on CPUs, not on cuda: set score\.engine to torch"):
        Scorer.load(serving, settings, device="cuda")


def test_a_graph_is_made_once_and_again_where_it_does_not_fit(
    serving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    before = (folder / "openvino" / "graph.json").stat().st_mtime_ns
    compile_graph(folder, "float32")
    assert (folder / "openvino" / "graph.json").stat().st_mtime_ns == before
    listing = read_json(folder / "openvino" / "graph.json")
    write_json(folder / "openvino" / "graph.json", {**listing, "openvino": "2020.1"})
    assert not has_graph(folder, "float32")
    compile_graph(folder, "float32")
    assert (
        has_graph(folder, "float32")
        and read_json(folder / "openvino" / "graph.json")["openvino"] == listing["openvino"]
    )


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
    assert not has_graph(folder, "float32")
    with pytest.raises(ReviewriskError, match=said):
        OpenVinoEngine.load(folder, "float32", 1)
    compile_graph(folder, "float32")
    assert has_graph(folder, "float32")


def test_weights_in_int8_are_a_graph_of_their_own(serving: Path) -> None:
    whole, small = (serving / folder / "model.bin" for folder in ("openvino", "openvino-int8"))
    assert small.stat().st_size < 0.5 * whole.stat().st_size
    ids = np.arange(5, 45).reshape(2, 20)
    by_precision = {
        precision: OpenVinoEngine.load(serving, precision, 1).logits(ids, np.ones_like(ids))
        for precision in ("float32", "int8")
    }
    assert 0 < np.abs(by_precision["float32"] - by_precision["int8"]).max() < 0.1


def test_making_graphs_prints_nothing(serving: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    for name in ("openvino", "openvino-int8"):
        shutil.rmtree(folder / name)
    compile_graph(folder, "float32")
    compile_graph(folder, "int8")
    assert capfd.readouterr() == ("", "")


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


def test_int8_needs_a_package_of_its_own(serving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    shutil.rmtree(folder / "openvino-int8")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ReviewriskError, match="The precision int8 needs nncf, which is not installed"):
        compile_graph(folder, "int8")
    assert not (folder / "openvino-int8").exists()

"""OpenVINO on a CPU: the merged classifier as one graph, compiled for the processor that it runs on.

The graph is made once from the serving folder and lies in it, with the checksums of its files. For int8 there is a
second one: weights in int8 by output channel; OpenVINO quantises each token's activations as they come, so no texts
are needed to make it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle.bundle import read_serving
from model.bundle.listing import read_listing, verify_files
from model.errors import ReviewriskError, needs_extra
from model.files import file_sha256, folder_sha256, put_folder, read_json, temporary_folder_beside, write_json
from model.network.backbone import load_classifier
from model.network.classifier import ReviewClassifier, margin
from model.scoring.engines.interface import EngineKind, Precision

_FOLDERS: dict[Precision, str] = {"float32": "openvino", "bfloat16": "openvino", "int8": "openvino-int8"}
_HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}
# Activations share one scale over so many values at most: a whole token's, which is the fastest (docs/benchmarks.md).
_QUANTISED_TOGETHER = 2**20


@dataclass(eq=False)
class OpenVinoEngine:
    """A compiled graph and its one request: a process scores one batch at a time."""

    request: Any
    precision: Precision

    @classmethod
    def load(cls, serving_folder: Path, precision: Precision, threads: int | None) -> OpenVinoEngine:
        """The graph of a serving folder, compiled in this precision for `threads` CPU threads (None: as many as there
        are cores).

        Raises ReviewriskError where the folder has no graph, or a damaged one.
        """
        graph = _verified_graph(serving_folder, precision)
        settings = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads or 0,
            # by default it binds its threads to cores: those of all processes of a machine to the same first ones
            "ENABLE_CPU_PINNING": False,
            **_arithmetic(precision),
        }
        compiled = _openvino().Core().compile_model(str(graph), "CPU", settings)
        return cls(compiled.create_infer_request(), precision)

    @property
    def kind(self) -> EngineKind:
        return EngineKind("openvino", self.precision)

    @property
    def few_shapes(self) -> bool:
        return True

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.request.infer([ids, mask])[0]
        return values.copy()  # the request writes its next answer into the same memory


def compile_graph(serving_folder: Path, precision: Precision) -> Path:
    """The folder of the classifier's graph for this precision, within the serving folder; made where it is not there
    whole.

    graph.json has the serving folder's checksum, OpenVINO's version and files {path: sha256}.
    """
    target = serving_folder / _FOLDERS[precision]
    if has_graph(serving_folder, precision):
        return target
    openvino = _openvino()
    if precision == "int8":
        graph = _quantised(openvino.Core().read_model(str(compile_graph(serving_folder, "float32") / "model.xml")))
    else:
        graph = _converted(load_classifier(serving_folder).requires_grad_(False))
    with temporary_folder_beside(target) as folder:
        openvino.save_model(graph, str(folder / "model.xml"), compress_to_fp16=False)
        listing = {"serving": _serving_checksum(serving_folder), "openvino": openvino.__version__}
        write_json(folder / "graph.json", {**listing, "files": folder_sha256(folder)})
        put_folder(folder, target)
    return target


def has_graph(serving_folder: Path, precision: Precision) -> bool:
    """Whether a whole graph of this very model, made by this version of OpenVINO, lies in the folder."""
    try:
        path = _verified_graph(serving_folder, precision)
    except ReviewriskError:
        return False
    return bool(read_json(path.with_name("graph.json"))["openvino"] == _openvino().__version__)


def _arithmetic(precision: Precision) -> dict[str, Any]:
    """OpenVINO's settings; what int8 leaves to floating point is in bfloat16 where the processor has it."""
    if precision != "int8":
        return {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
    rest: Precision = "bfloat16" if computes_bfloat16() else "float32"
    return {"INFERENCE_PRECISION_HINT": _HINTS[rest], "DYNAMIC_QUANTIZATION_GROUP_SIZE": _QUANTISED_TOGETHER}


def _quantised(graph: Any) -> Any:
    """The graph with the weights of its matrix products and embeddings in int8, one scale each output channel."""
    with needs_extra("engines", "The precision int8"):
        import nncf
    with _quietly():
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)


def computes_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 itself: elsewhere OpenVINO computes in float32 all the same."""
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _Margin(nn.Module):
    """The classifier with one log-odds per row as its output, shape (rows,)."""

    def __init__(self, classifier: ReviewClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return margin(self.classifier(input_ids=input_ids, attention_mask=attention_mask))


def _converted(classifier: ReviewClassifier) -> Any:
    """The graph for any number of rows of any length, traced on two rows of unequal length."""
    ids = torch.ones((2, 16), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with _quietly():
        return _openvino().convert_model(
            _Margin(classifier).eval(), example_input={"input_ids": ids, "attention_mask": mask}
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Within it, the tracer's warnings on conditions that are the same for every text, transformers' on a loss that
    nobody asks for, and nncf's progress bars go nowhere.
    """
    loggers = [logging.getLogger(name) for name in ("nncf", "transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _verified_graph(serving_folder: Path, precision: Precision) -> Path:
    """The graph's file, once it was found to be this model's and whole."""
    folder = serving_folder / _FOLDERS[precision]
    if not (folder / "graph.json").is_file():
        raise ReviewriskError(f"{serving_folder} has no OpenVINO graph: make it with `reviewrisk models compile`.")
    listing = read_listing(folder / "graph.json", {"serving": str, "openvino": str})
    verify_files(folder, listing["files"], "graph.json")
    if listing["serving"] != _serving_checksum(serving_folder):
        raise ReviewriskError(
            f"{folder} was made of another model than {serving_folder}: make it again with `reviewrisk models compile`."
        )
    return folder / "model.xml"


def _serving_checksum(serving_folder: Path) -> str:
    read_serving(serving_folder)
    return file_sha256(serving_folder / "serving.json")


def _openvino() -> Any:
    """The package; its telemetry, which reports every import to its makers, is kept from loading."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with needs_extra("engines", "The engine openvino"):
        import openvino
    return openvino

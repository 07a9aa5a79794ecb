"""The fastest bfloat16 matrix product of this machine: what the scoring benchmark holds the network's useful work
against.

    python benchmarks/matrix_product.py [--processes 2]

Chains of matrix products, square ones and those of the networks' own layers, in PyTorch and in OpenVINO. So many
processes with one thread each compute the same chain at the same time, as the tasks of a scoring job do; their rates
are added, and the best chain counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

SECONDS = 0.6
ROUNDS = 3
LIBRARIES = ("torch", "openvino")


class Chain(NamedTuple):
    """Products of (rows, width) with weights of (width, next width), one after the other."""

    rows: int
    widths: tuple[int, ...]

    @property
    def operations(self) -> float:
        return float(sum(2 * self.rows * one * other for one, other in zip(self.widths, self.widths[1:], strict=False)))


CHAINS = (
    Chain(1024, (1024,) * 5),
    Chain(2048, (2048,) * 3),
    Chain(4096, (4096,) * 2),
    Chain(4096, (768,) * 5),
    Chain(4096, (768, 3072, 768)),
    Chain(4096, (384,) * 5),
    Chain(4096, (384, 1536, 384)),
)


class Fastest(NamedTuple):
    """Operations a second of all processes together, and what reached them."""

    rate: float
    library: str
    chain: Chain

    def __str__(self) -> str:
        widths = "→".join(map(str, self.chain.widths))
        return f"{self.rate / 1e9:,.0f} GFLOP/s ({self.library}, {self.chain.rows:,} rows, {widths})"


def fastest_product(processes: int) -> Fastest:
    """The best chain's rate, all processes added."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_keep, initargs=(barrier,)) as pool:
        measured = pool.map(_rates, range(processes), chunksize=1)
    cases = [(library, chain) for library in LIBRARIES for chain in CHAINS]
    totals = [sum(rates) for rates in zip(*measured, strict=True)]
    return max(Fastest(total, *case) for total, case in zip(totals, cases, strict=True))


_BARRIER: Barrier | None = None


def _keep(barrier: Barrier) -> None:
    global _BARRIER
    _BARRIER = barrier


def _rates(_: int) -> list[float]:
    """Operations a second of every library and chain, the best round, while the other processes do the same."""
    import torch

    torch.set_num_threads(1)
    assert _BARRIER is not None
    rates = []
    for library in LIBRARIES:
        for chain in CHAINS:
            compute = _TO_COMPUTE[library](chain)
            compute()
            rounds = []
            for _ in range(ROUNDS):
                _BARRIER.wait()
                rounds.append(chain.operations / _seconds(compute))
            rates.append(max(rounds))
    return rates


def _seconds(compute: Callable[[], Any]) -> float:
    taken: list[float] = []
    while sum(taken) < SECONDS / ROUNDS:
        started = time.perf_counter()
        compute()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _layers(chain: Chain) -> Any:
    from torch import nn

    pairs = zip(chain.widths, chain.widths[1:], strict=False)
    return nn.Sequential(*(nn.Linear(one, other, bias=False) for one, other in pairs)).eval()


def _torch(chain: Chain) -> Callable[[], Any]:
    import torch

    layers, rows = _layers(chain).bfloat16(), torch.randn(chain.rows, chain.widths[0]).bfloat16()

    @torch.inference_mode()
    def compute() -> Any:
        return layers(rows)

    return compute


def _openvino(chain: Chain) -> Callable[[], Any]:
    import openvino
    import torch

    rows = torch.randn(chain.rows, chain.widths[0])
    graph = openvino.convert_model(_layers(chain), example_input=rows)
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()
    return lambda: request.infer([rows.numpy()])


_TO_COMPUTE: dict[str, Callable[[Chain], Callable[[], Any]]] = {"torch": _torch, "openvino": _openvino}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    print(fastest_product(parser.parse_args().processes))

"""What an engine is to the scorer, and how engines are named."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

EngineName = Literal["torch", "openvino", "tfidf"]
Precision = Literal["float32", "bfloat16", "float16", "int8", "float64"]


class EngineKind(NamedTuple):
    """A library and the arithmetic it computes in; `review_scores` has both of every score."""

    name: EngineName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


# What every other kind is held against.
REFERENCE = EngineKind("torch", "float32")
# What decides the reviews that skip the network (see `cascade`): no engine that the settings may name.
BASELINE = EngineKind("tfidf", "float64")


class Engine(Protocol):
    """One merged classifier, loaded and ready on one device."""

    @property
    def kind(self) -> EngineKind: ...

    @property
    def few_shapes(self) -> bool:
        """Whether it keeps compiled code for every shape it meets, so that batches should come in few shapes."""
        ...

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """The log-odds of dissatisfaction of each row, shape (rows,), from token ids and attention mask (rows,
        length).
        """
        ...

"""Minimal pairs: two invented reviews that differ in a few words, and whether a model's decisions follow those words.

A suite of such pairs shows what a figure on real reviews hides: which ways of being dissatisfied a model cannot read.
In every kind but `bias_probe` the few words turn the label, so a pair passes only where the model both flags the
dissatisfied text and lets the other one be (contrast sets, Gardner et al. 2020, arXiv 2004.02709). In `bias_probe` they
must change nothing (the invariance tests of CheckList, Ribeiro et al. 2020, arXiv 2005.04118): both texts have one
label, and b holds the word or the non-native grammar that is probed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ReviewriskError
from model.evaluation.calibrators import FloatArray
from model.text.compose import model_text

INVARIANCE_KIND = "bias_probe"
KINDS = (
    "scoped_negation",
    "concession",
    "sarcasm",
    "title_as_prior",
    "title_against_body",
    "comparison",
    "conditional_praise",
    "delivery_only",
    "implicit_complaint",
    "messy_spelling",
    INVARIANCE_KIND,
)
ALL_KINDS = "all"


@dataclass(frozen=True)
class PairText:
    """One of a pair's two reviews. label: 1 is dissatisfied (would give 1-2 stars), 0 satisfied (4-5)."""

    headline: str | None
    body: str
    label: int

    @property
    def text(self) -> str:
        """What a model reads with `model.text.headline: keep`."""
        return model_text(self.headline, self.body)


@dataclass(frozen=True)
class Pair:
    """Two reviews that differ in a few words."""

    pair_id: str
    kind: str
    a: PairText
    b: PairText


@dataclass(frozen=True)
class PairFigures:
    """What a model does on the pairs of one kind, or of all; `low` and `high` are the 95% Wilson interval of the share
    that passes.
    """

    kind: str
    pairs: int
    passed: int
    pass_rate: float
    low: float
    high: float


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of the score interval of the share hits / n; (0, 1) where n is 0 and nothing is known.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212. Unlike the
    usual p ± z · s it stays inside 0 to 1 and has a width where all or none are hits.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (hits + z * z / 2) / (n + z * z)
    margin = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    # rounding must carry no limit across the share itself: without hits the lower one may come out as 1e-18
    return max(0.0, min(hits / n, centre - margin)), min(1.0, max(hits / n, centre + margin))


def load_pairs(path: Path) -> list[Pair]:
    """The pairs of a file with one JSON object a line, in the file's order. Raises ReviewriskError that names file,
    line and fault.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ReviewriskError(
            f"{path} cannot be read as a file of minimal pairs ({error}): give a UTF-8 file with one JSON object a"
            " line."
        ) from error
    pairs: list[Pair] = []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            pair = _pair(line)
            _check_new(pair, number, first_lines)
        except _FaultError as fault:
            raise ReviewriskError(f"{path}, line {number}: {fault}.") from fault
        pairs.append(pair)
    return pairs


def pair_report(pairs: Sequence[Pair], probabilities: FloatArray, threshold: float) -> list[PairFigures]:
    """One row per kind in the pairs' order, and a last row `all`. probabilities: (pairs, 2), of a and b, of being
    dissatisfied.

    A pair passes where both decisions, `probability >= threshold`, are the labels.
    """
    passed = _passed(pairs, probabilities, threshold)
    kinds = np.array([pair.kind for pair in pairs])
    return [
        *(_figures(kind, passed[kinds == kind]) for kind in dict.fromkeys(kinds.tolist())),
        _figures(ALL_KINDS, passed),
    ]


def pairs_table(reports: Mapping[str, Sequence[PairFigures]]) -> list[str]:
    """Lines of a Markdown table: a row per kind, and per model its "pass rate [low, high]". All reports are of the same
    pairs.
    """
    lines = ["| " + " | ".join(["kind", "pairs", *reports]) + " |", "|---|---:|" + "---:|" * len(reports)]
    for rows in zip(*reports.values(), strict=True):
        if len({(row.kind, row.pairs) for row in rows}) > 1:
            raise ValueError("the reports are of different pairs")
        cells = [f"{row.pass_rate:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in rows]
        lines.append("| " + " | ".join([rows[0].kind, str(rows[0].pairs), *cells]) + " |")
    return lines


class _FaultError(Exception):
    """What is wrong with a line, and what to do."""


def _pair(line: str) -> Pair:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _FaultError(f"not JSON ({error}); write one object a line and leave no line empty") from error
    _check_fields(value, ("id", "kind", "a", "b"), "the pair")
    if not isinstance(value["id"], str) or not value["id"]:
        raise _FaultError(f"id {value['id']!r} must be a text")
    if value["kind"] not in KINDS:
        raise _FaultError(f"unknown kind {value['kind']!r}; known are {', '.join(KINDS)}")
    pair = Pair(value["id"], value["kind"], _pair_text(value["a"], "a"), _pair_text(value["b"], "b"))
    if (pair.a.label == pair.b.label) != (pair.kind == INVARIANCE_KIND):
        needed = "the same label" if pair.kind == INVARIANCE_KIND else "different labels"
        raise _FaultError(
            f"labels {pair.a.label} and {pair.b.label} do not fit kind {pair.kind}; its two texts need {needed}"
        )
    return pair


def _pair_text(value: Any, side: str) -> PairText:
    _check_fields(value, ("headline", "body", "label"), side)
    headline, body, label = value["headline"], value["body"], value["label"]
    if headline is not None and (not isinstance(headline, str) or not headline.strip()):
        raise _FaultError(f"headline of {side} must be a text that is not blank, or null, not {headline!r}")
    if not isinstance(body, str) or not body.strip():
        raise _FaultError(f"body of {side} must be a text that is not blank, not {body!r}")
    if type(label) is not int or label not in (0, 1):  # JSON's true and 1.0 are equal to 1
        raise _FaultError(f"label of {side} must be 1 (dissatisfied) or 0 (satisfied), not {label!r}")
    return PairText(headline, body, label)


def _check_fields(value: Any, names: tuple[str, ...], what: str) -> None:
    if not isinstance(value, dict):
        raise _FaultError(f"{what} must be an object with {', '.join(names)}")
    missing, unknown = [name for name in names if name not in value], [name for name in value if name not in names]
    if missing:
        raise _FaultError(f"{what} lacks {', '.join(missing)}")
    if unknown:
        raise _FaultError(f"{what} has unknown {', '.join(unknown)}; take it out")


def _check_new(pair: Pair, number: int, first_lines: dict[str, int]) -> None:
    for what, key in (
        (f"id {pair.pair_id!r}", f"id {pair.pair_id}"),
        ("text of a", f"text {pair.a.text}"),
        ("text of b", f"text {pair.b.text}"),
    ):
        if key in first_lines:
            where = "in this line" if first_lines[key] == number else f"in line {first_lines[key]}"
            raise _FaultError(f"the {what} already stands {where}; every id and every text may occur once")
        first_lines[key] = number


def _labels(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    return np.array([(pair.a.label, pair.b.label) for pair in pairs], dtype=np.int64).reshape(len(pairs), 2)


def _passed(pairs: Sequence[Pair], probabilities: FloatArray, threshold: float) -> NDArray[np.bool_]:
    if probabilities.shape != (len(pairs), 2):
        raise ValueError(f"{len(pairs)} pairs need probabilities of shape ({len(pairs)}, 2), not {probabilities.shape}")
    # NaN is below every threshold: it would pass for satisfied
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is NaN or outside 0 to 1")
    return np.asarray(((probabilities >= threshold) == (_labels(pairs) == 1)).all(axis=1), dtype=np.bool_)


def _figures(kind: str, passed: NDArray[np.bool_]) -> PairFigures:
    hits = int(passed.sum())
    return PairFigures(kind, len(passed), hits, hits / len(passed), *wilson_interval(hits, len(passed)))

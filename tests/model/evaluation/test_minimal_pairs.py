"""The suite of minimal pairs is what it says, bad lines are named, and the figures are those worked out by hand."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ReviewriskError
from model.evaluation.minimal_pairs import (
    KINDS,
    Pair,
    PairFigures,
    PairText,
    load_pairs,
    pair_report,
    pairs_table,
    wilson_interval,
)
from tests import ROOT

SUITE = ROOT / "tests" / "data" / "minimal_pairs.jsonl"
_SENTIMENT = """
good bad great poor best worst better worse love loved hate hated like liked nice lovely awful terrible horrible
excellent perfect
perfectly happy unhappy pleased annoyed angry disappointed recommend useless useful junk rubbish broken broke wonderful
comfortable uncomfortable cheap flimsy sturdy solid beautiful ugly regret glad sorry satisfied dissatisfied refund
"""
SENTIMENT = frozenset(_SENTIMENT.split())


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def overlap(pair: Pair) -> float:
    """Share of the two texts' words, each counted as often as it stands there, that they have in common (Dice
    coefficient).
    """
    a, b = Counter(words(pair.a.text)), Counter(words(pair.b.text))
    return 2 * (a & b).total() / (a.total() + b.total())


def by_kind(pairs: list[Pair]) -> dict[str, list[Pair]]:
    return {kind: [pair for pair in pairs if pair.kind == kind] for kind in KINDS}


# --- the suite
# ------------------------------------------------------------


def test_the_suite_has_over_three_hundred_pairs_with_25_to_40_of_each_kind() -> None:
    pairs = load_pairs(SUITE)
    assert len(pairs) >= 320
    assert list(dict.fromkeys(pair.kind for pair in pairs)) == list(KINDS)
    assert {kind: len(group) for kind, group in by_kind(pairs).items() if not 25 <= len(group) <= 40} == {}


def test_half_of_each_kind_is_dissatisfied_in_a_so_that_the_position_tells_nothing() -> None:
    for kind, group in by_kind(load_pairs(SUITE)).items():
        assert sum(pair.a.label for pair in group) == len(group) / 2, kind


def test_no_text_stands_in_the_suite_twice_even_in_other_letters_and_signs() -> None:
    counted = Counter(" ".join(words(side.text)) for pair in load_pairs(SUITE) for side in (pair.a, pair.b))
    assert [text for text, times in counted.items() if times > 1] == []


def test_labels_differ_in_every_kind_but_the_bias_probe() -> None:
    for kind, group in by_kind(load_pairs(SUITE)).items():
        assert {abs(pair.a.label - pair.b.label) for pair in group} == ({0} if kind == "bias_probe" else {1}), kind


def test_the_two_texts_of_a_pair_differ_in_few_words() -> None:
    groups = by_kind(load_pairs(SUITE))
    assert {pair.pair_id: overlap(pair) for group in groups.values() for pair in group if overlap(pair) < 0.55} == {}
    assert {
        kind: mean for kind, group in groups.items() if (mean := np.mean([overlap(pair) for pair in group])) < 0.75
    } == {}


def test_texts_are_five_to_sixty_words_long_and_many_kinds_come_with_and_without_a_headline() -> None:
    pairs = load_pairs(SUITE)
    assert {side.text for pair in pairs for side in (pair.a, pair.b) if not 5 <= len(side.text.split()) <= 60} == set()
    for kind, group in by_kind(pairs).items():
        with_headline = sum(pair.a.headline is not None for pair in group) / len(group)
        assert with_headline == 1 if kind.startswith("title_") else 0.25 <= with_headline <= 0.75, kind


def test_where_the_title_decides_the_bodies_are_equal_and_where_it_lies_both_differ() -> None:
    groups = by_kind(load_pairs(SUITE))
    assert all(pair.a.body == pair.b.body and pair.a.headline != pair.b.headline for pair in groups["title_as_prior"])
    assert all(
        pair.a.body != pair.b.body and pair.a.headline != pair.b.headline for pair in groups["title_against_body"]
    )


def test_implicit_complaints_hold_no_sentiment_word() -> None:
    found = {
        pair.pair_id: SENTIMENT & {*words(pair.a.text), *words(pair.b.text)}
        for pair in load_pairs(SUITE)
        if pair.kind == "implicit_complaint"
    }
    assert {pair_id: used for pair_id, used in found.items() if used} == {}


# --- the loader
# ------------------------------------------------------------


def line(**overrides: Any) -> dict[str, Any]:
    """A good line with some fields overridden."""
    a = {"headline": None, "body": "The stool wobbles.", "label": 1}
    b = {"headline": "Stool", "body": "The stool does not wobble.", "label": 0}
    return {"id": "negation-001", "kind": "scoped_negation", "a": a, "b": b, **overrides}


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text(
        "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines), encoding="utf-8"
    )
    return path


def test_a_good_file_becomes_pairs_in_its_order(tmp_path: Path) -> None:
    other = line(
        id="bias-001",
        kind="bias_probe",
        a={"headline": None, "body": "It is old.", "label": 0},
        b={"headline": None, "body": "Is old.", "label": 0},
    )
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", line(), other))
    assert pairs == [
        Pair(
            "negation-001",
            "scoped_negation",
            PairText(None, "The stool wobbles.", 1),
            PairText("Stool", "The stool does not wobble.", 0),
        ),
        Pair("bias-001", "bias_probe", PairText(None, "It is old.", 0), PairText(None, "Is old.", 0)),
    ]
    assert [pairs[0].a.text, pairs[0].b.text] == ["The stool wobbles.", "Stool. The stool does not wobble."]


def side(body: str = "The lamp is dark.", **overrides: Any) -> dict[str, Any]:
    return {"headline": None, "body": body, "label": 1, **overrides}


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: kept for key, kept in value.items() if key != name}


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ("{", "not JSON"),
        ("", "leave no line empty"),
        ("[]", "the pair must be an object with id, kind, a, b"),
        (line(id="x", kind="irony"), "unknown kind 'irony'; known are scoped_negation, concession,"),
        (line(id="x", kind=["sarcasm"]), "unknown kind ['sarcasm']"),
        (without(line(), "kind"), "the pair lacks kind"),
        (without(without(line(), "id"), "b"), "the pair lacks id, b"),
        (line(id=7), "id 7 must be a text"),
        (line(id=""), "id '' must be a text"),
        (line(id="x", note="?"), "the pair has unknown note; take it out"),
        (line(id="x", a="The lamp is dark."), "a must be an object with headline, body, label"),
        (line(id="x", a=without(side(), "headline")), "a lacks headline"),
        (line(id="x", b=without(side(), "label")), "b lacks label"),
        (line(id="x", a=side(stars=1)), "a has unknown stars"),
        (line(id="x", a=side(label=2)), "label of a must be 1 (dissatisfied) or 0 (satisfied), not 2"),
        (line(id="x", a=side(label=True)), "label of a must be 1 (dissatisfied) or 0 (satisfied), not True"),
        (line(id="x", a=side(label=None)), "label of a must be 1 (dissatisfied) or 0 (satisfied), not None"),
        (line(id="x", a=side(body=" ")), "body of a must be a text that is not blank"),
        (line(id="x", a=side(body=None)), "body of a must be a text that is not blank, not None"),
        (line(id="x", a=side(headline="")), "headline of a must be a text that is not blank, or null"),
        (
            line(id="x", a=side(), b=side("Dark.")),
            "labels 1 and 1 do not fit kind scoped_negation; its two texts need different labels",
        ),
        (
            line(id="x", kind="bias_probe"),
            "labels 1 and 0 do not fit kind bias_probe; its two texts need the same label",
        ),
        (line(a=side(), b=side("Bright.", label=0)), "the id 'negation-001' already stands in line 1"),
        (
            line(id="x", a=side("Bright.", label=0), b=side("The stool wobbles.")),
            "the text of b already stands in line 1",
        ),
        (
            line(id="x", a=side("Stool. The stool does not wobble."), b=side("B.", label=0)),
            "the text of a already stands in line 1",
        ),
        (line(id="x", a=side(), b=side(label=0)), "the text of b already stands in this line"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_fault(tmp_path: Path, bad: dict[str, Any] | str, fault: str) -> None:
    path = write(tmp_path / "pairs.jsonl", line(), bad, line(id="negation-003"))
    with pytest.raises(ReviewriskError, match=re.escape(f"{path}, line 2: ") + ".*" + re.escape(fault)):
        load_pairs(path)


def not_there(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", [not_there, lambda path: path.write_bytes(b'{"id": "\xff"}\n')])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    spoil(tmp_path / "pairs.jsonl")
    with pytest.raises(ReviewriskError, match=r"pairs\.jsonl cannot be read as a file of minimal pairs"):
        load_pairs(tmp_path / "pairs.jsonl")


def test_an_empty_file_is_an_error_and_not_a_suite_that_passes(tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match="line 1: not JSON"):
        load_pairs(write(tmp_path / "pairs.jsonl"))


# --- the figures
# ------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_limits_are_the_published_ones(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3, to four digits."""
    assert wilson_interval(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_limits_by_hand_for_one_of_four_and_other_confidences() -> None:
    # with z = 1.96: centre (1 + 1.9208) / 7.8416 = 0.37247, margin 1.96 / 7.8416 * sqrt(1 * 3 / 4 + 0.9604) = 0.32689
    assert wilson_interval(1, 4) == (pytest.approx(0.0456, abs=1e-4), pytest.approx(0.6994, abs=1e-4))
    # with z = 1: (1 + 0.5) / 5 -+ 1 / 5 * sqrt(3 / 4 + 1 / 4) = 0.3 -+ 0.2
    assert wilson_interval(1, 4, confidence=math.erf(1 / math.sqrt(2))) == (pytest.approx(0.1), pytest.approx(0.5))


def test_wilson_limits_never_cross_the_share_and_know_nothing_without_trials() -> None:
    for n in range(1, 500):
        assert wilson_interval(0, n)[0] == 0
        assert wilson_interval(n, n)[1] == 1
    assert wilson_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="5 hits of 4"):
        wilson_interval(5, 4)


def pair(pair_id: str, kind: str, label_a: int, label_b: int) -> Pair:
    return Pair(pair_id, kind, PairText(None, f"{pair_id} a", label_a), PairText(None, f"{pair_id} b", label_b))


PAIRS = [
    pair("s1", "sarcasm", 1, 0),
    pair("p1", "bias_probe", 1, 1),
    pair("s2", "sarcasm", 0, 1),
    pair("c1", "comparison", 1, 0),
    pair("s3", "sarcasm", 1, 0),
    pair("p2", "bias_probe", 0, 0),
    pair("s4", "sarcasm", 0, 1),
]
PROBABILITIES = np.array(
    [
        [0.6, 0.59],  # s1 passes: a lies at the threshold and is flagged
        [0.9, 0.75],  # p1 passes: both are flagged
        [0.2, 0.5],  # s2 fails, as b is not flagged
        [0.3, 0.3],  # c1 fails, as a is not flagged
        [0.7, 0.8],  # s3 fails, as b is flagged
        [0.5, 0.75],  # p2 fails, as b is flagged
        [0.9, 0.1],  # s4 fails: both decisions wrong
    ]
)


def test_all_figures_by_hand() -> None:
    sarcasm, bias, comparison, total = pair_report(PAIRS, PROBABILITIES, threshold=0.6)
    assert sarcasm == PairFigures("sarcasm", 4, 1, 0.25, *wilson_interval(1, 4))
    assert bias == PairFigures("bias_probe", 2, 1, 0.5, *wilson_interval(1, 2))
    assert comparison == PairFigures("comparison", 1, 0, 0.0, *wilson_interval(0, 1))
    assert total == PairFigures("all", 7, 2, 2 / 7, *wilson_interval(2, 7))


def test_a_model_that_sees_no_difference_passes_no_pair_but_the_bias_probe() -> None:
    pairs = load_pairs(SUITE)
    report = {row.kind: row for row in pair_report(pairs, np.full((len(pairs), 2), 0.4), threshold=0.5)}
    assert {kind for kind, row in report.items() if row.passed} == {"bias_probe", "all"}
    assert report["bias_probe"].pass_rate == 0.5


def test_the_right_answers_pass_the_whole_suite() -> None:
    pairs = load_pairs(SUITE)
    right = np.array([[pair.a.label, pair.b.label] for pair in pairs], dtype=np.float64)
    assert {row.pass_rate for row in pair_report(pairs, right, 0.5)} == {1}


@pytest.mark.parametrize(
    ("probabilities", "fault"),
    [
        (PROBABILITIES[:3], r"7 pairs need probabilities of shape \(7, 2\), not \(3, 2\)"),
        (PROBABILITIES[:, 0], r"not \(7,\)"),
        (np.where(PROBABILITIES == 0.1, np.nan, PROBABILITIES), "NaN or outside"),
        (PROBABILITIES * 2, "NaN or outside"),
    ],
)
def test_probabilities_that_cannot_be_of_these_pairs_are_refused(probabilities: np.ndarray, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        pair_report(PAIRS, probabilities, 0.6)


def test_the_table_has_the_models_side_by_side() -> None:
    ours, theirs = pair_report(PAIRS, PROBABILITIES, 0.6), pair_report(PAIRS, 1 - PROBABILITIES, 0.05)
    assert pairs_table({"TF-IDF": theirs, "MiniLM + LoRA": ours}) == [
        "| kind | pairs | TF-IDF | MiniLM + LoRA |",
        "|---|---:|---:|---:|",
        "| sarcasm | 4 | 0.00 [0.00, 0.49] | 0.25 [0.05, 0.70] |",
        "| bias_probe | 2 | 0.50 [0.09, 0.91] | 0.50 [0.09, 0.91] |",
        "| comparison | 1 | 0.00 [0.00, 0.79] | 0.00 [0.00, 0.79] |",
        "| all | 7 | 0.14 [0.03, 0.51] | 0.29 [0.08, 0.64] |",
    ]


def test_reports_of_different_pairs_do_not_share_a_table() -> None:
    with pytest.raises(ValueError, match="different pairs"):
        pairs_table(
            {"one": pair_report(PAIRS, PROBABILITIES, 0.6), "other": pair_report(PAIRS[:-1], PROBABILITIES[:-1], 0.6)}
        )

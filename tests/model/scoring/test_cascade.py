"""Reviews that the baseline finds surely satisfied skip the network, and the cut bounds what that costs."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.bundle.bundle import build_serving_folder
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator, sigmoid
from model.scoring.cascade import BothModels, fit_cut, greatest_cut
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings
from model.text.compose import NO_TEXT
from tests import ROOT
from tests.support.tiny_models import tiny_baseline, tiny_bundle

SMALL = ScoringSettings(tokens_per_batch=512, rows_per_buffer=4)
BODIES = ["love the chair", "the leg broke", "nice", "awful smell", "love it again", None, "love love"]
CUT = -0.5


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("cascade")
    serving = build_serving_folder(tiny_bundle(folder, baseline=tiny_baseline()), folder / "serving", 1e-3)
    return Scorer.load(serving, SMALL, threads=1)


def test_a_surely_satisfied_review_has_the_baselines_score_and_the_others_the_networks(scorer: Scorer) -> None:
    headlines: list[str | None] = [None] * len(BODIES)
    network, found = scorer.score(headlines, BODIES), scorer.score(headlines, BODIES, cut=CUT)
    assert found.by_baseline.tolist() == [True, False, True, False, True, False, True]
    assert found.error == network.error == [None] * 5 + [NO_TEXT, None]
    logit = np.array([scorer.baseline.model.logit(body or "") for body in BODIES])
    skipped = found.by_baseline
    np.testing.assert_array_equal(found.logit[skipped], logit[skipped])
    np.testing.assert_allclose(found.raw_probability[skipped], sigmoid(logit[skipped]), rtol=1e-12)
    np.testing.assert_allclose(found.probability[skipped], sigmoid((logit[skipped] - 0.5) / 2), rtol=1e-12)
    np.testing.assert_allclose(found.logit[~skipped], network.logit[~skipped], atol=1e-5)
    np.testing.assert_allclose(found.probability[~skipped], network.probability[~skipped], atol=1e-5)
    for name in ("token_count", "is_truncated", "has_rating_phrase"):
        np.testing.assert_array_equal(getattr(found, name), getattr(network, name))
    assert (network.padded_tokens, found.padded_tokens) == (6 * 16, 2 * 16), "the network reads two texts"


def test_a_review_at_the_cut_skips_the_network_and_one_above_it_does_not(scorer: Scorer) -> None:
    at = scorer.baseline.model.logit("nice")
    assert scorer.score([None], ["nice"], cut=at).by_baseline.tolist() == [True]
    assert scorer.score([None], ["nice"], cut=np.nextafter(at, -np.inf)).by_baseline.tolist() == [False]


def test_a_review_that_says_nothing_has_no_score_whatever_the_baseline_says_of_it(scorer: Scorer) -> None:
    found = scorer.score([None, None], ["", "chair"], cut=100.0)
    assert found.error == [NO_TEXT, None] and found.by_baseline.tolist() == [False, True]


def test_the_baseline_reads_what_the_network_reads_of_a_review(scorer: Scorer) -> None:
    found = scorer.score(["Awful", "Awful"], ["<b>love</b> it", "love it"], "drop", cut=100.0)
    np.testing.assert_array_equal(found.logit, [scorer.baseline.model.logit("love it")] * 2)


def test_a_bundle_of_an_earlier_version_scores_as_before_and_has_no_cascade(tmp_path: Path) -> None:
    serving = build_serving_folder(tiny_bundle(tmp_path), tmp_path / "serving", 1e-3)
    old = Scorer.load(serving, SMALL, threads=1)
    assert old.score([None], ["nice"]).error == [None]
    with pytest.raises(ReviewriskError, match=r"keeps no baseline, .*: train again, or set score\.cascade"):
        old.score([None], ["nice"], cut=CUT)


def test_only_the_nightly_scores_and_single_texts_come_by_a_cut() -> None:
    """Training, evaluation, parity and explanations always have the network's own scores."""
    callers = set()
    for path in [*(ROOT / "model").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]:
        calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
        if any(keyword.arg == "cut" for call in calls for keyword in call.keywords if _method(call) != "Cut"):
            callers.add(path.relative_to(ROOT).as_posix())
    assert callers == {"jobs/scoring/udfs.py", "jobs/scoring/single.py"}


def _method(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def reviews(rows: list[tuple[float, float]], slope: float = 1.0) -> BothModels:
    """Reviews of (baseline's log-odds, network's probability)."""
    logit, network = np.array(rows).T
    return BothModels(logit, sigmoid(slope * logit), network, np.zeros(len(rows), np.int64))


# Ten reviews, of which the network flags the fourth, the eighth and the last at 0.5.
TEN = [(-9.0 + place, 0.9 if place in (3, 7, 9) else 0.1) for place in range(10)]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.05, None),  # (0 + 1) / 11 is more already
        (0.1, -7.0),  # none flipped: up to the last one before the fourth
        (0.19, -3.0),  # one of ten: (1 + 1) / 11
        (0.28, -1.0),  # two of ten, up to the last but one
        (0.9, -1.0),  # at a log-odds of 0 the baseline itself says 0.5
    ],
)
def test_the_cut_is_the_greatest_that_keeps_to_the_share(share: float, expected: float | None) -> None:
    assert greatest_cut(reviews(TEN), 0.5, share) == expected
    shuffled = [TEN[place] for place in np.random.default_rng(1).permutation(10)]
    assert greatest_cut(reviews(shuffled), 0.5, share) == expected


def test_reviews_of_one_log_odds_skip_together_or_not_at_all() -> None:
    rows = [(-5.0, 0.1), (-4.0, 0.1), (-4.0, 0.9), (-4.0, 0.1), (-3.0, 0.1)]
    assert greatest_cut(reviews(rows), 0.5, 0.2) == -5.0
    assert greatest_cut(reviews([(-4.0, 0.1), (-4.0, 0.9)]), 0.5, 0.4) is None


def test_no_review_skips_whose_probability_would_be_flagged() -> None:
    rows = [(-3.0, 0.01), (-2.0, 0.01), (-1.0, 0.01)]  # by the baseline 0.047, 0.119 and 0.269
    assert [greatest_cut(reviews(rows), lowest, 0.5) for lowest in (0.3, 0.2, 0.05, 0.01)] == [-1.0, -2.0, -3.0, None]


def test_new_reviews_keep_to_the_share_on_average_though_the_cut_was_chosen() -> None:
    """The network flags 0.3 of them, whatever the baseline says. A cut with 5 flips of 100 would flip 0.056 of new
    ones.
    """
    random, shares = np.random.default_rng(7), []
    for _ in range(2000):
        logit, network = random.uniform(-9, -1, 100), np.where(random.random(100) < 0.3, 0.9, 0.1)
        cut = greatest_cut(reviews(list(zip(logit, network, strict=True))), 0.5, 0.05)
        shares.append(0.0 if cut is None else 0.3 * (cut + 9) / 8)
    assert 0.04 < np.mean(shares) <= 0.05


def predictions(parts: dict[str, list[tuple[float, float, int]]]) -> pa.Table:
    """Rows of (baseline's log-odds, network's log-odds, label) by part, as a bundle's predictions.parquet has them."""
    rows = [
        {"part": part, "tfidf_logit": tfidf, "model_logit": model, "label": label}
        for part, listed in parts.items()
        for tfidf, model, label in listed
    ]
    return pa.Table.from_pylist(rows)


def test_the_cut_is_fitted_on_validation_and_judged_on_test() -> None:
    validation = [(-4.0, -3.0, 0), (-3.0, -3.0, 0), (-2.0, -3.0, 0), (-1.0, 2.0, 1)]
    test = [(-3.0, -3.0, 0), (-2.5, -1.0, 1), (-2.0, 1.5, 1), (-1.0, -4.0, 0), (0.0, 4.0, 1)]
    table = predictions({"fitting": validation[:2], "choosing": validation[2:], "test": test})
    thresholds = {"low": 0.2, "high": 0.5, "highest": 0.9}
    found = fit_cut(table, Calibrator("temperature", 0.0, (2.0,)), Calibrator(), thresholds, 0.25)
    assert (found.cut, found.validation_rows, found.needs) == (-3.0, 4, 3), "at -2 the baseline says 0.27"
    assert (found.rows, found.skipped, found.flipped) == (5, 1, {"low": 0, "high": 0, "highest": 0})
    wider = fit_cut(table, Calibrator(), Calibrator(), thresholds, 0.25)
    assert (wider.cut, wider.skipped, wider.flipped) == (-2.0, 3, {"low": 2, "high": 1, "highest": 0})
    assert wider.ece_change == pytest.approx(_by_hand(test, 3) - _by_hand(test, 0))
    none = fit_cut(table, Calibrator(), Calibrator(), thresholds, 0.19)
    assert (none.cut, none.needs, none.skipped, none.ece_change) == (None, 5, 0, 0.0)


def _by_hand(rows: list[tuple[float, float, int]], skipped: int) -> float:
    """ECE in ten bins of equal width where the first rows have the baseline's probability."""
    bins: dict[int, list[tuple[float, int]]] = {}
    for place, (tfidf, model, label) in enumerate(rows):
        probability = float(sigmoid(np.array([tfidf if place < skipped else model]))[0])
        bins.setdefault(int(probability * 10), []).append((probability, label))
    return sum(abs(sum(p - label for p, label in rows_of_bin)) for rows_of_bin in bins.values()) / len(rows)

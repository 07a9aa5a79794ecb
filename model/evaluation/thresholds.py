"""Decision thresholds on the calibrated probability: how each is fitted on validation, and what it does on labelled
rows.

A row is flagged where its probability is at least the threshold. A threshold lies midway between the lowest probability
that it flags and the next lower one, as all values between them flag the same rows: rounding (another batch, another
machine) then flips no decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from model.errors import ReviewriskError
from model.evaluation.calibrators import FloatArray, LabelArray
from model.evaluation.design_effect import effective_rows
from model.settings import ThresholdSettings

# Shares of rows that may be flagged where a precision is to be guaranteed, greatest first: fixed beforehand, so that
# the guarantee can count them, and shares because a calibrator that was fitted on the same rows moves their
# probabilities. It never swaps two of them, but isotonic regression ties some, and where a tie ends depends on the
# labels: then what is flagged ends with a tie before the share, not at a rank that was fixed beforehand. The correction
# for as many looks as there are shares is wide enough for that, too (tests/model/evaluation/test_thresholds.py).
GRID = tuple(0.9**step for step in range(44))


@dataclass(frozen=True)
class FittedThreshold:
    """A threshold by name and what it is for; `threshold` is None where validation cannot give it, and `reason` says
    why.
    """

    threshold_name: str
    threshold: float | None
    purpose: str
    reason: str | None = None


@dataclass(frozen=True)
class CandidateThresholds:
    """Every way to part labelled rows by probability, strictest first: what is flagged, and how many of it are
    dissatisfied.
    """

    threshold: FloatArray
    flagged: FloatArray
    hits: FloatArray
    rows: int
    dissatisfied: int

    @classmethod
    def of(cls, probability: FloatArray, label: LabelArray) -> CandidateThresholds:
        """The candidates of these rows; an error where none of them is dissatisfied."""
        if not label.any():
            raise ReviewriskError("No threshold can be chosen: none of the rows is dissatisfied (1-2 stars).")
        order = np.argsort(-probability, kind="stable")
        ranked = probability[order]
        last = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])  # rows of one probability are flagged together
        below = np.r_[ranked[last[:-1] + 1], 0.0]
        return cls(
            (ranked[last] + below) / 2,
            (last + 1).astype(np.float64),
            label[order].cumsum()[last].astype(np.float64),
            len(label),
            int(label.sum()),
        )


def fit_thresholds(
    probability: FloatArray, label: LabelArray, products: NDArray[Any], days: int, settings: ThresholdSettings
) -> list[FittedThreshold]:
    """All thresholds of the settings from labelled validation rows of these products, which cover so many days."""
    candidates = CandidateThresholds.of(probability, label)
    f1_max = f1_max_threshold(probability, label)
    fitted = [
        FittedThreshold("f1_max", f1_max, "greatest F1 of the dissatisfied class"),
        cost_threshold(candidates, settings.cost_false_negative, settings.cost_false_positive),
        precision_threshold(probability, label, products, settings.precision, settings.confidence),
        recall_threshold(probability, label, products, settings.recall, settings.confidence),
    ]
    if settings.reviews_per_day is not None:
        fitted += review_band(probability, f1_max, days, settings.reviews_per_day)
    return fitted


def check_names(settings: ThresholdSettings) -> None:
    """Raise ReviewriskError where `default` or `active` names a threshold that these settings do not give."""
    given = [
        "f1_max",
        _cost_name(settings.cost_false_negative, settings.cost_false_positive),
        _precision_name(settings.precision),
        _recall_name(settings.recall),
        *(("review_low", "review_high") if settings.reviews_per_day is not None else ()),
    ]
    for name in (settings.default, *settings.active):
        if name not in given:
            raise ReviewriskError(f"model.thresholds names {name!r}, but these settings give {', '.join(given)}.")


def f1_max_threshold(probability: FloatArray, label: LabelArray) -> float:
    """The threshold with the greatest F1 of the dissatisfied class; of equal ones the highest, which flags fewest."""
    candidates = CandidateThresholds.of(probability, label)
    return float(candidates.threshold[np.argmax(2 * candidates.hits / (candidates.flagged + candidates.dissatisfied))])


def cost_threshold(candidates: CandidateThresholds, false_negative: float, false_positive: float) -> FittedThreshold:
    """The threshold with the least cost on the rows: missed dissatisfied and flagged satisfied ones, each at its price.

    With perfect calibration it would be false_positive / (false_positive + false_negative) (Elkan 2001, equation 2). To
    flag none is one of the choices: it is the threshold 1, which no probability but 1 itself reaches.
    """
    missed, alarms = candidates.dissatisfied - candidates.hits, candidates.flagged - candidates.hits
    cost = false_negative * missed + false_positive * alarms
    best = int(np.argmin(cost))
    nothing = false_negative * candidates.dissatisfied
    threshold = float(candidates.threshold[best]) if cost[best] < nothing else 1.0
    purpose = (
        f"least cost, a missed dissatisfied customer at {false_negative:g} and a false alarm at {false_positive:g}"
    )
    return FittedThreshold(_cost_name(false_negative, false_positive), threshold, purpose)


def precision_threshold(
    probability: FloatArray, label: LabelArray, products: NDArray[Any], precision: float, confidence: float
) -> FittedThreshold:
    """The least threshold whose precision is at least `precision`, with the given confidence that this holds beyond
    these rows, for products that come as theirs did.

    Looked for among the candidates that flag at most a share of GRID. Of the rows above the k-th highest probability,
    the number of dissatisfied ones is binomial whatever the distribution, if rows are independent; each candidate is
    held to the exact lower limit (Clopper and Pearson 1934, one-sided) at 1 - (1 - confidence) / len(GRID), so
    whichever is taken, the confidence stands (Bonferroni; risk control by multiple testing, Angelopoulos et al. 2021,
    arXiv 2110.01052). Flagged rows of one product count as `effective_rows` has it, as in Korn and Graubard's interval.
    In simulations of a model that is never so precise it set a threshold in 0 to 6% of the draws at a confidence of
    95%, and in 12% where of 20 products most are nearly always right and some hardly ever; with all rows taken
    as independent that was 1 to 45%. Like `recall_threshold` it promises nothing about rows of another time or kind.
    """
    name, purpose = _precision_name(precision), _guarantee("precision", precision, confidence)
    candidates, chance = CandidateThresholds.of(probability, label), (1 - confidence) / len(GRID)
    order = np.argsort(-probability, kind="stable")
    ranked, product = label[order], np.unique(products, return_inverse=True)[1][order]
    for share in GRID:
        place = int(np.searchsorted(candidates.flagged, int(share * candidates.rows), side="right")) - 1
        hits, flagged = (candidates.hits[place], int(candidates.flagged[place])) if place >= 0 else (0.0, 1)
        if hits <= precision * flagged:
            continue
        counted = effective_rows(ranked[:flagged] == 0, product[:flagged], 1 - chance) / flagged
        if _is_below((flagged - hits) * counted, flagged * counted, 1 - precision, 1 - chance):
            return FittedThreshold(name, float(candidates.threshold[place]), purpose)
    needed = math.ceil(math.log(chance) / math.log(precision))
    reason = (
        f"no threshold proves this precision on {len(label):,} validation rows; a proof needs at least {needed:,}"
        " flagged rows, each of another product and all dissatisfied, and more if some are not"
    )
    return FittedThreshold(name, None, purpose, reason)


def recall_threshold(
    probability: FloatArray, label: LabelArray, products: NDArray[Any], recall: float, confidence: float
) -> FittedThreshold:
    """The greatest threshold whose recall is at least `recall`, with the given confidence that this holds beyond these
    rows, for products that come as theirs did.

    The k-th lowest probability of n dissatisfied rows, with the greatest k for which P(Binomial(n, 1 - recall) >= k) is
    at least the confidence: an order statistic as a tolerance limit, whatever the distribution (Wilks 1941), which is
    Clopper and Pearson's upper limit for the k - 1 rows that it misses. Rows of one product are missed or found
    together more often than others: so n and k - 1 count as `effective_rows` has it for the rows below the recall on
    these rows, as in Korn and Graubard's interval. In simulations of 20 to 1,500 products with 1 to 400 rows each it
    missed the recall in 2 to 6% of the draws at a confidence of 95%, and in 8% where products with more dissatisfied
    rows are also those that are missed; with all rows taken as independent that was 5 to 37%.
    """
    name, purpose = _recall_name(recall), _guarantee("recall", recall, confidence)
    found, product = probability[label == 1], np.unique(products[label == 1], return_inverse=True)[1]
    scores = np.sort(found)
    lowest = scores[: math.ceil((1 - recall) * len(scores))]
    rows = effective_rows(found <= lowest[-1], product, confidence)
    misses = np.arange(len(scores)) * rows / len(scores)
    enough = np.flatnonzero(_is_below(misses, rows, 1 - recall, confidence))
    if not len(enough):
        needed = math.ceil(math.log(1 - confidence) / math.log(recall))
        reason = (
            f"the {len(scores):,} dissatisfied validation rows of {product.max() + 1:,} products count as"
            f" {int(rows):,} independent rows; a proof of this recall needs at least {needed:,}"
        )
        return FittedThreshold(name, None, purpose, reason)
    lowest_flagged = scores[enough[-1]]
    below = probability[probability < lowest_flagged]
    return FittedThreshold(name, float((lowest_flagged + (below.max() if len(below) else 0.0)) / 2), purpose)


def _is_below(wrong: Any, rows: float, share: float, confidence: float) -> Any:
    """Whether Clopper and Pearson's one-sided upper limit for so many wrong of so many rows, fractions allowed, is at
    most the share.
    """
    return betainc(wrong + 1, rows - wrong, share) >= confidence


def _guarantee(figure: str, share: float, confidence: float) -> str:
    return f"{figure} of at least {100 * share:g}% ({100 * confidence:g}% confidence, for products like validation's)"


def review_band(probability: FloatArray, threshold: float, days: int, reviews_per_day: int) -> list[FittedThreshold]:
    """The abstain band, `review_low` to `review_high`: the rows nearest the threshold in log-odds, as many as people
    can read in the days.

    A review of at least review_low and below review_high is for a person to decide. Rows are those with a label:
    reviews of 3 stars, which lie in the band more often than others, come on top.
    """
    logit, centre = _logit(probability), float(_logit(np.array([threshold]))[0])
    distance = np.sort(np.abs(logit - centre))
    rows = min(reviews_per_day * days, len(distance))
    width = float(distance[rows - 1] + np.append(distance, distance[-1] + 1)[rows]) / 2
    low, high = (float(1 / (1 + np.exp(-(centre + sign * width)))) for sign in (-1, 1))
    band = f"of the uncertain band: {reviews_per_day:,} a day for people to read"
    return [
        FittedThreshold("review_low", low, f"lower end {band}"),
        FittedThreshold("review_high", high, f"upper end {band}"),
    ]


def _logit(probability: FloatArray) -> NDArray[np.float64]:
    kept = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _cost_name(false_negative: float, false_positive: float) -> str:
    return f"cost_{false_negative:g}_{false_positive:g}"


def _precision_name(precision: float) -> str:
    return f"precision_{_percent(precision)}"


def _recall_name(recall: float) -> str:
    return f"recall_{_percent(recall)}"


def _percent(share: float) -> str:
    return f"{100 * share:g}".replace(".", "_")

"""What choosing adds to a figure, in worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as peers
from scipy.special import expit

from model.evaluation.metrics import resamples
from model.evaluation.selection import Choice, choose

PRODUCTS, ROWS_EACH = 120, 8


def world(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true log-odds, label, product) of 960 rows, about a quarter of them dissatisfied."""
    product = np.repeat(np.arange(PRODUCTS), ROWS_EACH)
    true = generator.normal(-1.6, 0.7, PRODUCTS)[product] + generator.normal(0, 1.5, len(product))
    return true, (generator.random(len(true)) < expit(true)).astype(np.int64), product


def chosen(
    models: list[np.ndarray],
    label: np.ndarray,
    product: np.ndarray,
    reference: int | None = None,
    seed: int = 1,
    draws: int = 200,
) -> Choice:
    return choose(models, label, product, reference, 0.95, seed, draws)


def average_precisions(models: list[np.ndarray], label: np.ndarray) -> list[float]:
    return [peers.average_precision_score(label, model) for model in models]


@pytest.mark.parametrize("knows", [0.0, 1.0], ids=["pure noise", "equally good"])
def test_among_equals_the_winner_looks_good_and_the_corrected_figure_is_what_any_of_them_is_worth(knows: float) -> None:
    """Twenty scores that know nothing, or the truth through as much noise: what one is worth, the mean of all tells
    without any choosing.
    """
    observed, corrected, worth = [], [], []
    for repeat in range(12):
        generator = np.random.default_rng([1, repeat])
        true, label, product = world(generator)
        models = [knows * true + generator.normal(0, 1.2, len(true)) for _ in range(20)]
        choice = chosen(models, label, product, reference=0, seed=repeat, draws=100)
        observed.append(choice.observed)
        corrected.append(choice.corrected["value"])
        worth.append(np.mean(average_precisions(models, label)))
        assert choice.optimism is not None and choice.optimism > 0
        assert choice.corrected["low"] <= worth[-1] <= choice.corrected["high"]  # type: ignore[operator]
        assert choice.gain is not None and choice.gain["low"] <= 0 <= choice.gain["high"]  # type: ignore[operator]
        assert sum(choice.shares) == pytest.approx(1) and max(choice.shares) < 0.9
    optimism = np.mean(observed) - np.mean(worth)
    assert optimism > 0.02
    assert np.mean(corrected) - np.mean(worth) == pytest.approx(0, abs=0.25 * optimism)


def test_among_different_ones_the_corrected_figure_stays_below_the_observed_and_near_what_the_winner_is_worth() -> None:
    """It errs to the careful side: a resample has fewer different rows to choose on than there are."""
    excess, kept = [], []
    for repeat in range(12):
        generator = np.random.default_rng([2, repeat])
        true, label, product = world(generator)
        noises = generator.uniform(0.9, 1.5, 12)
        choice = chosen(
            [true + generator.normal(0, noise, len(true)) for noise in noises], label, product, seed=repeat, draws=100
        )
        # the winner's kind, drawn again and again on the same rows, without any choosing
        worth = np.mean(
            average_precisions([true + generator.normal(0, noises[choice.winner], len(true)) for _ in range(20)], label)
        )
        excess.append(choice.observed - worth)
        kept.append(choice.corrected["value"] - worth)  # type: ignore[operator]
    assert np.mean(excess) > 0.01
    assert -0.02 < np.mean(kept) < 0.5 * np.mean(excess)


def test_a_clear_winner_is_always_chosen_and_hardly_corrected() -> None:
    true, label, product = world(np.random.default_rng(3))
    noise = np.random.default_rng(4).normal(size=(2, len(true)))
    choice = chosen([noise[0], true, noise[1]], label, product, reference=0)
    assert choice.winner == 1 and choice.shares == [0, 1, 0]
    assert choice.observed == pytest.approx(peers.average_precision_score(label, true))
    assert choice.optimism == pytest.approx(0, abs=1e-12)
    assert choice.gain is not None and choice.gain["low"] > 0.2  # type: ignore[operator]


def test_each_resample_chooses_on_the_products_it_drew_and_measures_on_the_others() -> None:
    """The same, row by row, with scikit-learn."""
    true, label, product = world(np.random.default_rng(5))
    generator = np.random.default_rng(6)
    models = [np.round(true + generator.normal(0, 3, len(true)), 1) for _ in range(4)]
    inside, outside = [], []
    for weights in next(iter(resamples(product, 30, 9))):
        drawn = np.repeat(np.arange(len(label)), weights.astype(int))
        left = np.flatnonzero(weights == 0)
        assert set(product[drawn]).isdisjoint(product[left])
        inside.append(average_precisions([model[drawn] for model in models], label[drawn]))
        outside.append(average_precisions([model[left] for model in models], label[left]))
    moved = np.array(outside) + average_precisions(models, label) - np.mean(outside, axis=0)
    picked = moved[np.arange(30), np.argmax(inside, axis=1)]
    choice = chosen(models, label, product, reference=2, seed=9, draws=30)
    assert choice.corrected["value"] == pytest.approx(np.mean(picked))
    assert [choice.corrected[name] for name in ("low", "high")] == pytest.approx(
        np.quantile(picked, [0.025, 0.975]).tolist()
    )
    assert choice.gain is not None and choice.gain["value"] == pytest.approx(np.mean(picked - moved[:, 2]))


def test_where_there_was_no_choice_nothing_is_corrected() -> None:
    true, label, product = world(np.random.default_rng(10))
    alone = chosen([true], label, product)
    assert alone.optimism == pytest.approx(0, abs=1e-12) and alone.gain is None
    assert alone.corrected["low"] < alone.observed < alone.corrected["high"]  # type: ignore[operator]


def test_of_equal_models_the_first_is_chosen_and_gains_nothing() -> None:
    true, label, product = world(np.random.default_rng(7))
    choice = chosen([true, true, 2 * true], label, product, reference=2)
    assert (choice.winner, choice.shares) == (0, [1, 0, 0])
    assert choice.gain == {"value": 0, "low": 0, "high": 0}


def test_too_few_products_leave_the_figure_uncorrected() -> None:
    true, label, product = world(np.random.default_rng(8))
    alone = chosen([true, -true], label, np.zeros(len(label)))
    assert (
        alone.winner == 0 and alone.optimism is None and alone.corrected == {"value": None, "low": None, "high": None}
    )
    # more than a tenth of the resamples draws both products with dissatisfied rows, or neither
    rare = np.where(product < 2, label, 0)
    assert chosen([true], rare, product).corrected["value"] is None


@pytest.mark.parametrize(("defined", "is_enough"), [(9, True), (8, False), (0, False)])
def test_a_tenth_of_the_resamples_may_lack_a_class(
    monkeypatch: pytest.MonkeyPatch, defined: int, is_enough: bool
) -> None:
    true, label, product = world(np.random.default_rng(11))
    figures = np.full((1, 10), np.nan)
    figures[0, :defined] = np.linspace(0.4, 0.6, 10)[:defined]
    monkeypatch.setattr("model.evaluation.selection._in_and_out", lambda *_: (figures, figures.copy()))
    assert (chosen([true], label, product, draws=10).corrected["value"] is not None) == is_enough

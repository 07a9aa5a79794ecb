from __future__ import annotations

import pytest

from model.errors import ReviewriskError
from model.experiments.ablate.grid import Candidate, Sweep, Trial, candidates, frontier, round_rows, survivors
from model.settings import LoraSettings, ModelSettings, TrainingSettings

OWN = ModelSettings(lora=LoraSettings(rank=8, targets=("all-linear",)), training=TrainingSettings(learning_rate=3e-4))


def candidate(number: int) -> Candidate:
    return Candidate(number, ("attention",), None, 1e-3)


def trial(number: int, average_precision: float, adapter: int) -> Trial:
    return Trial(candidate(number), average_precision, adapter)


def test_the_default_grid_has_24_combinations_and_the_configs_own_settings_come_first() -> None:
    found = candidates(Sweep(), OWN, 6)
    assert len(found) == 25 and found[0] == Candidate(8, ("all-linear",), None, 3e-4)
    assert {each.rank for each in found[1:]} == {4, 16}
    assert {each.layers for each in found[1:]} == {None, (3, 4, 5)}
    assert {each.learning_rate for each in found[1:]} == {2e-4, 5e-4, 1e-3}
    assert str(found[0]) == "rank 8, all-linear, all layers, learning rate 0.0003"


def test_the_same_setting_in_other_words_is_tried_once() -> None:
    sweep = Sweep((8,), ("all-linear",), ("all", "0,1", "1,0"), (3e-4,))
    assert candidates(sweep, OWN, 2) == [Candidate(8, ("all-linear",), None, 3e-4)]
    own = OWN.model_copy(update={"lora": OWN.lora.model_copy(update={"layers": (0, 1)})})
    assert candidates(sweep, own, 2) == [Candidate(8, ("all-linear",), None, 3e-4)]


def test_layers_are_halves_or_numbers_and_targets_may_be_several() -> None:
    sweep = Sweep((4,), ("attention, feed-forward",), ("lower", "upper", "0,2"), (1e-3,))
    found = candidates(sweep, OWN, 5)[1:]
    assert [each.layers for each in found] == [(0, 1), (2, 3, 4), (0, 2)]
    assert found[0].targets == ("attention", "feed-forward")
    with pytest.raises(ReviewriskError, match="--layers 'top' is neither all, upper or lower nor numbers"):
        candidates(Sweep(layers=("top",)), OWN, 5)


def test_a_candidates_settings_differ_in_its_own_four_and_alpha_keeps_the_scale() -> None:
    made = Candidate(4, ("attention",), (1,), 1e-3).settings(OWN)
    assert (made.lora.rank, made.lora.targets, made.lora.layers, made.training.learning_rate) == (
        4,
        ("attention",),
        (1,),
        1e-3,
    )
    assert made.lora.alpha is None and made.lora.effective_alpha == 8
    assert made.training.model_copy(update={"learning_rate": 3e-4}) == OWN.training
    fixed = OWN.model_copy(update={"lora": OWN.lora.model_copy(update={"alpha": 8.0})})
    assert Candidate(16, ("attention",), None, 1e-3).settings(fixed).lora.alpha == 16
    stabilised = OWN.model_copy(update={"lora": OWN.lora.model_copy(update={"alpha": 12.0, "rank_stabilised": True})})
    assert Candidate(32, ("attention",), None, 1e-3).settings(stabilised).lora.alpha == 12
    own = candidates(Sweep(), fixed, 6)[0]
    assert own.settings(fixed) == fixed


def test_every_round_has_eta_times_the_rows_of_the_one_before() -> None:
    assert round_rows(Sweep(rows=6000), 100_000) == [666, 2000, 6000]
    assert round_rows(Sweep(rows=6000, rounds=2, eta=4), 1000) == [250, 1000]
    assert round_rows(Sweep(rows=600, rounds=1), 1000) == [600]
    assert round_rows(Sweep(rows=450), 1000) == [50, 150, 450], "50 are just enough"
    with pytest.raises(ReviewriskError, match="3 rounds that end at 449 training rows begin at 49, fewer than 50"):
        round_rows(Sweep(rows=1000), 449)
    with pytest.raises(ReviewriskError, match="3 rounds that end at 400 training rows begin at 44, fewer than 50"):
        round_rows(Sweep(rows=400), 1000)


def test_the_best_1_in_eta_goes_on_and_the_own_settings_with_it() -> None:
    trials = [trial(1, 0.5, 10), trial(2, 0.9, 10), trial(3, 0.7, 20), trial(4, 0.7, 10)]
    assert survivors(trials, 3, candidate(1)) == [
        candidate(2),
        candidate(4),
        candidate(1),
    ], "of equal ones the smaller goes on"
    assert survivors(trials, 3, candidate(2)) == [candidate(2), candidate(4)]
    assert survivors(trials, 4, candidate(9)) == [candidate(2)], "own settings that failed are not carried"
    assert survivors(trials[:1], 3, None) == [candidate(1)]


def test_the_frontier_has_what_no_other_beats_in_both() -> None:
    small, middle, large = trial(1, 0.6, 10), trial(2, 0.8, 20), trial(3, 0.9, 30)
    beaten, equal_but_larger, equal = trial(4, 0.5, 15), trial(5, 0.8, 25), trial(6, 0.9, 30)
    assert frontier([large, beaten, small, equal_but_larger, middle]) == [small, middle, large]
    assert frontier([large, equal]) == [large, equal], "neither beats the other"
    as_small, as_precise = trial(7, 0.7, 10), trial(8, 0.9, 29)
    assert frontier([small, as_small]) == [as_small], "of equal size the more precise one"
    assert frontier([large, as_precise]) == [as_precise], "of equal precision the smaller one"
    assert frontier([]) == []

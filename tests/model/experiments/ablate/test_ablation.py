from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from model.errors import ReviewriskError
from model.evaluation.calibrators import FloatArray
from model.evaluation.metrics import metrics
from model.experiments.ablate.ablation import (
    FIGURES,
    Ablation,
    Round,
    candidate_fingerprint,
    figures_of,
    logits_of,
    run_ablation,
    train_candidate,
    trial,
)
from model.experiments.ablate.grid import Candidate, Sweep
from model.experiments.ablate.page import config_lines, judge, page
from model.experiments.cells import Ending, Outcome, Runner
from model.settings import ModelSettings
from tests.support.pages import unwrapped
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings

SLOW, FAST = 1e-7, 1e-2  # a learning rate that learns nothing, and one that reads the planted words
SWEEP = Sweep(
    ranks=(2,),
    targets=("attention", "all-linear"),
    layers=("all", "upper"),
    learning_rates=(FAST,),
    rows=300,
    validation_rows=90,
    rounds=2,
    eta=3,
)


def silent(_: str) -> None:
    pass


def with_training(settings: ModelSettings, **values: Any) -> ModelSettings:
    return settings.model_copy(update={"training": settings.training.model_copy(update=values)})


def with_lora(settings: ModelSettings, **values: Any) -> ModelSettings:
    return settings.model_copy(update={"lora": settings.lora.model_copy(update=values)})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    return tiny_settings(tiny_encoder(tmp_path_factory.mktemp("encoder")), epochs=1, learning_rate=SLOW)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def ablation(settings: ModelSettings, kept: Path) -> Ablation:
    return run_ablation(planted_reviews(), settings, SWEEP, kept, None, silent)


def printed_page(ablation: Ablation, command: str = "") -> str:
    """The page with single spaces, as its tables are padded, and with each paragraph in one line."""
    lines = page(ablation, command, ["a machine"])
    assert max(len(line) for line in lines if not line.startswith("|")) <= 120
    return "\n".join(" ".join(line.split()) for line in unwrapped(lines))


def figures(ablation: Ablation) -> list[dict[Candidate, dict[str, float]]]:
    return [{outcome.cell: figures_of(outcome)["figures"] for outcome in each.done} for each in ablation.rounds]


def test_every_round_has_rows_of_its_own_and_the_better_settings_go_on_with_the_configs_own(ablation: Ablation) -> None:
    first, last = ablation.rounds
    assert [len(each.rows.training) for each in ablation.rounds] == [100, 300]
    assert set(first.rows.training.review_ids) < set(last.rows.training.review_ids)
    assert set(first.rows.validation.product_ids).isdisjoint(last.rows.validation.product_ids)
    judged = {product for each in ablation.rounds for product in each.rows.validation.product_ids}
    assert judged.isdisjoint(last.rows.training.product_ids), "the last fold had no part in any earlier round"
    assert [len(each.outcomes) for each in ablation.rounds] == [5, 3]
    own = Candidate(4, ("all-linear",), None, SLOW)
    assert first.outcomes[0].cell == last.outcomes[-1].cell == ablation.own == own
    ranked = sorted(first.trials, key=lambda each: (-each.average_precision, each.adapter))
    assert [outcome.cell for outcome in last.outcomes[:2]] == [each.candidate for each in ranked[:2]]
    assert own not in [each.candidate for each in ranked[:2]]


def test_a_cell_says_what_it_trained_and_how_good_it_is(ablation: Ablation) -> None:
    first = ablation.rounds[0]
    found = {str(outcome.cell): figures_of(outcome) for outcome in first.done}
    assert found["rank 2, attention, all layers, learning rate 0.01"]["parameters"] == {
        "adapter": 2 * 2 * 2 * 64,
        "head": 1122,
    }
    assert found["rank 2, attention, layers 1, learning rate 0.01"]["parameters"]["adapter"] == 2 * 2 * 64
    for outcome in first.done:
        assert len(logits_of(outcome)) == len(first.rows.validation)
        training = figures_of(outcome)["training"]
        assert training["rows_per_second"] > 0 and training["epochs"] == 1
        own = metrics(first.rows.scored(logits_of(outcome), "balanced"), 10)
        assert {name: own[name] for name in FIGURES} == figures_of(outcome)["figures"]
    labels, logit = first.rows.training.labels, logits_of(first.done[0])
    shift = np.log((labels == 0).sum() / (labels == 1).sum())
    probability = first.rows.scored(logit, "balanced").probability
    np.testing.assert_allclose(np.log(probability / (1 - probability)), logit - shift)


def test_test_rows_change_nothing(ablation: Ablation, settings: ModelSettings, kept: Path) -> None:
    """The very cells are found again where there are no test rows, and where those are others."""
    for reviews in (planted_reviews(test=0), with_other_test_rows(planted_reviews())):
        lines: list[str] = []
        again = run_ablation(reviews, settings, SWEEP, kept, 0, lines.append)
        assert again.is_complete and figures(again) == figures(ablation)
        assert sum(line.endswith("done before") for line in lines) == 8


def with_other_test_rows(reviews: pa.Table) -> pa.Table:
    """Test rows that say the opposite, of texts and products that stand elsewhere too."""
    rows = reviews.to_pylist()
    first = rows[0]
    return pa.Table.from_pylist(
        [
            (
                {**row, "star_rating": 6 - row["star_rating"], "review_body": first["review_body"]}
                if row["split"] == "test"
                else row
            )
            for row in rows
        ],
        reviews.schema,
    )


def test_another_seed_rotates_the_validation_rows(ablation: Ablation, settings: ModelSettings, tmp_path: Path) -> None:
    other = run_ablation(planted_reviews(), settings, replace(SWEEP, seed=5), tmp_path, 0, silent)
    assert other.settings.training.seed == 5
    assert set(other.folds.validation[0].product_ids) != set(ablation.folds.validation[0].product_ids)
    assert other.folds.data_version != ablation.folds.data_version


def test_the_rows_that_judge_a_cell_do_not_stop_its_training(
    ablation: Ablation, settings: ModelSettings, tmp_path: Path
) -> None:
    """With their labels turned round, the epoch that is kept would be another one if they chose it."""
    rows, long = ablation.rounds[0].rows, with_training(settings, epochs=3, patience=3)
    assert set(rows.stopping.review_ids).isdisjoint(rows.validation.review_ids)
    turned = replace(rows, validation=replace(rows.validation, labels=1 - rows.validation.labels))
    candidate = Candidate(4, ("all-linear",), None, FAST)
    one = train_candidate(candidate, rows, long, tmp_path / "a", silent)
    two = train_candidate(candidate, turned, long, tmp_path / "b", silent)
    assert one["logits"] == two["logits"] and one["training"]["best_epoch"] == two["training"]["best_epoch"] > 1
    assert one["figures"]["auc"] == pytest.approx(1 - two["figures"]["auc"])


def test_a_setting_that_cannot_be_attached_or_diverges_is_dropped_with_its_reason(
    settings: ModelSettings, tmp_path: Path
) -> None:
    sweep = replace(SWEEP, targets=("attention", "nothing_like_it"), layers=("all", "7"), learning_rates=(FAST, 1e30))
    lines: list[str] = []
    found = run_ablation(planted_reviews(), settings, sweep, tmp_path, None, lines.append)
    reasons = {str(outcome.cell): outcome.reason for outcome in found.rounds[0].failed}
    assert len(reasons) == 7 and len(found.rounds[0].done) == 2
    assert (
        "no linear layer of the encoder is called 'nothing_like_it'"
        in reasons["rank 2, nothing_like_it, all layers, learning rate 0.01"]
    )
    assert "lora.layers has [7]" in reasons["rank 2, attention, layers 7, learning rate 0.01"]
    assert "The loss is" in reasons["rank 2, attention, all layers, learning rate 1e+30"]
    assert str(found.rounds[1].outcomes[0].cell) == "rank 2, attention, all layers, learning rate 0.01"
    assert sum(line.startswith("  failed: ") for line in lines) == 7
    text = printed_page(found)
    assert (
        text.count("| failed |") == 7
        and "* rank 2, attention, all layers, learning rate 1e+30 failed: The loss is" in text
    )
    lines.clear()
    again = run_ablation(planted_reviews(), settings, sweep, tmp_path, 0, lines.append)
    assert again.is_complete and not any(line.startswith("  failed: ") for line in lines), "a failure is kept too"
    said = [line.partition(": failed before: ")[2] for line in lines if "failed before" in line]
    assert said == list(reasons.values())


# the config's own settings of rank 4, and one of rank 2
ONE_ROUND = replace(SWEEP, targets=("attention",), layers=("all",), rounds=1)


def ending(monkeypatch: pytest.MonkeyPatch, rank: int, how: Ending, reason: str) -> None:
    """Cells of this rank end so, without being run; all others run."""
    outcomes = Runner.outcomes

    def patched(runner: Runner[Candidate], cells: list[Candidate], title: str) -> list[Outcome[Candidate]]:
        real = {outcome.cell: outcome for outcome in outcomes(runner, [c for c in cells if c.rank != rank], title)}
        return [real.get(cell, Outcome(cell, how, reason=reason)) for cell in cells]

    monkeypatch.setattr(Runner, "outcomes", patched)


def test_a_setting_that_finds_too_little_memory_is_passed_over(
    settings: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(monkeypatch, 2, "memory", "too little memory (x); the same command tries it again")
    found = run_ablation(planted_reviews(), settings, ONE_ROUND, tmp_path, None, silent)
    [own, failed] = found.rounds[0].outcomes
    assert own.figures and failed.cell.rank == 2 and found.is_complete
    assert "learning rate 0.01 failed: too little memory (x); the same command tries it again." in printed_page(found)


@pytest.mark.parametrize(
    ("how", "said"), [("crashed", "crashed: exit status 1"), ("refused", "not run: exit status 1")]
)
def test_what_is_no_fault_of_a_setting_ends_the_sweep_once_the_others_are_kept(
    settings: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Ending, said: str
) -> None:
    ending(monkeypatch, 4, how, "exit status 1")
    with pytest.raises(
        ReviewriskError, match=rf"^round 1 of 1: rank 4, .* {said}\. The same command .* keeps the others\.$"
    ):
        run_ablation(planted_reviews(), settings, ONE_ROUND, tmp_path, None, silent)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_where_every_setting_fails_the_first_reason_is_said(settings: ModelSettings, tmp_path: Path) -> None:
    sweep = replace(SWEEP, targets=("nothing_like_it",), layers=("all",))
    with pytest.raises(
        ReviewriskError, match=r"round 1 of 2: none of 2 settings could be trained. The first, rank 4, .*: The loss is"
    ):
        run_ablation(planted_reviews(), with_training(settings, learning_rate=1e30), sweep, tmp_path, None, silent)


def test_a_run_out_of_time_says_so_and_the_same_command_goes_on(
    ablation: Ablation, settings: ModelSettings, kept: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    first = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, 0, lines.append)
    assert not first.is_complete and len(first.rounds) == 1 and len(first.rounds[0].waiting) == 5
    assert (
        lines[-1] == "round 1 of 2: 0 of 5 settings are done and the limit of --minutes is reached;"
        " run the same command again to continue"
    )
    for path in sorted(kept.glob("*.json"))[::2]:
        (tmp_path / path.name).write_text(path.read_text())
    some = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, 0, silent)
    assert 0 < len(some.rounds[0].waiting) < 5
    text = printed_page(some)
    assert "### Not finished" in text and "not run yet" in text and "### The winner" not in text
    done = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, None, silent)
    assert figures(done) == figures(ablation)
    assert {path.name for path in tmp_path.glob("*.json")} == {path.name for path in kept.glob("*.json")}


def test_a_killed_cell_leaves_no_figures_and_goes_on_from_its_last_epoch(
    ablation: Ablation, settings: ModelSettings, tmp_path: Path
) -> None:
    long = with_training(settings, epochs=12, patience=12)
    sweep = replace(SWEEP, targets=("attention",), layers=("all",), rounds=1)

    def dies(line: str) -> None:
        if line.strip().startswith("3 "):  # the third epoch's line of figures
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_ablation(planted_reviews(), long, sweep, tmp_path, None, dies)
    assert not list(tmp_path.glob("*.json"))
    lines: list[str] = []
    found = run_ablation(planted_reviews(), long, sweep, tmp_path, None, lines.append)
    [again] = [line for line in lines if "Training goes on" in line]
    assert 3 <= int(again.removeprefix("  Training goes on after epoch ").partition(",")[0]) < 12
    assert figures_of(found.rounds[0].done[0])["training"]["epochs"] == 12
    assert not list((tmp_path / "work").rglob("epoch-*")), "a finished cell leaves no checkpoints"


def test_fingerprints_follow_what_matters_and_nothing_else(ablation: Ablation, settings: ModelSettings) -> None:
    candidate = Candidate(4, ("attention",), None, 1e-3)

    def printed(
        own: ModelSettings = settings,
        each: Candidate = candidate,
        rows: int = 100,
        checksum: str = "0",
        revision: str = "r",
    ) -> str:
        return candidate_fingerprint(each, own, rows, checksum, revision)

    base = printed()
    others = [
        *(
            printed(each=replace(candidate, **{name: value}))
            for name, value in {"rank": 8, "targets": ("x",), "layers": (0,), "learning_rate": 1.0}.items()
        ),
        *(
            printed(with_training(settings, **{name: value}))
            for name, value in {"seed": 1, "epochs": 9, "head_dropout": 0.5, "precision": "bfloat16"}.items()
        ),
        printed(with_lora(settings, dora=True)),
        printed(settings.model_copy(update={"text": settings.text.model_copy(update={"headline": "drop"})})),
        *(printed(rows=99), printed(checksum="1"), printed(revision="q")),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert printed(with_training(settings, threads=2, max_rows=500, learning_rate=9.0)) == base, (
        "the candidate's own rate counts"
    )
    calibration = settings.calibration.model_copy(update={"method": "none"})
    assert printed(settings.model_copy(update={"calibration": calibration})) == base
    rows = ablation.rounds[0].rows
    for part in ("training", "stopping", "validation"):
        one = getattr(rows, part)
        assert replace(rows, **{part: replace(one, labels=1 - one.labels)}).checksum != rows.checksum


def test_the_winner_has_its_corrected_figure_and_beats_settings_that_learn_nothing(ablation: Ablation) -> None:
    verdict = judge(ablation)
    assert verdict.winner.cell.learning_rate == FAST and verdict.is_better
    assert [trial(outcome).adapter for outcome in verdict.finalists] == sorted(
        each.adapter for each in ablation.rounds[-1].trials
    )
    assert (
        verdict.choice.observed
        == figures_of(verdict.winner)["figures"]["average_precision"]
        == max(each.average_precision for each in ablation.rounds[-1].trials)
    )
    text = printed_page(ablation, "reviewrisk ablate --rank 2")
    assert "reviewrisk ablate --rank 2" in text and "* a machine" in text
    assert (
        "Better than your settings by more than chance: the winner's average precision less yours, on the same rows,"
        " is +0." in text
    )
    assert "Both intervals lie above 0." in text
    corrected = f"{verdict.choice.corrected['value']:.4f} [{verdict.choice.corrected['low']:.4f}"
    assert f"{verdict.choice.observed:.4f}" in text and corrected in text and f"{verdict.choice.optimism:+.4f}" in text
    assert (
        "### Round 1 of 2: 5 settings on 100 training rows" in text
        and "### Round 2 of 2: 3 settings on 300 training rows" in text
    )
    own = [line for line in text.splitlines() if "(your config)" in line and line.startswith("| rank")]
    assert own[0].endswith("| goes on, as the reference |") and own[1].endswith("| finalist |")
    assert text.count("| goes on |") == 2 and text.count("| dropped |") == 2


def alike(ablation: Ablation, gain: float) -> Ablation:
    """The sweep as if its last round's candidates all scored the rows like the own settings, but for `gain` times the
    truth and some chance.
    """
    last = ablation.rounds[-1]
    generator, labels = np.random.default_rng(3), last.rows.validation.labels
    base = generator.normal(size=len(labels))
    outcomes = []
    for outcome in last.outcomes:
        own_gain = 0 if outcome.cell == ablation.own else gain
        outcomes.append(with_logits(outcome, base + 0.3 * generator.normal(size=len(base)) + own_gain * labels))
    return with_last_outcomes(ablation, outcomes)


def with_logits(outcome: Outcome[Candidate], logit: FloatArray) -> Outcome[Candidate]:
    return replace(outcome, figures={**figures_of(outcome), "logits": logit.tolist()})


def with_last_outcomes(ablation: Ablation, outcomes: list[Outcome[Candidate]]) -> Ablation:
    return replace(ablation, rounds=[*ablation.rounds[:-1], Round(ablation.rounds[-1].rows, outcomes)])


def test_where_chance_would_do_it_the_page_says_that_your_settings_do_as_well(ablation: Ablation) -> None:
    for gain, does_as_well in ((0.05, True), (3.0, False)):
        made = alike(ablation, gain)
        verdict, text = judge(made), printed_page(made)
        assert verdict.gain is None or (verdict.gain["low"] <= 0) == does_as_well  # type: ignore[operator]
        assert verdict.is_better != does_as_well
        said = "**Your settings do as well**" in text and "The first interval includes 0." in text
        assert (said or "Your own settings won: keep them." in text) == does_as_well


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (
            -0.01,
            (
                "is +0.020 [-0.010, +0.050]. The second interval does not lie above 0, so the choosing may have made"
                " the gain."
            ),
        ),
        (None, "is +0.020. There are too few products for an interval."),
    ],
)
def test_a_gain_that_the_choosing_may_have_made_is_not_called_better(
    ablation: Ablation, monkeypatch: pytest.MonkeyPatch, low: float | None, said: str
) -> None:
    made = alike(ablation, 3.0)
    verdict = judge(made)
    assert verdict.is_better and verdict.gain is not None
    doubtful = replace(verdict, choice=replace(verdict.choice, gain={"value": 0.02, "low": low, "high": 0.05}))
    assert not doubtful.is_better, "though the paired interval lies above 0"
    monkeypatch.setattr("model.experiments.ablate.page.judge", lambda _: doubtful)
    text = printed_page(made)
    assert "**Your settings do as well**" in text and f"corrected for the choosing it {said}" in text


def test_of_equal_finalists_the_smallest_wins_whatever_their_order(ablation: Ablation) -> None:
    last = ablation.rounds[-1]
    level = [with_logits(outcome, logits_of(last.done[0])) for outcome in last.outcomes]
    smallest = min(last.trials, key=lambda each: each.adapter).candidate
    for outcomes in (level, level[::-1]):
        assert judge(with_last_outcomes(ablation, outcomes)).winner.cell == smallest


def test_the_lines_for_the_config_make_the_winners_settings(ablation: Ablation, settings: ModelSettings) -> None:
    fixed = replace(ablation, settings=with_lora(settings, alpha=12.0))
    for made, candidate in (
        (ablation, judge(ablation).winner.cell),
        (fixed, Candidate(2, ("attention", "feed-forward"), (0, 1), 2e-5)),
    ):
        values = yaml.safe_load("\n".join(config_lines(candidate, made)))["model"]
        base = made.settings.model_dump()
        merged = ModelSettings.model_validate(
            {**base, "lora": {**base["lora"], **values["lora"]}, "training": {**base["training"], **values["training"]}}
        )
        assert merged == candidate.settings(made.settings)


def test_the_frontier_shows_each_setting_that_none_beats_against_the_winner(ablation: Ablation) -> None:
    text = printed_page(ablation)
    part = text.split("### The frontier")[1].split("###")[0]
    rows = [line for line in part.splitlines() if line.startswith("| rank")]
    smallest = min(each.adapter for each in ablation.rounds[-1].trials)
    assert f"| {smallest:,} |" in rows[0] and "[" in rows[0]
    assert "(your config)" not in part, "it trains the most and knows the least"

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from model.data.reviews import data_version
from model.errors import ReviewriskError
from model.evaluation.metrics import metrics
from model.experiments.ablate.ablation import FIGURES, Ablation, Bench, Rung, fingerprint, run_ablation, run_cell
from model.experiments.ablate.grid import Candidate, Sweep
from model.experiments.ablate.page import config_lines, judge, page
from model.experiments.compare.comparison import PACKAGES
from model.network.backbone import load_backbone
from model.settings import ModelSettings
from model.training.loop import train
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings

SLOW, FAST = 1e-7, 1e-2  # a learning rate that learns nothing, and one that reads the planted words
SWEEP = Sweep(
    ranks=(2,),
    targets=("attention", "all-linear"),
    layers=("all", "upper"),
    learning_rates=(FAST,),
    rows=300,
    validation_rows=90,
    rungs=2,
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
    """The page with single spaces: its tables are padded."""
    return "\n".join(" ".join(line.split()) for line in page(ablation, command, ["a machine"]))


def figures(ablation: Ablation) -> list[dict[Candidate, dict[str, float]]]:
    return [{outcome.candidate: outcome.found["figures"] for outcome in rung.done} for rung in ablation.rungs]


def test_every_rung_has_rows_of_its_own_and_the_better_settings_go_on_with_the_configs_own(ablation: Ablation) -> None:
    first, last = ablation.rungs
    assert [len(rung.training) for rung in ablation.rungs] == [100, 300]
    assert set(first.training.review_ids) < set(last.training.review_ids)
    assert set(first.validation.product_ids).isdisjoint(last.validation.product_ids)
    judged = {product for rung in ablation.rungs for product in rung.validation.product_ids}
    assert judged.isdisjoint(last.training.product_ids), "the last fold had no part in any earlier rung"
    assert [len(rung.outcomes) for rung in ablation.rungs] == [5, 3]
    own = Candidate(4, ("all-linear",), None, SLOW)
    assert first.outcomes[0].candidate == last.outcomes[-1].candidate == ablation.own == own
    ranked = sorted(first.standings, key=lambda standing: (-standing.average_precision, standing.adapter))
    assert [outcome.candidate for outcome in last.outcomes[:2]] == [standing.candidate for standing in ranked[:2]]
    assert own not in [standing.candidate for standing in ranked[:2]]


def test_a_cell_says_what_it_trained_and_how_good_it_is(ablation: Ablation) -> None:
    rung = ablation.rungs[0]
    found = {str(outcome.candidate): outcome.found for outcome in rung.done}
    assert found["rank 2, attention, all layers, learning rate 0.01"]["parameters"] == {
        "adapter": 2 * 2 * 2 * 64,
        "head": 1122,
    }
    assert found["rank 2, attention, layers 1, learning rate 0.01"]["parameters"]["adapter"] == 2 * 2 * 64
    for outcome in rung.done:
        assert len(outcome.logit) == len(rung.validation)
        assert outcome.found["training"]["rows_per_second"] > 0 and outcome.found["training"]["epochs"] == 1
        own = metrics(outcome.scored(rung, "balanced"), 10)
        assert {name: own[name] for name in FIGURES} == outcome.found["figures"]
    shift = np.log((rung.training.labels == 0).sum() / (rung.training.labels == 1).sum())
    probability = rung.done[0].scored(rung, "balanced").probability
    np.testing.assert_allclose(np.log(probability / (1 - probability)), rung.done[0].logit - shift)


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


def bench(ablation: Ablation, settings: ModelSettings, folder: Path) -> Bench:
    return Bench.of(
        ablation.folds, ablation.folds.validation[0], 100, settings, load_backbone(settings.backbone), folder, silent
    )


def test_a_cell_leaves_nothing_behind_that_the_next_could_meet(
    ablation: Ablation, settings: ModelSettings, tmp_path: Path
) -> None:
    """Also none of PiSSA's cells, which take their start out of the base weights."""
    pissa = with_lora(with_training(settings, learning_rate=FAST), initialisation="pissa")
    one, other = Candidate(4, ("all-linear",), None, FAST), Candidate(2, ("attention",), None, FAST)
    shared = bench(ablation, pissa, tmp_path)
    run_cell(one, shared, tmp_path / "a")
    after = run_cell(other, shared, tmp_path / "b")
    alone = run_cell(other, bench(ablation, pissa, tmp_path), tmp_path / "c")
    assert after["logits"] == alone["logits"] and after["figures"] == alone["figures"]


def test_the_rows_that_judge_a_cell_do_not_stop_its_training(
    ablation: Ablation, settings: ModelSettings, tmp_path: Path
) -> None:
    """With their labels turned round, the epoch that is kept would be another one if they chose it."""
    shared = bench(ablation, with_training(settings, epochs=3, patience=3), tmp_path)
    assert shared.tokens["stopping"].fingerprint() != shared.tokens["validation"].fingerprint()
    turned = replace(shared.tokens["validation"], labels=1 - shared.validation.labels)
    other = replace(
        shared,
        validation=replace(shared.validation, labels=turned.labels),
        tokens={**shared.tokens, "validation": turned},
    )
    candidate = Candidate(4, ("all-linear",), None, FAST)
    one, two = run_cell(candidate, shared, tmp_path / "a"), run_cell(candidate, other, tmp_path / "b")
    assert one["logits"] == two["logits"] and one["training"]["best_epoch"] == two["training"]["best_epoch"] > 1
    assert one["figures"]["auc"] == pytest.approx(1 - two["figures"]["auc"])


def test_a_setting_that_cannot_be_attached_or_diverges_is_dropped_with_its_reason(
    settings: ModelSettings, tmp_path: Path
) -> None:
    sweep = replace(SWEEP, targets=("attention", "nothing_like_it"), layers=("all", "7"), learning_rates=(FAST, 1e30))
    lines: list[str] = []
    found = run_ablation(planted_reviews(), settings, sweep, tmp_path, None, lines.append)
    reasons = {str(outcome.candidate): outcome.failed for outcome in found.rungs[0].outcomes if outcome.failed}
    assert len(reasons) == 7 and len(found.rungs[0].done) == 2
    assert "no linear layer of the encoder is called 'nothing_like_it'" in str(
        reasons["rank 2, nothing_like_it, all layers, learning rate 0.01"]
    )
    assert "lora.layers has [7]" in str(reasons["rank 2, attention, layers 7, learning rate 0.01"])
    assert "The loss is" in str(reasons["rank 2, attention, all layers, learning rate 1e+30"])
    assert str(found.rungs[1].outcomes[0].candidate) == "rank 2, attention, all layers, learning rate 0.01"
    assert sum(line.startswith("  failed: ") for line in lines) == 7
    text = printed_page(found)
    assert (
        text.count("| failed |") == 7
        and "rank 2, attention, all layers, learning rate 1e+30 failed: The loss is" in text
    )
    lines.clear()
    again = run_ablation(planted_reviews(), settings, sweep, tmp_path, 0, lines.append)
    assert again.is_complete and not any(line.startswith("  failed: ") for line in lines), "a failure is kept too"
    said = [line.partition(": failed before: ")[2] for line in lines if "failed before" in line]
    assert said == list(reasons.values())


# the config's own settings of rank 4, and one of rank 2
ONE_RUNG = replace(SWEEP, targets=("attention",), layers=("all",), rungs=1)


def failing(error: Exception, rank: int) -> Any:
    """A training that fails so for the settings of this rank, and is the real one for all others."""

    def trained(adapted: Any, training: Any, stopping: Any, own: ModelSettings, *others: Any) -> Any:
        if own.lora.rank == rank:
            raise error
        return train(adapted, training, stopping, own, *others)

    return trained


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    ],
    ids=["GPU", "Python", "PyTorch on a CPU"],
)
def test_a_setting_that_finds_too_little_memory_is_passed_over_and_tried_again_by_the_next_run(
    settings: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    lines: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("model.experiments.ablate.ablation.train", failing(error, rank=2))
        first = run_ablation(planted_reviews(), settings, ONE_RUNG, tmp_path, None, lines.append)
    [own, failed] = first.rungs[0].outcomes
    assert own.failed is None and failed.candidate.rank == 2 and first.is_complete
    assert str(failed.failed).startswith(
        f"too little memory ({str(error) or 'MemoryError'}); the same command tries it again"
    )
    assert f"  failed: {failed.failed}" in lines and "learning rate 0.01 failed: too little memory" in printed_page(
        first
    )
    assert len(list(tmp_path.glob("*.json"))) == 1
    again = run_ablation(planted_reviews(), settings, ONE_RUNG, tmp_path, None, silent)
    assert len(again.rungs[0].done) == len(list(tmp_path.glob("*.json"))) == 2


def test_what_is_no_fault_of_a_setting_ends_the_sweep_and_is_not_kept(
    settings: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_: Bench) -> None:
        raise ReviewriskError("the model hub cannot be reached")

    with monkeypatch.context() as patched, pytest.raises(ReviewriskError, match=r"^the model hub cannot be reached$"):
        patched.setattr(Bench, "fresh_classifier", unreachable)
        run_ablation(planted_reviews(), settings, ONE_RUNG, tmp_path, None, silent)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="mat1 and mat2"):
        patched.setattr(
            "model.experiments.ablate.ablation.train",
            failing(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), rank=4),
        )
        run_ablation(planted_reviews(), settings, ONE_RUNG, tmp_path, None, silent)
    assert not list(tmp_path.glob("*.json"))


def test_where_every_setting_fails_the_first_reason_is_said(settings: ModelSettings, tmp_path: Path) -> None:
    sweep = replace(SWEEP, targets=("nothing_like_it",), layers=("all",))
    with pytest.raises(
        ReviewriskError, match=r"rung 1 of 2: none of 2 settings could be trained. The first, rank 4, .*: The loss is"
    ):
        run_ablation(planted_reviews(), with_training(settings, learning_rate=1e30), sweep, tmp_path, None, silent)


def test_a_run_out_of_time_says_so_and_the_same_command_goes_on(
    ablation: Ablation, settings: ModelSettings, kept: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    first = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, 0, lines.append)
    assert not first.is_complete and len(first.rungs) == 1 and len(first.rungs[0].waiting) == 5
    assert lines[-1] == "rung 1 of 2: 0 of 5 settings are done and the time is over; the same command goes on here"
    for path in sorted(kept.glob("*.json"))[::2]:
        (tmp_path / path.name).write_text(path.read_text())
    some = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, 0, silent)
    assert 0 < len(some.rungs[0].waiting) < 5
    text = printed_page(some)
    assert "### Not finished" in text and "not run yet" in text and "### The winner" not in text
    done = run_ablation(planted_reviews(), settings, SWEEP, tmp_path, None, silent)
    assert figures(done) == figures(ablation)
    assert {path.name for path in tmp_path.glob("*.json")} == {path.name for path in kept.glob("*.json")}


def test_a_killed_cell_leaves_no_figures_and_goes_on_from_its_last_epoch(
    ablation: Ablation, settings: ModelSettings, tmp_path: Path
) -> None:
    long = with_training(settings, epochs=4, patience=4)
    sweep = replace(SWEEP, targets=("attention",), layers=("all",), rungs=1)

    def dies(line: str) -> None:
        if line.strip().startswith("3 "):  # the third epoch's line of figures
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_ablation(planted_reviews(), long, sweep, tmp_path, None, dies)
    assert not list(tmp_path.glob("*.json"))
    lines: list[str] = []
    found = run_ablation(planted_reviews(), long, sweep, tmp_path, None, lines.append)
    assert [line for line in lines if "Training goes on" in line] == [
        "  Training goes on after epoch 3, which an earlier run finished."
    ]
    assert found.rungs[0].done[0].found["training"]["epochs"] == 4
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
        return fingerprint(each, own, rows, checksum, revision)

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
    parts = {"training": ablation.rungs[0].training, "validation": ablation.rungs[0].validation}
    flipped = replace(parts["validation"], labels=1 - parts["validation"].labels)
    assert data_version(parts) != data_version({**parts, "validation": flipped})


@pytest.mark.parametrize("package", PACKAGES)
def test_another_version_of_a_package_has_cells_of_its_own(
    settings: ModelSettings, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    candidate = Candidate(4, ("attention",), None, 1e-3)
    before = fingerprint(candidate, settings, 100, "0", "r")
    monkeypatch.setattr(
        "model.experiments.ablate.ablation.version", lambda name: "0.0.1" if name == package else version(name)
    )
    assert fingerprint(candidate, settings, 100, "0", "r") != before


def test_the_winner_has_its_corrected_figure_and_beats_settings_that_learn_nothing(ablation: Ablation) -> None:
    verdict = judge(ablation)
    assert verdict.winner.candidate.learning_rate == FAST and verdict.is_better
    assert [outcome.standing.adapter for outcome in verdict.finalists] == sorted(
        standing.adapter for standing in ablation.rungs[-1].standings
    )
    assert (
        verdict.choice.observed
        == verdict.winner.found["figures"]["average_precision"]
        == max(s.average_precision for s in ablation.rungs[-1].standings)
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
        "### Rung 1 of 2: 5 settings on 100 training rows" in text
        and "### Rung 2 of 2: 3 settings on 300 training rows" in text
    )
    own = [line for line in text.splitlines() if "(your config)" in line and line.startswith("| rank")]
    assert own[0].endswith("| goes on, as the reference |") and own[1].endswith("| finalist |")
    assert text.count("| goes on |") == 2 and text.count("| dropped |") == 2


def alike(ablation: Ablation, gain: float) -> Ablation:
    """The sweep as if its last rung's candidates all scored the rows like the own settings, but for `gain` times the
    truth and some chance.
    """
    rung = ablation.rungs[-1]
    generator = np.random.default_rng(3)
    base = generator.normal(size=len(rung.validation))
    outcomes = []
    for outcome in rung.outcomes:
        logit = (
            base
            + 0.3 * generator.normal(size=len(base))
            + (0 if outcome.candidate == ablation.own else gain) * rung.validation.labels
        )
        outcomes.append(replace(outcome, found={**outcome.found, "logits": logit.tolist()}))
    return replace(ablation, rungs=[*ablation.rungs[:-1], Rung(rung.training, rung.validation, outcomes, [])])


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
    rung = ablation.rungs[-1]
    level = [
        replace(outcome, found={**outcome.found, "logits": rung.done[0].logit.tolist()}) for outcome in rung.outcomes
    ]
    smallest = min(rung.standings, key=lambda standing: standing.adapter).candidate
    for outcomes in (level, level[::-1]):
        assert (
            judge(replace(ablation, rungs=[*ablation.rungs[:-1], replace(rung, outcomes=outcomes)])).winner.candidate
            == smallest
        )


def test_the_lines_for_the_config_make_the_winners_settings(ablation: Ablation, settings: ModelSettings) -> None:
    fixed = replace(ablation, settings=with_lora(settings, alpha=12.0))
    for made, candidate in (
        (ablation, judge(ablation).winner.candidate),
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
    standings = ablation.rungs[-1].standings
    smallest = min(standing.adapter for standing in standings)
    assert f"| {smallest:,} |" in rows[0] and "[" in rows[0]
    assert "(your config)" not in part, "it trains the most and knows the least"

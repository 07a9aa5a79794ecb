"""The page of a sweep: Markdown tables of its rounds, the winner with its corrected figure, the frontier, and lines for
the config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.reviews import LabelledReviews
from model.evaluation.markdown import interval, number, signed, table
from model.evaluation.metrics import Scored, difference_intervals, intervals
from model.evaluation.model_card import only_line
from model.evaluation.selection import Choice, Limits, choose
from model.experiments.ablate.ablation import FIGURES, Ablation, logits_of, trial
from model.experiments.ablate.grid import Candidate, frontier, survivors
from model.experiments.cells import Outcome
from model.experiments.pages import markdown_page

_NONE = "–"
_MEASURE = "average_precision"


@dataclass(frozen=True)
class Verdict:
    """What the last round says. `finalists` are those with figures, the one that trains least first; `choice` is among
    them.

    `gain` is the winner's average precision less that of the config's own settings on the same rows, as observed; None
    where the own settings won or failed.
    """

    finalists: list[Outcome[Candidate]]
    choice: Choice
    gain: Limits | None

    @property
    def winner(self) -> Outcome[Candidate]:
        return self.finalists[self.choice.winner]

    @property
    def is_better(self) -> bool:
        """Whether the winner is better than the own settings by more than chance: the paired interval and the one
        corrected for the choosing lie above 0.
        """
        return _is_above_0(self.gain) and _is_above_0(self.choice.gain)


def judge(ablation: Ablation) -> Verdict:
    """The winner among the finalists of a complete sweep, held against the config's own settings."""
    last, settings = ablation.rounds[-1], ablation.settings
    finalists = sorted(last.done, key=lambda outcome: trial(outcome).adapter)
    own = next((place for place, outcome in enumerate(finalists) if outcome.cell == ablation.own), None)
    choice = choose(
        [logits_of(outcome) for outcome in finalists],
        last.rows.validation.labels,
        np.asarray(last.rows.validation.product_ids),
        own,
        settings.thresholds.confidence,
        settings.training.seed,
    )
    if own is None or own == choice.winner:
        return Verdict(finalists, choice, None)
    return Verdict(finalists, choice, _difference(finalists[choice.winner], finalists[own], ablation))


def page(ablation: Ablation, command: str, hardware: Sequence[str]) -> list[str]:
    """Lines of Markdown: how it was made, a table per round, and where the sweep is complete the winner, the frontier
    and the config's lines.
    """
    sections = [("## Which LoRA setting?", _how_made(ablation, command, hardware))]
    sections += [
        (_round_title(ablation, place), _round_table(ablation, place)) for place in range(len(ablation.rounds))
    ]
    if ablation.is_complete:
        verdict = judge(ablation)
        sections += [
            ("### The winner", _winner(ablation, verdict)),
            ("### The frontier", _frontier(ablation, verdict)),
            (
                "### The winner's lines for the config",
                ["```yaml", *config_lines(verdict.winner.cell, ablation), "```"],
            ),
        ]
    else:
        sections.append(("### Not finished", [_left(ablation)]))
    return markdown_page(sections)


def config_lines(candidate: Candidate, ablation: Ablation) -> list[str]:
    """The candidate's settings as lines of a config file."""
    lora = candidate.lora(ablation.settings.lora)
    layers = "null" if lora.layers is None else f"[{', '.join(map(str, lora.layers))}]"
    alpha = "null" if lora.alpha is None else repr(lora.alpha)
    return [
        "model:",
        "  lora:",
        f"    rank: {lora.rank}",
        f"    alpha: {alpha}",
        f"    targets: [{', '.join(lora.targets)}]",
        f"    layers: {layers}",
        "  training:",
        f"    learning_rate: {np.format_float_positional(candidate.learning_rate, trim='0')}",
    ]


def _how_made(ablation: Ablation, command: str, hardware: Sequence[str]) -> list[str]:
    folds, settings, sweep = ablation.folds, ablation.settings, ablation.sweep
    trained = settings.training
    return [
        "```",
        command,
        "```",
        "",
        *(f"* {line}" for line in hardware),
        *only_line(settings),
        (
            f"* Data version `{folds.data_version}`, of the training and validation splits alone: no test row was read."
            f" Cut by product with seed {sweep.seed} into {len(folds.training):,} rows to train on,"
            f" {len(folds.early_stopping):,} that stop a training, and a fold to judge on for each round"
            f" ({_counts(folds.validation)} rows); {folds.duplicates_dropped:,} rows were left out, as their text"
            " stands in another part too."
        ),
        (
            f"* Encoder {settings.backbone.name}; epochs as the config has them, at most {trained.epochs} in every"
            f" round; batches of {trained.batch_size}. All settings of a round are trained on the same rows and judged"
            " on the same others."
        ),
        (
            "* Settings are ranked by average precision, of equal ones the smaller is better. Log-loss is after the"
            " known shift of weighted classes is taken back, without a calibrator. Intervals are of"
            f" {settings.thresholds.confidence:.0%}, from a bootstrap of whole products."
        ),
    ]


def _round_title(ablation: Ablation, place: int) -> str:
    shown = ablation.rounds[place]
    return (
        f"### Round {place + 1} of {ablation.sweep.rounds}: {len(shown.outcomes)} settings on"
        f" {len(shown.rows.training):,} training rows"
    )


def _round_table(ablation: Ablation, place: int) -> list[str]:
    """A row for each candidate, the best first, and the reasons of those that failed."""
    shown = ablation.rounds[place]
    best = {each.candidate for each in frontier(shown.trials)}
    done = sorted(shown.done, key=lambda outcome: (-trial(outcome).average_precision, trial(outcome).adapter))
    rows = [
        [
            _named(outcome.cell, ablation),
            *_figures(outcome),
            "yes" if outcome.cell in best else "",
            _becomes(outcome, ablation, place),
        ]
        for outcome in [*done, *shown.failed, *shown.waiting]
    ]
    head = [
        "setting",
        "average precision",
        "AUC",
        "log-loss",
        "in the encoder",
        "in the head",
        "epochs",
        "rows/s",
        "frontier",
        "then",
    ]
    note = (
        f"Judged on {_described(shown.rows.validation)}. Trained parameters are counted in the encoder and in the head."
    )
    failed = [f"* {outcome.cell} {outcome.in_words}." for outcome in shown.failed]
    return [note, "", *table(head, rows), *(["", *failed] if failed else [])]


def _becomes(outcome: Outcome[Candidate], ablation: Ablation, place: int) -> str:
    """What happened to a candidate after the round, in words."""
    shown = ablation.rounds[place]
    if outcome.figures is None:
        return "not run yet" if outcome.ending == "waiting" else "failed"
    if shown.waiting:
        return _NONE
    if place + 1 == ablation.sweep.rounds:
        return "finalist"
    if outcome.cell in survivors(shown.trials, ablation.sweep.eta, None):
        return "goes on"
    return "goes on, as the reference" if outcome.cell == ablation.own else "dropped"


def _figures(outcome: Outcome[Candidate]) -> list[str]:
    """The cells of its row from the average precision to the speed."""
    figures = outcome.figures
    if figures is None:
        return [_NONE] * 7
    speed = figures["training"]["rows_per_second"]
    return [
        *(number(figures["figures"][name]) for name in FIGURES),
        f"{figures['parameters']['adapter']:,}",
        f"{figures['parameters']['head']:,}",
        f"{figures['training']['epochs']}",
        _NONE if speed is None else f"{speed:,.0f}",
    ]


def _winner(ablation: Ablation, verdict: Verdict) -> list[str]:
    choice, rows = verdict.choice, ablation.rounds[-1].rows
    optimism = choice.optimism
    lines = [
        f"**{_named(verdict.winner.cell, ablation)}**",
        "",
        *table(
            ["average precision", "value"],
            [
                ["as observed on the rows that chose it", number(choice.observed)],
                ["corrected for having been chosen", interval(choice.corrected, ".4f")],
                ["so the observed one is too good by", _NONE if optimism is None else f"{optimism:+.4f}"],
            ],
        ),
        "",
        (
            f"The last fold chose among {len(verdict.finalists)} finalists; this one in"
            f" {choice.shares[choice.winner]:.0%} of resamples. The corrected figure (BBC-CV, Tsamardinos et al. 2018)"
            " is what a setting chosen in this way has on rows that played no part in the choice, for a training on"
            f" {len(rows.training):,} rows and reviews like these. It is no test figure: `train` gives that."
        ),
    ]
    return [*lines, "", _against_own(ablation, verdict)]


def _against_own(ablation: Ablation, verdict: Verdict) -> str:
    """The sentence that says whether the config should be changed."""
    if verdict.winner.cell == ablation.own:
        return "Your own settings won: keep them."
    if verdict.gain is None:
        return (
            "Your own settings could not be trained (see the tables), so there is nothing to hold the winner against."
        )
    gain, corrected = verdict.gain, verdict.choice.gain
    assert corrected is not None  # the own settings are a finalist, so they were the reference
    said = (
        f"the winner's average precision less yours, on the same rows, is {signed(gain)}; corrected for the choosing it"
        f" is {signed(corrected)}"
    )
    if verdict.is_better:
        return f"Better than your settings by more than chance: {said}. Both intervals lie above 0."
    return f"**Your settings do as well**, as far as these rows can tell: {said}. {_why_not(gain, corrected)}"


def _why_not(gain: Limits, corrected: Limits) -> str:
    if gain["low"] is None or corrected["low"] is None:
        return "There are too few products for an interval."
    if not _is_above_0(gain):
        return "The first interval includes 0."
    return "The second interval does not lie above 0, so the choosing may have made the gain."


def _is_above_0(gain: Limits | None) -> bool:
    """Whether there is an interval, and all of it is above 0."""
    return gain is not None and gain["low"] is not None and gain["low"] > 0


def _frontier(ablation: Ablation, verdict: Verdict) -> list[str]:
    """A row for each finalist of the frontier, held against the winner."""
    settings, last = ablation.settings, ablation.rounds[-1]
    groups = np.asarray(last.rows.validation.product_ids)
    by_candidate = {outcome.cell: outcome for outcome in verdict.finalists}
    rows = []
    for each in frontier(last.trials):
        outcome = by_candidate[each.candidate]
        bins, confidence, seed = settings.calibration.bins, settings.thresholds.confidence, settings.training.seed
        precision = intervals(_scored(outcome, ablation), bins, groups, confidence, seed, names=[_MEASURE])[_MEASURE]
        difference = _NONE if outcome is verdict.winner else signed(_difference(outcome, verdict.winner, ablation))
        *_, adapter, head_parameters, _, speed = _figures(outcome)
        rows.append([_named(outcome.cell, ablation), adapter, head_parameters, interval(precision), difference, speed])
    head = ["setting", "in the encoder", "in the head", "average precision", "less the winner's", "rows/s"]
    legend = (
        "No finalist beats these in both average precision and parameters trained in the encoder. Where “less the"
        " winner's” has an interval that includes 0, the smaller setting does as well as these rows can tell. The"
        " figures are as observed, so the best of them is flattered."
    )
    return [*table(head, rows), "", legend]


def _left(ablation: Ablation) -> str:
    last = ablation.rounds[-1]
    return (
        f"Round {len(ablation.rounds)} of {ablation.sweep.rounds} has {len(last.waiting)} of {len(last.outcomes)}"
        " settings still to run, so there is no winner yet. The same command goes on here: what is finished is kept."
    )


def _difference(one: Outcome[Candidate], other: Outcome[Candidate], ablation: Ablation) -> Limits:
    """one - other in average precision on the last fold, with a paired interval."""
    settings, groups = ablation.settings, np.asarray(ablation.rounds[-1].rows.validation.product_ids)
    first, second = _scored(one, ablation), _scored(other, ablation)
    options = (settings.calibration.bins, groups, settings.thresholds.confidence, settings.training.seed)
    return difference_intervals(first, second, *options, names=[_MEASURE])[_MEASURE]


def _scored(outcome: Outcome[Candidate], ablation: Ablation) -> Scored:
    return ablation.rounds[-1].rows.scored(logits_of(outcome), ablation.settings.training.class_weighting)


def _named(candidate: Candidate, ablation: Ablation) -> str:
    return f"{candidate} (your config)" if candidate == ablation.own else str(candidate)


def _counts(folds: Sequence[LabelledReviews]) -> str:
    return " / ".join(f"{len(fold):,}" for fold in folds)


def _described(rows: LabelledReviews) -> str:
    return (
        f"{len(rows):,} rows of {len(set(rows.product_ids)):,} products, {int(rows.labels.sum()):,} of them"
        " dissatisfied"
    )

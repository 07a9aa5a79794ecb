"""The comparison's page: Markdown tables of its cells, and the rule that follows from their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.calibration import Calibrator
from model.card import interval, number, table
from model.comparison import Inputs, Outcome
from model.data import LabelledReviews
from model.evaluation import Scored, difference_intervals
from model.methods import METHODS
from model.pairs import load_pairs, pair_report, pairs_table
from model.settings import ModelSettings

Figures = dict[str, Any]
BASELINE, ADAPTER, FULL, FROZEN = "tfidf", "lora_all", "full", "linear_head"
POPULATIONS = {"as_is": "test, as is", "ratings_masked": "test, rating phrases masked", "shifted": "shifted population"}
NOT_SIGNIFICANT = "no significant gain"
_NONE = "–"


@dataclass(frozen=True)
class Comparison:
    """The outcomes with what their figures are of. The gains are computed here, from the cells' logits: any cell can be held against
    any other, row by row."""

    outcomes: Sequence[Outcome]
    inputs: Inputs
    settings: ModelSettings
    rows: int

    @property
    def main(self) -> dict[str, Outcome]:
        """Per method its outcome at the most rows that every method was trained on."""
        return {outcome.cell.method: outcome for outcome in self.outcomes if outcome.cell.rows == self.rows}

    def figures(self, method: str, rows: int | None = None) -> Figures | None:
        """The cell's figures; None where it has not run."""
        found = [outcome.figures for outcome in self.outcomes if outcome.cell.method == method and outcome.cell.rows == (rows or self.rows)]
        return found[0] if found else None

    def gain(self, first: Figures | None, second: Figures | None, population: str) -> dict[str, dict[str, float | None]] | None:
        """first - second of every figure on a population, with paired intervals; None where either is missing."""
        reviews = self._reviews(population)
        if first is None or second is None or reviews is None:
            return None
        one, other = (_scored(figures, population, reviews) for figures in (first, second))
        groups = np.asarray(reviews.product_ids)
        settings = self.settings
        return difference_intervals(one, other, settings.calibration.bins, groups, settings.thresholds.confidence, settings.training.seed)

    def _reviews(self, population: str) -> LabelledReviews | None:
        return self.inputs.shifted if population == "shifted" else self.inputs.data.test


def page(comparison: Comparison, command: str, hardware: Sequence[str]) -> list[str]:
    """Lines of Markdown: how it was made, then quality, cost, forgetting, the learning curve, minimal pairs, and the rule."""
    sections = [
        ("## Is it worth it?", _how_made(comparison, command, hardware)),
        ("### Quality on test", _quality(comparison, "as_is")),
        ("### Quality on test where phrases that state the rating are masked", _quality(comparison, "ratings_masked")),
        (
            "### Quality on the shifted population",
            _quality(comparison, "shifted"),
        ),
        ("### What is trained, and what it costs", _costs(comparison)),
        ("### Forgetting", _forgetting(comparison)),
        ("### Learning curve", _learning_curve(comparison)),
        ("### Minimal pairs", _pairs(comparison)),
        ("### LoRA or not", [f"* {line}" for line in lora_or_not(comparison)]),
    ]
    return [line for head, lines in sections for line in (head, "", *lines, "")]


def lora_or_not(comparison: Comparison) -> list[str]:
    """The rule in words that follows from the cells: when TF-IDF is enough, when a frozen encoder, when LoRA, when full fine-tuning."""
    return [*_against_tfidf(comparison), *_by_size(comparison), *_against_rivals(comparison)]


def is_significant(gain: dict[str, dict[str, float | None]] | None, figure: str = "f1") -> bool:
    """Whether the gain's interval lies above zero."""
    low = gain[figure]["low"] if gain is not None else None
    return low is not None and low > 0


def _scored(figures: Figures, population: str, reviews: LabelledReviews) -> Scored:
    logit = np.asarray(figures["logits"][population])
    return Scored(logit, Calibrator.from_json(figures["calibrator"]).apply(logit), reviews.labels, figures["threshold"])


def _how_made(comparison: Comparison, command: str, hardware: Sequence[str]) -> list[str]:
    data, settings, shifted = comparison.inputs.data, comparison.settings, comparison.inputs.shifted
    trained = settings.training
    lines = ["```", command, "```", "", *(f"* {line}" for line in hardware), *_threads(comparison)]
    lines += [
        f"* Data version `{data.data_version}`; {comparison.rows:,} of {len(data.train):,} training rows, drawn with seed {trained.seed}; "
        f"{len(data.stopping):,} / {len(data.fitting):,} / {len(data.choosing):,} validation rows stop, calibrate and choose; "
        f"{len(data.test):,} of {data.rows['test']:,} test rows ({int(data.test.labels.sum()):,} dissatisfied)"
        + (f"; {len(shifted):,} rows of the shifted population ({int(shifted.labels.sum()):,} dissatisfied)." if shifted else "."),
        f"* Encoder {settings.backbone.name}; {trained.epochs} epochs at most, batches of {trained.batch_size}, classes {trained.class_weighting}; "
        f"LoRA of rank {settings.lora.rank}. All methods share everything but what their names say and the learning rate in the cost table.",
        "* Calibrator and threshold are chosen on validation and used unchanged on every other population. Intervals are of "
        f"{settings.thresholds.confidence:.0%}, from a bootstrap of whole products; gains over TF-IDF are paired, on the same rows.",
        f"* A gain whose interval does not lie above zero is marked “{NOT_SIGNIFICANT}”.",
    ]
    return [*lines, *(f"* {outcome.cell}: {outcome.not_run}." for outcome in comparison.outcomes if outcome.figures is None)]


def _threads(comparison: Comparison) -> list[str]:
    """With how many threads the cells ran: some may be of an earlier call on another number."""
    found = sorted({outcome.figures["run_on"]["threads"] for outcome in comparison.outcomes if outcome.figures})
    return [f"* CPU threads of the cells: {', '.join(map(str, found))}."] if found else []


def _quality(comparison: Comparison, population: str) -> list[str]:
    if population == "shifted" and comparison.inputs.shifted is None:
        return ["Not run: no shifted population was given."]
    rows = []
    baseline = comparison.figures(BASELINE)
    for method, outcome in comparison.main.items():
        found = outcome.figures
        if found is None:
            rows.append([METHODS[method].title, "not run", *[_NONE] * 6])
            continue
        of = found["populations"][population]["figures"]
        gain = comparison.gain(found, baseline, population) if method != BASELINE else None
        mark = _NONE if gain is None else interval(gain["f1"]) + ("" if is_significant(gain) else f", {NOT_SIGNIFICANT}")
        rows.append([METHODS[method].title, *(interval(of[name]) for name in ("f1", "auc", "average_precision", "ece", "ece_debiased", "log_loss")), mark])
    return table(["method", "F1", "AUC", "average precision", "ECE", "ECE, debiased", "log-loss", "F1 gain over TF-IDF"], rows)


def _costs(comparison: Comparison) -> list[str]:
    rows = []
    for method, outcome in comparison.main.items():
        found = outcome.figures
        if found is None:
            rows.append([METHODS[method].title, "not run", *[_NONE] * 8])
            continue
        training, cost, counts = found["training"] or {}, found["cost"] or {}, found["parameters"]
        rate = training.get("learning_rate")
        rows.append(
            [
                METHODS[method].title,
                f"{counts['adapter']:,}",
                f"{counts['head']:,}",
                _NONE if rate is None else f"{rate:g}",
                _rounded(_seconds(found), 0),
                _rounded(training.get("rows_per_second"), 0),
                _rounded(training.get("memory_mib"), 0),
                _rounded(cost.get("unmerged"), 2),
                _ratio(cost, "unmerged"),
                _ratio(cost, "merged"),
            ]
        )
    head = ["method", "trained in the encoder", "trained in the head", "learning rate", "training, s", "rows/s", "memory growth, MiB"]
    legend = [
        "Memory is the growth of the process's peak while it trains. Scoring is in float32; the ratios are to the plain classifier in the same process.",
        "Learning rates: " + "; ".join(f"{METHODS[name].title}: {METHODS[name].reason}" for name in comparison.main) + ".",
    ]
    return [*table([*head, "scoring, s per 1,000 rows", "ratio to plain", "ratio merged"], rows), "", *legend]


def _forgetting(comparison: Comparison) -> list[str]:
    rows = []
    for method, outcome in comparison.main.items():
        found = outcome.figures["forgetting"] if outcome.figures else None
        if found is None:
            continue
        probe, masked = found["probe"], found["masked_token"]
        rows.append([METHODS[method].title, f"{found['drift']:.4f}", *_before_after(probe), *(_before_after(masked) if masked else ["not available"] * 3)])
    if not rows:
        return ["No method that trains the encoder has run."]
    tasks = {probe["task"] for outcome in comparison.main.values() if (probe := _probe(outcome)) is not None}
    head = ["method", "drift", "probe before", "probe after", "difference", "masked-token before", "masked-token after", "difference"]
    legend = (
        "Drift is the mean cosine distance of held-out texts' pooled vectors before and after training; the probe tells "
        f"{' / '.join(sorted(tasks)) or 'nothing'} from the frozen vectors (log-loss in nats; a rise is forgetting). Frozen encoders forget nothing."
    )
    return [*table(head, rows), "", legend]


def _probe(outcome: Outcome) -> Figures | None:
    forgetting: Figures = (outcome.figures or {}).get("forgetting") or {}
    return forgetting.get("probe")


def _before_after(losses: Figures | None) -> list[str]:
    if losses is None:
        return [_NONE] * 3
    return [number(losses["before"]), number(losses["after"]), f"{losses['after'] - losses['before']:+.4f}"]


def _learning_curve(comparison: Comparison) -> list[str]:
    sizes = sorted({outcome.cell.rows for outcome in comparison.outcomes})
    rows = []
    for size in sizes:
        lora, tfidf = comparison.figures(ADAPTER, size), comparison.figures(BASELINE, size)
        gain = comparison.gain(lora, tfidf, "as_is")
        masked = comparison.gain(lora, tfidf, "ratings_masked")
        cells = [interval(found["populations"]["as_is"]["figures"]["f1"]) if found else "not run" for found in (tfidf, lora)]
        rows.append([f"{size:,}", *cells, *(_NONE if one is None else interval(one["f1"]) for one in (gain, masked))])
    return table(["training rows", "TF-IDF F1", "LoRA F1", "gain", "gain, rating phrases masked"], rows)


def _pairs(comparison: Comparison) -> list[str]:
    if comparison.inputs.pairs is None:
        return ["Not run: no file of minimal pairs was given."]
    pairs, reports = load_pairs(comparison.inputs.pairs), {}
    for method in (BASELINE, ADAPTER, FULL):
        found = comparison.figures(method)
        if found is not None:
            probability = Calibrator.from_json(found["calibrator"]).apply(np.asarray(found["logits"]["pairs"])).reshape(-1, 2)
            reports[METHODS[method].title] = pair_report(pairs, probability, found["threshold"])
    return pairs_table(reports) if reports else ["No cell of TF-IDF, LoRA or full fine-tuning has run."]


def _against_tfidf(comparison: Comparison) -> list[str]:
    lora, tfidf = comparison.figures(ADAPTER), comparison.figures(BASELINE)
    if lora is None or tfidf is None:
        return ["TF-IDF or LoRA: not known yet, one of the two cells has not run."]
    lines = []
    for population, name in POPULATIONS.items():
        gain = comparison.gain(lora, tfidf, population) if population in lora["populations"] else None
        if gain is not None:
            verdict = "LoRA is worth its cost" if is_significant(gain) else "TF-IDF is enough"
            lines.append(f"{name}: {verdict}; LoRA's F1 less TF-IDF's is {interval(gain['f1'])} with {comparison.rows:,} training rows.")
    seconds = [_seconds(found) for found in (lora, tfidf)]
    scoring = [found["cost"]["merged" if "merged" in found["cost"] else "unmerged"] for found in (lora, tfidf)]
    if all(value is not None for value in seconds):
        training = f"{seconds[0]:,.0f} s of training instead of {seconds[1]:,.1f}"
        lines.append(f"The price: {training}, and {scoring[0]:.2f} s per 1,000 rows scored instead of {scoring[1]:.2f}.")
    return lines


def _by_size(comparison: Comparison) -> list[str]:
    """From how many training rows on LoRA gains significantly."""
    found = []
    for size in sorted({outcome.cell.rows for outcome in comparison.outcomes if outcome.cell.method == ADAPTER and outcome.figures}):
        gain = comparison.gain(comparison.figures(ADAPTER, size), comparison.figures(BASELINE, size), "as_is")
        if gain is not None:
            found.append((size, is_significant(gain)))
    if len(found) < 2:
        return []
    enough = [size for place, (size, _) in enumerate(found) if all(later for _, later in found[place:])]
    if not enough:
        return [f"By size: up to {found[-1][0]:,} training rows TF-IDF is enough: LoRA does not gain significantly at the largest size tried."]
    if enough[0] == found[0][0]:
        return [f"By size: LoRA gains significantly from the smallest size tried on, {enough[0]:,} training rows."]
    below = max(size for size, _ in found if size < enough[0])
    return [f"By size: with {below:,} training rows or fewer, take TF-IDF; from {enough[0]:,} on, LoRA gains significantly at every size tried."]


def _against_rivals(comparison: Comparison) -> list[str]:
    """LoRA against what is cheaper to train and what trains everything."""
    lora, lines = comparison.figures(ADAPTER), []
    frozen, full = comparison.figures(FROZEN), comparison.figures(FULL)
    gain = comparison.gain(lora, frozen, "as_is")
    if gain is not None:
        verdict = "adapting the encoder is worth it" if is_significant(gain) else "a frozen encoder with a linear head is enough"
        lines.append(f"Frozen encoder: {verdict}; LoRA's F1 less the frozen encoder's is {interval(gain['f1'])}.")
    gain = comparison.gain(full, lora, "as_is")
    if gain is not None:
        verdict = "take it where every point counts" if is_significant(gain) else "LoRA is enough"
        lines.append(f"Full fine-tuning: {verdict}; its F1 less LoRA's is {interval(gain['f1'])}.")
    return lines


def _seconds(found: Figures) -> float | None:
    """Seconds of the whole training, at the speed of the epochs that this run did."""
    training = found["training"]
    if training is None or not training["rows_per_second"]:
        return None
    return float(training["epochs"] * found["rows"] / training["rows_per_second"])


def _ratio(cost: Figures, name: str) -> str:
    return f"{cost[name] / cost['plain']:.2f}" if name in cost and "plain" in cost else _NONE


def _rounded(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"

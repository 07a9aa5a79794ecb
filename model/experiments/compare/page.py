"""The comparison's page: Markdown tables of its cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.evaluation.calibrators import Calibrator
from model.evaluation.markdown import interval, number, table
from model.evaluation.minimal_pairs import pair_report, pairs_table
from model.evaluation.model_card import only_line
from model.experiments.cells import Figures, Outcome
from model.experiments.compare.inputs import Cell
from model.experiments.compare.rule import (
    ADAPTER,
    BASELINE,
    FULL,
    TITLES,
    Comparison,
    is_significant,
    lora_or_not,
    training_seconds,
)
from model.experiments.methods import METHODS
from model.experiments.pages import markdown_page

_FORGETTING_TITLES = {"test": "test", "shifted": "shifted population"}
_QUALITY_COLUMNS = {
    "f1": "F1",
    "macro_f1": "macro-F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "ece": "ECE",
    "ece_debiased": "ECE, debiased",
    "brier": "Brier",
    "log_loss": "log-loss",
}
NOT_SIGNIFICANT = "no significant gain"
_NONE = "–"


def page(comparison: Comparison, command: str, hardware: Sequence[str]) -> list[str]:
    """Lines of Markdown: how it was made, then quality, cost, forgetting, the learning curve, minimal pairs, and the
    rule.
    """
    sections = [
        ("## Is it worth it?", _how_made(comparison, command, hardware)),
        *((f"### Quality: {TITLES[name]}", _quality(comparison, name)) for name in comparison.inputs.populations),
        ("### What is trained, and what it costs", _costs(comparison)),
        ("### Forgetting", _forgetting(comparison)),
        ("### Learning curve", _learning_curve(comparison)),
        ("### Minimal pairs", _pairs(comparison)),
        ("### LoRA or not", [f"* {line}" for line in lora_or_not(comparison)]),
    ]
    return markdown_page(sections)


def _how_made(comparison: Comparison, command: str, hardware: Sequence[str]) -> list[str]:
    data, settings, shifted = comparison.inputs.data, comparison.settings, comparison.inputs.shifted
    trained = settings.training
    lines = [
        "```",
        command,
        "```",
        "",
        *(f"* {line}" for line in hardware),
        *_threads(comparison),
        *only_line(settings),
    ]
    lines += [
        f"* Data version `{data.data_version}`; {comparison.rows:,} of {len(data.train):,} training rows, drawn with"
        f" seed {trained.seed}; {len(data.early_stopping):,} / {len(data.calibration):,}"
        f" validation rows stop and calibrate; {len(data.test):,} of {data.rows['test']:,} test rows"
        f" ({int(data.test.labels.sum()):,} dissatisfied)"
        + (
            f"; {len(shifted):,} rows of the shifted population ({int(shifted.labels.sum()):,} dissatisfied)."
            if shifted
            else "."
        ),
        (
            f"* Encoder {settings.backbone.name}; {trained.epochs} epochs at most, batches of {trained.batch_size},"
            f" classes {trained.class_weighting}; LoRA of rank {settings.lora.rank}. All methods share everything but"
            " what their names say and the learning rate in the cost table."
        ),
        (
            "* Test rows and those of the shifted population are drawn by whole products, the largest passed over where"
            " they no longer fit."
        ),
        (
            "* Calibrator and threshold are chosen on validation and used unchanged on every other population; a"
            " method, too, should be chosen by validation, so that test can be believed of it. Intervals are of"
            f" {settings.thresholds.confidence:.0%}, from a bootstrap of whole products; gains over TF-IDF are paired,"
            " on the same rows."
        ),
        f"* A gain whose interval does not lie above zero is marked “{NOT_SIGNIFICANT}”.",
    ]
    return [
        *lines,
        *(f"* {outcome.cell}: {outcome.in_words}." for outcome in comparison.outcomes if outcome.figures is None),
    ]


def _threads(comparison: Comparison) -> list[str]:
    """With how many threads the cells ran: some may be of an earlier call on another number."""
    found = sorted({outcome.figures["run_on"]["threads"] for outcome in comparison.outcomes if outcome.figures})
    return [f"* CPU threads of each cell: {', '.join(map(str, found))}."] if found else []


def _quality(comparison: Comparison, population: str) -> list[str]:
    """A row for each method, and for the curve's two with the most training rows."""
    cells = [
        (METHODS[method].title, outcome.figures, comparison.figures(BASELINE))
        for method, outcome in comparison.main.items()
    ]
    if most := comparison.fullest:
        baseline = comparison.figures(BASELINE, most)
        for name in (BASELINE, ADAPTER):
            cells.append((f"{METHODS[name].title}, {most:,} rows", comparison.figures(name, most), baseline))
    rows, sizes = [], set()
    for title, figures, baseline in cells:
        if figures is None:
            rows.append([title, "not run", *[_NONE] * len(_QUALITY_COLUMNS)])
            continue
        of = figures["populations"][population]
        sizes.add(f"{of['rows']:,} rows, {of['positives']:,} dissatisfied.")
        gain = comparison.gain(figures, baseline, population) if figures["method"] != BASELINE else None
        rows.append([title, *(interval(of["figures"][name]) for name in _QUALITY_COLUMNS), _gain_in_f1(gain)])
    lines = table(["method", *_QUALITY_COLUMNS.values(), "F1 gain over TF-IDF"], rows)
    return [*sorted(sizes), *([""] if sizes else []), *lines]


def _gain_in_f1(gain: Figures | None) -> str:
    if gain is None:
        return _NONE
    return interval(gain["f1"]) + ("" if is_significant(gain) else f", {NOT_SIGNIFICANT}")


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
                _rounded(training_seconds(found), 0),
                _rounded(training.get("rows_per_second"), 0),
                _rounded(training.get("memory_mib"), 0),
                _rounded(cost.get("unmerged"), 2),
                _ratio(cost, "unmerged"),
                _ratio(cost, "merged"),
            ]
        )
    head = [
        "method",
        "trained in the encoder",
        "trained in the head",
        "learning rate",
        "training, s",
        "rows/s",
        "memory growth, MiB",
    ]
    legend = [
        (
            "Memory is by how much the process's peak, or on a GPU that of PyTorch's allocations there, grows while it"
            " trains: the encoder's weights, which quantising shrinks, are there before. Scoring is in float32; the"
            " ratios are to the plain classifier in the same process."
        ),
        "Learning rates: "
        + "; ".join(f"{METHODS[name].title}: {METHODS[name].reason}" for name in comparison.main)
        + ".",
    ]
    return [*table([*head, "scoring, s per 1,000 rows", "ratio to plain", "ratio merged"], rows), "", *legend]


def _forgetting(comparison: Comparison) -> list[str]:
    rows = []
    for method, outcome in comparison.main.items():
        for population, found in _forgotten(outcome).items():
            probe, masked = found["probe"], found["masked_token"]
            told = [probe["task"] if probe else _NONE, *_before_after(probe)]
            rows.append(
                [
                    METHODS[method].title,
                    _FORGETTING_TITLES[population],
                    f"{found['drift']:.4f}",
                    *told,
                    *(_before_after(masked) if masked else ["not available"] * 3),
                ]
            )
    if not rows:
        return ["No method that trains the encoder has run."]
    head = [
        "method",
        "reviews",
        "drift",
        "probe",
        "before",
        "after",
        "difference",
        "masked-token before",
        "masked-token after",
        "difference",
    ]
    legend = (
        "Drift is the mean cosine distance of the texts' pooled vectors before and after training; the probe tells what"
        " its column says from the frozen vectors (log-loss in nats; a rise is forgetting). Frozen encoders forget"
        " nothing."
    )
    return [*table(head, rows), "", legend]


def _forgotten(outcome: Outcome[Cell]) -> dict[str, Figures]:
    return (outcome.figures or {}).get("forgetting") or {}


def _before_after(losses: Figures | None) -> list[str]:
    if losses is None:
        return [_NONE] * 3
    return [number(losses["before"]), number(losses["after"]), f"{losses['after'] - losses['before']:+.4f}"]


def _learning_curve(comparison: Comparison) -> list[str]:
    if ADAPTER not in comparison.main:
        return [f"Not run: it is one of {METHODS[BASELINE].title} and {METHODS[ADAPTER].title}."]
    sizes = sorted({outcome.cell.rows for outcome in comparison.outcomes})
    rows = []
    for size in sizes:
        lora, tfidf = comparison.figures(ADAPTER, size), comparison.figures(BASELINE, size)
        gain = comparison.gain(lora, tfidf, "as_is")
        masked = comparison.gain(lora, tfidf, "ratings_masked")
        cells = [
            interval(found["populations"]["as_is"]["figures"]["f1"]) if found else "not run" for found in (tfidf, lora)
        ]
        rows.append([f"{size:,}", *cells, *(_NONE if one is None else interval(one["f1"]) for one in (gain, masked))])
    return table(["training rows", "TF-IDF F1", "LoRA F1", "gain", "gain, rating phrases masked"], rows)


def _pairs(comparison: Comparison) -> list[str]:
    if comparison.inputs.pairs is None:
        return ["Not run: no file of minimal pairs was given."]
    pairs, reports = comparison.inputs.pairs, {}
    columns = {METHODS[method].title: comparison.figures(method) for method in (BASELINE, ADAPTER, FULL)}
    if most := comparison.fullest:
        columns |= {
            f"{METHODS[method].title}, {most:,} rows": comparison.figures(method, most)
            for method in (BASELINE, ADAPTER)
        }
    for title, found in columns.items():
        if found is not None:
            probability = (
                Calibrator.from_json(found["calibrator"]).apply(np.asarray(found["logits"]["pairs"])).reshape(-1, 2)
            )
            reports[title] = pair_report(pairs, probability, found["threshold"])
    return pairs_table(reports) if reports else ["No cell of TF-IDF, LoRA or full fine-tuning has run."]


def _ratio(cost: Figures, name: str) -> str:
    return f"{cost[name] / cost['plain']:.2f}" if name in cost and "plain" in cost else _NONE


def _rounded(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:,.{digits}f}"

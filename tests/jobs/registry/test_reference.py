"""Published figures beside a model's own: differences, tolerances, and what was not measured."""

from __future__ import annotations

from jobs.config import PublishedFigures, load_config
from jobs.registry.reference import beside_published
from tests import ROOT
from tests.support.warehouse_rows import model

PUBLISHED = PublishedFigures(
    source="an invented article",
    status="not run",
    rows=576_000,
    auc=0.996,
    f1=0.943,
    ece=0.0105,
    baseline_auc=0.991,
    baseline_f1=0.893,
    trainable_parameters=739_586,
    total_parameters=67_694_596,
    tolerance_auc=0.002,
    tolerance_f1=0.01,
    tolerance_ece=0.005,
)
OWN = {
    "test_auc": 0.998,
    "test_f1": 0.9,
    "baseline_f1": None,
    "trainable_parameters": 739_586,
    "total_parameters": 67_102_466,
}


def test_each_published_figure_stands_beside_the_models_own() -> None:
    """0.998 is exactly the tolerance above 0.996, whatever binary fractions say."""
    assert beside_published(PUBLISHED, model(**OWN)) == [
        "Beside published figures (an invented article; not run):",
        "  figure                                    published    this model  difference  tolerance",
        "  AUC                                          0.9960        0.9980     +0.0020     0.0020  within",
        "  F1                                           0.9430        0.9000     -0.0430     0.0100  outside",
        "  ECE                                          0.0105        0.0100     -0.0005     0.0050  within",
        "  TF-IDF AUC                                   0.9910        0.9700     -0.0210          –",
        "  TF-IDF F1                                    0.8930  not measured           –          –",
        "  parameters trained                          739,586       739,586          +0          –",
        "  parameters in all (here: distinct ones)  67,694,596    67,102,466    -592,130          –",
        "  reviews (here: labelled ones used)          576,000            72    -575,928          –",
    ]


def test_without_published_figures_nothing_is_shown() -> None:
    assert beside_published(None, model()) == []


def test_the_reference_config_has_figures_for_every_line() -> None:
    published = load_config(ROOT / "conf" / "reference.yml").reference
    lines = beside_published(published, model())
    assert len(lines) == 10 and not any("not measured" in line for line in lines)


def test_the_heading_says_that_the_published_figures_and_not_the_models_own_were_not_repeated() -> None:
    published = load_config(ROOT / "conf" / "reference.yml").reference
    head, *_ = beside_published(published, model())
    assert (
        head
        == "Beside published figures (a published article on 576k Amazon US furniture reviews; not repeated by this"
        " project):"
    )

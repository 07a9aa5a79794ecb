"""A registered model on another root's reviews: it decides as in its own warehouse, nothing is fitted there, and
nothing is published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.labelled import labelled
from jobs.registry import models as registry
from jobs.registry.bundles import local_bundle, serving_folder
from jobs.registry.refit_thresholds import run_thresholds
from jobs.storage import parse_root
from jobs.training.evaluate import run_evaluate
from model.data.reviews import COLUMNS
from model.errors import ReviewriskError
from model.experiments.external import judge, population_page
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings
from tests.support.pages import unwrapped
from tests.support.tiny_models import planted_reviews, reviews_table
from tests.support.trained_root import versions
from tests.support.warehouse_rows import review, write_root

ELSEWHERE = planted_reviews(train=80, validation=40, test=40, seed=9)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second root: 160 reviews of all splits, and one of three stars, which has no label."""
    rows = ELSEWHERE.to_pylist()
    return write_root(
        tmp_path / "elsewhere",
        {"reviews": [review(**row) for row in [*rows, {**rows[0], "review_id": "three", "star_rating": 3}]]},
    )


def evaluated(config: Config, other: Path, rows: int | None = None, output: Path | None = None) -> list[str]:
    return run_evaluate(
        config, registry.champion(config.root)["model_version"], str(other), rows, output, lambda _: None
    )


def cells(lines: list[str], head: str, row: str) -> list[str]:
    """The cells of the first row of that name below the line that starts so."""
    [start] = [place for place, line in enumerate(lines) if line.startswith(head)]
    found = next(line for line in lines[start:] if line.startswith(f"| {row} "))
    return [cell.strip() for cell in found.split("|")[1:-1]]


def test_its_figures_follow_from_its_scores_and_its_thresholds_in_the_warehouse(
    trained: Config, other: Path, tmp_path: Path
) -> None:
    before = versions(trained)
    page = tmp_path / "docs" / "page.md"
    lines = evaluated(trained, other, output=page)
    assert page.read_text() == "\n".join(lines) + "\n" and versions(trained) == before
    row = registry.champion(trained.root)
    scorer = Scorer.load(serving_folder(trained, row), ScoringSettings())
    reviews = ELSEWHERE.to_pylist()
    label = np.array([one["star_rating"] <= 2 for one in reviews])
    scores = scorer.score([one["review_headline"] for one in reviews], [one["review_body"] for one in reviews])
    threshold = registry.default_threshold(trained.root, row["model_version"])["threshold"]
    as_is = cells(lines, "F1 in each view", "as is")
    assert as_is[1:3] == ["160", str(label.sum())]
    assert as_is[3].startswith(f"{f1_score(label, scores.probability >= threshold):.3f} [")
    assert cells(lines, "AUC likewise", "as is")[3].startswith(f"{roc_auc_score(label, scores.logit):.3f}")
    brier = cells(lines, "## Results", "Brier")
    assert brier[1].startswith(f"{np.mean((scores.probability - label) ** 2):.3f} ["), (
        "the calibrator is the bundle's own"
    )
    bodies = scorer.score([None] * len(reviews), [one["review_body"] for one in reviews])
    assert cells(lines, "AUC likewise", "without headline")[3].startswith(f"{roc_auc_score(label, bodies.logit):.3f}")
    assert all("[" in cell for cell in cells(lines, "The network in each view:", "rating phrases masked")[1:])
    new = cells(lines, "F1 in each view", "rows of products not in train")
    known = {one["product_id"] for one in labelled(trained.root, COLUMNS, ["train"]).to_pylist()}
    assert int(new[1]) == sum(one["product_id"] not in known for one in reviews)


def test_thresholds_set_since_the_training_are_those_that_are_judged(trained: Config, other: Path) -> None:
    costs = trained.model.thresholds.model_copy(update={"cost_false_negative": 20})
    dearer = trained.model_copy(update={"model": trained.model.model_copy(update={"thresholds": costs})})
    run_thresholds(dearer, None, lambda _: None)
    lines = evaluated(trained, other)
    for row in registry.thresholds(trained.root, registry.champion(trained.root)["model_version"]):
        assert any(
            line.startswith(f"| {row['threshold_name']}") and f"{row['threshold']:.4f}" in line for line in lines
        )
    assert any(line.startswith("| cost_20_1") for line in lines) and not any(
        line.startswith("| cost_5_1") for line in lines
    )


def test_fewer_rows_are_drawn_by_whole_products(trained: Config, other: Path) -> None:
    lines = evaluated(trained, other, rows=100)
    [said] = [line for line in lines if "of 160 labelled reviews" in line]
    assert 60 < int(said.split()[0]) <= 100
    assert "reviewrisk models evaluate" in "\n".join(lines) and "elsewhere --rows 100" in "\n".join(lines)


def test_a_corpus_that_is_not_the_models_is_said_to_be_another(trained: Config) -> None:
    row = registry.champion(trained.root)
    thresholds = registry.thresholds(trained.root, row["model_version"])
    bundle, serving = local_bundle(trained, row), serving_folder(trained, row)
    corpora = {
        "own": labelled(trained.root, COLUMNS, ["train", "validation", "test"]),
        "other": planted_reviews(seed=4),
    }
    found = {
        name: judge(bundle, serving, thresholds, corpus, ELSEWHERE, None, 1, lambda _: None)
        for name, corpus in corpora.items()
    }
    assert (found["own"].is_same_corpus, found["other"].is_same_corpus) == (True, False)
    assert "today's corpus, which is not the one" in "\n".join(
        unwrapped(population_page(found["other"], "elsewhere", "command"))
    )
    same = [judged.test["as_is"]["model"]["auc"]["value"] for judged in found.values()]
    assert same[0] == same[1], "the network's figures do not hang on it"


def test_months_are_left_out_where_they_are_many(trained: Config) -> None:
    row = registry.champion(trained.root)
    thresholds = registry.thresholds(trained.root, row["model_version"])
    rows = [
        {**one, "review_date": one["review_date"].replace(year=2000 + place % 20)}
        for place, one in enumerate(ELSEWHERE.to_pylist())
    ]

    def page(reviews: Any) -> str:
        corpus = labelled(trained.root, COLUMNS, ["train", "validation", "test"])
        judged = judge(
            local_bundle(trained, row),
            serving_folder(trained, row),
            thresholds,
            corpus,
            reviews,
            None,
            1,
            lambda _: None,
        )
        return "\n".join(population_page(judged, "elsewhere", "command"))

    assert "| month: 2014-" in page(ELSEWHERE)
    many = page(reviews_table(rows))
    assert "| month: " not in many and "| category: " in many


def test_what_cannot_be_judged_is_an_error(trained: Config, other: Path, tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match="There is no model z"):
        run_evaluate(trained, "z", str(other), None, None, lambda _: None)
    empty = write_root(tmp_path / "empty", {})
    with pytest.raises(ReviewriskError, match="no labelled reviews: run `reviewrisk ingest`"):
        evaluated(trained, empty)
    satisfied = write_root(
        tmp_path / "satisfied", {"reviews": [review(**{**row, "star_rating": 5}) for row in ELSEWHERE.to_pylist()]}
    )
    with pytest.raises(ReviewriskError, match=r"reviews are missing from the population's rows \(160\)"):
        evaluated(trained, satisfied)
    assert tables.read_arrow(parse_root(str(other), trained.storage), "reviews").num_rows == 161

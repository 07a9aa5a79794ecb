from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.training.compare import ComparisonOptions, run_compare
from model.data.reviews import COLUMNS
from model.errors import ReviewriskError
from model.experiments.cells import Outcome
from model.experiments.compare.comparison import run_comparison
from model.experiments.compare.inputs import Cell, prepare_inputs
from model.experiments.methods import METHODS
from tests.support.pages import unwrapped
from tests.support.tiny_models import planted_reviews, reviews_table, tiny_encoder
from tests.support.trained_root import tiny_config
from tests.support.warehouse_rows import review, write_root


def stored(**sizes: int) -> list[dict[str, Any]]:
    """Planted reviews as rows of the reviews table, and one of three stars in each split, which has no label."""
    rows = [review(**row) for row in planted_reviews(**sizes).to_pylist()]
    return [*rows, *(review(**{**row, "review_id": f"three-{row['split']}", "star_rating": 3}) for row in rows[::150])]


@pytest.fixture
def corpus(config: Config, tmp_path: Path) -> Config:
    write_root(config.root.local_path, {"reviews": stored()})
    return tiny_config(config, tiny_encoder(tmp_path / "encoder"))


def test_a_run_out_of_time_still_writes_the_page_and_the_next_one_takes_finished_cells_into_it(
    corpus: Config, tmp_path: Path
) -> None:
    shifted = write_root(tmp_path / "other", {"reviews": stored(train=40, validation=40, test=40, seed=9)})
    output, lines = tmp_path / "docs" / "page.md", []

    def compare() -> str:
        lines.clear()
        run_compare(corpus, ComparisonOptions(200, str(shifted), 80, minutes=0), output, lines.append)
        return output.read_text()

    page = compare()
    assert all(f"| {method.title}" in page for method in METHODS.values())
    waiting = "not run: the limit of --minutes is reached; run the same command again to continue."
    assert "\n".join(unwrapped(page.splitlines())).count(waiting) == len(METHODS) + 2
    assert f"{METHODS['tfidf'].title}, 200 rows: not run" in "\n".join(lines)
    assert "reviewrisk compare --shifted-root other --rows 200 --test-rows 80" in page
    assert "torch 2" in page and "cores" in page

    reviews = reviews_table([{name: row[name] for name in COLUMNS} for row in stored()])
    other = reviews_table(
        [{name: row[name] for name in COLUMNS} for row in stored(train=40, validation=40, test=40, seed=9)]
    )
    cells = [Cell("tfidf", 200), Cell("majority", 200)]
    run_comparison(
        cells,
        prepare_inputs(reviews, other, None, corpus.model, 80),
        corpus.model,
        corpus.scratch / "compare",
        None,
        lines.append,
    )
    page = compare()
    assert [line for line in lines if line.endswith("done before")] == [
        f"cell 1 of {len(METHODS) + 2}: TF-IDF + logistic regression, 200 rows: done before",
        f"cell 2 of {len(METHODS) + 2}: majority class, 200 rows: done before",
    ]
    in_domain, shifted_part = page.split("### Quality: test, as is\n")[1].split("### Quality: shifted population")
    for part in (in_domain, shifted_part):
        [baseline] = [line for line in part.split("###")[0].splitlines() if line.startswith("| TF-IDF")]
        assert baseline.count("[") == 8, (
            "F1, macro-F1, AUC, average precision, two ECEs, Brier and log-loss, each with its interval"
        )
        [majority] = [line for line in part.split("###")[0].splitlines() if line.startswith("| majority")]
        assert "no significant gain" in majority


def test_a_root_without_reviews_is_said_to_be_empty(config: Config, tmp_path: Path) -> None:
    write_root(config.root.local_path, {})
    with pytest.raises(
        ReviewriskError, match="no labelled reviews in train, validation, test: run `reviewrisk ingest`"
    ):
        run_compare(tiny_config(config, tmp_path), ComparisonOptions(200), None, lambda _: None)


def test_a_crashed_cell_is_an_error_once_the_page_is_written(
    corpus: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashing(cells: list[Cell], *_: Any) -> list[Outcome[Cell]]:
        return [Outcome(cell, "crashed", reason="exit status 139; errors.log says more") for cell in cells]

    monkeypatch.setattr("model.experiments.compare.comparison.run_comparison", crashing)
    output = tmp_path / "page.md"
    with pytest.raises(ReviewriskError, match=r"\d+ of \d+ cells failed \(above\); the same command tries them again"):
        run_compare(corpus, ComparisonOptions(200, test_rows=80, curve_rows=400, parallel=2), output, lambda _: None)
    assert (
        "crashed: exit status 139; errors.log says more." in output.read_text()
        and "--curve-rows 400 --parallel 2" in output.read_text()
    )
    reported: list[str] = []
    with pytest.raises(ReviewriskError, match="cells failed"):
        run_compare(corpus, ComparisonOptions(200, test_rows=80), None, reported.append)
    assert "### LoRA or not" in reported, "without a file the page goes to the terminal"


@pytest.mark.parametrize(
    "options", [ComparisonOptions(200, curve_rows=200), ComparisonOptions(200, curve_rows=400, methods=("qlora",))]
)
def test_a_curve_that_cannot_be_is_refused(corpus: Config, options: ComparisonOptions) -> None:
    with pytest.raises(
        ReviewriskError, match=r"--curve-rows \d+ needs a value above --rows 200, and lora_all among the methods"
    ):
        run_compare(corpus, options, None, lambda _: None)


def test_chosen_methods_of_one_category_are_compared_with_words_alone(corpus: Config, tmp_path: Path) -> None:
    chosen = corpus.with_only("product_category=furniture")
    lines = run_compare(chosen, ComparisonOptions(200, test_rows=80, methods=("majority",)), None, lambda _: None)
    assert "reviewrisk compare --rows 200 --test-rows 80 --method majority" in lines
    assert "* Training, validation and test: only reviews with product_category=furniture." in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert any(line.startswith("| majority") for line in rows) and any(line.startswith("| TF-IDF") for line in rows)
    assert (
        not any("LoRA" in line for line in rows)
        and "Not run: it is one of TF-IDF + logistic regression and LoRA, all linear layers." in lines
    )
    with pytest.raises(ReviewriskError, match="none has product_category=no such"):
        run_compare(corpus.with_only("product_category=no such"), ComparisonOptions(200), None, lambda _: None)
    with pytest.raises(ReviewriskError, match=r"'lora' is no method .*: there are tfidf, majority, .*lora_all"):
        run_compare(corpus, ComparisonOptions(200, methods=("lora",)), None, lambda _: None)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.compare import run_compare
from jobs.config import Config
from model import comparison
from model.comparison import Cell, prepare_inputs, run_cells
from model.data import COLUMNS
from model.errors import ReviewriskError
from model.methods import METHODS
from tests.tiny_models import planted_reviews, reviews_table, tiny_encoder
from tests.trained_root import tiny_config
from tests.warehouse_rows import review, write_root


def stored(**sizes: int) -> list[dict[str, Any]]:
    """Planted reviews as rows of the reviews table, and one of three stars in each split, which has no label."""
    rows = [review(**row) for row in planted_reviews(**sizes).to_pylist()]
    return [*rows, *(review(**{**row, "review_id": f"three-{row['split']}", "star_rating": 3}) for row in rows[::150])]


@pytest.fixture
def corpus(config: Config, tmp_path: Path) -> Config:
    write_root(config.root.local_path, {"reviews": stored()})
    return tiny_config(config, tiny_encoder(tmp_path / "encoder"))


def test_a_run_out_of_time_still_writes_the_page_and_the_next_one_takes_finished_cells_into_it(corpus: Config, tmp_path: Path) -> None:
    shifted = write_root(tmp_path / "other", {"reviews": stored(train=40, validation=40, test=40, seed=9)})
    output, lines = tmp_path / "docs" / "page.md", []

    def compare() -> str:
        lines.clear()
        run_compare(corpus, str(shifted), 200, 80, 0, output, None, lines.append)
        return output.read_text()

    page = compare()
    assert all(f"| {method.title}" in page for method in METHODS.values())
    assert page.count("not run, as 0 minutes were over") == len(METHODS) + 2
    assert f"{METHODS['tfidf'].title}, 200 rows: not run" in "\n".join(lines)
    assert "reviewrisk compare --shifted-root other --rows 200 --test-rows 80" in page
    assert "torch 2" in page and "cores" in page

    reviews = reviews_table([{name: row[name] for name in COLUMNS} for row in stored()])
    other = reviews_table([{name: row[name] for name in COLUMNS} for row in stored(train=40, validation=40, test=40, seed=9)])
    cells = [Cell("tfidf", 200), Cell("majority", 200)]
    run_cells(cells, prepare_inputs(reviews, other, None, corpus.model, 80), corpus.model, corpus.scratch / "compare", None, lines.append)
    page = compare()
    assert [line for line in lines if line.endswith("done before")] == [
        f"cell 1 of {len(METHODS) + 2}: TF-IDF + logistic regression, 200 rows: done before",
        f"cell 2 of {len(METHODS) + 2}: majority class, 200 rows: done before",
    ]
    in_domain, shifted_part = page.split("### Quality: test, as is\n")[1].split("### Quality: shifted population")
    for part in (in_domain, shifted_part):
        [baseline] = [line for line in part.split("###")[0].splitlines() if line.startswith("| TF-IDF")]
        assert baseline.count("[") == 8, "F1, macro-F1, AUC, average precision, two ECEs, Brier and log-loss, each with its interval"
        [majority] = [line for line in part.split("###")[0].splitlines() if line.startswith("| majority")]
        assert "no significant gain" in majority


def test_a_root_without_reviews_is_said_to_be_empty(config: Config, tmp_path: Path) -> None:
    write_root(config.root.local_path, {})
    with pytest.raises(ReviewriskError, match="no labelled reviews to compare on: run `reviewrisk ingest`"):
        run_compare(tiny_config(config, tmp_path), None, 200, None, None, None, None, lambda _: None)


def test_a_crashed_cell_is_an_error_once_the_page_is_written(corpus: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_child", lambda work, report: 137)
    output = tmp_path / "page.md"
    with pytest.raises(ReviewriskError, match=r"\d+ of \d+ cells failed \(above\); the same command tries them again"):
        run_compare(corpus, None, 200, 80, None, output, None, lambda _: None, curve_rows=400, parallel=2)
    assert "failed with exit status 137" in output.read_text() and "--curve-rows 400" in output.read_text()

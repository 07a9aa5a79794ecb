from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.experiments.compare.comparison import cell_fingerprint, planned_cells, run_comparison
from model.experiments.compare.inputs import Cell, Inputs, prepare_inputs
from model.experiments.methods import METHODS
from model.settings import ModelSettings
from tests.support.comparisons import silent
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings

REVISION = "sha256:0"


def test_cells_are_every_method_with_a_curve_of_halved_sizes_after_those_it_is_of(inputs: Inputs) -> None:
    cells = planned_cells(300, inputs, 1_000_000)
    assert [cell.method for cell in cells if cell.rows == 300] == list(METHODS)
    curve = [place for place, cell in enumerate(cells) if cell.rows != 300]
    assert [cells[place] for place in curve] == [
        Cell("tfidf", 400),
        Cell("tfidf", 150),
        Cell("lora_all", 400),
        Cell("lora_all", 150),
    ]
    assert curve == [4, 5, 6, 7] and cells[3] == Cell("lora_all", 300)
    assert len(planned_cells(1_000_000, inputs)) == len(METHODS) + 4, (
        "no size beyond the rows there are, and none twice"
    )


def test_fingerprints_follow_what_matters_to_the_method_and_nothing_else(settings: ModelSettings) -> None:
    def changed(section: str, **values: Any) -> ModelSettings:
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})

    def prints(one: ModelSettings, checksum: str = "0", revision: str = REVISION, rows: int = 200) -> dict[str, str]:
        return {
            name: cell_fingerprint(Cell(name, rows), checksum, one, revision)
            for name in ("tfidf", "linear_head", "frozen", "lora_all", "full")
        }

    base = prints(settings)
    assert len(set(base.values())) == len(base)

    def moved(other: dict[str, str]) -> set[str]:
        return {name for name, value in other.items() if value != base[name]}

    everything = set(base)
    assert moved(prints(changed("lora", rank=8))) == {"lora_all"}
    assert moved(prints(changed("training", epochs=4))) == {"frozen", "lora_all", "full"}
    assert moved(prints(changed("training", learning_rate=1e-4))) == {"lora_all"}, "the others have rates of their own"
    assert moved(prints(changed("training", threads=2, max_rows=500))) == set()
    assert moved(prints(changed("training", seed=5))) == everything
    assert moved(prints(changed("calibration", method="none"))) == everything
    assert moved(prints(settings, checksum="1")) == moved(prints(settings, rows=100)) == everything
    assert moved(prints(settings, revision="sha256:1")) == everything - {"tfidf"}


def test_finished_cells_are_read_and_not_run_again(settings: ModelSettings, inputs: Inputs, tmp_path: Path) -> None:
    cells, lines = [Cell("tfidf", 200), Cell("majority", 200), Cell("qlora", 200)], []
    first = run_comparison(cells, inputs, settings, tmp_path, None, lines.append)
    assert first[0].figures and first[1].figures
    if not torch.cuda.is_available():
        assert first[2].ending == "refused" and "needs an NVIDIA GPU" in first[2].in_words
    lines.clear()
    second = run_comparison(cells[:2], inputs, settings, tmp_path, 0, lines.append)
    assert [line.rpartition(": ")[2] for line in lines if line.startswith("cell")] == ["done before", "done before"]
    assert second == first[:2]
    other = replace(inputs, pairs=None)
    assert [outcome.ending for outcome in run_comparison(cells[:2], other, settings, tmp_path, 0, silent)] == [
        "waiting",
        "waiting",
    ], "other inputs have cells of their own"


def test_a_cells_process_gives_the_very_figures_that_this_one_does(
    figures: dict[str, dict[str, Any]], settings: ModelSettings, inputs: Inputs, tmp_path: Path
) -> None:
    [outcome] = run_comparison([Cell("lora_all", 200)], inputs, settings, tmp_path, None, silent)
    assert outcome.figures is not None
    for name in ("populations", "logits", "calibrator", "threshold", "parameters", "forgetting"):
        assert outcome.figures[name] == figures["lora_all"][name], name


def test_cells_beside_each_other_share_the_cores_and_come_back_in_order(
    settings: ModelSettings, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    lines: list[str] = []
    cells = [Cell("frozen", 200), Cell("tfidf", 200), Cell("majority", 200)]
    free = settings.model_copy(update={"training": settings.training.model_copy(update={"threads": None})})
    outcomes = run_comparison(cells, inputs, free, tmp_path, None, lines.append, parallel=3)
    assert [outcome.cell for outcome in outcomes] == cells
    assert [outcome.figures["run_on"]["threads"] for outcome in outcomes if outcome.figures] == [2, 2, 2]
    starts = [place for place, line in enumerate(lines) if line.startswith("cell ")]
    assert any(line.startswith("  [1] ") for line in lines), "lines say whose they are"
    assert starts[2] < next(place for place, line in enumerate(lines) if "epoch train_loss" in line)
    assert run_comparison(cells, inputs, settings, tmp_path, None, silent)[0].figures == outcomes[0].figures, (
        "threads are no part of a cell's name"
    )


def test_a_cell_that_cannot_run_says_why_and_the_others_still_run(tmp_path: Path) -> None:
    settings = tiny_settings(tiny_encoder(tmp_path / "encoder", "deberta-v2"), epochs=1)
    diverging = settings.model_copy(update={"training": settings.training.model_copy(update={"learning_rate": 1e30})})
    inputs = prepare_inputs(planted_reviews(), None, None, settings, None)
    refused, diverged, done = run_comparison(
        [Cell("prefix_tuning", 100), Cell("lora_all", 100), Cell("majority", 100)],
        inputs,
        diverging,
        tmp_path / "cells",
        None,
        silent,
    )
    assert refused.ending == "refused" and refused.in_words.startswith(
        "not run: prefix tuning is not made for deberta-v2"
    )
    assert diverged.ending == "impossible" and diverged.in_words.startswith("failed: The loss is")
    assert done.figures is not None


def test_a_killed_cell_goes_on_from_its_last_epoch(settings: ModelSettings, inputs: Inputs, tmp_path: Path) -> None:
    long = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 12, "patience": 12})})

    def dies(line: str) -> None:
        if line.strip().startswith("3 "):  # the third epoch's line of figures
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_comparison([Cell("tfidf", 400), Cell("frozen", 400)], inputs, long, tmp_path, None, dies)
    assert len(list(tmp_path.glob("*.json"))) == 1, "TF-IDF is there, the stopped cell is not"
    lines: list[str] = []
    outcomes = run_comparison([Cell("tfidf", 400), Cell("frozen", 400)], inputs, long, tmp_path, None, lines.append)
    assert any(line.endswith("done before") for line in lines)
    assert any("Training goes on after epoch" in line for line in lines)
    assert outcomes[1].figures is not None and outcomes[1].figures["training"]["epochs"] == 12

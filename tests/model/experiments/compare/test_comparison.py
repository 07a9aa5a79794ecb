from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from model.data.batches import TokenisedReviews, tokenise
from model.data.reviews import LabelledReviews, labelled_reviews
from model.errors import ReviewriskError
from model.evaluation.minimal_pairs import load_pairs
from model.evaluation.views import rows_of
from model.experiments.compare import comparison
from model.experiments.compare.cell import cell_logits, run_cell
from model.experiments.compare.comparison import (
    PACKAGES,
    POPULATIONS,
    Cell,
    Inputs,
    Outcome,
    fingerprint,
    planned_cells,
    prepare_inputs,
    read_inputs,
    rows_for,
    run_cells,
    write_inputs,
)
from model.experiments.compare.page import page
from model.experiments.compare.rule import TITLES, Comparison, is_significant, lora_or_not
from model.experiments.forgetting import embedding_drift, masked_token_loss, probe_loss, probe_task
from model.experiments.methods import METHODS, read_texts
from model.network.backbone import load_backbone, make_classifier
from model.settings import ModelSettings
from model.text.compose import model_text
from tests import ROOT
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings, tiny_tokenizer, vocabulary

PAIRS = ROOT / "tests" / "data" / "minimal_pairs.jsonl"
REVISION = "sha256:0"


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    return tiny_settings(tiny_encoder(tmp_path_factory.mktemp("encoder"), "bert"), epochs=1, learning_rate=5e-3)


@pytest.fixture(scope="module")
def inputs(settings: ModelSettings) -> Inputs:
    return prepare_inputs(planted_reviews(), planted_reviews(40, 40, 40, seed=9), PAIRS, settings, 90)


@pytest.fixture(scope="module")
def figures(
    settings: ModelSettings, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The figures of one cell of each kind, run in this process, as JSON gives them back."""
    names = ("tfidf", "majority", "linear_head", "lora_all", "full")
    return {
        name: json.loads(
            json.dumps(
                run_cell(Cell(name, 200), inputs, settings, tmp_path_factory.mktemp(name), silent), allow_nan=False
            )
        )
        for name in names
    }


def test_the_drawn_test_rows_are_whole_products_and_no_more_than_asked_for(
    inputs: Inputs, settings: ModelSettings
) -> None:
    every = labelled_reviews(planted_reviews(), "test")
    test = inputs.data.test
    assert 60 < len(test) <= 90
    assert len(inputs.data.test_overlap.exact) == len(inputs.data.test_product_is_new) == len(test)
    sizes = {product: every.product_ids.count(product) for product in set(every.product_ids)}
    assert {product: test.product_ids.count(product) for product in set(test.product_ids)}.items() <= sizes.items()
    again = prepare_inputs(planted_reviews(), None, None, settings, 90)
    assert again.data.test.review_ids == test.review_ids
    assert again.checksum != inputs.checksum


def test_the_shifted_population_has_the_rows_of_every_split(inputs: Inputs) -> None:
    assert inputs.shifted is not None
    assert {review_id.split("-")[0] for review_id in inputs.shifted.review_ids} == {"train", "validation", "test"}


def test_too_few_rows_for_both_classes_are_refused(settings: ModelSettings, inputs: Inputs) -> None:
    with pytest.raises(ReviewriskError, match=r"the drawn test rows \(\d\) do not hold both .* allow more rows"):
        prepare_inputs(planted_reviews(), None, None, settings, 4)
    with pytest.raises(ReviewriskError, match="a draw of 1 training rows"):
        rows_for(Cell("tfidf", 1), inputs.data, 17)


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


def test_a_smaller_draw_is_part_of_a_larger_one(inputs: Inputs) -> None:
    small, large = (set(rows_for(Cell("tfidf", rows), inputs.data, 17).train.review_ids) for rows in (100, 200))
    assert len(small) == 100 and small < large


def test_inputs_come_back_from_disk_as_they_were(inputs: Inputs, tmp_path: Path) -> None:
    back = read_inputs(write_inputs(inputs, tmp_path / "inputs"))
    assert back.checksum == inputs.checksum
    assert np.array_equal(back.data.test_overlap.near, inputs.data.test_overlap.near)
    assert np.array_equal(back.data.test_product_is_new, inputs.data.test_product_is_new)
    assert (back.data.test.headlines, back.data.test.bodies) == (inputs.data.test.headlines, inputs.data.test.bodies)
    alone = read_inputs(write_inputs(replace(inputs, shifted=None, pairs=None), tmp_path / "alone"))
    assert alone.shifted is None and alone.pairs is None


def with_another_first(values: Any) -> Any:
    """The column with another value in its first row."""
    if isinstance(values, list):
        return ["another", *values[1:]]
    return np.concatenate([~values[:1] if values.dtype == np.bool_ else values[:1] + 1, values[1:]])


def changed(reviews: LabelledReviews) -> list[LabelledReviews]:
    """The reviews, in each with another value in one column."""
    return [
        replace(reviews, **{field.name: with_another_first(getattr(reviews, field.name))}) for field in fields(reviews)
    ]


def test_the_checksum_follows_every_value_that_a_cell_reads(inputs: Inputs, tmp_path: Path) -> None:
    data, shifted = inputs.data, inputs.shifted
    assert shifted is not None
    others = [
        replace(data, **{part: one})
        for part in ("train", "early_stopping", "calibration", "selection", "test")
        for one in changed(getattr(data, part))
    ]
    others += [
        replace(
            data,
            test_overlap=replace(data.test_overlap, **{name: with_another_first(getattr(data.test_overlap, name))}),
        )
        for name in ("exact", "near")
    ]
    others += [replace(data, test_product_is_new=with_another_first(data.test_product_is_new))]
    others += [replace(data, rows={**data.rows, "test": 0}), replace(data, data_version="another")]
    others += [
        replace(data, test=replace(data.test, headlines=[headline, *data.test.headlines[1:]]))
        for headline in ("", "None", "null")
    ]
    every = [
        inputs,
        *(replace(inputs, data=one) for one in others),
        *(replace(inputs, shifted=one) for one in changed(shifted)),
    ]
    (tmp_path / "pairs.jsonl").write_text(PAIRS.read_text().replace("a", "e", 1))
    every += [
        replace(inputs, shifted=None),
        replace(inputs, pairs=None),
        replace(inputs, pairs=tmp_path / "pairs.jsonl"),
    ]
    assert len({one.checksum for one in every}) == len(every) == 1 + 6 * 9 + 2 + 1 + 2 + 3 + 3


def test_fingerprints_follow_what_matters_to_the_method_and_nothing_else(settings: ModelSettings) -> None:
    def changed(section: str, **values: Any) -> ModelSettings:
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})

    def prints(one: ModelSettings, checksum: str = "0", revision: str = REVISION, rows: int = 200) -> dict[str, str]:
        return {
            name: fingerprint(Cell(name, rows), checksum, one, revision)
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


@pytest.mark.parametrize("package", PACKAGES)
def test_another_version_of_a_package_has_cells_of_its_own(
    settings: ModelSettings, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    cells = [Cell(name, 200) for name in ("tfidf", "lora_all")]
    before = [fingerprint(cell, "0", settings, REVISION) for cell in cells]
    monkeypatch.setattr(comparison, "version", lambda name: "0.0.1" if name == package else version(name))
    after = [fingerprint(cell, "0", settings, REVISION) for cell in cells]
    assert set(before).isdisjoint(after)


def test_a_cell_says_what_it_trained_on_which_rows_and_what_that_cost(
    figures: dict[str, dict[str, Any]], inputs: Inputs
) -> None:
    lora, tfidf, probe = figures["lora_all"], figures["tfidf"], figures["linear_head"]
    assert lora["parameters"] == {"adapter": 3584, "head": 1122}
    assert probe["parameters"] == {"adapter": 0, "head": 33}
    assert (lora["rows"], lora["training"]["epochs"], lora["training"]["learning_rate"]) == (200, 1, 5e-3)
    assert figures["full"]["training"]["learning_rate"] == 5e-5
    assert lora["training"]["rows_per_second"] > 0 and lora["training"]["memory_mib"] >= 0
    assert lora["cost"].keys() == {"plain", "unmerged", "merged"} and probe["cost"].keys() == {"plain", "unmerged"}
    assert tfidf["cost"].keys() == {"unmerged"} and figures["majority"]["cost"] is None
    rows = {name: found["rows"] for name, found in lora["populations"].items()}
    data, test = inputs.data, len(inputs.data.test)
    assert inputs.shifted is not None
    assert rows == {
        "validation": len(data.calibration) + len(data.selection),
        "as_is": test,
        "without_headline": test,
        "ratings_masked": test,
        "no_default_headline": int(rows_of("no_default_headline", data).sum()),
        "without_train_texts": int((~data.test_overlap.either).sum()),
        "unseen_products": int(data.test_product_is_new.sum()),
        "shifted": len(inputs.shifted),
    }
    assert len(lora["logits"]["pairs"]) == 2 * len(PAIRS.read_text().splitlines())
    assert lora["forgetting"].keys() == {"test", "shifted"} and lora["seconds"] > 0
    assert lora["forgetting"]["test"]["rows"] == test and lora["forgetting"]["shifted"]["rows"] == len(inputs.shifted)
    assert all(found["drift"] > 1e-6 and found["masked_token"] is None for found in lora["forgetting"].values())


def test_each_population_is_scored_as_it_is_to_be_read(inputs: Inputs) -> None:
    """A score that is the text's place in a list of all texts says which text it was of."""
    known: list[str] = []

    def score(texts: list[str]) -> np.ndarray:
        known.extend(texts)
        return np.arange(len(known) - len(texts), len(known))

    test = replace(inputs.data.test, headlines=["Five Stars, works"] * len(inputs.data.test))
    logits = cell_logits(score, replace(inputs.data, test=test), inputs, "keep")
    assert len(known) == len(set(known)), "a text that stands in several of them is scored once"
    read = {name: [known[int(place)] for place in places] for name, places in logits.items()}
    assert (
        read["as_is"] == test.texts
        and read["fitting"] == inputs.data.calibration.texts
        and read["choosing"] == inputs.data.selection.texts
    )
    assert read["without_headline"] == [model_text("Five Stars, works", body, "drop") for body in test.bodies]
    assert read["ratings_masked"] == [model_text("Five Stars, works", body, "mask_ratings") for body in test.bodies]
    assert not any("Five Stars" in text for text in read["ratings_masked"]) and all(
        "works" in text for text in read["ratings_masked"]
    )
    assert inputs.shifted is not None and read["shifted"] == inputs.shifted.texts
    pairs = load_pairs(PAIRS)
    assert read["pairs"] == [
        model_text(side.headline, side.body, "keep") for pair in pairs for side in (pair.a, pair.b)
    ]


def test_words_tell_the_planted_label_and_the_majority_class_flags_nobody(figures: dict[str, dict[str, Any]]) -> None:
    assert figures["tfidf"]["populations"]["as_is"]["figures"]["auc"]["value"] > 0.99
    assert figures["linear_head"]["populations"]["shifted"]["figures"]["auc"]["value"] > 0.95
    majority = figures["majority"]["populations"]["as_is"]["figures"]
    assert (majority["f1"]["value"], majority["auc"]["value"], majority["flagged_share"]["value"]) == (0.0, 0.5, 0.0)


def test_finished_cells_are_read_and_not_run_again(settings: ModelSettings, inputs: Inputs, tmp_path: Path) -> None:
    cells, lines = [Cell("tfidf", 200), Cell("majority", 200), Cell("qlora", 200)], []
    first = run_cells(cells, inputs, settings, tmp_path, None, lines.append)
    assert first[0].figures and first[1].figures
    if not torch.cuda.is_available():
        assert first[2].not_run == "not run: needs CUDA and bitsandbytes"
    lines.clear()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    second = run_cells(cells[:2], inputs, settings, tmp_path, 0, lines.append)
    assert [line.rpartition(": ")[2] for line in lines if line.startswith("cell")] == ["done before", "done before"]
    assert [outcome.figures for outcome in second] == [outcome.figures for outcome in first[:2]]
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert not list((tmp_path / "work").iterdir()), "a finished cell leaves no checkpoints"


def test_cells_beside_each_other_share_the_cores_and_come_back_in_order(
    settings: ModelSettings, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    lines: list[str] = []
    cells = [Cell("frozen", 200), Cell("tfidf", 200), Cell("majority", 200)]
    free = settings.model_copy(update={"training": settings.training.model_copy(update={"threads": None})})
    outcomes = run_cells(cells, inputs, free, tmp_path, None, lines.append, parallel=3)
    assert [outcome.cell for outcome in outcomes] == cells
    assert [outcome.figures["run_on"]["threads"] for outcome in outcomes if outcome.figures] == [2, 2, 2]
    starts = [place for place, line in enumerate(lines) if line.startswith("cell ")]
    assert any(line.startswith("  [1] ") for line in lines), "lines say whose they are"
    assert starts[2] < next(place for place, line in enumerate(lines) if "epoch train_loss" in line)
    assert run_cells(cells, inputs, settings, tmp_path, None, silent)[0].figures == outcomes[0].figures, (
        "threads are no part of a cell's name"
    )


def test_a_cell_that_crashes_is_told_from_one_that_cannot_run(
    settings: ModelSettings, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_child", lambda work, report: 137)
    [crashed] = run_cells([Cell("majority", 200)], inputs, settings, tmp_path, None, silent)
    assert crashed.failed and str(crashed.not_run).startswith("failed with exit status 137")


def test_a_cell_that_cannot_run_says_why_and_the_others_still_run(tmp_path: Path) -> None:
    settings = tiny_settings(tiny_encoder(tmp_path / "encoder", "deberta-v2"), epochs=1)
    inputs = prepare_inputs(planted_reviews(), None, None, settings, None)
    refused, done = run_cells(
        [Cell("prefix_tuning", 100), Cell("majority", 100)], inputs, settings, tmp_path / "cells", None, silent
    )
    assert (
        refused.figures is None
        and not refused.failed
        and str(refused.not_run).startswith("not run: prefix tuning is not made for deberta-v2")
    )
    assert done.figures is not None


def running(folder: Path) -> list[int]:
    """Processes of cells whose command names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"model.experiments.compare.cell" in arguments and any(
            str(folder).encode() in argument for argument in arguments
        ):
            found.append(int(path.parent.name))
    return found


def wait_until(condition: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the cell's process in /proc")
def test_a_killed_run_loses_nothing_but_the_running_cell_which_goes_on_from_its_checkpoint(
    settings: ModelSettings, tmp_path: Path
) -> None:
    long = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 40, "patience": 40})})
    (tmp_path / "settings.json").write_text(long.model_dump_json())
    script = (
        "import sys; from pathlib import Path; from model.experiments.compare.comparison import *; from model.settings"
        " import ModelSettings;from tests.support.tiny_models import planted_reviews; folder ="
        " Path(sys.argv[1]);settings = ModelSettings.model_validate_json((folder / 'settings.json').read_text());inputs"
        " = prepare_inputs(planted_reviews(), None, None, settings, None);run_cells([Cell('tfidf', 400), Cell('frozen',"
        " 400)], inputs, settings, folder / 'cells', None, print)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    cells = tmp_path / "cells"
    wait_until(lambda: list(cells.glob("work/*/training/epoch-*")) or parent.poll() is not None)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not running(cells), 30)
    assert len(list(cells.glob("*.json"))) == 1, "TF-IDF is there, the killed cell is not"
    inputs = prepare_inputs(planted_reviews(), None, None, long, None)
    lines: list[str] = []
    outcomes = run_cells([Cell("tfidf", 400), Cell("frozen", 400)], inputs, long, cells, None, lines.append)
    assert any(line.endswith("done before") for line in lines)
    assert any("Training goes on after epoch" in line for line in lines)
    assert outcomes[1].figures is not None and outcomes[1].figures["training"]["epochs"] == 40


def test_a_cell_ends_when_whoever_started_it_is_gone(settings: ModelSettings, inputs: Inputs, tmp_path: Path) -> None:
    """Its output goes nowhere here, so that no broken pipe can be what ends it."""
    long = settings.model_copy(
        update={"training": settings.training.model_copy(update={"epochs": 2000, "patience": 2000})}
    )
    place = tmp_path / "cell.json"
    source = write_inputs(inputs, tmp_path / "inputs")
    spec = {
        "cell": {"method": "frozen", "rows": 400},
        "inputs": str(source),
        "settings": long.model_dump(mode="json"),
        "place": str(place),
    }
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "model.experiments.compare.cell", str(tmp_path / "work" / "spec.json")]
    cell = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: list(tmp_path.glob("work/training/epoch-*")) or cell.poll() is not None)
        assert cell.stdin is not None
        cell.stdin.close()
        assert cell.wait(30) == 1
    finally:
        cell.kill()
    assert not place.exists()


def made(figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings) -> Comparison:
    outcomes = [
        Outcome(Cell(name, 200), figures.get(name), None if name in figures else "not run: because") for name in METHODS
    ]
    return Comparison(outcomes, inputs, settings, 200)


def test_the_page_has_a_row_for_every_method_and_marks_gains_that_are_not_significant(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    comparison = made(figures, inputs, settings)
    lines = page(comparison, "reviewrisk compare", ["a machine"])
    text = "\n".join(lines)
    for head in (
        "what it costs\n",
        "Forgetting\n",
        "Learning curve\n",
        "Minimal pairs\n",
        *(f"### Quality: {title}\n" for title in TITLES.values()),
    ):
        assert head in text
    quality = text.split("### Quality: test, as is\n")[1].split("###")[0]
    rows = {line.split("|")[1].strip(): line for line in quality.splitlines() if line.startswith("| ")}
    assert "* CPU threads of each cell: 1." in text
    assert rows.keys() - {"method"} == {method.title for method in METHODS.values()}
    for name, found in figures.items():
        value = found["populations"]["as_is"]["figures"]["f1"]["value"]
        assert f"| {value:.3f} [" in " ".join(rows[METHODS[name].title].split())
        assert ("no significant gain" in rows[METHODS[name].title]) == (name != "tfidf"), (
            "TF-IDF has an F1 of 1 here, so nothing gains over it"
        )
    assert "not run" in rows[METHODS["dora_all"].title]
    swapped = {**figures, "lora_all": figures["tfidf"], "tfidf": figures["lora_all"]}
    [gaining] = [line for line in page(made(swapped, inputs, settings), "", []) if line.startswith("| LoRA, all")][:1]
    assert "no significant gain" not in gaining
    assert f"{METHODS['dora_all'].title}, 200 rows: not run: because" in text
    assert "| scoped_negation |" in text and "| all |" in text
    forgetting = text.split("### Forgetting")[1].split("###")[0]
    assert "not available" in forgetting and "TF-IDF" not in forgetting
    for name, title in (("test", "test"), ("shifted", "shifted population")):
        [row] = [
            line
            for line in forgetting.splitlines()
            if [cell.strip() for cell in line.split("|")[1:3]] == [METHODS["lora_all"].title, title]
        ]
        found = figures["lora_all"]["forgetting"][name]
        assert (
            f"{found['drift']:.4f}" in row
            and found["probe"]["task"] in row
            and f"{found['probe']['after'] - found['probe']['before']:+.4f}" in row
        )
    table = text.split("what it costs")[1].split("###")[0].splitlines()
    [costs] = [
        line for line in table if line.split("|")[1:2] and line.split("|")[1].strip() == METHODS["lora_all"].title
    ]
    cost, training = figures["lora_all"]["cost"], figures["lora_all"]["training"]
    shown = [cell.strip() for cell in costs.split("|")[2:-1]]
    assert shown[:3] == ["3,584", "1,122", "0.005"] and shown[3] == f"{200 / training['rows_per_second']:,.0f}"
    assert shown[6:] == [
        f"{cost['unmerged']:,.2f}",
        f"{cost['unmerged'] / cost['plain']:.2f}",
        f"{cost['merged'] / cost['plain']:.2f}",
    ]
    [curve] = [
        line for line in text.split("Learning curve")[1].split("###")[0].splitlines() if line.startswith("| 200")
    ]
    values = [figures[name]["populations"]["as_is"]["figures"]["f1"]["value"] for name in ("tfidf", "lora_all")]
    assert f"{values[0]:.3f} [" in curve and f"{values[1]:.3f} [" in curve and f"{values[1] - values[0]:.3f} [" in curve


def test_a_gain_is_the_difference_of_the_two_cells_on_the_same_rows(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    comparison = made(figures, inputs, settings)
    for population in POPULATIONS:
        gain = comparison.gain(figures["tfidf"], figures["full"], population)
        assert gain is not None
        one, other = (figures[name]["populations"][population]["figures"]["f1"]["value"] for name in ("tfidf", "full"))
        assert gain["f1"]["value"] == pytest.approx(one - other)
    assert is_significant(comparison.gain(figures["tfidf"], figures["full"], "as_is"))
    assert not is_significant(comparison.gain(figures["tfidf"], figures["tfidf"], "as_is"))


def test_the_rule_follows_the_figures(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    worse = "\n".join(lora_or_not(made(figures, inputs, settings)))
    assert (
        "test, as is: TF-IDF is enough" in worse
        and "Frozen encoder: a frozen encoder with a linear head is enough" in worse
    )
    assert worse.startswith(f"Validation's choice: {METHODS['tfidf'].title}, average precision 1.000")
    swapped = {
        **figures,
        "lora_all": {**figures["tfidf"], "method": "lora_all"},
        "tfidf": {**figures["lora_all"], "method": "tfidf"},
    }
    better = "\n".join(lora_or_not(made(swapped, inputs, settings)))
    assert "test, as is: LoRA gains" in better and "shifted population: LoRA gains" in better
    assert "Full fine-tuning: LoRA is enough" in better
    nothing = {name: found for name, found in figures.items() if name != "lora_all"}
    assert lora_or_not(made(nothing, inputs, settings))[1].startswith("TF-IDF or LoRA: not known yet")


def test_a_gain_that_is_not_shown_is_not_called_none(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    good, bad = figures["tfidf"], figures["full"]
    odd = np.arange(len(inputs.data.test)) % 2 == 1

    def mixed(rows: np.ndarray) -> dict[str, Any]:
        """Right on these test rows, as TF-IDF is."""
        logits = {"as_is": np.where(rows, 20.0, 1.0) * (2 * np.where(rows, inputs.data.test.labels, 0) - 1)}
        return {
            **bad,
            "calibrator": good["calibrator"],
            "threshold": 0.5,
            "logits": {**bad["logits"], **{name: values.tolist() for name, values in logits.items()}},
        }

    alike = {**figures, "lora_all": {**mixed(odd), "method": "lora_all"}, "full": mixed(~odd)}
    [line] = [line for line in lora_or_not(made(alike, inputs, settings)) if line.startswith("Full fine-tuning")]
    assert "no gain shown, up to +0." in line and "LoRA is enough" not in line
    for method in ("lora_8bit", "qlora"):
        quantised = {**figures, "lora_all": figures["tfidf"], method: figures["full"]}
        [line] = [line for line in lora_or_not(made(quantised, inputs, settings)) if "accuracy tax" in line]
        loss = (
            figures["full"]["populations"]["as_is"]["figures"]["f1"]["value"]
            - figures["tfidf"]["populations"]["as_is"]["figures"]["f1"]["value"]
        )
        assert line.startswith(METHODS[method].title) and f"{loss:.3f} [" in line


def test_the_rule_says_from_which_size_on_lora_gains(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    good, bad = figures["tfidf"], figures["full"]

    def rule(*gains: bool) -> str:
        outcomes = []
        for size, is_better in zip((50, 100, 200), gains, strict=True):
            outcomes += [
                Outcome(Cell("lora_all", size), good if is_better else bad),
                Outcome(Cell("tfidf", size), bad if is_better else good),
            ]
        return "\n".join(lora_or_not(Comparison(outcomes, inputs, settings, 200)))

    assert "LoRA gains over TF-IDF at every size tried from 100 training rows on; no sure gain with 50." in rule(
        False, True, True
    )
    assert "from 200 training rows on; no sure gain with 100." in rule(True, False, True)
    assert "from the smallest size tried on, 50 training rows" in rule(True, True, True)
    assert "no gain of LoRA over TF-IDF is shown at the largest size tried, 200 training rows" in rule(
        True, True, False
    )


def test_an_untouched_encoder_has_forgotten_nothing(settings: ModelSettings, inputs: Inputs) -> None:
    backbone = load_backbone(settings.backbone)
    classifier = make_classifier(backbone, 0.2, 17)
    tokens = tokenise(inputs.data.test, backbone.tokenizer, 64)
    before, after = (read_texts(classifier, tokens, 0).pooled for _ in range(2))
    assert embedding_drift(before, after) == pytest.approx(0, abs=1e-9)
    task = probe_task(inputs.data.test)
    assert task is not None
    assert probe_loss(before, task[1], inputs.data.test.product_ids) == probe_loss(
        after, task[1], inputs.data.test.product_ids
    )


def test_drift_is_the_mean_cosine_distance() -> None:
    before = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)
    after = np.array([[5, 0], [7, 0], [-1, 0]], dtype=np.float32)
    assert embedding_drift(before, after) == pytest.approx((0 + 1 + 2) / 3)


def test_a_probe_reads_what_the_vectors_hold_and_misses_what_they_have_lost(inputs: Inputs) -> None:
    reviews = inputs.data.train
    task = probe_task(reviews)
    assert task is not None
    name, classes = task
    assert name == "product category" and set(classes) == {"furniture", "kitchen", "unknown"}
    generator = np.random.default_rng(1)
    drawn = generator.choice(sorted(set(classes)), size=len(reviews))
    noise = generator.normal(size=(len(reviews), 4)).astype(np.float32)
    told = np.stack([drawn == category for category in sorted(set(drawn))], axis=1).astype(np.float32)
    known, lost = (probe_loss(vectors, drawn, reviews.product_ids) for vectors in (np.hstack([told, noise]), noise))
    assert known < 0.6 * lost and lost == pytest.approx(np.log(3), abs=0.05)


def test_without_several_categories_the_probe_asks_whether_the_purchase_was_verified(inputs: Inputs) -> None:
    reviews = replace(inputs.data.train, categories=["furniture"] * len(inputs.data.train))
    task = probe_task(reviews)
    assert task is not None and task[0] == "verified purchase" and set(task[1]) == {"yes", "no"}
    assert probe_task(replace(reviews, is_verified=np.zeros(len(reviews), dtype=np.bool_))) is None


IDS = torch.tensor([[2, *range(40, 80), 3]])


@pytest.fixture
def with_masked_token_head(tmp_path: Path) -> ModelSettings:
    """Settings of an encoder whose checkpoint has a head that guesses masked tokens, and has learnt to."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=len(vocabulary()), **shape))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path / "masked"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return tiny_settings(folder, epochs=1)


def test_the_page_shows_what_full_fine_tuning_does_to_masked_tokens(
    with_masked_token_head: ModelSettings, inputs: Inputs, tmp_path: Path
) -> None:
    found = json.loads(
        json.dumps(run_cell(Cell("full", 200), inputs, with_masked_token_head, tmp_path / "cell", silent))
    )
    lines = page(Comparison([Outcome(Cell("full", 200), found)], inputs, with_masked_token_head, 200), "command", [])
    for population, title in (("test", "test"), ("shifted", "shifted population")):
        losses = found["forgetting"][population]["masked_token"]
        assert losses["before"] != losses["after"]
        [row] = [line for line in lines if re.match(rf"\| full fine-tuning +\| +{title} \|", line)]
        shown = [cell.strip() for cell in row.split("|")[-4:-1]]
        assert shown == [
            f"{losses['before']:.4f}",
            f"{losses['after']:.4f}",
            f"{losses['after'] - losses['before']:+.4f}",
        ]


def test_masked_token_loss_is_measured_where_the_checkpoint_has_the_head(
    settings: ModelSettings, with_masked_token_head: ModelSettings
) -> None:
    backbone = load_backbone(with_masked_token_head.backbone)
    tokens = TokenisedReviews([IDS[0].numpy().astype(np.int32)] * 30, np.zeros(30, dtype=np.int64))
    untouched = masked_token_loss(backbone.encoder, backbone, tokens, 17)
    assert untouched is not None and untouched < 0.9 * np.log(len(vocabulary())), (
        "better than chance on the words it has learnt"
    )
    assert masked_token_loss(backbone.encoder, backbone, tokens, 17) == untouched
    with torch.no_grad():
        for parameter in backbone.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    changed = masked_token_loss(backbone.encoder, backbone, tokens, 17)
    assert changed is not None and changed > 1.2 * untouched
    bare = load_backbone(settings.backbone)
    assert masked_token_loss(bare.encoder, bare, tokens, 17) is None


def test_the_greatest_size_of_the_curve_is_shown_in_every_population_and_on_the_pairs(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    outcomes = [Outcome(Cell(name, rows), figures[name]) for name in ("tfidf", "lora_all") for rows in (200, 400)]
    text = "\n".join(page(Comparison(outcomes, inputs, settings, 200), "", []))
    quality = [part for part in text.split("### ") if part.startswith("Quality")]
    assert len(quality) == len(POPULATIONS)
    assert all(
        "| LoRA, all linear layers, 400 rows" in part and "| TF-IDF + logistic regression, 400 rows" in part
        for part in quality
    )
    assert "TF-IDF + logistic regression, 400 rows | LoRA, all linear layers, 400 rows" in " ".join(
        text.split("### Minimal pairs")[1].split()
    )
    without = "\n".join(
        page(
            Comparison([*outcomes[:3], Outcome(Cell("lora_all", 400), None, "not run: x")], inputs, settings, 200),
            "",
            [],
        )
    )
    assert "| TF-IDF + logistic regression, 400 rows" not in without, "one of the two alone compares nothing"

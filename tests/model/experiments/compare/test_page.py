"""The page shows each figure of each cell where it belongs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from model.experiments.cells import Outcome
from model.experiments.compare.figures import run_cell
from model.experiments.compare.inputs import POPULATIONS, Cell, Inputs
from model.experiments.compare.page import page
from model.experiments.compare.rule import TITLES, Comparison
from model.experiments.methods import METHODS
from model.settings import ModelSettings
from tests.support.comparisons import made, silent
from tests.support.pages import unwrapped


def test_the_page_has_a_row_for_every_method_and_marks_gains_that_are_not_significant(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    comparison = made(figures, inputs, settings)
    lines = page(comparison, "reviewrisk compare", ["a machine"])
    assert max(len(line) for line in lines if not line.startswith("|")) <= 120
    text = "\n".join(unwrapped(lines))
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


def test_the_page_shows_what_full_fine_tuning_does_to_masked_tokens(
    with_masked_token_head: ModelSettings, inputs: Inputs, tmp_path: Path
) -> None:
    found = json.loads(
        json.dumps(run_cell(Cell("full", 200), inputs, with_masked_token_head, tmp_path / "cell", silent))
    )
    lines = page(
        Comparison([Outcome(Cell("full", 200), "done", found)], inputs, with_masked_token_head, 200), "command", []
    )
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


def test_the_greatest_size_of_the_curve_is_shown_in_every_population_and_on_the_pairs(
    figures: dict[str, dict[str, Any]], inputs: Inputs, settings: ModelSettings
) -> None:
    outcomes = [
        Outcome(Cell(name, rows), "done", figures[name]) for name in ("tfidf", "lora_all") for rows in (200, 400)
    ]
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
            Comparison([*outcomes[:3], Outcome(Cell("lora_all", 400), "refused", reason="x")], inputs, settings, 200),
            "",
            [],
        )
    )
    assert "| TF-IDF + logistic regression, 400 rows" not in without, "one of the two alone compares nothing"

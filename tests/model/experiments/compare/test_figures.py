"""What a cell says of a method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from model.evaluation.minimal_pairs import load_pairs
from model.evaluation.views import rows_of
from model.experiments.compare.figures import cell_logits
from model.experiments.compare.inputs import Inputs
from model.text.compose import model_text
from tests.support.comparisons import PAIRS


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
        "validation": len(data.calibration),
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
    assert (read["as_is"], read["calibration"]) == (test.texts, inputs.data.calibration.texts)
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

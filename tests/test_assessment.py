"""What is made of scores: calibrated and cut on validation, looked at in every view of the test rows, worst parts named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.assessment import VIEWS, Decided, Logits, audit, decide, error_lists, rows_of, slices
from model.data import PreparedData, prepare
from model.errors import ReviewriskError
from model.settings import ModelSettings, ThresholdSettings
from tests.tiny_models import planted_reviews

SETTINGS = ModelSettings()


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return prepare(planted_reviews(300, 400, 300), SETTINGS)


def logits(data: PreparedData, skill: float, seed: int, shift: float = 0.0) -> Logits:
    """Log-odds that point at the label with so much strength, moved by `shift`; without the headline half as strong."""
    generator = np.random.default_rng(seed)

    def drawn(labels: np.ndarray, strength: float) -> np.ndarray:
        return (2 * labels - 1) * strength + generator.normal(0, 1, len(labels)) + shift

    fitting, choosing, test = (drawn(part.labels, skill) for part in (data.fitting, data.choosing, data.test))
    return Logits(fitting, choosing, test, {"without_headline": drawn(data.test.labels, skill / 2), "ratings_masked": test})


def with_thresholds(**changes: Any) -> ModelSettings:
    return SETTINGS.model_copy(update={"thresholds": ThresholdSettings(**changes)})


def test_each_view_has_its_rows_and_its_way_of_reading(data: PreparedData) -> None:
    network, tfidf = decide(logits(data, 2.0, 1), data, SETTINGS), decide(logits(data, 1.0, 2), data, SETTINGS)
    found = audit({"model": network, "tfidf": tfidf}, data, SETTINGS)
    assert tuple(found) == VIEWS
    default = [headline in ("One Star", "Five Stars") for headline in data.test.headlines]
    assert found["no_default_headline"]["rows"] == default.count(False)
    assert found["unseen_products"]["rows"] == data.rows["test_of_new_products"]
    assert found["without_train_texts"]["rows"] == (~data.test_overlap.either).sum()
    assert found["without_headline"]["rows"] == found["as_is"]["rows"] == len(data.test)
    assert found["without_headline"]["model"]["auc"]["value"] < found["as_is"]["model"]["auc"]["value"] - 0.05
    assert found["ratings_masked"]["model"] == found["as_is"]["model"]
    assert found["as_is"]["gain"]["auc"]["low"] > 0


def test_a_model_held_against_itself_gains_exactly_nothing(data: PreparedData) -> None:
    one = decide(logits(data, 1.0, 1), data, SETTINGS)
    gain = audit({"model": one, "tfidf": one}, data, SETTINGS)["as_is"]["gain"]
    assert {limit for name in ("auc", "f1", "brier") for limit in gain[name].values()} == {0.0}


def test_what_class_weights_added_is_taken_back(data: PreparedData) -> None:
    """Log-odds that are right but for the weights' shift: the ladder's first rung alone mends them."""
    balanced = decide(logits(data, 2.0, 1), data, SETTINGS)
    share = data.train.labels.mean()
    assert balanced.shift == pytest.approx(np.log((1 - share) / share))
    assert decide(logits(data, 2.0, 1), data, SETTINGS, weighting="none").shift == 0


def test_threshold_names_that_are_none_and_a_default_that_cannot_be_had_are_errors(data: PreparedData) -> None:
    with pytest.raises(ReviewriskError, match="names 'f2_max', but these settings give f1_max, cost_5_1, precision_90, recall_90"):
        decide(logits(data, 1.0, 1), data, with_thresholds(default="f2_max"))
    with pytest.raises(ReviewriskError, match=r"precision_99\.9 cannot be fitted|precision_99_9 cannot be fitted"):
        decide(logits(data, 0.2, 1), data, with_thresholds(default="precision_99_9", precision=0.999))


def test_the_worst_slice_is_the_one_where_decisions_are_worst(data: PreparedData) -> None:
    made = logits(data, 3.0, 1)
    furniture = np.array(data.test.categories) == "furniture"
    made.test[furniture] *= -1
    found = slices(decide(made, data, SETTINGS), data, SETTINGS)
    assert (found["worst"]["dimension"], found["worst"]["slice"]) == ("category", "furniture")
    for part in found["by"].values():
        assert sum(row["rows"] for row in part) == len(data.test)


def test_confident_errors_and_wrong_labels_are_listed_by_id(data: PreparedData) -> None:
    made = [logits(data, 6.0, seed) for seed in (1, 2)]
    for one in made:  # both models contradict the label of row 7
        one.test[7] *= -1
    models: dict[str, Decided] = {name: decide(one, data, SETTINGS) for name, one in zip(("model", "tfidf"), made, strict=True)}
    found = error_lists(models, data)
    assert found["confident_errors"][0]["review_id"] == data.test.review_ids[7]
    assert [row["review_id"] for row in found["likely_wrong_labels"]] == [data.test.review_ids[7]]


def test_rows_of_a_view_are_a_mask_over_test(data: PreparedData) -> None:
    for view in VIEWS:
        assert rows_of(view, data).shape == (len(data.test),)

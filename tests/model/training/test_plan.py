"""The plan counts exactly what training trains, sees what is wrong with the data, and prints what it would cost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config, PathSettings
from jobs.training.plan import run_plan
from model.errors import ReviewriskError
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter
from model.settings import ModelSettings, RowSettings
from model.training.defaults import rule_of_thumb
from model.training.plan import Plan, adapted_places, plan
from tests.support.tiny_models import planted_reviews, reviews_table, tiny_encoder, tiny_settings
from tests.support.warehouse_rows import review, write_root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def planned(settings: ModelSettings, reviews: Any = None) -> tuple[Plan, list[str]]:
    lines: list[str] = []
    return plan(planted_reviews(300, 240, 120) if reviews is None else reviews, settings, lines.append), lines


def with_lora(settings: ModelSettings, **changes: Any) -> ModelSettings:
    return settings.model_copy(update={"lora": settings.lora.model_copy(update=changes)})


def test_parameters_are_counted_by_place_and_add_up(encoder: Path) -> None:
    found, lines = planned(with_lora(tiny_settings(encoder), targets=("attention", "feed-forward")))
    layer = "encoder.transformer.layer.*"
    assert [(place.name, place.modules, place.parameters_each) for place in found.places] == [
        (f"{layer}.attention.q_lin", 2, 4 * (32 + 32)),
        (f"{layer}.attention.v_lin", 2, 4 * (32 + 32)),
        (f"{layer}.ffn.lin1", 2, 4 * (32 + 64)),
        (f"{layer}.ffn.lin2", 2, 4 * (64 + 32)),
    ]
    assert found.head == {"pre_classifier": 32 * 32 + 32, "classifier": 2 * 32 + 2}
    assert sum(place.modules * place.parameters_each for place in found.places) == found.counts.lora
    assert found.counts.lora + sum(found.head.values()) == found.counts.trainable
    table = [line.split() for line in lines if line.startswith(f"  {layer}")]
    assert table[2] == [f"{layer}.ffn.lin1", "2", "384", "768"]
    assert any(line.split()[:2] == ["total", f"{found.counts.trainable:,}"] for line in lines)


@pytest.mark.parametrize(
    ("changes", "places"), [({"dora": True, "bias": "all"}, 6), ({"layers": (1,)}, 6), ({"targets": ("q_lin",)}, 1)]
)
def test_places_add_up_for_every_setting(encoder: Path, changes: dict[str, Any], places: int) -> None:
    settings = with_lora(tiny_settings(encoder), **changes)
    adapted = attach_adapter(make_classifier(load_backbone(settings.backbone), 0.0, 1), settings.lora, 1)
    found = adapted_places(adapted)
    assert len(found) == places
    lora = sum(parameter.numel() for name, parameter in adapted.named_parameters() if ".lora_" in name)
    assert sum(place.modules * place.parameters_each for place in found) == lora


def test_rows_lengths_and_duplicates_are_those_of_the_data(encoder: Path) -> None:
    rows = planted_reviews(300, 240, 120).to_pylist()
    by_split = {split: [row for row in rows if row["split"] == split] for split in ("train", "validation", "test")}

    def copy_text(source: dict[str, Any], target: dict[str, Any]) -> None:
        target.update(review_headline=source["review_headline"], review_body=source["review_body"])

    train, validation, test = by_split.values()
    for row in train:
        row.update(star_rating=5 if row["star_rating"] >= 4 else 1)
    good = [row for row in train if row["star_rating"] == 5]
    bad = [row for row in train if row["star_rating"] == 1]
    copy_text(good[0], good[1])  # a repeat
    copy_text(good[2], bad[0])  # a repeat with the other label
    copy_text(good[3], validation[0])
    copy_text(bad[1], test[0])
    copy_text(validation[5], test[1])
    for source, target in ((good[3], validation[0]), (bad[1], test[0]), (validation[5], test[1])):
        target["star_rating"] = source["star_rating"]
    good[4]["review_body"] = "chair " * 200
    found, lines = planned(tiny_settings(encoder), reviews_table(rows))
    audit = found.duplicates
    assert (audit.train_repeats, audit.train_in_validation, audit.train_in_test, audit.validation_in_test) == (
        2,
        1,
        1,
        1,
    )
    assert (audit.contradictory_texts, audit.contradictory_rows) == (1, 2)
    assert found.balance["training"] == (len(good) - 1, len(bad) - 1)
    assert sum(found.balance["test"]) == 120
    assert found.lengths.rows == 298
    assert found.lengths.truncated_share == pytest.approx(1 / 298)
    assert found.lengths.percentiles[-1] > 200 > found.lengths.max_length == 64
    text = "\n".join(lines)
    assert (
        "2 training rows repeat an earlier one; 1 also stand in validation and 1 in test; 1 validation rows stand in"
        " test" in text
    )
    assert "1 texts (2 rows) are labelled both ways" in text
    assert "longer than max_length 64 are cut" in text


def test_warnings_and_regularisation_are_printed(encoder: Path) -> None:
    settings = tiny_settings(encoder)
    settings = settings.model_copy(
        update={"lora": settings.lora.model_copy(update={"dropout": None, "rank": 9, "alpha": 100})}
    )
    found, lines = planned(settings, planted_reviews(300, 80, 60))
    starts = [warning.split(" ")[0] for warning in found.warnings]
    assert {"validation,", "test", "alpha", "model.lora.rank", "model.training.learning_rate"} <= set(starts)
    assert f"Warnings: {len(found.warnings)}" in lines
    assert all(f"  {warning}" in lines for warning in found.warnings)
    assert any(
        line.startswith("  LoRA dropout 0.2 and weight decay 0.1 for 300 training rows (fewer than 1,000): ")
        for line in lines
    )
    assert (found.settings.lora.dropout, found.settings.training.weight_decay) == (0.2, 0.1)


def test_memory_is_the_sum_of_what_the_formula_says(encoder: Path) -> None:
    memory = planned(tiny_settings(encoder))[0].memory
    trained = planned(tiny_settings(encoder))[0].counts.trainable
    assert (memory.gradients, memory.moments, memory.copies) == (4 * trained, 8 * trained, 16 * trained)
    assert memory.total == memory.parameters + 28 * trained + memory.activations


def test_activations_grow_with_the_batch(encoder: Path) -> None:
    small, large = (planned(tiny_settings(encoder, batch_size=size))[0].memory.activations for size in (8, 32))
    assert large == pytest.approx(4 * small, rel=0.2)


def test_plan_leaves_the_settings_and_the_data_to_training(encoder: Path) -> None:
    rows = planted_reviews(300, 240, 120).to_pylist()
    with pytest.raises(ReviewriskError, match="the test split has 0 labelled rows"):
        planned(tiny_settings(encoder), reviews_table([row for row in rows if row["split"] != "test"]))
    with pytest.raises(ReviewriskError, match=r"lora\.layers has \[2\], but the encoder has 2 layers"):
        planned(with_lora(tiny_settings(encoder), layers=(2,)))


def test_plan_of_a_root_reads_its_reviews_and_writes_nothing(tmp_path: Path, encoder: Path) -> None:
    planted = planted_reviews(300, 240, 120).to_pylist()
    rows = [review(**{**row, "review_month": row["review_date"].replace(day=1)}) for row in planted]
    root = write_root(tmp_path / "root", {"reviews": [*rows, review("later", split="live", star_rating=1)]})
    before = sorted(root.rglob("*"))
    config = Config(paths=PathSettings(root=str(root)), model=tiny_settings(encoder))
    lines: list[str] = []
    found = run_plan(config, lines.append)
    assert (found.rows["train_split"], found.rows["validation"], found.rows["test"]) == (300, 240, 120)
    assert sorted(root.rglob("*")) == before


def test_a_plan_for_one_category_is_of_its_reviews_alone(encoder: Path) -> None:
    rows = planted_reviews(300, 240, 120).to_pylist()
    # a repeat among furniture
    rows[1].update({name: rows[0][name] for name in ("review_headline", "review_body", "star_rating")})
    settings = tiny_settings(encoder).model_copy(update={"rows": RowSettings(only="product_category=kitchen")})
    lines: list[str] = []
    found = plan(reviews_table(rows), settings, lines.append)
    assert (found.rows["train_split"], found.rows["validation"], found.rows["test"]) == (75, 60, 30)
    assert found.duplicates.train_repeats == 0
    assert any(
        line.startswith("Rows with a label among reviews with product_category=kitchen alone (") for line in lines
    )


def test_balance_memory_time_and_the_rule_are_printed_as_they_were_found(encoder: Path) -> None:
    found, lines = planned(tiny_settings(encoder))
    for name, (satisfied, dissatisfied) in found.balance.items():
        rows = satisfied + dissatisfied
        assert re.search(
            rf"^  {re.escape(name)} +{rows:,}, +{dissatisfied:,} dissatisfied \({dissatisfied / rows:.1%}\)$",
            "\n".join(lines),
            re.MULTILINE,
        )
    assert any(line.startswith(f"Memory, estimated: {found.memory.total / 2**20:,.1f} MiB") for line in lines)
    epochs = found.settings.training.epochs
    assert any(
        line.startswith(
            f"Time, estimated: {found.time.seconds:.0f} s for {epochs} epochs of {found.time.epoch_seconds:.0f} s"
        )
        for line in lines
    )
    assert set(rule_of_thumb()) <= {line.strip() for line in lines} | set(lines)


def test_root_without_reviews_is_an_error_that_says_to_ingest(tmp_path: Path, encoder: Path) -> None:
    config = Config(paths=PathSettings(root=str(tmp_path)), model=tiny_settings(encoder))
    with pytest.raises(ReviewriskError, match="run `reviewrisk ingest` first"):
        run_plan(config, lambda line: None)


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_other_families_are_planned_too(family: Any, tmp_path: Path) -> None:
    found, lines = planned(tiny_settings(tiny_encoder(tmp_path, family)))
    assert sum(place.modules * place.parameters_each for place in found.places) == found.counts.lora > 0
    assert all(place.name.startswith("encoder.encoder.layer.*.") and place.modules == 2 for place in found.places)
    assert found.counts.lora + sum(found.head.values()) == found.counts.trainable
    assert any("min" in line or " s" in line for line in lines if "ime" in line), (
        "the time is estimated from real steps"
    )

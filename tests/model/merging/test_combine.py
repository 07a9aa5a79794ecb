"""Adapters combined by hand and by `combine` are the same; what does not fit is refused; a folded model gives the
adapter's logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.bundle import bundle
from model.bundle.bundle import build_serving_folder
from model.errors import ReviewriskError
from model.files import file_sha256, read_json, write_json
from model.merging.combine import (
    Method,
    Parent,
    check_alike,
    combine,
    compare_folded,
    heads_began_alike,
    load_parent,
    make_recipe,
)
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import load_adapter
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import tiny_encoder, tiny_settings

HEADLINES = ["Broken", None, "Five Stars", "Bad"] * 6
BODIES = ["the leg broke after two weeks", "love it", "", "waste of money, returned for a refund " * 12] * 6


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def parents(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Parent]:
    folder = tmp_path_factory.mktemp("parents")
    return [load_parent(adapter_bundle(folder, encoder, seed)) for seed in (1, 2)]


def changes(tensors: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """scale · B A of every adapted layer, by the layer's name."""
    by_layer = {name.split(".lora_A.")[0]: name for name in tensors if ".lora_A." in name}
    return {
        layer: scale * tensors[name.replace(".lora_A.", ".lora_B.")] @ tensors[name] for layer, name in by_layer.items()
    }


def parent_changes(parent: Parent) -> dict[str, Tensor]:
    config = read_json(parent.bundle / "adapter" / "adapter_config.json")
    return changes(parent.factors, config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"]))


def child_state(parents: list[Parent], method: Method, **options: Any) -> dict[str, Tensor]:
    adapted, _, settings = combine(parents, make_recipe(method, len(parents), **options))
    assert settings.lora.effective_alpha == settings.lora.rank
    return {
        name.replace(".default", ""): tensor.detach()
        for name, tensor in adapted.named_parameters()
        if "lora_" in name or "modules_to_save" in name
    }


def child_changes(parents: list[Parent], method: Method, **options: Any) -> dict[str, Tensor]:
    return changes(child_state(parents, method, **options), 1.0)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and len(found) == 12
    for layer, change in expected.items():
        torch.testing.assert_close(found[layer], change, atol=2e-5, rtol=1e-4)


def test_the_average_is_the_average_of_the_products_and_not_of_their_factors(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    assert_same(child_changes(parents, "average"), {layer: (first[layer] + second[layer]) / 2 for layer in first})


def test_arithmetic_takes_negative_weights(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    expected = {layer: 1.5 * first[layer] - 0.5 * second[layer] for layer in first}
    assert_same(child_changes(parents, "arithmetic", weights=(1.5, -0.5)), expected)


def test_adapters_of_different_rank_and_scale_are_combined_exactly(
    encoder: Path, parents: list[Parent], tmp_path: Path
) -> None:
    others = [
        load_parent(adapter_bundle(tmp_path, encoder, 3, lora_rank=6, lora_alpha=3.0)),
        load_parent(adapter_bundle(tmp_path, encoder, 4, lora_rank_stabilised=True)),
        load_parent(adapter_bundle(tmp_path, encoder, 5, lora_initialisation="pissa")),
    ]
    for other in others:
        first, second = parent_changes(parents[0]), parent_changes(other)
        assert_same(
            child_changes([parents[0], other], "average"),
            {layer: (first[layer] + second[layer]) / 2 for layer in first},
        )
        assert_same(
            child_changes([other, parents[0]], "average"),
            {layer: (first[layer] + second[layer]) / 2 for layer in first},
        )


def test_a_chosen_rank_gives_the_nearest_matrix_of_that_rank(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    found = child_changes(parents, "average", rank=3)
    for layer, change in found.items():
        left, values, right = torch.linalg.svd((first[layer] + second[layer]) / 2, full_matrices=False)
        torch.testing.assert_close(change, left[:, :3] * values[:3] @ right[:3], atol=2e-5, rtol=1e-4)
    assert child_state(parents, "average", rank=3)[
        "base_model.model.encoder.transformer.layer.0.attention.q_lin.lora_A.weight"
    ].shape == (3, 32)
    with pytest.raises(ReviewriskError, match="rank is 33, but the smallest adapted layer has rank 32: choose 1 to 32"):
        child_state(parents, "average", rank=33)


def ties_by_hand(matrices: list[Tensor], density: float) -> Tensor:
    """TIES (Yadav et al. 2023): keep the greatest entries of each, elect the sign of the sum, mean of the entries that
    have it.
    """
    kept = []
    for matrix in matrices:
        cut = matrix.abs().flatten().sort(descending=True).values[int(density * matrix.numel()) - 1]
        kept.append(torch.where(matrix.abs() >= cut, matrix, 0.0))
    stacked = torch.stack(kept)
    sign = torch.where(stacked.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = stacked.sign() == sign
    return (stacked * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def test_ties_works_on_the_changes_themselves(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    found = child_changes(parents, "ties", density=0.3, rank=32)
    assert_same(found, {layer: ties_by_hand([first[layer], second[layer]], 0.3) for layer in first})


@pytest.mark.filterwarnings("ignore:The density 1.0 is greater")
def test_dare_drops_at_random_by_its_seed_and_keeps_the_sum_on_average(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    layer = next(name for name in first if name.endswith("lin1"))
    mean = (first[layer] + second[layer]) / 2
    torch.manual_seed(0)
    drawn = child_changes(parents, "dare_linear", density=0.5, rank=32, seed=1)[layer]
    torch.manual_seed(5)
    again = child_changes(parents, "dare_linear", density=0.5, rank=32, seed=1)[layer]
    other = child_changes(parents, "dare_linear", density=0.5, rank=32, seed=2)[layer]
    assert torch.equal(drawn, again) and not torch.allclose(drawn, other)
    neither = (drawn.abs() < 1e-4).float().mean()
    assert 0.2 < neither < 0.3, "each entry is dropped with probability 1/2, so both are with 1/4"
    kept = (
        ((drawn - first[layer]).abs() < 1e-4)
        | ((drawn - second[layer]).abs() < 1e-4)
        | ((drawn - 2 * mean).abs() < 1e-4)
    )
    assert (kept.float().mean() + neither) > 0.99, "what is kept counts 1 / density times"
    torch.testing.assert_close(
        child_changes(parents, "dare_linear", density=1.0, rank=32)[layer], mean, atol=2e-5, rtol=1e-4
    )


def test_dare_ties_lets_only_the_elected_sign_through(parents: list[Parent]) -> None:
    first, second = map(parent_changes, parents)
    found = child_changes(parents, "dare_ties", density=0.5, rank=32, seed=3)
    for layer, change in found.items():
        candidates = [torch.zeros(()), 2 * first[layer], 2 * second[layer], first[layer] + second[layer]]
        near = torch.stack([(change - candidate).abs() < 1e-3 for candidate in candidates]).any(dim=0)
        assert near.all(), layer
        opposed = (
            (first[layer] * second[layer] < 0)
            & ((change - first[layer] - second[layer]).abs() < 1e-6)
            & (change.abs() > 1e-3)
        )
        assert not opposed.any()


def test_the_head_is_the_weighted_mean_of_the_heads(parents: list[Parent]) -> None:
    state = child_state(parents, "arithmetic", weights=(3.0, 1.0))
    for name, expected in parents[0].head.items():
        module, kind = name.rsplit(".", 1)
        torch.testing.assert_close(
            state[f"{module}.modules_to_save.{kind}"], 0.75 * expected + 0.25 * parents[1].head[name]
        )
    assert len(parents[0].head) == 4


def test_the_callers_random_numbers_are_left_alone(parents: list[Parent]) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    combine(parents, make_recipe("dare_linear", 2))
    assert torch.equal(torch.rand(3), expected)


def test_the_child_is_the_sum_of_its_parts_in_the_forward_pass_too(
    parents: list[Parent], encoder: Path, tmp_path: Path
) -> None:
    twin = load_parent(adapter_bundle(tmp_path, encoder, 1))
    adapted, backbone, _ = combine([parents[0], twin], make_recipe("average", 2))
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    alone = load_adapter(
        make_classifier(load_backbone(tiny_settings(encoder).backbone), 0.2, 9), parents[0].bundle / "adapter"
    )
    with torch.no_grad():
        expected = alone(input_ids=ids, attention_mask=torch.ones_like(ids))
        torch.testing.assert_close(
            adapted(input_ids=ids, attention_mask=torch.ones_like(ids)), expected, atol=1e-5, rtol=1e-5
        )
    assert backbone.max_length == 64


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"backbone_pooling": "mean"}, "pooling cls and mean"),
        ({"backbone_max_length": 32}, "max_length 64 and 32"),
        ({"lora_targets": ("attention",)}, r"adapted layers \(12 and 4; model.lora.targets, model.lora.layers\)"),
        ({"lora_layers": (1,)}, r"adapted layers \(12 and 6;"),
        ({"text_headline": "drop"}, "model.text.headline keep and drop"),
    ],
)
def test_models_that_do_not_fit_each_other_are_named_with_what_differs(
    parents: list[Parent], encoder: Path, tmp_path: Path, difference: dict[str, Any], message: str
) -> None:
    other = load_parent(adapter_bundle(tmp_path, encoder, 3, **difference))
    with pytest.raises(
        ReviewriskError,
        match=f"{parents[0].version} and {other.version} cannot be combined, as they differ in {message}",
    ):
        check_alike([parents[0], parents[1], other])


def test_another_base_is_refused(parents: list[Parent], tmp_path: Path) -> None:
    other = load_parent(adapter_bundle(tmp_path, tiny_encoder(tmp_path / "another", seed=5), 3))
    with pytest.raises(ReviewriskError, match=r"differ in name .*tiny and .*another; revision sha256:\w+ and sha256:"):
        combine([parents[0], other], make_recipe("average", 2))


@pytest.mark.parametrize(
    ("setting", "part"), [({"lora_dora": True}, "DoRA's magnitudes"), ({"lora_bias": "all"}, "trained biases")]
)
def test_parts_that_cannot_be_combined_are_refused(
    encoder: Path, tmp_path: Path, setting: dict[str, Any], part: str
) -> None:
    with pytest.raises(
        ReviewriskError,
        match=(
            f"has {part}, which cannot be combined: train it again with model.lora.dora false and model.lora.bias none"
        ),
    ):
        load_parent(adapter_bundle(tmp_path, encoder, 3, **setting))


def test_heads_that_began_elsewhere_are_noticed(parents: list[Parent], encoder: Path, tmp_path: Path) -> None:
    assert heads_began_alike(parents)
    assert not heads_began_alike([parents[0], load_parent(adapter_bundle(tmp_path, encoder, 3, training_seed=99))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("average", 1), "at least two models: name another"),
        (("average", 2, (1.0, 1.0)), "leave the weights out"),
        (("arithmetic", 2), "needs weights"),
        (("ties", 3, (1.0, 1.0)), "There are 3 models but 2 weights"),
        (("arithmetic", 2, (1.0, -1.0)), "must sum to more than 0"),
        (("arithmetic", 2, (1.0, float("nan"))), "must sum to more than 0"),
        (("dare_ties", 2, None, 0.0), "density is 0, but it is a share above 0"),
        (("dare_ties", 2, None, 1.5), "density is 1.5"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ReviewriskError, match=message):
        make_recipe(*arguments)


def test_weights_default_to_what_each_method_wants() -> None:
    assert make_recipe("average", 4).weights == (0.25,) * 4
    assert make_recipe("dare_linear", 2).weights == (0.5, 0.5)
    assert make_recipe("ties", 2).weights == make_recipe("dare_ties", 2).weights == (1.0, 1.0), (
        "they take a mean by themselves"
    )


@pytest.mark.parametrize(
    "kind",
    [{}, {"lora_dora": True}, {"lora_bias": "all"}, {"lora_rank_stabilised": True}, {"lora_initialisation": "pissa"}],
)
def test_a_folded_model_gives_the_unmerged_ones_logits_and_decisions(
    encoder: Path, tmp_path: Path, kind: dict[str, Any]
) -> None:
    bundle = adapter_bundle(tmp_path, encoder, 1, **kind)
    folded = compare_folded(
        bundle, build_serving_folder(bundle, tmp_path / "serving", 1e-3), HEADLINES, BODIES, 0.5, passes=2
    )
    assert (folded.rows, folded.flipped) == (24, 0)
    assert 0 < folded.mean_difference <= folded.greatest_difference < 1e-4, (
        "not the same arithmetic, but the same model"
    )
    assert folded.unmerged_seconds > 0 and folded.merged_seconds > 0


def save_other_weights(serving: Path, weights: dict[str, torch.Tensor]) -> None:
    """Puts other weights into a serving folder whose checksums are right all the same."""
    save_file(weights, serving / "model.safetensors")
    description = read_json(serving / "serving.json")
    del description["checksum"]
    description["files"]["model.safetensors"] = file_sha256(serving / "model.safetensors")
    write_json(serving / "serving.json", {**description, "checksum": bundle._checksum(description)})


def test_a_folded_model_that_is_another_is_seen(parents: list[Parent], tmp_path: Path) -> None:
    serving = build_serving_folder(parents[0].bundle, tmp_path / "serving", 1e-3)
    weights = load_file(serving / "model.safetensors")
    weights["classifier.bias"] += torch.tensor([2.0, -2.0])
    save_other_weights(serving, weights)
    folded = compare_folded(parents[0].bundle, serving, HEADLINES, BODIES, 0.5, passes=1)
    assert folded.greatest_difference == pytest.approx(4, abs=1e-3) and folded.mean_difference == pytest.approx(
        4, abs=1e-3
    )
    assert (
        folded.flipped > 0 and compare_folded(parents[0].bundle, serving, HEADLINES, BODIES, 0.0, passes=1).flipped == 0
    )
    weights["classifier.weight"][1] *= 2
    save_other_weights(serving, weights)
    uneven = compare_folded(parents[0].bundle, serving, HEADLINES, BODIES, 0.5, passes=1)
    assert uneven.mean_difference < uneven.greatest_difference - 0.01


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_other_families_are_combined_and_folded_too(family: Any, tmp_path: Path) -> None:
    other = tiny_encoder(tmp_path / "encoder", family)
    parents = [load_parent(adapter_bundle(tmp_path, other, seed)) for seed in (1, 2)]
    one, two = map(parent_changes, parents)
    assert_same(
        child_changes(parents, "arithmetic", weights=(1.0, -0.5)),
        {layer: one[layer] - 0.5 * two[layer] for layer in one},
    )
    folded = compare_folded(
        parents[0].bundle,
        build_serving_folder(parents[0].bundle, tmp_path / "serving", 1e-3),
        HEADLINES,
        BODIES,
        0.5,
        passes=1,
    )
    assert 0 < folded.greatest_difference < 1e-4 and folded.flipped == 0

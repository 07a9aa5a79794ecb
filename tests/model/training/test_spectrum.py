"""What is said of a change of weights is right for planted matrices, and for every kind of adapter as it is saved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter, load_adapter, merge_adapter, save_adapter
from model.training.spectrum import (
    ModuleChange,
    WeightEvidence,
    base_and_change,
    greatest_cosines,
    weight_evidence,
    weight_table,
)
from tests.support.tiny_models import tiny_encoder, tiny_settings

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"rank_stabilised": True, "alpha": 6.0},
    "dora": {"dora": True},
    "pissa": {"initialisation": "pissa"},
    "pissa and rslora": {"initialisation": "pissa", "rank_stabilised": True},
    "biases": {"bias": "all", "targets": ("attention",)},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def fresh(encoder: Path) -> Any:
    return make_classifier(load_backbone(tiny_settings(encoder).backbone), 0.0, seed=1)


def moved(encoder: Path, noise: float = 0.05, **lora: Any) -> PeftModel:
    """An adapted classifier whose trainable tensors are moved at random, as training would."""
    settings = tiny_settings(encoder).lora.model_copy(update=lora)
    adapted = attach_adapter(fresh(encoder), settings, seed=1)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += noise * torch.randn(parameter.shape, generator=generator)
    return adapted.eval()


def layers(adapted: PeftModel) -> dict[str, Any]:
    return {
        name.removeprefix("base_model.model."): module
        for name, module in adapted.named_modules()
        if hasattr(module, "lora_A")
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_weight_and_change_add_up_to_what_merging_makes_of_the_saved_adapter(
    variant: str, encoder: Path, tmp_path: Path
) -> None:
    save_adapter(moved(encoder, **VARIANTS[variant]), tmp_path)
    loaded = load_adapter(fresh(encoder), tmp_path)
    parts = {name: base_and_change(layer) for name, layer in layers(loaded).items()}
    plain, merged = fresh(encoder), merge_adapter(loaded)
    assert len(parts) == (4 if variant == "biases" else 12)
    for name, (base, change) in parts.items():
        torch.testing.assert_close(base.float(), plain.get_submodule(name).weight, atol=0, rtol=0, msg=name)
        torch.testing.assert_close(
            (base + change).float(), merged.get_submodule(name).weight, atol=1e-6, rtol=1e-5, msg=name
        )
        assert change.norm() > 0.01 * base.norm()


@pytest.mark.parametrize("variant", VARIANTS)
def test_singular_values_are_those_of_the_low_rank_change_and_no_more_than_its_rank(
    variant: str, encoder: Path, tmp_path: Path
) -> None:
    save_adapter(moved(encoder, **VARIANTS[variant]), tmp_path)
    loaded = load_adapter(fresh(encoder), tmp_path)
    evidence = weight_evidence(loaded)
    assert evidence.has_dora == (variant == "dora")
    for module in evidence.modules:
        layer = layers(loaded)[module.name]
        assert module.rank == (8 if "pissa" in variant else 4)
        expected = torch.linalg.svdvals(layer.get_delta_weight("default").detach().double())
        assert module.singular_values == pytest.approx(expected[: module.rank].tolist(), rel=1e-4, abs=1e-6)
        base, change = base_and_change(layer)
        assert module.relative_change == pytest.approx(float(change.norm() / base.norm()), rel=1e-9)


def test_a_look_leaves_the_model_as_it_is(encoder: Path) -> None:
    adapted = moved(encoder, dora=True)
    before = copy.deepcopy(adapted.state_dict())
    weight_evidence(adapted)
    assert all(
        torch.equal(tensor, before[name]) and tensor.dtype == before[name].dtype
        for name, tensor in adapted.state_dict().items()
    )


def test_untouched_adapter_has_changed_nothing(encoder: Path) -> None:
    evidence = weight_evidence(moved(encoder, noise=0.0))
    assert evidence.greatest_change == 0
    assert (
        {module.effective_rank for module in evidence.modules}
        == {module.first_share for module in evidence.modules}
        == {0.0}
    )
    assert min(cosine for module in evidence.modules for cosine in module.cosines) == pytest.approx(1, abs=1e-4)


def test_change_below_the_rounding_of_single_precision_is_still_measured(encoder: Path) -> None:
    adapted = attach_adapter(fresh(encoder), tiny_settings(encoder).lora, seed=1)
    with torch.no_grad():
        for layer in layers(adapted).values():
            layer.lora_B["default"].weight.fill_(1e-10)
    for module, layer in zip(weight_evidence(adapted).modules, layers(adapted).values(), strict=True):
        expected = layer.get_delta_weight("default").norm() / layer.get_base_layer().weight.norm()
        assert module.relative_change == pytest.approx(float(expected.detach()), rel=1e-3)
        assert 0 < module.relative_change < 1e-7


@pytest.mark.parametrize(
    ("values", "effective", "first"),
    [
        ((2.0, 2.0, 2.0, 2.0), 4, 0.25),
        ((3.0, 0.0, 0.0), 1, 1),
        ((2.0, 1.0), 0.8**-0.8 * 0.2**-0.2, 0.8),
        ((0.5,), 1, 1),
    ],
)
def test_effective_rank_counts_the_directions_that_do_the_work(
    values: tuple[float, ...], effective: float, first: float
) -> None:
    change = ModuleChange("layer", values, 0.1, (1.0,))
    assert (change.effective_rank, change.first_share) == (pytest.approx(effective), pytest.approx(first))


def orthogonal(size: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[
        0
    ]


@pytest.mark.parametrize(("outputs", "inputs"), [(24, 24), (40, 24), (24, 40)])
def test_planted_intruder_is_found_and_a_stronger_old_direction_is_none(outputs: int, inputs: int) -> None:
    left, right = orthogonal(outputs, 0), orthogonal(inputs, 1)
    values = torch.linspace(24, 1, 24, dtype=torch.float64)
    base = left[:, :24] @ torch.diag(values) @ right[:, :24].T
    new = left[:, :16].sum(dim=1) / 4  # a quarter of each of 16 old directions: |cosine| 0.25 with every one of them
    intruded = base + 100 * torch.outer(new, right[:, 23])
    strengthened = base + 100 * torch.outer(left[:, 20], right[:, 20])
    assert greatest_cosines(base, base).tolist() == pytest.approx([1] * 10, abs=1e-4)
    assert greatest_cosines(base, strengthened).tolist() == pytest.approx([1] * 10, abs=1e-4)
    assert float(greatest_cosines(base, intruded)[0]) == pytest.approx(0.25, abs=0.05)
    assert ModuleChange("layer", (100.0,), 1.0, tuple(greatest_cosines(base, intruded).tolist())).intruders >= 1


def test_table_has_a_line_for_each_module_with_its_figures() -> None:
    modules = (
        ModuleChange("encoder.layer.0.query", (2.0, 2.0), 0.0512, (1.0, 0.31, 0.49, 0.5)),
        ModuleChange("encoder.layer.1.query", (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 0.125), 0.2, (0.9,)),
    )
    head, first, second = weight_table(WeightEvidence(modules, has_dora=False))
    assert head.split("  ")[0].strip() == "module"
    assert first.split() == ["encoder.layer.0.query", "5.12%", "2.0", "of", "2", "50%", "2", "0.31", "2", "2"]
    assert second.endswith("8 7 6 5 … 0.125")


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_other_families_changes_are_read_too(family: Any, tmp_path: Path) -> None:
    other = tiny_encoder(tmp_path / "encoder", family)
    save_adapter(moved(other), tmp_path / "adapter")
    loaded = load_adapter(fresh(other), tmp_path / "adapter")
    plain, merged = fresh(other), merge_adapter(copy.deepcopy(loaded))
    evidence = weight_evidence(loaded)
    assert [module.name for module in evidence.modules] and {module.rank for module in evidence.modules} == {4}
    for name, layer in layers(loaded).items():
        base, change = base_and_change(layer)
        torch.testing.assert_close(base.float(), plain.get_submodule(name).weight, atol=0, rtol=0, msg=name)
        torch.testing.assert_close(
            (base + change).float(), merged.get_submodule(name).weight, atol=1e-6, rtol=1e-5, msg=name
        )

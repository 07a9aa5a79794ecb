"""Adapters sit exactly where they were asked to, are counted honestly, and survive saving, loading and merging."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from model.classifier import ReviewClassifier
from model.errors import ReviewriskError
from model.lora import _check_adapted, attach_adapter, count_parameters, load_adapter, merge_adapter, save_adapter, targeted_modules
from model.settings import LoraSettings

SHAPE = {"vocab_size": 200, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 24}


def encoder(family: str) -> Any:
    torch.manual_seed(0)
    if family == "distilbert":
        return DistilBertModel(DistilBertConfig(vocab_size=200, dim=16, n_heads=2, n_layers=3, hidden_dim=24))
    if family == "bert":
        return BertModel(BertConfig(**SHAPE), add_pooling_layer=False)
    if family == "roberta":
        return RobertaModel(RobertaConfig(**SHAPE), add_pooling_layer=False)
    return DebertaV2Model(DebertaV2Config(**SHAPE, relative_attention=True, pos_att_type=["p2c", "c2p"]))


def classifier(family: str = "distilbert") -> ReviewClassifier:
    return ReviewClassifier(encoder(family), "cls", 0.0)


def adapted_and_moved(family: str = "distilbert", targets: tuple[str, ...] = ("all-linear",)) -> PeftModel:
    """An adapter whose LoRA and head are far from their first values, as after training."""
    adapted = attach_adapter(classifier(family), LoraSettings(rank=4, targets=targets), seed=1)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return adapted.eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(5, 35).reshape(3, 10)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_counts_on_distilbert_are_those_of_the_article() -> None:
    full_size = ReviewClassifier(DistilBertModel(DistilBertConfig()), "cls")
    counts = count_parameters(attach_adapter(full_size, LoraSettings(rank=8, alpha=16, dropout=0.1, targets=("attention",)), seed=17))
    assert (counts.trainable, counts.total_as_peft_counts) == (739_586, 67_694_596)
    assert (counts.lora, counts.head, counts.distinct) == (147_456, 592_130, 67_102_466)
    assert str(counts) == ("739,586 trainable of 67,694,596 parameters as peft counts; 147,456 LoRA + 592,130 head, 67,102,466 distinct")


@pytest.mark.parametrize(
    ("family", "targets", "ends", "modules"),
    [
        ("distilbert", ("attention",), {"q_lin", "v_lin"}, 6),
        ("bert", ("attention",), {"query", "value"}, 6),
        ("deberta-v2", ("attention",), {"query_proj", "value_proj"}, 6),
        ("distilbert", ("all-linear",), {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}, 18),
        ("bert", ("all-linear",), {"query", "key", "value", "dense"}, 18),
        ("bert", ("attention.output.dense", "key"), {"dense", "key"}, 6),
        ("bert", ("dense",), {"dense"}, 9),
    ],
)
def test_exactly_the_targeted_modules_are_adapted(family: str, targets: tuple[str, ...], ends: set[str], modules: int) -> None:
    adapted = attach_adapter(classifier(family), LoraSettings(rank=2, targets=targets), seed=0)
    holders = {name.split(".lora_A.")[0] for name, _ in adapted.named_parameters() if ".lora_A." in name}
    assert len(holders) == modules
    assert {name.rsplit(".", 1)[-1] for name in holders} == ends
    assert sorted(name.removeprefix("base_model.model.") for name in holders) == sorted(targeted_modules(classifier(family), targets))


def test_only_adapter_and_head_are_trained() -> None:
    adapted = attach_adapter(classifier(), LoraSettings(rank=2), seed=0)
    trained = {re.sub(r".*\.(lora_[AB]|pre_classifier|classifier)\..*", r"\1", name) for name, tensor in adapted.named_parameters() if tensor.requires_grad}
    assert trained == {"lora_A", "lora_B", "pre_classifier", "classifier"}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("query",), "no linear layer of the encoder is called 'query'"),
        (("q_lin", "q_linear"), "no linear layer of the encoder is called 'q_linear'"),
        (("classifier",), "no linear layer of the encoder is called 'classifier'"),
        (("1.attention.q_lin",), r"'1.attention.q_lin' matches encoder.transformer.layer.\*.attention.q_lin in 1 of 3 layers"),
    ],
)
def test_no_match_and_partial_match_are_errors_that_list_the_names(targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ReviewriskError, match=message) as caught:
        attach_adapter(classifier(), LoraSettings(targets=targets), seed=0)
    assert "encoder.transformer.layer.*.attention.v_lin, encoder.transformer.layer.*.attention.out_lin" in str(caught.value)


def test_any_other_number_of_adapted_modules_is_an_error() -> None:
    adapted = attach_adapter(classifier(), LoraSettings(targets=("q_lin",)), seed=0)
    wanted = targeted_modules(classifier(), ("q_lin", "v_lin"))
    with pytest.raises(
        ReviewriskError, match=r"attached to 3 modules instead of 6; not wanted: \[\], missing: \['encoder\.transformer\.layer\.0\.attention\.v_lin'"
    ):
        _check_adapted(adapted, wanted)


def test_family_without_known_attention_names_is_told_to_name_them() -> None:
    with pytest.raises(ReviewriskError, match=r"'attention' is known for distilbert, bert, deberta-v2, not for roberta.*attention\.self\.query"):
        attach_adapter(classifier("roberta"), LoraSettings(targets=("attention",)), seed=0)


@pytest.mark.parametrize("family", ["distilbert", "bert", "deberta-v2"])
def test_saving_and_loading_keep_logits(family: str, tmp_path: Path) -> None:
    adapted = adapted_and_moved(family)
    expected = logits(adapted)
    save_adapter(adapted, tmp_path)
    base = classifier(family)
    torch.nn.init.zeros_(base.pre_classifier.weight)  # the saved head must take the place of any other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    torch.testing.assert_close(logits(load_adapter(base, tmp_path)), expected, atol=0, rtol=0)


def test_both_layers_of_the_head_are_saved(tmp_path: Path) -> None:
    save_adapter(adapted_and_moved(), tmp_path)
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"} <= names


@pytest.mark.parametrize("family", ["distilbert", "bert", "deberta-v2"])
def test_merging_keeps_logits_and_leaves_a_plain_classifier(family: str) -> None:
    adapted = adapted_and_moved(family)
    before = logits(adapted)
    merged = merge_adapter(adapted)
    assert type(merged) is ReviewClassifier
    assert set(merged.state_dict()) == set(classifier(family).state_dict())
    assert {tensor.dtype for tensor in merged.parameters()} == {torch.float32}
    assert not merged.training
    torch.testing.assert_close(logits(merged), before, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, logits(classifier(family).eval()), atol=1e-3)


def test_adapter_with_nan_is_not_merged() -> None:
    adapted = adapted_and_moved()
    with torch.no_grad():
        next(tensor for name, tensor in adapted.named_parameters() if ".lora_B." in name).fill_(torch.nan)
    with pytest.raises(ReviewriskError, match="cannot be merged"):
        merge_adapter(adapted)


def test_first_weights_depend_on_the_seed_alone_and_files_on_the_weights(tmp_path: Path) -> None:
    files = []
    for noise, seed in ((1, 5), (2, 5), (3, 6)):
        base = classifier("bert")
        torch.manual_seed(noise)
        folder = tmp_path / str(noise)
        save_adapter(attach_adapter(base, LoraSettings(rank=2), seed), folder)
        files.append([(folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")])
    assert files[0] == files[1]
    assert files[0][1] != files[2][1]


def test_alpha_scales_the_adapter() -> None:
    assert LoraSettings(rank=4).effective_alpha == 8
    adapted = attach_adapter(classifier(), LoraSettings(rank=4, alpha=6), seed=0)
    scales = {module.scaling["default"] for module in adapted.modules() if hasattr(module, "lora_A")}
    assert scales == {1.5}

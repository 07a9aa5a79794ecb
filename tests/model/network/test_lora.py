"""Adapters sit exactly where they were asked to, are counted honestly, and survive saving, loading and merging."""

from __future__ import annotations

import copy
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from model.errors import ReviewriskError
from model.files import read_json
from model.network.backbone import load_backbone, make_classifier
from model.network.classifier import ReviewClassifier
from model.network.lora import (
    _check_adapted,
    attach_adapter,
    count_parameters,
    load_adapter,
    lora_b_norm,
    merge_adapter,
    move_to_base,
    save_adapter,
    targeted_modules,
    trained_base_parameters,
)
from model.settings import BackboneSettings, LoraSettings
from tests.support.tiny_models import tiny_encoder

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
}
FAMILIES = ["distilbert", "bert", "deberta-v2", "deberta-v3"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "attention": {"targets": ("attention",)},
    "feed-forward": {"targets": ("feed-forward",)},
    "one layer": {"layers": (1,)},
    "rsLoRA": {"rank_stabilised": True},
    "DoRA": {"dora": True},
    "PiSSA": {"initialisation": "pissa"},
    "PiSSA and rsLoRA": {"initialisation": "pissa", "rank_stabilised": True},
    "PiSSA and DoRA": {"initialisation": "pissa", "dora": True},
    "all biases": {"bias": "all"},
    "biases of adapted layers, DoRA": {"bias": "lora_only", "targets": ("attention",), "dora": True},
}


def lora(**overrides: Any) -> LoraSettings:
    return LoraSettings(**{"rank": 4, "dropout": 0.0, **overrides})


def encoder(family: str) -> Any:
    torch.manual_seed(0)
    if family == "distilbert":
        return DistilBertModel(DistilBertConfig(vocab_size=200, dim=16, n_heads=2, n_layers=3, hidden_dim=24))
    if family == "bert":
        return BertModel(BertConfig(**SHAPE), add_pooling_layer=False)
    if family == "roberta":
        return RobertaModel(RobertaConfig(**SHAPE), add_pooling_layer=False)
    # v3 puts the relative positions through the same key and query layers as the words, so that an adapter there acts
    # twice.
    v3 = {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"} if family == "deberta-v3" else {}
    return DebertaV2Model(DebertaV2Config(**SHAPE, relative_attention=True, pos_att_type=["p2c", "c2p"], **v3))


def classifier(family: str = "distilbert") -> ReviewClassifier:
    torch.manual_seed(1)
    return ReviewClassifier(encoder(family), "cls", 0.0).eval()


def one_step(adapted: PeftModel) -> PeftModel:
    """The model after one step of training, which moves every trained weight far enough to be seen."""
    torch.manual_seed(1)
    adapted.train()
    ids = torch.randint(5, 200, (8, 10))
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for _ in range(2):  # while B is 0, the first step moves B alone
        torch.nn.functional.cross_entropy(
            adapted(input_ids=ids, attention_mask=torch.ones_like(ids)), torch.arange(8) % 2
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(5, 35).reshape(3, 10)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_counts_on_distilbert_are_those_of_the_article() -> None:
    full_size = ReviewClassifier(DistilBertModel(DistilBertConfig()), "cls")
    counts = count_parameters(
        attach_adapter(full_size, LoraSettings(rank=8, alpha=16, dropout=0.1, targets=("attention",)), seed=17)
    )
    assert (counts.trainable, counts.total_as_peft_counts) == (739_586, 67_694_596)
    assert (counts.lora, counts.head, counts.biases, counts.distinct) == (147_456, 592_130, 0, 67_102_466)
    assert (
        str(counts)
        == "739,586 trainable of 67,694,596 parameters as peft counts; 147,456 LoRA + 592,130 head, 67,102,466 distinct"
    )


@pytest.mark.parametrize(
    ("overrides", "lora_parameters", "biases"),
    [
        ({}, 3 * (4 * 4 * 32 + 2 * 4 * 40), 0),  # per layer: 4 of 16 x 16, 2 of 16 x 24
        ({"layers": (0, 2)}, 2 * (4 * 4 * 32 + 2 * 4 * 40), 0),
        ({"dora": True}, 3 * (4 * 4 * 32 + 2 * 4 * 40) + 3 * (5 * 16 + 24), 0),  # one magnitude per output
        ({"initialisation": "pissa"}, 3 * (4 * 4 * 32 + 2 * 4 * 40), 0),
        ({"bias": "lora_only", "targets": ("feed-forward",)}, 3 * 2 * 4 * 40, 3 * (24 + 16)),
        # with the layer norms'
        ({"bias": "all", "targets": ("feed-forward",)}, 3 * 2 * 4 * 40, 3 * (5 * 16 + 24 + 2 * 16) + 16),
    ],
)
def test_counts_are_right_by_hand_for_every_setting(
    overrides: dict[str, Any], lora_parameters: int, biases: int
) -> None:
    counts = count_parameters(attach_adapter(classifier(), lora(**overrides), seed=0))
    head = 16 * 16 + 16 + 2 * 16 + 2
    assert (counts.lora, counts.head, counts.biases) == (lora_parameters, head, biases)
    assert counts.trainable == lora_parameters + head + biases
    assert counts.distinct == sum(parameter.numel() for parameter in classifier().parameters()) + lora_parameters
    with_biases = f" head + {biases:,} biases, " if biases else " head, "
    assert with_biases in str(counts)


@pytest.mark.parametrize(
    ("family", "targets", "ends", "modules"),
    [
        ("distilbert", ("attention",), {"q_lin", "v_lin"}, 6),
        ("bert", ("attention",), {"query", "value"}, 6),
        ("deberta-v2", ("attention",), {"query_proj", "value_proj"}, 6),
        ("distilbert", ("feed-forward",), {"ffn.lin1", "ffn.lin2"}, 6),
        ("bert", ("feed-forward",), {"intermediate.dense", "*.output.dense"}, 6),
        ("deberta-v3", ("feed-forward",), {"intermediate.dense", "*.output.dense"}, 6),
        ("distilbert", ("attention", "feed-forward"), {"q_lin", "v_lin", "ffn.lin1", "ffn.lin2"}, 12),
        ("distilbert", ("all-linear",), {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}, 18),
        ("bert", ("all-linear",), {"query", "key", "value", "dense"}, 18),
        ("deberta-v3", ("all-linear",), {"query_proj", "key_proj", "value_proj", "dense"}, 18),
        ("bert", ("attention.output.dense", "key"), {"attention.output.dense", "key"}, 6),
        ("bert", ("encoder.encoder.layer.*.attention.self.key",), {"key"}, 3),
        ("bert", ("dense",), {"dense"}, 9),
    ],
)
def test_exactly_the_targeted_modules_are_adapted(
    family: str, targets: tuple[str, ...], ends: set[str], modules: int
) -> None:
    adapted = attach_adapter(classifier(family), lora(targets=targets), seed=0)
    holders = {name.split(".lora_A.")[0] for name, _ in adapted.named_parameters() if ".lora_A." in name}
    assert len(holders) == modules
    places = {re.sub(r"\.\d+\.", ".*.", name) for name in holders}
    assert all(any(place.endswith(end) for end in ends) for place in places)
    assert all(any(place.endswith(end) for place in places) for end in ends)
    assert sorted(name.removeprefix("base_model.model.") for name in holders) == sorted(
        targeted_modules(classifier(family), targets)
    )


def test_layers_of_ones_choice_alone_are_adapted() -> None:
    adapted = attach_adapter(classifier("bert"), lora(layers=(2, 0)), seed=0)
    layers = [re.search(r"layer\.(\d)", name)[1] for name, _ in adapted.named_parameters() if ".lora_A." in name]
    assert sorted(layers) == ["0"] * 6 + ["2"] * 6


@pytest.mark.parametrize(
    ("layers", "message"), [((1, 3), r"has \[3\]"), ((-1,), r"has \[-1\]"), ((), "names no layer")]
)
def test_layer_out_of_range_is_an_error_that_says_how_many_there_are(layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ReviewriskError, match=rf"lora\.layers {message}, but the encoder has 3 layers, 0 to 2"):
        attach_adapter(classifier(), lora(layers=layers), seed=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_adapter_head_and_chosen_biases_are_trained(variant: str) -> None:
    adapted = attach_adapter(classifier("bert"), lora(**VARIANTS[variant]), seed=0)
    bias = VARIANTS[variant].get("bias", "none")
    for name, tensor in adapted.named_parameters():
        is_adapter_or_head = bool(re.search(r"\.(lora_[AB]|lora_magnitude_vector|modules_to_save)\.", name))
        is_bias = (
            name.endswith(".bias")
            and ".original_module." not in name
            and (bias == "all" or (bias == "lora_only" and ".base_layer." in name))
        )
        assert tensor.requires_grad == (is_adapter_or_head or is_bias), name
    assert trained_base_parameters(adapted) == 0


def test_thawed_base_is_counted() -> None:
    adapted = attach_adapter(classifier("bert"), lora(bias="all"), seed=0)
    adapted.get_submodule("base_model.model.encoder.embeddings.word_embeddings").weight.requires_grad_(True)
    assert trained_base_parameters(adapted) == 200 * 16
    adapted = attach_adapter(classifier("bert"), lora(bias="lora_only", targets=("attention",)), seed=0)
    adapted.get_submodule("base_model.model.encoder.embeddings.LayerNorm").bias.requires_grad_(True)
    assert trained_base_parameters(adapted) == 16, "the bias of a layer that has no adapter is the base's"


@pytest.mark.parametrize("mark", ["is_loaded_in_8bit", "is_loaded_in_4bit"])
def test_peft_is_told_how_the_encoder_is_quantised(mark: str) -> None:
    plain, marked = classifier(), classifier()
    setattr(marked.encoder, mark, True)
    for network, expected in ((plain, {False}), (marked, {True, False})):
        attach_adapter(network, lora(), seed=0)
        assert {network.is_loaded_in_8bit, network.is_loaded_in_4bit} == expected
    assert getattr(marked, mark) is True


@pytest.mark.parametrize("mark", ["is_loaded_in_8bit", "is_loaded_in_4bit"])
def test_quantised_weights_are_neither_decomposed_nor_merged_into(mark: str) -> None:
    marked = classifier()
    setattr(marked.encoder, mark, True)
    with pytest.raises(ReviewriskError, match="'pissa' decomposes the base weights, which is impossible for 8- and"):
        attach_adapter(marked, lora(initialisation="pissa"), seed=0)
    with pytest.raises(ReviewriskError, match="cannot be merged into 8- or 4-bit weights"):
        merge_adapter(attach_adapter(marked, lora(), seed=0))


def test_of_a_network_without_an_adapter_everything_is_the_base() -> None:
    network: Any = classifier()
    assert trained_base_parameters(network) == sum(parameter.numel() for parameter in network.parameters())


def test_an_adapter_is_moved_to_another_copy_of_the_base() -> None:
    adapted = one_step(attach_adapter(classifier(), lora(bias="all"), seed=0))
    base = classifier()
    moved = move_to_base(adapted, base)
    assert moved.get_base_model() is base and not moved.training
    torch.testing.assert_close(logits(moved), logits(adapted), atol=1e-5, rtol=0)


def test_b_is_zero_at_the_start_but_for_pissa() -> None:
    assert lora_b_norm(attach_adapter(classifier(), lora(), seed=0)) == 0
    adapted = attach_adapter(classifier(), lora(initialisation="pissa"), seed=0)
    squares = sum(
        float(parameter.detach().square().sum()) for name, parameter in adapted.named_parameters() if ".lora_B." in name
    )
    assert lora_b_norm(adapted) == pytest.approx(squares**0.5, rel=1e-5)
    assert squares > 0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("query",), "no linear layer of the encoder is called 'query'"),
        (("q_lin", "q_linear"), "no linear layer of the encoder is called 'q_linear'"),
        (("classifier",), "no linear layer of the encoder is called 'classifier'"),
        (
            ("1.attention.q_lin",),
            (
                r"'1.attention.q_lin' matches encoder.transformer.layer.\*.attention.q_lin in 1 of 3 layers; .* set"
                r" model\.lora\.layers"
            ),
        ),
    ],
)
def test_no_match_and_partial_match_are_errors_that_list_the_names(targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ReviewriskError, match=message) as caught:
        attach_adapter(classifier(), lora(targets=targets), seed=0)
    assert "Linear layers of this encoder (* is the layer's number): encoder" in str(caught.value)
    assert "encoder.transformer.layer.*.attention.v_lin, encoder.transformer.layer.*.attention.out_lin" in str(
        caught.value
    )


def test_any_other_number_of_adapted_modules_is_an_error() -> None:
    adapted = attach_adapter(classifier(), lora(targets=("q_lin",)), seed=0)
    wanted = targeted_modules(classifier(), ("q_lin", "v_lin"))
    with pytest.raises(
        ReviewriskError,
        match=(
            r"attached to 3 modules instead of 6; unexpected: \[\], missing:"
            r" \['encoder\.transformer\.layer\.0\.attention\.v_lin'"
        ),
    ):
        _check_adapted(adapted, wanted)


@pytest.mark.parametrize("word", ["attention", "feed-forward"])
def test_family_without_known_names_is_told_to_name_them(word: str) -> None:
    with pytest.raises(
        ReviewriskError,
        match=rf"'{word}' is known for distilbert, bert, deberta-v2, not for roberta.*attention\.self\.query",
    ):
        attach_adapter(classifier("roberta"), lora(targets=(word,)), seed=0)


def test_dropout_that_nobody_resolved_is_a_programming_error() -> None:
    with pytest.raises(
        ValueError, match=r"lora\.dropout is None: give the settings that model\.training\.defaults\.resolve returns"
    ):
        attach_adapter(classifier(), LoraSettings(), seed=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_starts_at_the_base_and_its_result_survives_saving_loading_and_merging(
    family: str, variant: str, tmp_path: Path
) -> None:
    base = logits(classifier(family))
    adapted = attach_adapter(classifier(family), lora(**VARIANTS[variant]), seed=1)
    torch.testing.assert_close(logits(adapted), base, atol=1e-4, rtol=0)
    trained = logits(one_step(adapted))
    assert (trained - base).abs().max() > 0.05
    save_adapter(adapted, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    fresh = classifier(family)
    torch.nn.init.zeros_(fresh.pre_classifier.weight)  # the saved head must take the place of any other
    loaded = load_adapter(fresh, tmp_path)
    torch.testing.assert_close(logits(loaded), trained, atol=1e-4, rtol=0)
    for model in (adapted, loaded):
        merged = merge_adapter(model)
        assert type(merged) is ReviewClassifier
        assert set(merged.state_dict()) == set(classifier(family).state_dict())
        assert {tensor.dtype for tensor in merged.parameters()} == {torch.float32}
        assert not merged.training
        torch.testing.assert_close(logits(merged), trained, atol=1e-4, rtol=0)


def test_pissa_trains_the_top_singular_vectors_and_is_saved_as_lora_of_twice_the_rank(tmp_path: Path) -> None:
    adapted = attach_adapter(classifier(), lora(initialisation="pissa"), seed=0)
    layer = adapted.get_submodule("base_model.model.encoder.transformer.layer.0.ffn.lin1")
    whole = classifier().encoder.transformer.layer[0].ffn.lin1.weight
    values = torch.linalg.svdvals(whole)
    torch.testing.assert_close(
        torch.linalg.svdvals(layer.get_delta_weight("default"))[:4], values[:4], rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(torch.linalg.svdvals(layer.get_base_layer().weight)[0], values[4], rtol=1e-4, atol=1e-6)
    save_adapter(adapted, tmp_path)
    config = read_json(tmp_path / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16, True)


def test_rank_beyond_the_singular_vectors_is_refused_for_pissa() -> None:
    with pytest.raises(ReviewriskError, match=r"lora\.rank is 17, but a targeted layer has only 16 singular vectors"):
        attach_adapter(classifier(), lora(rank=17, initialisation="pissa"), seed=0)


def test_copy_of_a_pissa_adapter_is_saved_as_the_original_is(tmp_path: Path) -> None:
    adapted = one_step(attach_adapter(classifier(), lora(initialisation="pissa"), seed=0))
    for name, model in (("original", adapted), ("copy", copy.deepcopy(adapted))):
        save_adapter(model, tmp_path / name)
    first, second = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("original", "copy"))
    assert first == second


def test_head_is_saved_whole_and_nothing_twice(tmp_path: Path) -> None:
    save_adapter(attach_adapter(classifier(), lora(bias="all"), seed=0), tmp_path)
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "adapter_model.safetensors")}
    head = {name for name in names if not name.startswith("encoder.")}
    assert head == {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"}
    assert sum(".lora_" in name for name in names) == 2 * 18
    assert sum(name.endswith(".bias") for name in names - head) == 3 * (6 + 2) + 1


def test_adapter_with_nan_is_not_merged() -> None:
    adapted = attach_adapter(classifier(), lora(), seed=0)
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
        save_adapter(attach_adapter(base, lora(rank=2), seed), folder)
        files.append([(folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")])
        names = read_json(folder / "adapter_config.json")["target_modules"]
        assert names == sorted(targeted_modules(classifier("bert"), ("all-linear",)))
    assert files[0] == files[1]
    assert files[0][1] != files[2][1]


@pytest.mark.parametrize(
    ("overrides", "scale"),
    [({}, 2), ({"alpha": 6}, 1.5), ({"rank_stabilised": True}, 4), ({"alpha": 6, "rank_stabilised": True}, 3)],
)
def test_alpha_scales_the_adapter(overrides: dict[str, Any], scale: float) -> None:
    adapted = attach_adapter(classifier(), lora(**overrides), seed=0)
    assert {module.scaling["default"] for module in adapted.modules() if hasattr(module, "lora_A")} == {scale}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_that_of_the_settings_and_acts_in_training_alone(dropout: float) -> None:
    adapted = one_step(attach_adapter(classifier(), lora(dropout=dropout), seed=0))
    layers = [module for module in adapted.modules() if hasattr(module, "lora_dropout")]
    assert len(layers) == 18
    layers[0].train()
    dropped = (layers[0].lora_dropout["default"](torch.ones(4096, 16)) == 0).float().mean()
    assert float(dropped) == pytest.approx(dropout, abs=0.01)  # of 65,536 numbers
    for layer in layers:
        shape = (4, layer.get_base_layer().in_features)
        layer.train()
        torch.manual_seed(0)
        first, second = (layer(torch.ones(shape)) for _ in range(2))
        assert torch.equal(first, second) == (dropout == 0)
        layer.eval()
        assert torch.equal(layer(torch.ones(shape)), layer(torch.ones(shape)))


@pytest.mark.parametrize("layers", [(0,), (2,), (0, 1, 2), None])
def test_first_and_last_layer_can_be_chosen(layers: tuple[int, ...] | None) -> None:
    names = targeted_modules(classifier(), ("q_lin",), layers)
    numbers = range(3) if layers is None else layers
    assert names == [f"encoder.transformer.layer.{number}.attention.q_lin" for number in numbers]


@pytest.mark.parametrize("rank", [1, 16])
def test_rank_may_be_one_and_for_pissa_as_many_as_the_narrowest_layer_has(rank: int) -> None:
    adapted = attach_adapter(classifier(), lora(rank=rank, initialisation="pissa"), seed=0)
    assert {module.r["default"] for module in adapted.modules() if hasattr(module, "lora_A")} == {rank}


CAN_QUANTISE = torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is not None


@pytest.mark.skipif(CAN_QUANTISE, reason="this machine can")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantised_base_is_refused_where_the_hardware_lacks(quantization: Any) -> None:
    with pytest.raises(
        ReviewriskError,
        match=(
            rf"lora\.quantization is '{quantization}', which needs .*: set it to 'none', or train on a machine that"
            r" has it"
        ),
    ):
        load_backbone(BackboneSettings(), quantization)


@pytest.mark.skipif(not CAN_QUANTISE, reason="needs a GPU and bitsandbytes")
@pytest.mark.parametrize("family", ["distilbert", "bert"])
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_adapter_trained_on_a_quantised_base_is_merged_on_the_plain_one(
    quantization: Any, family: Any, tmp_path: Path
) -> None:
    settings = BackboneSettings(name=str(tiny_encoder(tmp_path / "encoder", family, width=64)), max_length=64)
    adapted = attach_adapter(make_classifier(load_backbone(settings, quantization), 0.0, 1), lora(), seed=1).to("cuda")
    ids = torch.randint(5, 60, (8, 10), device="cuda")
    optimizer = torch.optim.AdamW([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=0.05)
    for _ in range(2):
        torch.nn.functional.cross_entropy(
            adapted(input_ids=ids, attention_mask=torch.ones_like(ids)), torch.arange(8, device="cuda") % 2
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
    with pytest.raises(ReviewriskError, match="cannot be merged into 8- or 4-bit weights"):
        merge_adapter(adapted)
    moved = move_to_base(adapted, make_classifier(load_backbone(settings), 0.0, 1))
    # the quantisation's own error
    torch.testing.assert_close(logits(moved), logits_on(adapted.eval(), "cuda"), atol=0.3, rtol=0)
    before = logits(moved)
    torch.testing.assert_close(logits(merge_adapter(moved)), before, atol=1e-4, rtol=0)


@torch.no_grad()
def logits_on(model: torch.nn.Module, device: str) -> torch.Tensor:
    ids = torch.arange(5, 35, device=device).reshape(3, 10)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).float().cpu()

"""While it trains, the encoder drops what the settings say and computes attention its own way; what it computes is the
same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from model.data.batches import batches, tokenise
from model.data.reviews import labelled_reviews
from model.network.attention import encoder_of, set_encoder_dropout, training_attention
from model.network.backbone import load_backbone, make_classifier
from model.network.lora import attach_adapter
from model.settings import ModelSettings
from model.training.loop import TrainingRun, start_run, train_step, weighted_losses
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings

CPU = torch.device("cpu")


def settings_of(folder: Path, family: Any, **training: Any) -> ModelSettings:
    return tiny_settings(tiny_encoder(folder, family), **training)


def adapted(settings: ModelSettings, lora_dropout: float = 0.0) -> Any:
    settings = settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": lora_dropout})})
    return attach_adapter(make_classifier(load_backbone(settings.backbone), 0.2, 1), settings.lora, 1)


def shares(network: nn.Module, of_lora: bool) -> set[float]:
    return {
        module.p
        for name, module in encoder_of(network).named_modules()
        if isinstance(module, nn.Dropout) and ("lora_dropout" in name) == of_lora
    }


@pytest.mark.parametrize("family", ["distilbert", "bert", "deberta-v2"])
def test_the_encoders_dropout_is_set_and_that_of_lora_and_head_left_alone(family: Any, tmp_path: Path) -> None:
    network = adapted(settings_of(tmp_path, family), lora_dropout=0.3)
    before = shares(network, of_lora=False)
    assert before and before != {0.0}
    set_encoder_dropout(network, None)
    assert shares(network, of_lora=False) == before
    set_encoder_dropout(network, 0.0)
    assert shares(network, of_lora=False) == {0.0} and shares(network, of_lora=True) == {0.3}
    assert network.base_model.model.dropout.p == 0.2


def run_of(settings: ModelSettings) -> tuple[TrainingRun, list[Any]]:
    backbone = load_backbone(settings.backbone)
    tokens = tokenise(labelled_reviews(planted_reviews(), "train"), backbone.tokenizer, 64)
    run = start_run(adapted(settings), tokens, settings, 0, lambda _: None)
    order = [torch.arange(start, start + 16).numpy() for start in range(0, 64, 16)]
    return run, list(batches(tokens, order, 16, 0, run.weights))


def test_a_run_sets_the_dropout_of_its_settings(tmp_path: Path) -> None:
    run, _ = run_of(settings_of(tmp_path, "bert", encoder_dropout=0.25))
    assert shares(run.adapted, of_lora=False) == {0.25}


@pytest.mark.parametrize("family", ["distilbert", "bert"])
def test_attention_is_computed_otherwise_while_training_and_gives_the_same(family: Any, tmp_path: Path) -> None:
    run, [batch, *_] = run_of(settings_of(tmp_path, family, encoder_dropout=0.0))
    encoder = encoder_of(run.adapted)
    run.adapted.eval()
    fused = run.logits(batch)
    with training_attention(run.adapted, CPU):
        assert encoder.config._attn_implementation == "eager"
        torch.testing.assert_close(run.logits(batch), fused, atol=1e-5, rtol=1e-4)
    assert encoder.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match="on purpose"), training_attention(run.adapted, CPU):
        raise RuntimeError("on purpose")
    assert encoder.config._attn_implementation == "sdpa", "also after an error"
    with training_attention(run.adapted, torch.device("cuda")):
        assert encoder.config._attn_implementation == "sdpa"


def test_attention_that_is_not_fused_is_left_as_it_is(tmp_path: Path) -> None:
    network = adapted(settings_of(tmp_path, "bert"))
    encoder = encoder_of(network)
    encoder.set_attn_implementation("eager")
    with training_attention(network, CPU):
        pass
    assert encoder.config._attn_implementation == "eager"


def test_bfloat16_without_pefts_cast_has_the_same_loss_and_gradients(tmp_path: Path) -> None:
    run, [first, batch, *_] = run_of(settings_of(tmp_path, "bert", precision="bfloat16", encoder_dropout=0.0))
    train_step(run, first, 0, 2)  # B is zero before it, and A's gradient with it

    def gradients(logits: Any) -> tuple[float, dict[str, torch.Tensor]]:
        torch.manual_seed(3)
        loss, weight = weighted_losses(logits(batch), batch)
        (loss / weight).backward()
        found = {name: parameter.grad.clone() for name, parameter in run.trained.items() if parameter.grad is not None}
        run.optimizer.zero_grad(set_to_none=True)
        return float(loss), found

    def cast(one: Any) -> torch.Tensor:
        assert all(
            module.cast_input_dtype_enabled for module in run.adapted.modules() if isinstance(module, BaseTunerLayer)
        ), "it is off within a step alone"
        with torch.autocast("cpu", torch.bfloat16):
            output: torch.Tensor = run.adapted(input_ids=one.input_ids, attention_mask=one.attention_mask)
        return output.float()

    run.adapted.train()
    (loss, found), (loss_with_cast, found_with_cast) = gradients(run.logits), gradients(cast)
    assert loss == loss_with_cast and found.keys() == found_with_cast.keys()
    assert all(torch.equal(found[name], found_with_cast[name]) for name in found)
    assert any(found[name].abs().max() > 0 for name in found if ".lora_A." in name)

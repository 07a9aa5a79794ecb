"""Encoders by bundled package, folder and hub name, and token ids that only our own limit cuts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model

from model.errors import ReviewriskError
from model.network.backbone import BUNDLED_MINILM, encode, load_backbone, load_tokenizer, make_classifier
from model.network.classifier import ReviewClassifier
from model.settings import BackboneSettings
from tests import ROOT
from tests.support.tiny_models import Family, tiny_encoder, tiny_tokenizer, vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny", own_limit=16)


def test_bundled_minilm_is_a_bare_encoder_with_mean_pooling_and_reads_200_tokens() -> None:
    backbone = load_backbone(BackboneSettings())
    assert (backbone.name, backbone.pooling, backbone.max_length) == (BUNDLED_MINILM, "mean", 256)
    assert backbone.revision == "sha256:53aa51172d14"
    # 22,713,216 with the pooler
    assert sum(parameter.numel() for parameter in backbone.encoder.parameters()) == 22_565_376
    assert {parameter.dtype for parameter in backbone.encoder.parameters()} == {torch.float32}
    ids, counts = encode(backbone.tokenizer, ["chair " * 200, "chair"], 256)
    assert [len(row) for row in ids] == counts == [202, 3]  # its own tokenizer.json would make 128 of both


def test_bundled_minilm_reads_384_tokens_and_says_where_it_ends() -> None:
    backbone = load_backbone(BackboneSettings(max_length=384))
    ids, counts = encode(backbone.tokenizer, ["chair " * 500], backbone.max_length)
    assert (len(ids[0]), counts) == (384, [502])
    with torch.inference_mode():
        logits = make_classifier(backbone, 0.0, 1).eval()(
            input_ids=torch.tensor(ids), attention_mask=torch.ones(1, 384, dtype=torch.int64)
        )
    assert logits.isfinite().all()
    with pytest.raises(ValidationError, match="less than or equal to 512"):
        BackboneSettings(max_length=513)


def test_tokenizers_own_truncation_and_padding_are_off(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    ids, counts = encode(tokenizer, ["chair " * 200, "a chair", ""], 256)
    assert [len(row) for row in ids] == counts == [202, 4, 2]
    assert len(tokenizer("chair " * 200)["input_ids"]) == 202


def test_truncated_text_keeps_its_start_and_the_closing_token(folder: Path) -> None:
    words = vocabulary()
    ids, counts = encode(load_tokenizer(folder), ["chair table sofa broke", "chair table sofa"], 5)
    assert ids == [[words[token] for token in ("[CLS]", "chair", "table", "sofa", "[SEP]")]] * 2
    assert counts == [6, 5]


def test_folder_revision_is_the_checksum_of_its_weights(folder: Path) -> None:
    backbone = load_backbone(BackboneSettings(name=str(folder)))
    assert backbone.revision == "sha256:" + hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]
    assert backbone.pooling == "cls"
    assert load_backbone(BackboneSettings(name=str(folder), pooling="mean")).pooling == "mean"


def test_pooler_of_a_bert_folder_is_left_behind(tmp_path: Path) -> None:
    backbone = load_backbone(BackboneSettings(name=str(tiny_encoder(tmp_path / "bert", "bert"))))
    assert "pooler.dense.weight" in load_file(tmp_path / "bert" / "model.safetensors")
    assert not [name for name, _ in backbone.encoder.named_parameters() if "pooler" in name]


def test_weights_that_lack_a_tensor_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["transformer.layer.1.ffn.lin2.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ReviewriskError, match=r"lack 1 of the encoder's tensors, such as transformer\.layer\.1\.ffn\.lin2\.weight"
    ):
        load_backbone(BackboneSettings(name=str(broken)))


def test_pickled_weights_are_never_read(folder: Path, tmp_path: Path) -> None:
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(
        ReviewriskError,
        match=r"needs config.json, model.safetensors and tokenizer.json\. .*pytorch_model.bin .* converted once",
    ):
        load_backbone(BackboneSettings(name=str(pickled)))


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_folder_without_a_vocabulary_is_refused(family: Family, tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder", family)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ReviewriskError, match=r"tokenizer.* converted once: docs/model/settings.md, Which encoder"):
        load_backbone(BackboneSettings(name=str(folder), max_length=64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bundled:bert", "the only bundled encoder is 'bundled:minilm'"),
        ("./no/such/folder", "is not a folder on this machine"),
        ("/no/such/folder", "is not a folder on this machine"),
    ],
)
def test_names_that_stand_for_nothing_are_refused(name: str, message: str) -> None:
    with pytest.raises(ReviewriskError, match=message):
        load_backbone(BackboneSettings(name=name))


def test_length_beyond_the_encoders_positions_is_refused(tmp_path: Path) -> None:
    BertModel(
        BertConfig(
            vocab_size=200,
            hidden_size=8,
            num_attention_heads=1,
            num_hidden_layers=1,
            intermediate_size=8,
            max_position_embeddings=32,
        )
    ).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ReviewriskError, match=r"backbone.max_length is 64, but .* reads at most 32 tokens"):
        load_backbone(BackboneSettings(name=str(tmp_path), max_length=64))


HUB_PROBE = """
from model.network.backbone import load_backbone
from model.errors import ReviewriskError
from model.settings import BackboneSettings
for name, revision in (("maker/tiny", None), ("maker/tiny", "{commit}"), ("maker/absent", None)):
    try:
        print(load_backbone(BackboneSettings(name=name, revision=revision, max_length=64)).revision)
    except ReviewriskError as error:
        print(error)
"""


def test_hub_name_gives_the_commit_and_its_absence_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "hub" / "models--maker--tiny"  # as the hub's client keeps a model that was fetched once
    shutil.copytree(folder, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    probe = [sys.executable, "-c", HUB_PROBE.format(commit=commit)]
    lines = subprocess.run(
        probe, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[:2] == [commit, commit]
    assert "'maker/absent' (revision main) cannot be had from the model hub" in lines[2]
    assert (
        "copy config.json, model.safetensors and tokenizer.json of the model into a folder and set"
        " model.backbone.name to it" in lines[2]
    )


def classifiers() -> list[ReviewClassifier]:
    torch.manual_seed(0)
    deberta = DebertaV2Config(
        vocab_size=200,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=16,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
    )
    bert = BertConfig(vocab_size=200, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16)
    return [
        ReviewClassifier(DebertaV2Model(deberta), "cls").eval(),
        ReviewClassifier(BertModel(bert, add_pooling_layer=False), "mean").eval(),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_embeddings_in_place_of_ids_and_padding_change_no_logit(number: int) -> None:
    classifier = classifiers()[number]
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    mask = torch.ones_like(ids)
    padded = torch.nn.functional.pad(ids, (0, 11)), torch.nn.functional.pad(mask, (0, 11))
    with torch.no_grad():
        plain = classifier(input_ids=ids, attention_mask=mask)
        embedded = classifier(inputs_embeds=classifier.encoder.get_input_embeddings()(ids), attention_mask=mask)
        longer = classifier(input_ids=padded[0], attention_mask=padded[1])
    torch.testing.assert_close(embedded, plain)
    torch.testing.assert_close(longer, plain, atol=1e-5, rtol=1e-5)


def test_head_depends_on_the_seed_alone(folder: Path) -> None:
    heads = []
    for noise, seed in ((1, 5), (2, 5), (3, 6)):
        torch.manual_seed(noise)
        heads.append(
            make_classifier(load_backbone(BackboneSettings(name=str(folder))), 0.2, seed).pre_classifier.weight
        )
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])

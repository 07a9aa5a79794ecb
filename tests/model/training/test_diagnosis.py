"""Each failure is found in a small run made to have it, and in no other; a healthy run has none of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.schemas import MODELS
from jobs.training.diagnose import run_diagnose
from model.bundle.bundle import BundleContents, write_bundle
from model.data.batches import TokenisedReviews
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator
from model.files import file_sha256
from model.network.backbone import encode, load_backbone, make_classifier
from model.network.lora import attach_adapter, load_adapter, save_adapter
from model.settings import ModelSettings
from model.training.diagnosis import Finding, diagnose
from model.training.loop import train
from model.training.spectrum import ModuleChange, WeightEvidence, weight_evidence
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import tiny_encoder, tiny_settings
from tests.support.warehouse_rows import model as model_row

Texts = tuple[list[str], list[int]]
BAD = ("broke", "broken", "returned", "refund", "damaged", "terrible", "awful", "waste", "missing")
GOOD = ("love", "loved", "great", "good", "nice", "sturdy", "comfortable", "perfect", "happy")
NEUTRAL = ("the", "chair", "table", "sofa", "is", "was", "it", "my", "after", "weeks", "to", "put", "together")


def plain_reviews(rows: int, seed: int) -> Texts:
    """About a third are dissatisfied, which three of the nine words tell."""
    generator = random.Random(seed)
    labels = [int(generator.random() < 0.35) for _ in range(rows)]
    return [
        _shuffled(generator, generator.choices(BAD if label else GOOD, k=3) + generator.choices(NEUTRAL, k=6))
        for label in labels
    ], labels


def interacting_reviews(rows: int, seed: int) -> Texts:
    """Dissatisfied where just one of two things is so: neither word tells anything without the other."""
    generator = random.Random(seed)
    pairs = [(generator.random() < 0.5, generator.random() < 0.5) for _ in range(rows)]
    words = [
        [("broke", "love")[first], ("chair", "sofa")[second], *generator.choices(("the", "is", "was", "it", "my"), k=5)]
        for first, second in pairs
    ]
    return [_shuffled(generator, row) for row in words], [int(first != second) for first, second in pairs]


def mislabelled_reviews(rows: int, seed: int) -> Texts:
    """Texts as of `plain_reviews`, whose labels were drawn without a look at them."""
    generator = random.Random(seed + 100)
    return plain_reviews(rows, seed)[0], [int(generator.random() < 0.4) for _ in range(rows)]


def _shuffled(generator: random.Random, words: list[str]) -> str:
    generator.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder whose weights are of a pretrained one's size and have a few directions that matter more than
    others.

    In those that `tiny_encoder` draws all directions matter nearly alike, so that any change mixes them, and it takes
    changes of several times their size to learn anything.
    """
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if weight.ndim == 2 and "embeddings" in name:
            weights[name] = weight / weight.std()
        elif weight.ndim == 2:
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            weights[name] = (left * 3 * 0.88 ** torch.arange(len(values)) @ right).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@dataclass(frozen=True)
class Recipe:
    """A run to be made: its settings, its training and validation rows, and what is done to the model before the first
    step.
    """

    lora: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rows: Callable[[], Texts] = lambda: plain_reviews(400, 1)
    validation: Callable[[], Texts] = lambda: plain_reviews(160, 2)
    before: Callable[[PeftModel], Any] = lambda adapted: None


@dataclass(frozen=True)
class Made:
    """A finished run: its settings, its recorded training, and the model."""

    settings: ModelSettings
    training: dict[str, Any]
    adapted: PeftModel

    def findings(self, encoder: Path, folder: Path) -> list[Finding]:
        """From the adapter as it is saved, on a fresh base, as a bundle's is."""
        save_adapter(self.adapted, folder)
        loaded = load_adapter(make_classifier(load_backbone(self.settings.backbone), 0.0, seed=9), folder)
        return diagnose(self.settings, self.training, weight_evidence(loaded))


def make(recipe: Recipe, encoder: Path, checkpoints: Path) -> Made:
    chosen = {"patience": 99, "learning_rate": 2e-3, "epochs": 3, "batch_size": 8, **recipe.training}
    settings = tiny_settings(encoder, **chosen)
    settings = settings.model_copy(update={"lora": settings.lora.model_copy(update=recipe.lora)})
    backbone = load_backbone(settings.backbone)
    adapted = attach_adapter(make_classifier(backbone, settings.training.head_dropout, 17), settings.lora, 17)
    recipe.before(adapted)
    rows, validation = (_tokenised(backbone.tokenizer, texts) for texts in (recipe.rows(), recipe.validation()))
    return Made(
        settings, asdict(train(adapted, rows, validation, settings, 0, checkpoints, lambda line: None)), adapted
    )


def _tokenised(tokenizer: Any, texts: Texts) -> TokenisedReviews:
    ids, _ = encode(tokenizer, texts[0], 64)
    return TokenisedReviews([np.array(row, dtype=np.int32) for row in ids], np.array(texts[1], dtype=np.int64))


def thaw(adapted: PeftModel) -> None:
    adapted.get_submodule("base_model.model.encoder.transformer.layer.0.ffn.lin1.base_layer").weight.requires_grad_(
        True
    )


def fill_b(adapted: PeftModel) -> None:
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(0.003)


SLOWLY = {"epochs": 8, "batch_size": 16, "learning_rate": 3e-3}
INTERACTING = {"rows": lambda: interacting_reviews(400, 17), "validation": lambda: interacting_reviews(120, 2)}
HEALTHY = {
    "plain": Recipe(),
    "unweighted loss": Recipe(training={"class_weighting": "none"}),
    "oversampled": Recipe(training={"class_weighting": "oversampled"}),
    "pissa": Recipe(lora={"initialisation": "pissa"}),
    "dora": Recipe(lora={"dora": True}),
}
FAILING = {
    "rank_too_low": Recipe(lora={"rank": 1}, training=SLOWLY, **INTERACTING),
    "wrong_layers": Recipe(
        lora={"rank": 8},
        training={"epochs": 30, "batch_size": 16, "learning_rate": 5e-3, "head_dropout": 0.0},
        rows=lambda: mislabelled_reviews(64, 1),
    ),
    "overfitting": Recipe(
        lora={"rank": 8},
        training={"epochs": 20, "learning_rate": 5e-3, "head_dropout": 0.0},
        rows=lambda: plain_reviews(16, 1),
    ),
    "learning_rate_too_high": Recipe(training={"learning_rate": 0.3, "epochs": 2}),
    "base_not_frozen": Recipe(training={"epochs": 2}, before=thaw),
    "adapter_never_moved": Recipe(training={"learning_rate": 1e-9, "epochs": 2}),
    "b_not_zero_at_start": Recipe(training={"epochs": 2}, before=fill_b),
    "intruder_dimensions": Recipe(lora={"rank": 2, "alpha": 64.0}),
}
# Weights that a far too high rate has thrown about have directions of no use, too.
COMES_ALONG = {"learning_rate_too_high": {"intruder_dimensions"}}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_run_has_no_finding(name: str, encoder: Path, tmp_path: Path) -> None:
    made = make(HEALTHY[name], encoder, tmp_path / "checkpoints")
    findings = made.findings(encoder, tmp_path)
    assert max(entry["auc"] for entry in made.training["history"]) > 0.9
    assert {finding.name for finding in findings} == set(FAILING)
    assert [finding for finding in findings if finding.is_found] == []


@pytest.mark.parametrize("failure", FAILING)
def test_failure_is_found_in_a_run_made_to_have_it_and_stands_first(
    failure: str, encoder: Path, tmp_path: Path
) -> None:
    findings = make(FAILING[failure], encoder, tmp_path / "checkpoints").findings(encoder, tmp_path)
    found = {finding.name for finding in findings if finding.is_found}
    assert found == {failure} | COMES_ALONG.get(failure, set()), [finding.evidence for finding in findings]
    assert [finding.is_found for finding in findings] == sorted(
        (finding.is_found for finding in findings), reverse=True
    )
    assert len(findings) == len(FAILING)


def test_the_higher_rank_that_is_advised_lowers_the_training_loss_and_ends_the_finding(
    encoder: Path, tmp_path: Path
) -> None:
    losses = {}
    for rank in (1, 8):
        made = make(
            Recipe(lora={"rank": rank}, training=SLOWLY, **INTERACTING), encoder, tmp_path / f"checkpoints-{rank}"
        )
        losses[rank] = made.training["history"][-1]["train_loss"]
    assert losses[8] < 0.75 * losses[1]
    assert [finding.name for finding in made.findings(encoder, tmp_path) if finding.is_found] == []


def history(training: list[float], validation: list[float], **overrides: Any) -> dict[str, Any]:
    """A record with one entry per epoch, of five stretches each."""
    entries = [
        {
            "train_loss": loss,
            "train_losses": [loss] * 5,
            "gradient_norms": [1.0] * 5,
            "validation_loss": other,
            "auc": 0.95,
            "average_precision": 0.9,
            **overrides,
        }
        for loss, other in zip(training, validation, strict=True)
    ]
    return {"history": entries, "best_epoch": 1, "start": {"lora_b_norm": 0.0, "trained_base_parameters": 0}}


def change(
    values: tuple[float, ...] = (1.0, 1.0), relative_change: float = 0.1, cosines: tuple[float, ...] = (1.0, 0.9)
) -> WeightEvidence:
    return WeightEvidence((ModuleChange("encoder.layer.0.query", values, relative_change, cosines),), has_dora=False)


def found(
    record: dict[str, Any], weights: WeightEvidence | None = None, share: float = 0.5, **settings: Any
) -> set[str]:
    findings = diagnose(ModelSettings.model_validate(settings), record, weights or change(), share)
    return {finding.name for finding in findings if finding.is_found}


def spoilt(stretch: int, **values: float) -> dict[str, Any]:
    """A healthy record of two epochs, one stretch of which has other figures."""
    record = history([0.4, 0.2], [0.3, 0.2])
    for name, value in values.items():
        record["history"][stretch // 5][name][stretch % 5] = value
    return record


def test_a_loss_that_doubles_a_coin_toss_or_a_norm_that_explodes_above_one_is_a_rate_too_high() -> None:
    assert found(spoilt(6)) == set()
    assert found(spoilt(6, train_losses=1.3)) == set()
    assert found(spoilt(6, train_losses=1.5)) == {"learning_rate_too_high"}
    assert found(spoilt(6, train_losses=0.8, gradient_norms=12)) == {"learning_rate_too_high"}
    assert found(spoilt(6, train_losses=0.3, gradient_norms=30)) == set(), (
        "an odd row among rows that are known by heart"
    )


def test_what_was_learnt_and_lost_again_is_a_rate_too_high() -> None:
    assert found(history([0.6, 0.3, 0.7], [0.4, 0.3, 0.7])) == {"learning_rate_too_high"}
    assert "learning_rate_too_high" not in found(history([0.69, 0.69, 0.69], [0.69, 0.69, 0.69], auc=0.52))
    assert "learning_rate_too_high" not in found(history([0.69], [0.68], auc=0.8)), (
        "a run that was too short ranks well before its loss falls"
    )


def test_flat_loss_is_no_matter_of_rank_where_the_rank_is_not_used_or_nothing_moved() -> None:
    stuck = history([0.6, 0.6, 0.6], [0.6, 0.6, 0.6])
    assert found(stuck) == {"rank_too_low"}
    assert found(stuck, change(values=(1.0, 0.1))) == set()
    assert found(stuck, change(relative_change=1e-5)) == {"adapter_never_moved"}
    stuck["history"][0]["train_losses"][2] = 2.0
    assert found(stuck) == {"learning_rate_too_high"}
    assert found(history([0.6, 0.5, 0.4], [0.6, 0.5, 0.4])) == set()
    assert found(history([0.2, 0.2, 0.2], [0.2, 0.2, 0.2])) == set()


def test_chance_is_the_entropy_of_the_class_shares_where_the_loss_is_unweighted() -> None:
    """With one row in ten dissatisfied, 0.32 is what the share alone gives: much less than a coin toss, and nothing
    learnt.
    """
    stuck = history([0.32, 0.32, 0.32], [0.32, 0.32, 0.32], auc=0.5)
    assert found(stuck, share=0.1, training={"class_weighting": "none"}) == {"rank_too_low"}
    assert found(stuck, share=0.1, training={"class_weighting": "balanced"}) == set()
    by_heart = history([0.3, 0.1], [0.33, 0.4], auc=0.5)
    assert found(by_heart, share=0.1, training={"class_weighting": "none"}) == {"wrong_layers"}


def test_validation_loss_that_wanders_or_hardly_rises_is_no_overfitting() -> None:
    assert found(history([0.2, 0.1, 0.05], [0.2, 0.1, 0.2])) == {"overfitting"}
    assert found(history([0.2, 0.1, 0.05], [0.2, 0.1, 0.11])) == set()
    assert found(history([0.2, 0.1, 0.05], [0.02, 0.01, 0.02])) == set()
    assert found(history([0.2, 0.3, 0.3], [0.1, 0.2, 0.2])) == set()


def test_pissa_may_start_with_b() -> None:
    record = history([0.3], [0.3])
    record["start"]["lora_b_norm"] = 2.0
    assert found(record) == {"b_not_zero_at_start"}
    assert found(record, lora={"initialisation": "pissa"}) == set()


def test_worst_modules_are_listed_first() -> None:
    modules = tuple(
        ModuleChange(f"layer.{place}", (1.0,), 0.1, cosines)
        for place, cosines in enumerate([(1.0, 0.4), (0.9, 0.8), (0.2, 0.3), (1.0, 0.1)])
    )
    [finding] = [
        finding
        for finding in diagnose(ModelSettings(), history([0.3], [0.3]), WeightEvidence(modules, False))
        if finding.is_found
    ]
    assert finding.name == "intruder_dimensions"
    assert finding.evidence.startswith("4 of 8 main directions")
    assert finding.evidence.endswith(
        "worst: layer.2 2 (least cosine 0.20); layer.3 1 (least cosine 0.10); layer.0 1 (least cosine 0.40)"
    )


def bundled(made: Made, folder: Path) -> Path:
    """The run's bundle, with one row in four dissatisfied in the later half of validation."""
    contents = BundleContents(
        adapted=made.adapted,
        backbone=load_backbone(made.settings.backbone),
        settings=made.settings,
        calibrator=Calibrator().to_json(),
        thresholds=[],
        metrics={"training": made.training},
        predictions=pa.table(
            {"part": ["fitting", "fitting", "choosing", "choosing", "test"], "label": [1, 0, 0, 0, 1]}
        ),
        data_version="none",
        describe=lambda path, manifest: (path / "README.md").write_text("# tiny\n") and None,
    )
    return write_bundle(folder, contents)[0]


def registered(config: Config, bundle: Path) -> str:
    """The version of the bundle, which lies under the root, as a candidate in `models`."""
    tables.create_tables(config.root)
    place = {
        "bundle_path": f"models/{bundle.name}",
        "bundle_checksum": file_sha256(bundle / "manifest.json"),
        "status": "candidate",
    }
    row = pa.Table.from_pylist([model_row(bundle.name, **place)], schema=MODELS.schema)
    tables.replace_rows(config.root, "models", "run", lambda before: pa.concat_tables([before, row]))
    return bundle.name


def test_registered_model_is_diagnosed_from_its_bundle(config: Config, encoder: Path, tmp_path: Path) -> None:
    made = make(
        Recipe(training={"epochs": 1, "class_weighting": "none"}, before=thaw), encoder, tmp_path / "checkpoints"
    )
    version = registered(config, bundled(made, config.root.local_path / "models"))
    lines: list[str] = []
    findings = run_diagnose(config, version, lines.append)
    assert len(findings) == len(FAILING)
    modules = [line for line in lines if line.startswith("  encoder.transformer.layer.")]
    assert len(modules) == 12 and all(" of 4 " in line for line in modules)
    named = [line for line in lines if line.startswith(("  FOUND  ", "  no     "))]
    assert [line.split(":")[0][9:].replace(" ", "_") for line in named] == [finding.name for finding in findings]
    assert named[0].startswith("  FOUND  base not frozen: 2,048 parameters")
    assert "chance 0.562" in "".join(lines), "the entropy of a quarter: the loss is unweighted"
    [advice] = [line for line in lines if line.startswith("         try: ")]
    assert "Freeze the base" in advice
    assert lines[-1] == f"  {version} shows 1 of 8 known failures"


def test_model_combined_from_others_is_judged_by_its_weights_alone(config: Config, tmp_path: Path) -> None:
    """Its bundle, like that of `adapter_bundle`, records no training."""
    bundle = adapter_bundle(config.root.local_path, tiny_encoder(tmp_path / "plain"))
    lines: list[str] = []
    findings = run_diagnose(config, registered(config, bundle), lines.append)
    assert {finding.name for finding in findings} == {"adapter_never_moved", "intruder_dimensions"}
    assert any("has no record of a training: only its weights are judged" in line for line in lines)


def test_unknown_model_and_changed_bundle_are_errors(config: Config, tmp_path: Path) -> None:
    bundle = adapter_bundle(config.root.local_path, tiny_encoder(tmp_path / "plain"))
    version = registered(config, bundle)
    with pytest.raises(ReviewriskError, match=rf"There is no model other; there are: {version}"):
        run_diagnose(config, "other", lambda line: None)
    (bundle / "metrics.json").write_text("{}\n ")
    with pytest.raises(ReviewriskError, match=r"metrics\.json has another sha256"):
        run_diagnose(config, version, lambda line: None)

"""A tiny transformer learns, stops early, keeps its best epoch, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from model.backbone import load_backbone, make_classifier
from model.checkpoints import load_state
from model.classifier import margin
from model.data import Batch, TokenisedReviews, prepare, tokenise
from model.errors import ReviewriskError
from model.evaluation import metrics
from model.lora import attach_adapter
from model.settings import ModelSettings
from model.training import TrainingResult, learning_rate, run_fingerprint, train, weighted_losses
from tests.tiny_models import planted_reviews, tiny_encoder, tiny_settings


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def run(settings: ModelSettings, checkpoints: Path, report: Any = lambda line: None, flip: bool = False) -> tuple[TrainingResult, PeftModel, TokenisedReviews]:
    """Train on planted reviews; with `flip` the validation labels are the wrong way round, so that learning makes it worse."""
    backbone = load_backbone(settings.backbone)
    data = prepare(planted_reviews(256, 160, 60), settings.training)
    training, validation = (tokenise(part, backbone.tokenizer, backbone.max_length) for part in (data.train, data.stopping))
    if flip:
        validation = TokenisedReviews(validation.token_ids, 1 - validation.labels)
    classifier = make_classifier(backbone, settings.training.head_dropout, settings.training.seed)
    adapted = attach_adapter(classifier, settings.lora, settings.training.seed)
    return train(adapted, training, validation, settings, 0, checkpoints, report), adapted, validation


@torch.no_grad()
def average_precision(adapted: PeftModel, data: TokenisedReviews) -> float:
    """Of the model as it stands, one row at a time."""
    rows = [torch.from_numpy(ids.astype(np.int64))[None] for ids in data.token_ids]
    logits = torch.cat([margin(adapted(input_ids=row, attention_mask=torch.ones_like(row))) for row in rows])
    return float(metrics(torch.sigmoid(logits.double()).numpy(), data.labels, 0.5, 10)["average_precision"])


def test_it_learns_and_reports_a_table(encoder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result, adapted, validation = run(tiny_settings(encoder, epochs=3), tmp_path, lines.append)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert result.history[-1]["auc"] > 0.97
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] < np.log(2) * 1.1
    assert set(result.history[0]) == {"epoch", "train_loss", "train_losses", "validation_loss", "f1", "auc", "average_precision", "ece", "brier"}
    assert len(result.history[0]["train_losses"]) == 16  # one point a step: fewer than 20
    assert (result.device, result.precision) == ("cpu", "float32")
    table = [line for line in lines if re.match(r" *(epoch|\d+) ", line)]
    assert table[0].split() == ["epoch", "train_loss", "validation_loss", "f1", "auc", "average_precision", "ece", "brier"]
    assert [line.split()[0] for line in table[1:]] == ["1", "2", "3"]
    assert not adapted.training
    assert average_precision(adapted, validation) == pytest.approx(result.history[result.best_epoch - 1]["average_precision"], abs=1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(encoder: Path, tmp_path: Path) -> None:
    histories = [run(tiny_settings(encoder, epochs=1, seed=seed), tmp_path / str(number))[0].history for number, seed in enumerate((5, 5, 6))]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_it_stops_after_two_epochs_without_better_average_precision_and_restores_the_best(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder, epochs=9, patience=2)
    result, adapted, validation = run(settings, tmp_path, flip=True)
    precisions = [entry["average_precision"] for entry in result.history]
    assert result.best_epoch == int(np.argmax(precisions)) + 1
    assert len(precisions) == result.best_epoch + 2 < 9
    assert average_precision(adapted, validation) == pytest.approx(max(precisions), abs=1e-9)
    assert average_precision(adapted, validation) > precisions[-1] + 1e-6


def test_bfloat16_comes_near_to_float32(encoder: Path, tmp_path: Path) -> None:
    exact, near = (run(tiny_settings(encoder, epochs=1, precision=name), tmp_path / name)[0] for name in ("float32", "bfloat16"))
    assert near.precision == "bfloat16"
    assert near.history != exact.history
    assert near.history[0]["validation_loss"] == pytest.approx(exact.history[0]["validation_loss"], abs=0.05)


def test_loss_that_is_not_finite_is_an_error_that_says_what_to_do(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match=r"The loss is (nan|inf) in epoch 1, step \d+: lower training\.learning_rate"):
        run(tiny_settings(encoder, learning_rate=1e30), tmp_path)
    assert load_state(tmp_path) is None


KILLED_RUN = """
import sys, time
from pathlib import Path
import torch
import model.training
from tests.test_training import run
from tests.tiny_models import tiny_settings

def report(line):
    print(line, flush=True)
    if line.startswith("epoch 2/5") and "step 8 of 16" in line:
        time.sleep(600)  # until it is killed, in the middle of the second epoch

torch.set_num_threads(1)
model.training._SECONDS_BETWEEN_LINES = 0.0
run(tiny_settings(Path(sys.argv[1]), epochs=5, patience=5), Path(sys.argv[2]), report)
"""


def test_killed_run_goes_on_and_ends_as_one_that_was_not_killed(encoder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_RUN, str(encoder), str(tmp_path / "killed")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("epoch 2/5") and "step 8 of 16" in line:
                os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    saved = load_state(tmp_path / "killed")
    assert saved is not None
    assert saved.epoch == 1
    lines: list[str] = []
    settings = tiny_settings(encoder, epochs=5, patience=5)
    resumed, resumed_model, _ = run(settings, tmp_path / "killed", lines.append)
    whole, whole_model, _ = run(settings, tmp_path / "whole")
    assert "Training goes on after epoch 1, which an earlier run finished." in lines
    assert resumed.best_epoch == whole.best_epoch
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3, 4, 5]
    for entry, expected in zip(resumed.history, whole.history, strict=True):
        for name, value in expected.items():
            assert entry[name] == pytest.approx(value, rel=1e-5), (entry["epoch"], name)
    for (name, tensor), (_, expected_tensor) in zip(resumed_model.named_parameters(), whole_model.named_parameters(), strict=True):
        torch.testing.assert_close(tensor, expected_tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_progress_is_shown_with_bar_speed_loss_and_time_left(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training._SECONDS_BETWEEN_LINES", 0.0)
    lines: list[str] = []
    run(tiny_settings(encoder, epochs=1), tmp_path, lines.append)
    progress = [line for line in lines if line.startswith("epoch 1/1 ")]
    assert len(progress) == 15  # the table's line stands for the last step
    assert re.fullmatch(r"epoch 1/1 \[##########----------\] step 8 of 16, \d+ rows/s, loss \d\.\d{4}, \d+\.\d min left", progress[7])


def test_finished_run_is_not_trained_again(encoder: Path, tmp_path: Path) -> None:
    settings = tiny_settings(encoder, epochs=2)
    first, first_model, validation = run(settings, tmp_path)
    second, second_model, _ = run(settings, tmp_path)
    assert first == second
    assert average_precision(second_model, validation) == average_precision(first_model, validation)


def test_fingerprint_differs_wherever_the_result_could(encoder: Path) -> None:
    def data(value: int, label: int = 1) -> TokenisedReviews:
        return TokenisedReviews([np.array([2, value, 3], dtype=np.int32)], np.array([label], dtype=np.int64))

    settings = tiny_settings(encoder)
    same = [run_fingerprint(settings, "r1", data(7), data(8)), run_fingerprint(tiny_settings(encoder, threads=2), "r1", data(7), data(8))]
    others = [
        run_fingerprint(tiny_settings(encoder, seed=18), "r1", data(7), data(8)),
        run_fingerprint(tiny_settings(encoder, epochs=3), "r1", data(7), data(8)),
        run_fingerprint(settings, "r2", data(7), data(8)),
        run_fingerprint(settings, "r1", data(9), data(8)),
        run_fingerprint(settings, "r1", data(7, label=0), data(8)),
        run_fingerprint(settings, "r1", data(7), data(9)),
        run_fingerprint(tiny_settings(encoder, precision="bfloat16"), "r1", data(7), data(8)),
    ]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 8


def test_learning_rate_rises_then_falls_to_nearly_nothing() -> None:
    rates = [learning_rate(step, 100, 0.06, 1.0) for step in range(100)]
    assert rates[:7] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])
    assert np.all(np.diff(rates[6:]) < 0)
    assert rates[-1] == pytest.approx(1 / 94)
    assert learning_rate(0, 10, 0.0, 1.0) == 1


def test_loss_is_pytorchs_class_weighted_mean_and_blind_to_fillers() -> None:
    torch.manual_seed(0)
    logits, labels, classes = torch.randn(4, 2), torch.tensor([0, 1, 1, 0]), torch.tensor([0.6, 3.07])
    batch = Batch(torch.zeros(4, 1), torch.ones(4, 1), labels, classes[labels] * torch.tensor([1, 1, 1, 0]), np.arange(3))
    loss, weight = weighted_losses(logits, batch)
    expected = torch.nn.functional.cross_entropy(logits[:3], labels[:3], weight=classes)
    torch.testing.assert_close(loss / weight, expected)

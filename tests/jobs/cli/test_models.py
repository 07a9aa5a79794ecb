"""Each command about models, as click hands its options to the function behind it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.schemas import MODELS
from jobs.registry.models import champion
from jobs.training.compare import ComparisonOptions
from tests.support.command_line import run, written
from tests.support.trained_root import versions


@pytest.fixture
def conf(trained: Config, tmp_path: Path) -> Path:
    return written(trained, tmp_path / "conf.yml")


@pytest.fixture
def bare(config: Config, tmp_path: Path) -> Path:
    """A config of a root with no table: enough where the function behind the command is a stand-in."""
    return written(config, tmp_path / "bare.yml")


def output_of(*arguments: object) -> str:
    """What a command printed that succeeded."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments after the config that `compare`, `retrain`, `models evaluate` and `models merge` gave to the
    functions behind them; these do nothing.
    """
    calls: list[tuple[Any, ...]] = []

    def stand_in(_: Config, *arguments: Any) -> list[str]:
        calls.append(tuple("report" if callable(one) else one for one in arguments))
        return ["| the page |"]

    for name in (
        "jobs.training.compare.run_compare",
        "jobs.training.evaluate.run_evaluate",
        "jobs.training.retrain.run_retrain",
        "jobs.registry.publish.run_merge",
    ):
        monkeypatch.setattr(name, stand_in)
    return calls


def test_compare_gives_each_option_on_and_prints_the_page(
    bare: Path, received: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    pairs, page = tmp_path / "pairs.jsonl", tmp_path / "page.md"
    pairs.touch()
    sizes = ("--rows", 700, "--test-rows", 300, "--curve-rows", 900)
    methods = ("--method", "lora_all", "--method", "qlora")
    options = (
        "--shifted-root",
        "other",
        *sizes,
        *methods,
        "--parallel",
        2,
        "--minutes",
        1.5,
        "--pairs",
        pairs,
        "--output",
        page,
    )
    assert "| the page |" in output_of("compare", "--conf", bare, *options)
    output_of("compare", "--conf", bare)
    given = ComparisonOptions(
        700, "other", 300, 900, methods=("lora_all", "qlora"), pairs=pairs, minutes=1.5, parallel=2
    )
    assert received == [(given, page, "report"), (ComparisonOptions(6000), None, "report")]


def test_evaluate_gives_each_option_on_and_prints_the_page(
    bare: Path, received: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    assert "| the page |" in output_of(
        "models", "evaluate", "--conf", bare, "--rows", 300, "--output", page, "a", "elsewhere"
    )
    output_of("models", "evaluate", "--conf", bare, "a", "elsewhere")
    assert received == [("a", "elsewhere", 300, page, "report"), ("a", "elsewhere", None, None, "report")]


def test_retrain_reports_to_the_terminal(bare: Path, received: list[tuple[Any, ...]]) -> None:
    output_of("retrain", "--conf", bare)
    assert received == [("report",)]


def test_merge_gives_each_option_on(bare: Path, received: list[tuple[Any, ...]], tmp_path: Path) -> None:
    options = ("--method", "dare_ties", "--weight", 0.7, "--weight", -0.2, "--density", 0.25, "--rank", 6, "--seed", 9)
    output_of("models", "merge", "--conf", bare, *options, "a", "b")
    output_of("models", "merge", "--conf", bare, "--output", tmp_path / "merged", "a")
    assert received == [
        (("a", "b"), "report", None, "dare_ties", (0.7, -0.2), 0.25, 6, 9),
        (("a",), "report", tmp_path / "merged", "average", None, 0.5, None, 17),
    ]


def test_commands_that_look_say_what_they_see_and_change_nothing(conf: Path, trained: Config) -> None:
    version, before = champion(trained.root)["model_version"], versions(trained)
    planned = output_of("plan", "--conf", conf)
    for said in ("Rows with a label", "Tokens a text", "Parameters to train"):
        assert said in planned
    diagnosed = output_of("diagnose", "--conf", conf, version)
    shown = output_of("models", "show", "--conf", conf, version)
    assert f"{version} shows " in diagnosed
    assert shown.startswith(f"{version}: champion") and "as its manifest says" in shown
    assert output_of("diagnose", "--conf", conf) == diagnosed, "without a version it is the champion"
    assert output_of("models", "show", "--conf", conf) == shown
    assert versions(trained) == before
    for command in (("diagnose",), ("models", "show")):
        assert "There is no model z" in run(*command, "--conf", conf, "z").output


def test_exports_and_a_dry_push_take_the_form_asked_for(
    conf: Path, trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = champion(trained.root)["model_version"]
    for form, file in (("adapter", "adapter_model.safetensors"), ("merged", "model.safetensors")):
        assert f"{version}, {form}, is in" in output_of(
            "models", "export", "--conf", conf, "--form", form, version, tmp_path / form
        )
        assert (tmp_path / form / file).is_file()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    pushed = output_of(
        "models",
        "push",
        "--conf",
        conf,
        "--dry-run",
        "--public",
        "--form",
        "merged",
        "--endpoint",
        "http://hub.invalid",
        version,
        "owner/name",
    )
    assert f"would push {version}, merged, to http://hub.invalid/owner/name (public" in pushed
    private = output_of("models", "push", "--conf", conf, "--dry-run", version, "owner/name")
    assert f"would push {version}, adapter, to " in private and "(private" in private
    refused = run("models", "push", "--conf", conf, "--endpoint", "http://hub.invalid", version, "owner/name")
    assert refused.exit_code == 3 and "HF_TOKEN, which is not set" in refused.output, (
        "without --dry-run it would have pushed"
    )


def test_thresholds_are_those_of_the_config(conf: Path, trained: Config) -> None:
    values = yaml.safe_load(conf.read_text())
    values["model"]["thresholds"]["cost_false_negative"] = 20.0
    conf.write_text(yaml.safe_dump(values))
    version = champion(trained.root)["model_version"]
    assert f"{version}: " in output_of("models", "thresholds", "--conf", conf)
    names = {row["threshold_name"] for row in tables.read_arrow(trained.root, "model_thresholds").to_pylist()}
    assert "cost_20_1" in names and "cost_5_1" not in names
    assert "There is no model z" in run("models", "thresholds", "--conf", conf, "z").output


def test_a_model_is_promoted_with_a_reason_and_another_one_retired(conf: Path, trained: Config) -> None:
    """The candidate's bundle is not there, so nothing can be compared."""
    old = champion(trained.root)
    rows = [
        old,
        *(
            {**old, "model_version": name, "status": "candidate", "promoted_at": None, "bundle_path": f"models/{name}"}
            for name in ("a", "b")
        ),
    ]
    tables.replace_rows(trained.root, "models", "r", lambda _: pa.Table.from_pylist(rows, MODELS.schema))
    refused = run("models", "promote", "--conf", conf, "a")
    assert (
        refused.exit_code == 3
        and "could not be compared" in refused.output
        and champion(trained.root)["model_version"] == old["model_version"]
    )
    output_of(
        "models", "promote", "--conf", conf, "--since", "2015-06-01", "--override", "its bundle is on its way", "a"
    )
    now = champion(trained.root)
    assert (now["model_version"], now["score_since"]) == ("a", datetime.date(2015, 6, 1))
    runs = tables.read_arrow(trained.root, "job_runs").to_pylist()
    [promotion] = [
        row
        for row in runs
        if row["command"] == "promote" and row["model_version"] == "a" and row["status"] == "succeeded"
    ]
    assert json.loads(promotion["details"])["override"] == "its bundle is on its way"
    assert "b is retired" in output_of("models", "retire", "--conf", conf, "b")
    statuses = {row["model_version"]: row["status"] for row in tables.read_arrow(trained.root, "models").to_pylist()}
    assert statuses == {old["model_version"]: "retired", "a": "champion", "b": "retired"}

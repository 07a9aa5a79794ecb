"""Every config is complete and loads; what is wrong in one is said with the nearest right thing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from jobs.config import DEEPEST, Config, load_config
from model.errors import OutageError, ReviewriskError
from model.settings import ModelSettings
from tests import ROOT

FOLDER = ROOT / "conf"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))


def keys(values: Any, before: str = "") -> set[str]:
    if not isinstance(values, dict) or before == "spark.options":
        return {before}
    return {key for name, value in values.items() for key in keys(value, f"{before}.{name}".strip("."))}


def test_the_configs_are_these() -> None:
    assert NAMES == ["demo", "local", "nightly", "reference", "test"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_loads_and_has_every_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REVIEWRISK_ROOT", raising=False)
    written = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    loaded = load_config(FOLDER / f"{name}.yml")
    every = keys(loaded.model_dump(mode="json"))
    assert keys(written) | {"reference"} >= {key for key in every if not key.startswith("reference")}


def test_the_reference_is_the_article_and_not_repeated() -> None:
    config = load_config(FOLDER / "reference.yml")
    lora, training, splits = config.model.lora, config.model.training, config.splits
    assert (lora.rank, lora.effective_alpha, lora.dropout, lora.targets) == (8, 16, 0.1, ("attention",))
    assert (training.batch_size, training.epochs, training.learning_rate, config.model.backbone.max_length) == (
        16,
        5,
        2e-4,
        256,
    )
    assert [str(day) for day in (splits.train_end, splits.validation_end, splits.test_end)] == [
        "2014-12-31",
        "2015-04-30",
        "2015-08-31",
    ]
    assert config.reference is not None and (
        config.reference.status,
        config.reference.auc,
        config.reference.f1,
        config.reference.ece,
    ) == (
        "not repeated by this project",
        0.996,
        0.943,
        0.0105,
    )


def test_hub_names_carry_a_commit() -> None:
    for name in NAMES:
        backbone = load_config(FOLDER / f"{name}.yml").model.backbone
        if not backbone.name.startswith("bundled:"):
            assert backbone.revision is not None and len(backbone.revision) == 40


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "paths: {root: x}\nmodel: {lora: {rnak: 4}}",
            r"model\.lora\.rnak: unknown key; the nearest known one is 'model\.lora\.rank'",
        ),
        ("paths: {root: x}\nspilts: {}", r"spilts: unknown key; the nearest known one is 'splits'"),
        ("paths: {root: x}\nbackbone: {name: x}", r"backbone: unknown key; the nearest known one is 'model\.backbone'"),
        ("paths: {root: x}\nmodel: {learning_rate: 1}", r"the nearest known one is 'model\.training\.learning_rate'"),
        ("paths: {root: x}\nscore: {months: 1}", r"the nearest known one is '(explain|report)\.months'"),
        ("paths: {root: x}\nmodel: {lora: {rank: 0}}", r"model\.lora\.rank: .*greater than or equal to 1 \(it is 0\)"),
        ("paths: {root: x}\nsplits: {mode: given}", "train_end, validation_end and test_end are all needed"),
        (
            (
                "paths: {root: x}\nsplits: {mode: given, train_end: 2015-02-01, validation_end: 2015-01-01, test_end:"
                " 2015-03-01}"
            ),
            "must hold",
        ),
        (
            "paths: {root: x}\nrouting: {column: product_id}",
            r"routing\.column: Input should be 'product_category' or 'marketplace'",
        ),
        (
            "paths: {root: x}\nrouting: {models: {Sofas: a, 'sofas ': a}}",
            "'Sofas' and 'sofas ' are the same value without regard to case",
        ),
        ("paths: {root: x}\nrouting: {models: {'': a, Unknown: b}}", "'' and 'Unknown' are the same value"),
        (
            "paths: {root: x}\nmodel: {rows: {only: furniture}}",
            r"model\.rows\.only: .*write product_category=VALUE or .* \(it is 'furniture'\)",
        ),
        (
            "paths: {root: x}\nmodel: {rows: {only: brand=Oak}}",
            r"model\.rows\.only: .*write product_category=VALUE or .* \(it is 'brand=Oak'\)",
        ),
        (
            "paths: {root: x}\nrouting: {models: {NO: a}}",
            r"routing\.models.*Input should be a valid string \(it is False\)",
        ),
        (
            "paths: {root: x}\nscore: {device: cuda, engine: openvino}",
            "score: engine openvino computes on CPUs: set engine to torch or auto, or device to cpu",
        ),
        ("paths: {root: x}\nscore: {precision: float16}", "score: precision float16 is for GPUs: set device to cuda"),
        ("paths: {root: x}\nscore: {device: gpu}", r"score\.device: Input should be 'cpu' or 'cuda' \(it is 'gpu'\)"),
        (
            "paths: {root: x}\nscore: {cascade: {max_flipped_share: 0}}",
            r"score\.cascade\.max_flipped_share: .*greater than 0 \(it is 0\)",
        ),
        ("model: {}", r"paths: Field required"),
        ("- a list", "holds no settings"),
        ("paths: {root: [", "is not valid YAML"),
    ],
)
def test_a_wrong_config_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.delenv("REVIEWRISK_ROOT", raising=False)
    with pytest.raises(ReviewriskError, match=message):
        load_config(write(tmp_path / "c.yml", text))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{old}, *{old}]\n" for old, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "paths: *f", "has an alias in line 2: write each value out"),
        ("paths: &p {root: x}\nmodel: {<<: *p}", "has an alias in line 2"),
        ("paths: " + "[" * 4000 + "]" * 4000, "has more than 12 levels in line 1"),
        ("a: " * 13 + "1", "is not valid YAML in line 1"),
        ("paths: {root: hunter22: x}", "is not valid YAML in line 1, column 23: correct it"),
        (
            "paths: {root: x}\nsplits: {train_end: 2015-02-31}",
            "is not valid YAML, as it has a value that YAML does not allow",
        ),
        ("paths: {root: 's3://me:hunter22@bucket/x'}", "an address holds no password"),
        ("paths: 's3://me:hunter22@bucket/x'", "paths: Input should be a valid dictionary"),
        ("storage: {endpoint_url: 'http://me:hunter22@host'}\npaths: {root: x}", "without user or password"),
        ("storage: {endpoint_url: 'ftp://host'}\npaths: {root: x}", "http://host:port or https://host"),
        ("storage: {secret_access_key_env: wJalr/hunter22}\npaths: {root: x}", "never the secret itself"),
        ("storage: {access_key_id_env: AKIAHUNTER22}\npaths: {root: x}", "never the secret itself"),
        ("spark: {options: {password: [hunter22]}}\npaths: {root: x}", "spark.options.password: Input should be"),
        ("paths: {root: x, warehouse: 'a#b.duckdb'}", "paths.warehouse is .*'#' has a special meaning"),
        ("paths: {root: x, scratch: 'a?b'}", "paths.scratch is .* has a special meaning"),
    ],
)
def test_tricks_and_secrets_in_a_config_are_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.delenv("REVIEWRISK_ROOT", raising=False)
    with pytest.raises(ReviewriskError, match=message) as caught:
        load_config(write(tmp_path / "c.yml", text))
    assert "hunter22" not in str(caught.value).lower() and len(str(caught.value)) < 400


def test_a_config_that_is_not_utf8_or_no_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_bytes("paths: {root: tür}".encode("latin-1"))
    with pytest.raises(ReviewriskError, match=r"c\.yml is not UTF-8 text: save it as UTF-8"):
        load_config(tmp_path / "c.yml")
    with pytest.raises(OutageError, match=r"cannot be used \(a folder is there instead of a file"):
        load_config(tmp_path)


def test_a_config_of_just_so_many_levels_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REVIEWRISK_ROOT", raising=False)
    for levels, message in ((DEEPEST, "unknown key"), (DEEPEST + 1, f"more than {DEEPEST} levels in line 2")):
        with pytest.raises(ReviewriskError, match=message):
            load_config(write(tmp_path / "c.yml", "paths: {root: x}\nx: " + "[" * (levels - 1) + "]" * (levels - 1)))


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWRISK_ROOT", str(tmp_path / "there"))
    assert load_config(write(tmp_path / "c.yml", "paths: {root: here}")).root.uri == str(tmp_path / "there")
    assert load_config(None).root.uri == str(tmp_path / "there")
    monkeypatch.delenv("REVIEWRISK_ROOT")
    with pytest.raises(ReviewriskError, match="REVIEWRISK_ROOT"):
        load_config(None)


def test_the_command_lines_choice_of_rows_replaces_the_configs_and_is_compared_as_routes_are() -> None:
    config = load_config(FOLDER / "demo.yml")
    assert config.with_only(None) is config and config.model.rows.column_and_key is None
    chosen = config.with_only("product_category= Home, A=B ")
    assert chosen.model.rows.only == "product_category=home, a=b" and chosen.model.rows.column_and_key == (
        "product_category",
        "home, a=b",
    )
    assert chosen.with_only("marketplace=").model.rows.only == "marketplace=unknown"
    assert chosen.with_only(None) is chosen and chosen.model_copy(update={"model": config.model}) == config, (
        "nothing else changes"
    )
    with pytest.raises(
        ReviewriskError,
        match=r"with this --only is not valid; correct this:\n  model\.rows\.only: .* \(it is 'product_id=1'\)",
    ):
        config.with_only("product_id=1")


def test_settings_cannot_be_changed() -> None:
    config = load_config(FOLDER / "demo.yml")
    with pytest.raises(ValueError, match="frozen"):
        config.paths.root = "elsewhere"  # type: ignore[misc]


def texts(path: Path) -> list[str]:
    """What a module's strings say, docstrings and the values put into them left out."""
    tree = ast.parse(path.read_text())
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {node.body[0].value for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings
    ]


@pytest.mark.parametrize(
    "path",
    sorted(path for folder in ("jobs", "model") for path in (FOLDER.parent / folder).glob("*.py")),
    ids=lambda path: path.stem,
)
def test_a_message_names_a_setting_by_the_path_that_a_config_takes(path: Path) -> None:
    names = "|".join(
        f"{section}\\.{name}"
        for section, field in ModelSettings.model_fields.items()
        for name in field.annotation.model_fields
    )
    assert not [text for text in texts(path) if re.search(rf"(?<![\w.])({names})\b", text)]


def test_every_setting_that_bounds_something_says_so() -> None:
    """A field either has a description or a section docstring that covers it."""

    def sections(kind: type[BaseModel]) -> list[type[BaseModel]]:
        nested = [
            field.annotation
            for field in kind.model_fields.values()
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ]
        return [kind, *(inner for section in nested for inner in sections(section))]

    assert all(section.__doc__ for section in sections(Config))

"""Models folded, combined, exported and pushed, on a root of trained tiny models."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from jobs.config import Config, load_config
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.registry.bundles import local_bundle, serving_folder
from jobs.registry.models import default_threshold, registered, thresholds
from jobs.registry.publish import run_export, run_merge, run_push
from jobs.registry.register import register
from model.bundle.bundle import verify_bundle, verify_serving_folder
from model.data.reviews import COLUMNS, labelled_reviews
from model.errors import OutageError, ReviewriskError
from model.files import folder_sha256, read_json
from model.scoring.scorer import Scorer
from model.settings import ScoringSettings
from model.training.pipeline import fit
from tests import ROOT
from tests.support.hub_server import COMMIT, Hub, running_hub
from tests.support.tiny_models import planted_reviews, tiny_encoder, tiny_settings
from tests.support.warehouse_rows import review, write_root

TOKEN = "hf_this-is-a-secret-of-the-test"
CATEGORIES = ("furniture", "lamps")
UPSIDE_DOWN = "lamps"  # there, what is praise elsewhere comes with few stars: no model can be right in both


def planted_rows() -> list[dict[str, Any]]:
    generator = random.Random(5)
    rows = []
    for row in planted_reviews(600, 360, 200).to_pylist():
        category = generator.choice(CATEGORIES)
        stars = 6 - row["star_rating"] if category == UPSIDE_DOWN else row["star_rating"]
        month = row["review_date"].replace(day=1)
        rows.append(
            review(**{**row, "product_category": category.title() + " ", "star_rating": stars, "review_month": month})
        )
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[str]]:
    """A config on a root with reviews of two categories, and two registered models, each trained on one of them."""
    folder = tmp_path_factory.mktemp("publishing")
    base = load_config(ROOT / "conf" / "test.yml")
    settings = tiny_settings(tiny_encoder(folder / "encoder"), epochs=2)
    settings = settings.model_copy(
        update={"calibration": settings.calibration.model_copy(update={"method": "isotonic"})}
    )
    config = base.model_copy(
        update={"paths": base.paths.model_copy(update={"root": str(folder / "root")}), "model": settings}
    )
    write_root(folder / "root", {"reviews": planted_rows()})
    reviews = tables.read_arrow(config.root, "reviews", COLUMNS)
    versions = []
    for category in CATEGORIES:
        with JobRun(config.root, "train") as run:
            own = reviews.filter(
                pc.equal(pc.utf8_trim_whitespace(pc.utf8_lower(reviews["product_category"])), category)
            )
            fitted = fit(own, settings, folder / "root" / "models", folder / "work", lambda _: None)
            register(config.root, fitted, run)
        versions.append(fitted.model_version)
    return config, versions


@pytest.fixture
def root(made: tuple[Config, list[str]], tmp_path: Path) -> tuple[Config, list[str]]:
    """A copy of the root for a test that writes."""
    config, versions = made
    shutil.copytree(config.root.local_path, tmp_path / "root")
    return (
        config.model_copy(update={"paths": config.paths.model_copy(update={"root": str(tmp_path / "root")})}),
        versions,
    )


def scored(config: Config, version: str) -> tuple[Any, Any]:
    """The root's labelled test reviews and the model's scores of them, as a scoring job computes them."""
    reviews = labelled_reviews(tables.read_arrow(config.root, "reviews", COLUMNS), "test")
    scorer = Scorer.load(serving_folder(config, registered(config.root, version)), ScoringSettings())
    return reviews, scorer.score(reviews.headlines, reviews.bodies)


def set_default_threshold(config: Config, version: str, value: float) -> None:
    def changed(before: pa.Table) -> pa.Table:
        rows = [
            row | ({"threshold": value} if row["model_version"] == version and row["is_default"] else {})
            for row in before.to_pylist()
        ]
        return pa.Table.from_pylist(rows, before.schema)

    tables.replace_rows(config.root, "model_thresholds", "run-test", changed)


def test_a_child_is_a_new_candidate_and_every_figure_of_it_and_its_parents_is_what_scoring_gives(
    root: tuple[Config, list[str]],
) -> None:
    """The first parent's threshold was fitted anew since it was trained: what decides is the one in force."""
    config, parents = root
    set_default_threshold(config, parents[0], 0.999)
    lines: list[str] = []
    child = run_merge(config, parents, lines.append)
    row = registered(config.root, child)
    assert row["status"] == "candidate" and row["lora_rank"] == 8 and row["lora_alpha"] == 8.0
    metrics = read_json(config.root.local_path / row["bundle_path"] / "metrics.json")
    merge = metrics["merge"]
    assert (merge["parents"], merge["method"], merge["weights"], merge["heads_began_alike"]) == (
        parents,
        "average",
        [0.5, 0.5],
        True,
    )
    assert list(merge["by_category"]) == ["all test rows", *CATEGORIES]
    for name, version in (*((parent, parent) for parent in parents), ("child", child)):
        reviews, scores = scored(config, version)
        limit = default_threshold(config.root, version)["threshold"]
        for group, found in merge["by_category"].items():
            rows = np.array([group in ("all test rows", category.strip()) for category in reviews.categories])
            labels = reviews.labels[rows]
            assert (found["rows"], found["positives"]) == (rows.sum(), labels.sum())
            assert found["f1"][name]["value"] == pytest.approx(
                f1_score(labels, scores.probability[rows] >= limit, zero_division=0)
            )
            assert found["auc"][name]["value"] == pytest.approx(roc_auc_score(labels, scores.logit[rows]))
        if name == "child":
            assert row["test_f1"] == pytest.approx(f1_score(reviews.labels, scores.probability >= limit))
            assert row["test_auc"] == pytest.approx(roc_auc_score(reviews.labels, scores.logit))


def test_interference_is_shown_on_each_parents_own_rows(root: tuple[Config, list[str]]) -> None:
    config, parents = root
    lines: list[str] = []
    child = run_merge(config, parents, lines.append)
    table = read_json(local_bundle(config, registered(config.root, child)) / "metrics.json")["merge"]["by_category"]
    for parent, own, other in zip(parents, CATEGORIES, reversed(CATEGORIES), strict=True):
        assert table[own]["auc"][parent]["value"] > 0.9, "a parent knows its own category"
        assert table[other]["auc"][parent]["value"] < 0.1, "and has the other one upside down"
        assert table[own]["gain"]["auc"]["high"] < 0 and table[own]["gain"]["auc"]["parent"] == parent, (
            "the combined model has to live with both"
        )
    assert any(line.startswith("Interference: the combined model loses most F1 to its best parent") for line in lines)
    assert f"Each model at its own default threshold, with intervals; A is {parents[0]}, B is {parents[1]}:" in lines
    assert any(line.startswith("| lamps") for line in lines)
    card = (local_bundle(config, registered(config.root, child)) / "README.md").read_text()
    assert card.startswith(f"# {child}\n") and all(line in card for line in lines if line.startswith("| "))
    bodies = {row["review_body"] for row in planted_rows() if row["review_body"]}
    assert not [body for body in bodies if body in card]


def test_the_childs_thresholds_are_its_own_and_the_same_merge_makes_the_same_model(
    root: tuple[Config, list[str]],
) -> None:
    config, parents = root
    options: dict[str, Any] = {"method": "arithmetic", "weights": (1.2, -0.2)}
    child = run_merge(config, parents, lambda _: None, **options)
    verify_bundle(local_bundle(config, registered(config.root, child)))
    assert {row["threshold_name"] for row in thresholds(config.root, child)} >= {"f1_max"}
    assert run_merge(config, parents, lambda _: None, **options) == child
    other = run_merge(config, parents, lambda _: None, method="arithmetic", weights=(1.2, -0.1))
    assert sorted(row["model_version"] for row in tables.read_arrow(config.root, "models").to_pylist()) == sorted(
        [*parents, child, other]
    )
    runs = [row for row in tables.read_arrow(config.root, "job_runs").to_pylist() if row["command"] == "merge"]
    assert [row["status"] for row in runs] == ["succeeded"] * 3 and '"arithmetic"' in runs[0]["details"]


def test_folding_reports_parity_latency_and_the_one_way_door(root: tuple[Config, list[str]], tmp_path: Path) -> None:
    config, (version, _) = root
    lines: list[str] = []
    assert run_merge(config, [version], lines.append, output=tmp_path / "merged") == version
    text = "\n".join(lines)
    assert "560 validation and test reviews" in text and " 0 decisions at f1_max" in text and "logits differ by" in text
    assert "times as long as merged" in text and "one-way door" in text and str(tmp_path / "merged") in text
    assert verify_serving_folder(tmp_path / "merged")["model_version"] == version
    assert len(tables.read_arrow(config.root, "models").to_pylist()) == 2, "folding makes no new model"
    with pytest.raises(ReviewriskError, match="holds something already"):
        run_merge(config, [version], lines.append, output=tmp_path / "merged")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    with pytest.raises(ReviewriskError, match="holds something already"):
        run_merge(config, [version], lines.append, output=tmp_path / "thesis")


def test_merges_that_mean_nothing_are_refused(made: tuple[Config, list[str]], tmp_path: Path) -> None:
    config, (first, second) = made
    for versions in ([], [first, first]):
        with pytest.raises(ReviewriskError, match=r"Name one model .* or several different ones"):
            run_merge(config, versions, print)
    with pytest.raises(ReviewriskError, match="leave --output out, and use `reviewrisk models export`"):
        run_merge(config, [first, second], print, output=tmp_path / "x")
    with pytest.raises(ReviewriskError, match="There is no model nobody; there are: "):
        run_merge(config, [first, "nobody"], print)


@pytest.mark.parametrize(("form", "file"), [("adapter", "adapter_model.safetensors"), ("merged", "model.safetensors")])
def test_an_export_says_what_it_wrote(made: tuple[Config, list[str]], tmp_path: Path, form: Any, file: str) -> None:
    config, (version, _) = made
    lines: list[str] = []
    run_export(config, version, tmp_path / "out", form, lines.append)
    size = (tmp_path / "out" / file).stat().st_size
    assert any(line.split() == [f"{size:,}", "bytes", file] for line in lines)
    assert lines[-1].endswith(f"in {len(folder_sha256(tmp_path / 'out'))} files")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, with the token in the environment and large files by LFS, which any HTTP server can speak."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub(TOKEN) as running:
        yield running


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_pushed_files_arrive_byte_for_byte_in_one_commit(
    root: tuple[Config, list[str]],
    hub: Hub,
    form: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config, (version, _) = root
    lines: list[str] = []
    with caplog.at_level(logging.DEBUG):
        run_push(config, version, "somebody/reviews", False, lines.append, endpoint=hub.endpoint, form=form)
    run_export(config, version, tmp_path / "out", form, lambda _: None)
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in folder_sha256(tmp_path / "out")}
    assert hub.files == expected and len(expected) > 5
    assert hub.commits == [f"{version}, {form}"]
    assert hub.repositories["somebody/reviews"]["visibility"] == "private"
    assert any(method == "PUT" for method, _, _ in hub.requests), "the weights went as a large file"
    assert {authorization for method, _, authorization in hub.requests if method == "POST"} == {f"Bearer {TOKEN}"}
    captured = capfd.readouterr()
    rows = [row for row in tables.read_arrow(config.root, "job_runs").to_pylist() if row["command"] == "push"]
    assert (
        rows[0]["status"] == "succeeded"
        and COMMIT in rows[0]["details"]
        and f"{hub.endpoint}/somebody/reviews" in rows[0]["details"]
    )
    for output in (*lines, captured.out, captured.err, caplog.text, str(rows), *map(str, hub.files.values())):
        assert TOKEN not in output
    assert any(f"to {hub.endpoint}/somebody/reviews, commit {COMMIT}" in line for line in lines)
    assert not list((config.scratch / "push").iterdir())


def test_a_repository_that_is_there_is_pushed_to_again_and_public_is_asked_for(
    made: tuple[Config, list[str]], hub: Hub
) -> None:
    config, (first, second) = made
    run_push(config, first, "somebody/reviews", False, lambda _: None, endpoint=hub.endpoint, public=True)
    run_push(config, second, "somebody/reviews", False, lambda _: None, endpoint=hub.endpoint)
    assert hub.repositories["somebody/reviews"]["visibility"] == "public" and len(hub.commits) == 2
    assert f"# {second}".encode() in hub.files["README.md"]


def test_a_dry_run_lists_files_and_place_and_contacts_nobody(
    made: tuple[Config, list[str]], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, (version, _) = made
    monkeypatch.delenv("HF_TOKEN")
    before = tables.read_arrow(config.root, "job_runs").num_rows
    lines: list[str] = []
    run_push(config, version, "somebody/reviews", True, lines.append, endpoint=hub.endpoint)
    assert f"would push {version}, adapter, to {hub.endpoint}/somebody/reviews (private, where it is new)" in lines[0]
    size = (
        (local_bundle(config, registered(config.root, version)) / "adapter" / "adapter_model.safetensors")
        .stat()
        .st_size
    )
    assert any(line.split() == [f"{size:,}", "bytes", "adapter_model.safetensors"] for line in lines)
    assert hub.requests == [] and tables.read_arrow(config.root, "job_runs").num_rows == before
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.example")
    run_push(config, version, "somebody/reviews", True, lines.append)
    assert any("to https://hub.example/somebody/reviews" in line for line in lines)


def test_no_token_is_a_sentence_even_where_one_is_stored_elsewhere(
    made: tuple[Config, list[str]], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, (version, _) = made
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ReviewriskError, match="environment variable HF_TOKEN, which is not set"):
        run_push(config, version, "somebody/reviews", False, print, endpoint=hub.endpoint)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("path", "status", "headers", "message"),
    [
        (
            "/api/repos/create",
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
            "does not accept the token in HF_TOKEN: make a new one",
        ),
        ("/api/repos/create", 403, {}, "may not write to somebody/reviews on .*: give it write access"),
        (
            "/preupload/main",
            404,
            {"X-Error-Code": "RepoNotFound"},
            "has no repository somebody/reviews that this token may write to",
        ),
        ("/commit/main", 403, {}, "may not write to somebody/reviews"),
        ("/store/", 403, {}, "failed: RuntimeError: Error while uploading .*arrives whole or not at all"),
        ("/commit/main", 422, {"X-Error-Message": f"no, {TOKEN}"}, r"failed: \w+: .*no, \*\*\*"),
    ],
)
def test_a_refusal_says_what_to_do_and_keeps_the_token(
    made: tuple[Config, list[str]], hub: Hub, path: str, status: int, headers: dict[str, str], message: str
) -> None:
    config, (version, _) = made
    hub.answers[path] = (status, headers)
    with pytest.raises(ReviewriskError, match=f"(?s){message}") as caught:
        run_push(config, version, "somebody/reviews", False, print, endpoint=hub.endpoint)
    assert hub.files == {} and hub.commits == []
    assert TOKEN not in str(caught.value)
    assert TOKEN not in str(tables.read_arrow(config.root, "job_runs").to_pylist())


def test_a_hub_that_is_not_there_is_a_sentence(made: tuple[Config, list[str]], hub: Hub) -> None:
    config, (version, _) = made
    with pytest.raises(OutageError, match=r"Pushing to somebody/reviews on http://127\.0\.0\.1:9 failed: ConnectError"):
        run_push(config, version, "somebody/reviews", False, print, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["reviews", "a/b/c", "some body/x", "/x", "owner/", "../x"])
def test_repository_names_that_are_none_are_refused_before_anything(
    made: tuple[Config, list[str]], hub: Hub, name: str
) -> None:
    config, (version, _) = made
    with pytest.raises(ReviewriskError, match="is not the name of a hub repository: write owner/name"):
        run_push(config, version, name, True, print)

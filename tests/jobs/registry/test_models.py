"""Exactly one champion, promoted against the config's limits."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.config import Config, RoutingSettings
from jobs.lake import tables
from jobs.lake.schemas import MODELS
from jobs.registry.bundles import local_bundle
from jobs.registry.models import (
    champion,
    default_threshold,
    list_models,
    lowest_active_threshold,
    registered,
    run_retire,
    run_show,
)
from jobs.registry.promote import run_promote
from jobs.registry.routes import configured_routes, publish_routes
from jobs.training.diagnose import run_diagnose
from model.errors import ReviewriskError
from model.files import file_sha256
from model.settings import PromotionSettings
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import tiny_encoder
from tests.support.warehouse_rows import arrow_rows, job_run, model, review, route, score, threshold, write_root

DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
BASE = {
    "status": "candidate",
    "backbone": "tiny",
    "backbone_revision": "sha256:1",
    "pooling": "cls",
    "max_length": 64,
    "lora_rank": 4,
    "lora_alpha": 8.0,
    "lora_targets": "all-linear",
    "trainable_parameters": 1,
    "total_parameters": 2,
    "calibration": "none",
    "data_version": "d",
    "train_rows": 1,
    "validation_rows": 1,
    "test_rows": 1,
    "test_auc": 0.95,
    "test_average_precision": 0.9,
    "test_f1": 0.85,
    "test_ece": 0.02,
    "test_brier": 0.05,
    "test_log_loss": 0.2,
    "baseline_auc": 0.9,
    "baseline_f1": 0.8,
    "bundle_path": "models/x",
    "bundle_checksum": "c",
    "run_id": "r",
}
LIMITS = PromotionSettings(minimum_auc=0.9, minimum_f1=0.8, maximum_ece=0.03)


def register(config: Config, *versions: str, **overrides: float) -> None:
    tables.create_tables(config.root)
    rows = [
        {**BASE, **overrides, "model_version": name, "trained_at": DAY + datetime.timedelta(days=place)}
        for place, name in enumerate(versions)
    ]
    tables.replace_rows(
        config.root,
        "models",
        "r",
        lambda before: pa.concat_tables([before, pa.Table.from_pylist(rows, schema=MODELS.schema)]),
    )


def promote(
    config: Config,
    version: str | None = None,
    since: datetime.date | None = None,
    override: str | None = "these models have no bundles",
) -> str:
    return run_promote(config.model_copy(update={"promotion": LIMITS}), version, since, override, lambda _: None)


def statuses(config: Config) -> dict[str, str]:
    return {row["model_version"]: row["status"] for row in tables.read_arrow(config.root, "models").to_pylist()}


def test_the_newest_candidate_is_promoted_and_the_old_champion_retired(config: Config) -> None:
    register(config, "a", "b")
    assert promote(config) == "b"
    assert promote(config) == "a"
    assert statuses(config) == {"a": "champion", "b": "retired"}
    assert champion(config.root)["promoted_at"] is not None
    assert promote(config, "b") == "b" and statuses(config) == {"a": "retired", "b": "champion"}


def test_since_is_kept_and_promoting_again_can_lift_it(config: Config) -> None:
    register(config, "a")
    promote(config, since=datetime.date(2015, 1, 1))
    first = champion(config.root)
    assert first["score_since"] == datetime.date(2015, 1, 1)
    promote(config, "a")
    assert champion(config.root)["score_since"] is None and champion(config.root)["promoted_at"] == first["promoted_at"]


@pytest.mark.parametrize("path", ["../elsewhere/x", "models/../../x", "/etc", "models//x", "", "..\\x", "."])
def test_a_bundle_path_that_leaves_the_root_is_refused(config: Config, path: str) -> None:
    outside = config.root.local_path.parent / "elsewhere" / "x"
    outside.mkdir(parents=True)
    (outside / "manifest.json").write_text("{}")
    row = model("a", bundle_path=path, bundle_checksum=file_sha256(outside / "manifest.json"))
    with pytest.raises(ReviewriskError, match=r"has the bundle of a in .*, which is not a folder below .*root: train"):
        local_bundle(config, row)


def test_a_flipped_byte_in_the_manifest_is_refused(shown: tuple[Config, str]) -> None:
    config, version = shown
    row = registered(config.root, version)
    path = config.root.local_path / row["bundle_path"] / "manifest.json"
    content = path.read_bytes()
    for place in range(0, len(content), 211):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ReviewriskError, match=r"is not the one that was registered .*: put it back, or train"):
            local_bundle(config, row)
    path.write_bytes(content)
    assert local_bundle(config, row) == path.parent


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"test_auc": 0.8}, r"AUC 0\.8000 is below the config's 0\.9"),
        ({"test_f1": 0.7}, r"F1 0\.7000 is below the config's 0\.8"),
        ({"test_ece": 0.04}, r"ECE 0\.0400 is above the config's 0\.03"),
    ],
)
def test_a_model_that_misses_a_limit_is_not_promoted(config: Config, figures: dict[str, float], message: str) -> None:
    register(config, "a", **figures)
    with pytest.raises(ReviewriskError, match=message):
        promote(config)
    assert statuses(config) == {"a": "candidate"}
    assert [row["status"] for row in tables.read_arrow(config.root, "job_runs").to_pylist()] == ["failed"]


def test_a_model_that_just_meets_every_limit_is_promoted(config: Config) -> None:
    register(config, "a", test_auc=0.9, test_f1=0.8, test_ece=0.03)
    assert promote(config) == "a"


def test_the_lowest_active_threshold_flags_most_and_another_models_counts_for_nothing(config: Config) -> None:
    limits = [
        threshold("a", "recall_90", threshold=0.3),
        threshold("a", "f1_max", threshold=0.5),
        threshold("a", "cost_5_1", threshold=0.1, is_active=False),
        threshold("b", "f1_max", threshold=0.01),
    ]
    write_root(config.root.local_path, {"models": [model("a")], "model_thresholds": limits})
    assert lowest_active_threshold(config.root, "a")["threshold"] == 0.3
    assert default_threshold(config.root, "a")["threshold"] == 0.5
    with pytest.raises(ReviewriskError, match="c has no default threshold in model_thresholds"):
        default_threshold(config.root, "c")


def test_what_is_to_be_scored_begins_with_the_first_day_and_holds_corrected_and_moved_reviews(config: Config) -> None:
    register(config, "a")
    day = datetime.date(2015, 6, 10)
    names = ("done", "other_text", "moved", "other_model", "first_day", "before")
    reviews = [
        review(name, review_date=day if name != "before" else day - datetime.timedelta(days=1)) for name in names
    ]
    scores = [
        score("done", model_version="a"),
        score("other_text", model_version="a", text_hash="before"),
        score("moved", model_version="a", review_month=datetime.date(2015, 5, 1)),
        score("other_model", model_version="b"),
    ]
    tables.replace_rows(config.root, "reviews", "r", lambda _: arrow_rows("reviews", reviews))
    stage = tables.stage_arrow(arrow_rows("review_scores", scores), config.root, "review_scores", "r")
    tables.publish(config.root, "review_scores", "r", lambda _: stage)
    printed: list[str] = []
    run_promote(config.model_copy(update={"promotion": LIMITS}), "a", day, None, printed.append)
    assert printed[-1].startswith("  a is the champion; 4 reviews of 2015-06-10 and later are still to be scored by it")


def test_unknown_versions_and_empty_registries_are_sentences(config: Config, tmp_path: Path) -> None:
    tables.create_tables(config.root)
    assert list_models(config.root) == ["no model yet: run `reviewrisk train`"]
    with pytest.raises(ReviewriskError, match="no candidate to promote"):
        promote(config)
    register(config, "a")
    with pytest.raises(ReviewriskError, match="There is no model z; there are: a"):
        promote(config, "z")
    assert "a " in list_models(config.root)[1] and "candidate" in list_models(config.root)[1]


def candidates(config: Config, row_filters: dict[str, str | None]) -> None:
    """A root with a candidate of each name, each newer than the one before it."""
    rows = [
        model(
            name, status="candidate", promoted_at=None, trained_at=DAY + datetime.timedelta(days=place), row_filter=only
        )
        for place, (name, only) in enumerate(row_filters.items())
    ]
    tables.create_tables(config.root)
    tables.replace_rows(config.root, "models", "r", lambda _: pa.Table.from_pylist(rows, schema=MODELS.schema))


def test_without_a_version_the_newest_candidate_for_all_reviews_is_promoted(config: Config) -> None:
    candidates(config, {"oldest": None, "older": None, "b": "product_category=furniture", "c": "marketplace=de"})
    printed: list[str] = []
    assert run_promote(config.model_copy(update={"promotion": LIMITS}), None, None, None, printed.append) == "older"
    assert printed[:2] == [
        "  b is newer but passed over, as it was made for reviews with product_category=furniture alone",
        "  c is newer but passed over, as it was made for reviews with marketplace=de alone",
    ]
    assert statuses(config) == {"oldest": "candidate", "older": "champion", "b": "candidate", "c": "candidate"}


@pytest.mark.parametrize("override", [None, "there is nothing else"])
def test_candidates_for_some_reviews_alone_are_promoted_by_name_and_reason_only(
    config: Config, override: str | None
) -> None:
    candidates(config, {"b": "product_category=furniture", "c": "marketplace=de"})
    with pytest.raises(
        ReviewriskError,
        match=(
            r"made for all reviews: c was .* with marketplace=de; .* route .*`reviewrisk models promote c"
            r' --override "REASON"`'
        ),
    ):
        promote(config, override=override)
    assert set(statuses(config).values()) == {"candidate"}
    assert promote(config, "c", override="there is nothing else") == "c"


def retire(config: Config, version: str) -> list[str]:
    lines: list[str] = []
    run_retire(config.root, version, lines.append)
    return lines


def test_a_retired_model_is_no_candidate_any_more_and_can_come_back(config: Config) -> None:
    register(config, "a", "b")
    assert retire(config, "b") == ["  b is retired; its bundle and its scores stay"]
    assert statuses(config) == {"a": "candidate", "b": "retired"}
    assert promote(config) == "a", "the newest candidate is not the retired one"
    assert retire(config, "b") == ["  b was retired before; nothing changed"]
    assert promote(config, "b") == "b" and statuses(config) == {"a": "retired", "b": "champion"}
    retirements = [row for row in tables.read_arrow(config.root, "job_runs").to_pylist() if row["command"] == "retire"]
    assert [(row["status"], row["model_version"]) for row in retirements] == [("succeeded", "b")] * 2


def test_the_champion_is_not_retired_before_another_is_promoted(config: Config) -> None:
    register(config, "a", "b")
    promote(config, "a")
    with pytest.raises(ReviewriskError, match="a is the champion: promote another model first"):
        retire(config, "a")
    assert statuses(config) == {"a": "champion", "b": "candidate"}
    with pytest.raises(ReviewriskError, match="There is no model z; there are: "):
        retire(config, "z")
    promote(config, "b")
    assert statuses(config)["a"] == "retired"


def set_routes(config: Config, models: dict[str, str]) -> None:
    publish_routes(config.root, configured_routes(RoutingSettings(models=models)), "r", DAY)


def test_a_model_that_a_route_names_is_not_retired(config: Config) -> None:
    register(config, "a", "b")
    promote(config, "a")
    set_routes(config, {"Furniture": "b", "Sofas": "b"})
    with pytest.raises(
        ReviewriskError, match=r"b decides for furniture, sofas: take it out of the config's routing\.models"
    ):
        retire(config, "b")
    assert statuses(config)["b"] == "candidate"
    set_routes(config, {})
    assert retire(config, "b") == ["  b is retired; its bundle and its scores stay"]


def test_the_list_says_what_a_model_is_routed_for(config: Config) -> None:
    register(config, "a", "b")
    set_routes(config, {"Sofas": "b", "furniture": "b"})
    newest, older = list_models(config.root)[1:]
    assert newest.startswith("b ") and newest.endswith("  routed: furniture, sofas")
    assert older.startswith("a ") and "routed" not in older


def test_the_list_marks_a_gain_over_tf_idf_that_may_be_chance(config: Config) -> None:
    gains = {"sure": (0.01, True), "doubtful": (-0.01, False), "of-an-older-release": (None, None)}
    rows = [
        model(name, status="candidate", f1_gain_low=low, beats_baseline=beats) for name, (low, beats) in gains.items()
    ]
    write_root(config.root.local_path, {"models": rows})
    assert {line.split()[0]: "may be chance" in line for line in list_models(config.root)[1:]} == {
        "sure": False,
        "doubtful": True,
        "of-an-older-release": False,
    }


def test_a_root_of_an_older_release_gets_its_routes_table_with_the_next_run(config: Config) -> None:
    register(config, "a", "b")
    folder = config.root.local_path / "tables" / "model_routes"
    shutil.rmtree(folder)
    assert "routed" not in list_models(config.root)[1] and not folder.exists()
    retire(config, "b")
    assert tables.read_arrow(config.root, "model_routes").num_rows == 0


def test_a_run_on_a_folder_without_tables_makes_none(config: Config) -> None:
    with pytest.raises(ReviewriskError, match="holds no table"):
        retire(config, "a")
    assert not config.root.local_path.exists()


def test_promoting_counts_no_review_that_a_route_gives_to_another(config: Config) -> None:
    register(config, "a", "b")
    reviews = [
        review("1"),
        review("2", product_category=" FURNITURE"),
        review("3", product_category="Kitchen"),
        review("4", product_category=None),
    ]
    tables.replace_rows(config.root, "reviews", "r", lambda _: arrow_rows("reviews", reviews))
    assert counted(config, "a") == 4
    set_routes(config, {"furniture": "b"})
    assert counted(config, "a") == 2, "kitchen, and the one without a category"
    assert counted(config, "b") == 4, "b decides for its routed reviews too"
    publish_routes(config.root, configured_routes(RoutingSettings(column="marketplace", models={"us": "b"})), "r", DAY)
    assert counted(config, "a") == 0


def counted(config: Config, version: str) -> int:
    """The rows that promoting a model says it is still to score."""
    printed: list[str] = []
    run_promote(
        config.model_copy(update={"promotion": LIMITS}), version, None, "these models have no bundles", printed.append
    )
    [said] = [line for line in printed if "is the champion" in line]
    return int(said.split("; ")[1].split(" reviews")[0].replace(",", ""))


@pytest.fixture
def shown(config: Config, tmp_path: Path) -> tuple[Config, str]:
    """A root with one model: its bundle, two thresholds, and runs that promoted it twice and failed to once."""
    bundle = adapter_bundle(config.root.local_path, tiny_encoder(tmp_path / "tiny"))
    version = bundle.name
    gain = {"f1_gain": 0.05, "f1_gain_low": -0.01, "f1_gain_high": 0.11, "beats_baseline": False}
    known = {"bundle_checksum": file_sha256(bundle / "manifest.json"), "promotion_reason": "the shop is closed"}
    row = model(version, **known, **gain)
    limits = [
        threshold(version, "f1_max", precision=None),
        threshold(version, "cost_5_1", threshold=0.2, is_active=False),
    ]
    promoted = {"command": "promote", "model_version": version, "details": '{"since": null}'}
    runs = [
        job_run(
            run_id="2",
            **{**promoted, "started_at": DAY + datetime.timedelta(days=1), "details": '{"since": "2015-06-01"}'},
        ),
        job_run(run_id="1", **{**promoted, "started_at": DAY}),
        job_run(run_id="3", **{**promoted, "status": "failed"}),
        job_run(run_id="4", **{**promoted, "model_version": "another"}),
    ]
    write_root(
        config.root.local_path,
        {"models": [row], "model_thresholds": limits, "model_routes": [route("sofas", version)], "job_runs": runs},
    )
    return config, version


def show(config: Config, version: str | None) -> list[str]:
    lines: list[str] = []
    run_show(config, version, lines.append)
    return lines


def test_show_says_what_is_known_of_a_model(shown: tuple[Config, str]) -> None:
    config, version = shown
    lines = show(config, version)
    assert lines[0].startswith(f"{version}: champion, trained 2015-09-01 03:00 UTC")
    text = "\n".join(lines)
    for said in (
        "1,000,000 trained of 23,000,000",
        "36 training, 18 validation, 18 test",
        "AUC 0.9900",
        "ECE 0.0100",
        "TF-IDF there AUC 0.9700, F1 0.8500; the gain in F1, +0.0500 [-0.0100, +0.1100], may be chance",
    ):
        assert said in text
    limits = [line for line in lines if line.startswith("  threshold")]
    assert limits == [
        (
            "  threshold    f1_max (default, active): 0.5000; on test precision –, recall 80.0%, f1 85.0%, flagged"
            " share 20.0%"
        ),
        "  threshold    cost_5_1: 0.2000; on test precision 90.0%, recall 80.0%, f1 85.0%, flagged share 20.0%",
    ]
    assert "  routed       product_category sofas" in lines
    assert "  reason       the shop is closed (--override)" in lines
    promotions = [line for line in lines if line.startswith("  promoted")]
    assert promotions == [
        "  promoted     2026-01-01 00:00 UTC",
        "  promoted     2026-01-02 00:00 UTC, since 2015-06-01",
    ]
    files = sum(path.is_file() for path in (config.root.local_path / "models" / version).rglob("*")) - 1
    assert f"{config.root.join('models', version)}: whole, {files} files as its manifest says" in text
    assert "  setting      model.lora.rank: 4" in lines and "  setting      model.text.headline: keep" in lines


def test_show_without_a_version_means_the_champion(shown: tuple[Config, str]) -> None:
    config, version = shown
    newest = model("newest", status="candidate", trained_at=DAY + datetime.timedelta(days=9))
    tables.replace_rows(
        config.root,
        "models",
        "r",
        lambda before: pa.Table.from_pylist([newest, *before.to_pylist()], schema=MODELS.schema),
    )
    assert show(config, None) == show(config, version)


def test_where_there_is_no_champion_show_and_diagnose_say_what_to_do(config: Config) -> None:
    register(config, "a", "b")
    for command in (run_show, run_diagnose):
        with pytest.raises(
            ReviewriskError,
            match=r"has no champion yet: name a model of `reviewrisk models list`, or .*`reviewrisk models promote`",
        ):
            command(config, None, lambda _: None)


def test_show_says_where_a_bundle_is_harmed_or_gone(shown: tuple[Config, str]) -> None:
    config, version = shown
    bundle = config.root.local_path / registered(config.root, version)["bundle_path"]
    (bundle / "calibrator.json").write_text("{}")
    [harmed] = [line for line in show(config, version) if "NOT WHOLE" in line]
    assert "calibrator.json has another sha256" in harmed
    (bundle / "manifest.json").unlink()
    [gone] = [line for line in show(config, version) if "NOT WHOLE" in line]
    assert "is not the one that was registered" in gone
    with pytest.raises(ReviewriskError, match="There is no model z; there are: "):
        show(config, "z")

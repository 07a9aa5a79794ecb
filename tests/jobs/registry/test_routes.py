"""Several models in one pass: each review is scored by the model that its route names, and routes come into force when
all is scored.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import Config, RoutingSettings
from jobs.ingest.merge import run_ingest
from jobs.lake import delta, tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold, list_models, registered, run_show
from jobs.registry.promote import run_promote
from jobs.registry.routes import Routes, assigned, configured_routes, publish_routes, published_routes
from jobs.scoring.score import ScoreSummary, run_score
from jobs.scoring.single import SingleText, run_single
from jobs.training.train import run_train
from model.errors import ReviewriskError
from model.files import read_json
from model.scoring.scorer import Scorer
from model.settings import route_key
from tests.support.raw_files import line, write_source
from tests.support.trained_root import copied, routed, versions, with_second_model

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
ODD_VALUES = [
    "Furniture",
    " FURNITURE  ",
    "furniture",
    "Möbel",
    "MÖBEL",
    "Home & Kitchen",
    "\tfurniture",
    "",
    "   ",
    "UNKNOWN",
    "家具",
]


@pytest.fixture(scope="module")
def both(built: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    """A root with a champion and one more model, and the latter's version."""
    config = copied(built, tmp_path_factory.mktemp("both") / "root")
    return config, with_second_model(config)


@pytest.fixture
def pair(both: tuple[Config, str], tmp_path: Path) -> tuple[Config, str]:
    """A copy of it for one test."""
    config, second = both
    return copied(config, tmp_path / "root"), second


def score(spark: Any, config: Config) -> tuple[ScoreSummary, dict[tuple[str, str], dict[str, Any]]]:
    """The summary of a run, and all scores by review and version."""
    summary = run_score(spark, config, lambda _: None)
    rows = tables.read_arrow(config.root, "review_scores").to_pylist()
    found = {(row["review_id"], row["model_version"]): row for row in rows}
    assert len(found) == len(rows), "one row per review and version"
    return summary, found


def by_category(config: Config) -> dict[str, str]:
    """Each review's category as routes compare it."""
    return {
        row["review_id"]: route_key(row["product_category"] or "")
        for row in tables.read_arrow(config.root, "reviews").to_pylist()
    }


def expected(config: Config, routes: dict[str, str]) -> set[tuple[str, str]]:
    first = champion(config.root)["model_version"]
    return {(review, routes.get(category, first)) for review, category in by_category(config).items()}


def test_one_pass_scores_each_review_by_the_model_of_its_category(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    config = routed(config, {"FURNITURE": second, "Unknown ": second})
    first = champion(config.root)["model_version"]
    printed: list[str] = []
    summary = run_score(spark, config, printed.append)
    rows = tables.read_arrow(config.root, "review_scores").to_pylist()
    assert {(row["review_id"], row["model_version"]) for row in rows} == expected(
        config, {"furniture": second, "unknown": second}
    )
    counts = {version: sum(row["model_version"] == version for row in rows) for version in (first, second)}
    assert (
        summary.rows_by_version == counts
        and summary.scored == len(rows) == sum(counts.values())
        and min(counts.values()) > 100
    )
    assert (
        f"    {second} (furniture, unknown): {counts[second]}" in printed
        and f"    {first} (all others): {counts[first]}" in printed
    )
    assert f"  routes in force: furniture → {second}, unknown → {second}" in printed
    longest = config.model.backbone.max_length
    read = [min(row["token_count"], longest) for row in rows if row["error"] != "no_text"]
    assert summary.tokens == sum(read), "no row was computed twice"
    assert_scored_as_alone(config, rows)
    assert published_routes(config.root) == Routes("product_category", {"furniture": second, "unknown": second})
    [run] = [run for run in tables.read_arrow(config.root, "job_runs").to_pylist() if run["command"] == "score"]
    assert json.loads(run["details"])["rows_by_version"] == counts
    before = versions(config)
    again = run_score(spark, config, lambda _: None)
    assert (again.scored, again.skipped) == (0, len(rows))
    assert versions(config) == before


def assert_scored_as_alone(config: Config, rows: list[dict[str, Any]]) -> None:
    """Each row's logit is that of its model's own scorer, loaded alone; and the models do differ."""
    reviews = {row["review_id"]: row for row in tables.read_arrow(config.root, "reviews").to_pylist()}
    for version in {row["model_version"] for row in rows}:
        scorer = Scorer.load(serving_folder(config, registered(config.root, version)), config.score, threads=1)
        own = [row for row in rows if row["model_version"] == version and not row["error"]]
        others = [row for row in rows if row["model_version"] != version and not row["error"]]
        for some, is_own in ((own, True), (others, False)):
            texts = [reviews[row["review_id"]] for row in some]
            alone = scorer.score([text["review_headline"] for text in texts], [text["review_body"] for text in texts])
            close = [abs(row["logit"] - logit) < 1e-4 for row, logit in zip(some, alone.logit, strict=True)]
            assert all(close) if is_own else not any(close[:20])


def test_a_route_that_is_taken_out_leaves_its_reviews_to_the_champion(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    _, routed_scores = score(spark, routed(config, {"furniture": second}))
    summary, scores = score(spark, config)
    furniture = [review for review, category in by_category(config).items() if category == "furniture"]
    assert summary.scored == len(furniture)
    assert scores.keys() == routed_scores.keys() | expected(config, {}), (
        "the scores of the route that was stay as history"
    )
    assert {key: scores[key] for key in routed_scores} == routed_scores
    assert published_routes(config.root) == Routes()


def test_a_changed_route_scores_just_what_changes_hands(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    score(spark, routed(config, {"furniture": second}))
    changed = routed(config, {"Kitchen": second})
    summary, scores = score(spark, changed)
    categories = list(by_category(config).values())
    first = champion(config.root)["model_version"]
    assert summary.rows_by_version == {first: categories.count("furniture"), second: categories.count("kitchen")}
    assert scores.keys() >= expected(config, {"kitchen": second})
    assert published_routes(config.root).models == {"kitchen": second}


@pytest.mark.parametrize("table", ["review_scores", "model_routes"])
def test_a_pass_that_fails_leaves_the_routes_as_they_were(
    spark: Any, pair: tuple[Config, str], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, second = pair
    small = config.model_copy(update={"score": config.score.model_copy(update={"rows_per_commit": 100})})
    score(spark, routed(small, {"furniture": second}))
    real, calls = tables.publish, []

    def publish(root: Any, name: str, *rest: Any, **options: Any) -> Any:
        calls.append(name)
        if name == table and (table == "model_routes" or calls.count(name) == 2):
            raise RuntimeError("the disk is full")
        return real(root, name, *rest, **options)

    changed = routed(small, {"kitchen": second})
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(tables, "publish", publish)
        run_score(spark, changed, lambda _: None)
    assert published_routes(config.root).models == {"furniture": second}
    assert "model_routes" not in calls[:-1], "routes come last"
    _, scores = score(spark, changed)
    assert scores.keys() >= expected(config, {"kitchen": second})
    assert published_routes(config.root).models == {"kitchen": second}


def test_a_moved_review_has_at_no_time_two_scores_of_any_model(
    spark: Any, pair: tuple[Config, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, second = pair
    small = config.model_copy(update={"score": config.score.model_copy(update={"rows_per_commit": 1})})
    score(spark, small)
    small = routed(small, {"furniture": second})
    score(spark, small)
    moved = line(
        review_id="test-1", review_date="2015-09-03", review_body="moved to a newer month", product_category="Furniture"
    )
    run_ingest(spark, small, [str(write_source(tmp_path / "night.tsv", [moved]))], lambda _: None)
    real, seen = tables.publish, []

    def publish(root: Any, name: str, *rest: Any, **options: Any) -> Any:
        done = real(root, name, *rest, **options)
        if name == "review_scores":
            seen.append(
                [
                    row["model_version"]
                    for row in tables.read_arrow(root, name).to_pylist()
                    if row["review_id"] == "test-1"
                ]
            )
        return done

    monkeypatch.setattr(tables, "publish", publish)
    score(spark, small)
    assert seen == [[], [second]]


def test_a_corrected_category_changes_the_model_though_the_text_is_the_same(
    spark: Any, pair: tuple[Config, str], tmp_path: Path
) -> None:
    config, second = pair
    config = routed(config, {"garden": second})
    texts = {"review_id": "moves", "review_date": "2015-09-03", "review_body": "it broke"}
    for category in ("Kitchen", "Garden"):
        night = line(**texts, product_category=category)
        run_ingest(spark, config, [str(write_source(tmp_path / f"{category}.tsv", [night]))], lambda _: None)
        summary, scores = score(spark, config)
    assert summary.scored == 1 and summary.rows_by_version[second] == 1
    assert ("moves", second) in scores


def test_the_champions_first_day_bounds_the_whole_pass(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    since = datetime.date(2015, 6, 1)

    def bounded(before: pa.Table) -> pa.Table:
        rows = [row | ({"score_since": since} if row["status"] == "champion" else {}) for row in before.to_pylist()]
        return pa.Table.from_pylist(rows, schema=before.schema)

    tables.replace_rows(config.root, "models", "run-test", bounded)
    _, scores = score(spark, routed(config, {"furniture": second}))
    newer = {
        row["review_id"] for row in tables.read_arrow(config.root, "reviews").to_pylist() if row["review_date"] >= since
    }
    assert scores.keys() == {key for key in expected(config, {"furniture": second}) if key[0] in newer}


def test_a_model_of_one_category_learns_from_it_alone_and_decides_for_it_alone(spark: Any, trained: Config) -> None:
    first = champion(trained.root)["model_version"]
    printed: list[str] = []
    version = run_train(trained.with_only("product_category= FURNITURE"), printed.append)
    row = registered(trained.root, version)
    bundle = trained.root.local_path / row["bundle_path"]
    assert row["row_filter"] == read_json(bundle / "settings.json")["rows"]["only"] == "product_category=furniture"
    labelled = [one for one in tables.read_arrow(trained.root, "reviews").to_pylist() if one["star_rating"] != 3]
    own = [one for one in labelled if route_key(one["product_category"] or "") == "furniture"]
    counts = {split: sum(one["split"] == split for one in own) for split in ("train", "validation", "test")}
    found = read_json(bundle / "metrics.json")["rows"]
    assert {"train": found["train_split"], "validation": found["validation"], "test": found["test"]} == counts
    predicted = pq.read_table(bundle / "predictions.parquet").to_pylist()
    assert {one["review_id"] for one in predicted} <= {one["review_id"] for one in own}
    assert {one["review_id"] for one in predicted if one["part"] == "test"} == {
        one["review_id"] for one in own if one["split"] == "test"
    }
    assert (
        f"  old period (the corpus's test split): {counts['test']} rows, {row_positives(own)} dissatisfied" in printed
    ), "held against the champion"
    shown: list[str] = []
    run_show(trained, version, shown.append)
    assert "  reviews      only those with product_category=furniture, in training, validation and test alike" in shown
    assert "**Only reviews with product_category=furniture** were read" in (bundle / "README.md").read_text()
    assert [
        line.startswith(version) and "only product_category=furniture" in line for line in list_models(trained.root)[1:]
    ] == [True, False]
    for column, value in (("product_category", "kitchen"), ("marketplace", "us")):
        with pytest.raises(
            ReviewriskError,
            match=f"gives {column}={value} to {version}, which was .* on reviews with product_category=furniture alone",
        ):
            run_score(spark, routed(trained, {value: version}, column), lambda _: None)
    summary, _ = score(spark, routed(trained, {"Furniture": version}))
    assert summary.rows_by_version[version] == list(by_category(trained).values()).count("furniture")
    with pytest.raises(
        ReviewriskError,
        match=f"{version} is not promoted: it was trained and tested only on reviews with product_category=furniture",
    ):
        run_promote(trained, version, None, None, lambda _: None)
    assert champion(trained.root)["model_version"] == first
    run_promote(trained, version, None, "there is furniture alone from now on", lambda _: None)
    assert champion(trained.root)["model_version"] == version


def row_positives(rows: list[dict[str, Any]]) -> int:
    """Dissatisfied ones among the test rows."""
    return sum(row["split"] == "test" and row["star_rating"] <= 2 for row in rows)


def test_a_model_that_may_not_decide_is_not_routed_to(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    first = champion(config.root)["model_version"]
    with pytest.raises(ReviewriskError, match="There is no model nobody; there are: ") as raised:
        run_score(spark, routed(config, {"furniture": "nobody"}), lambda _: None)
    assert first in str(raised.value) and second in str(raised.value)
    strict = config.model_copy(update={"promotion": config.promotion.model_copy(update={"minimum_f1": 1.0})})
    with pytest.raises(
        ReviewriskError,
        match=rf"routing\.models names {second}, but on its test split .*F1 0\.\d+ is below the config's 1\.0",
    ):
        run_score(spark, routed(strict, {"furniture": second}), lambda _: None)
    inactive = [
        row | {"is_active": row["is_active"] and row["model_version"] != second}
        for row in tables.read_arrow(config.root, "model_thresholds").to_pylist()
    ]
    tables.replace_rows(
        config.root, "model_thresholds", "run-test", lambda before: pa.Table.from_pylist(inactive, schema=before.schema)
    )
    with pytest.raises(ReviewriskError, match=f"{second} has no active threshold"):
        run_score(spark, routed(config, {"furniture": second}), lambda _: None)
    assert tables.read_arrow(config.root, "review_scores").num_rows == 0


@pytest.mark.parametrize("column", ["product_category", "marketplace"])
def test_python_spark_and_the_warehouse_compare_a_value_alike(spark: Any, column: str) -> None:
    rows = [(value,) for value in [*ODD_VALUES, None]]
    frame = spark.createDataFrame(rows, f"{column} string")
    keys = [route_key(value or "") for (value,) in rows]
    assert keys[:3] == ["furniture"] * 3 and keys[3] == keys[4] == "möbel" and keys[-1] == "unknown"
    with duckdb.connect() as connection:
        in_warehouse = [
            connection.execute("select coalesce(nullif(lower(trim(?)), ''), 'unknown')", list(row)).fetchone()
            for row in rows
        ]
    assert in_warehouse == [(key,) for key in keys]
    for wanted in sorted(set(keys)):
        found = assigned(frame, Routes(column, {wanted: "second"}), "first").collect()
        assert [row["model_version"] for row in found] == ["second" if key == wanted else "first" for key in keys], (
            wanted
        )


def test_without_routes_the_champion_decides_for_all(spark: Any) -> None:
    frame = spark.createDataFrame([("Furniture",), (None,)], "product_category string")
    assert [row["model_version"] for row in assigned(frame, Routes(), "first").collect()] == ["first", "first"]


def test_routes_are_published_in_one_commit_where_they_differ(config: Config) -> None:
    tables.create_tables(config.root)
    root = config.root
    one = configured_routes(RoutingSettings(column="marketplace", models={"DE": "b", "us": "c"}))
    assert publish_routes(root, one, "run-1", NOW) and published_routes(root) == one == Routes(
        "marketplace", {"de": "b", "us": "c"}
    )
    assert not publish_routes(root, one, "run-2", NOW) and tables.current_version(root, "model_routes") == 1
    later = NOW + datetime.timedelta(days=1)
    assert publish_routes(root, Routes("marketplace", {"de": "b", "fr": "c"}), "run-3", later)
    rows = {
        row["route_value"]: (row["run_id"], row["set_at"])
        for row in tables.read_arrow(root, "model_routes").to_pylist()
    }
    assert rows == {"de": ("run-1", NOW), "fr": ("run-3", later)}
    assert delta.open_table(root, "model_routes").history(1)[0]["run_id"] == "run-3"
    assert publish_routes(root, configured_routes(RoutingSettings(column="marketplace")), "run-4", later)
    assert published_routes(root) == Routes() and tables.read_arrow(root, "model_routes").num_rows == 0
    assert not publish_routes(root, Routes(), "run-5", later) and tables.current_version(root, "model_routes") == 3


def test_versions_begin_with_the_champion_and_come_once() -> None:
    routes = Routes("product_category", {"sofas": "b", "furniture": "c", "lamps": "b", "desks": "a"})
    assert routes.versions("a") == ["a", "c", "b"]
    assert routes.values_of("b") == ["lamps", "sofas"] and routes.values_of("z") == []


def test_try_asks_the_model_of_the_route_in_force(spark: Any, pair: tuple[Config, str]) -> None:
    config, second = pair
    first = champion(config.root)["model_version"]
    texts = [
        SingleText("Bad", "broke broken waste", {"product_category": " FURNITURE"}),
        SingleText("Bad", "broke broken waste", {"product_category": "kitchen"}),
        SingleText("Bad", "broke broken waste"),
        SingleText("Bad", "broke broken waste", {"product_category": None}),
        SingleText("Bad", "broke broken waste", {"marketplace": "furniture"}),
        SingleText(None, "love it great", {"product_category": "furniture"}),
    ]
    config = routed(config, {"furniture": second, "unknown": second})
    before = list(run_single(config, texts, with_words=False))
    assert {result.model_version for result in before} == {first}, (
        "routes of the config are not in force before a pass has published them"
    )
    score(spark, config)
    found = list(run_single(config, texts, with_words=True))
    assert [result.model_version for result in found] == [second, first, first, second, first, second]
    assert [result.text for result in found] == texts, "in the order of the texts"
    by_model = {version: default_threshold(config.root, version)["threshold"] for version in (first, second)}
    assert by_model[first] != by_model[second] and [result.threshold for result in found] == [
        by_model[result.model_version] for result in found
    ]
    assert found[0].score == found[3].score != found[1].score == found[2].score == found[4].score, (
        "each model has a score of its own"
    )
    assert [result.is_flagged for result in found] == [True, True, True, True, True, False] and all(
        result.words for result in found
    )

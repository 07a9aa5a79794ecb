"""Champion against challenger: compared on both periods, refused where it loses by more than chance, promoted with a
recorded reason.
"""

from __future__ import annotations

import datetime
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from jobs.config import Config
from jobs.lake import delta, tables
from jobs.lake.query import open_warehouse
from jobs.lake.schemas import MODEL_THRESHOLDS, MODELS, REVIEW_SCORES, SPLITS
from jobs.registry.compare_champion import challenge, compare_with_champion, held_against_champion
from jobs.registry.models import champion, registered
from jobs.registry.period_comparison import PeriodComparison
from jobs.registry.promote import run_promote
from jobs.registry.refit_thresholds import run_thresholds
from model.errors import LostRaceError, OutageError, ReviewriskError
from model.evaluation.calibrators import Calibrator
from model.files import file_sha256, write_json
from tests.support.warehouse_rows import arrow_rows, model, review, score, split, threshold

ROWS = 600
TEST_END = datetime.date(2015, 8, 31)
OLD_DAY, NEW_DAY, LATER_DAY = datetime.date(2015, 6, 10), datetime.date(2015, 9, 10), datetime.date(2015, 9, 20)


def world(seed: int = 5) -> tuple[np.ndarray, list[datetime.date]]:
    """Labels and dates of the test rows: the first half is the old period, the second lies after it."""
    labels = (np.random.default_rng(seed).random(ROWS) < 0.3).astype(np.int64)
    return labels, [OLD_DAY if row < ROWS // 2 else NEW_DAY for row in range(ROWS)]


def logits(skill_old: float, skill_new: float, seed: int) -> np.ndarray:
    """Log-odds that point at the label, with so much strength in each period, through noise."""
    labels, _ = world()
    skill = np.where(np.arange(ROWS) < ROWS // 2, skill_old, skill_new)
    return (2 * labels - 1) * skill + np.random.default_rng(seed).normal(0, 1, ROWS)


def add_model(
    config: Config,
    name: str,
    logit: np.ndarray,
    status: str,
    parts: tuple[str, ...] = ("test",),
    only: str | None = None,
    parents: tuple[str, ...] = (),
) -> None:
    """A registered model whose bundle has just what comparing and thresholds read; `only` is its row_filter, `parents`
    are those it was combined from.
    """
    labels, dates = world()
    bundle = config.root.local_path / "models" / name
    bundle.mkdir(parents=True)
    write_json(bundle / "calibrator.json", Calibrator().to_json())
    write_json(bundle / "metrics.json", {"merge": {"parents": list(parents)}} if parents else {})
    columns: dict[str, Any] = {
        "review_id": [f"R{row}" for row in range(ROWS)],
        "product_id": [f"P{row % 150}" for row in range(ROWS)],
        "review_date": pa.array(dates, pa.date32()),
        "text_hash": [f"hash-R{row}" for row in range(ROWS)],
        "label": labels,
        "model_logit": logit,
    }
    rows = pa.concat_tables([pa.table({"part": [part] * ROWS, **columns}) for part in parts])
    pq.write_table(rows, bundle / "predictions.parquet")
    write_json(bundle / "manifest.json", {"model_version": name})
    promoted = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) if status == "champion" else None
    place = {"bundle_path": f"models/{name}", "bundle_checksum": file_sha256(bundle / "manifest.json")}
    row = model(name, status=status, promoted_at=promoted, row_filter=only, **place)
    tables.replace_rows(
        config.root, "models", "r", lambda before: pa.Table.from_pylist([*before.to_pylist(), row], MODELS.schema)
    )
    limit = threshold(name, threshold=0.5)
    tables.replace_rows(
        config.root,
        "model_thresholds",
        "r",
        lambda before: pa.Table.from_pylist([*before.to_pylist(), limit], MODEL_THRESHOLDS.schema),
    )


@pytest.fixture
def root(config: Config) -> Config:
    tables.create_tables(config.root)
    rows = [split("train"), split("validation"), split("test", last_date=TEST_END), split("live")]
    tables.replace_rows(config.root, "splits", "r", lambda _: pa.Table.from_pylist(rows, SPLITS.schema))
    return config


def champion_scores(config: Config, name: str, logit: np.ndarray) -> None:
    """The champion's nightly work: a score of every test row."""
    rows = [
        score(f"R{row}", model_version=name, logit=float(value), review_month=day.replace(day=1))
        for row, (value, day) in enumerate(zip(logit, world()[1], strict=True))
    ]
    scope = {"model_version": [name], "review_month": {row["review_month"] for row in rows}}
    table = pa.Table.from_pylist(rows, REVIEW_SCORES.schema)
    tables.publish(
        config.root, "review_scores", "r", lambda _: tables.stage_arrow(table, config.root, "review_scores", "r", scope)
    )


def duel(
    config: Config, champion_skill: tuple[float, float], challenger_skill: tuple[float, float], scored: bool = True
) -> None:
    add_model(config, "old-1", logits(*champion_skill, seed=1), "champion")
    add_model(config, "new-2", logits(*challenger_skill, seed=2), "candidate")
    if scored:
        champion_scores(config, "old-1", logits(*champion_skill, seed=1))


def promote(config: Config, override: str | None = None) -> list[str]:
    printed: list[str] = []
    run_promote(config, "new-2", None, override, printed.append)
    return printed


def test_both_models_are_compared_on_the_same_rows_of_each_period(root: Config) -> None:
    duel(root, (2.0, 0.5), (2.0, 2.0))
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.period, new.period) == ("old", "new") and old.rows == new.rows == ROWS // 2
    assert old.losses == new.losses == []
    assert new.gain["auc"]["low"] > 0.1 and abs(old.gain["auc"]["value"]) < 0.05
    for one in (old, new):
        for figure in ("auc", "f1"):
            assert one.gain[figure]["value"] == pytest.approx(
                one.challenger[figure]["value"] - one.champion[figure]["value"]
            )


@pytest.mark.parametrize(("skill", "named"), [((0.3, 2.0), "of the old period"), ((2.0, 0.3), "of the new period")])
def test_a_challenger_that_loses_on_one_period_is_refused_and_stays_a_candidate(
    root: Config, skill: tuple[float, float], named: str
) -> None:
    duel(root, (1.5, 1.5), skill)
    with pytest.raises(ReviewriskError, match=f"significantly worse than the champion in .*{named}"):
        promote(root)
    assert champion(root.root)["model_version"] == "old-1"


def test_an_override_promotes_it_and_its_reason_is_kept(root: Config) -> None:
    duel(root, (1.5, 1.5), (0.3, 2.0))
    printed = promote(root, "the old shop is closed")
    assert champion(root.root)["model_version"] == "new-2"
    assert any("SIGNIFICANTLY WORSE" in line for line in printed)
    [run] = [row for row in tables.read_arrow(root.root, "job_runs").to_pylist() if row["status"] == "succeeded"]
    details = json.loads(run["details"])
    assert (
        details["override"] == "the old shop is closed" and "auc of the old period" in details["significantly worse in"]
    )


def test_the_reason_is_committed_with_the_champion(root: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that cannot be noted in job_runs after its commit has left the reason all the same."""
    duel(root, (1.5, 1.5), (0.3, 2.0))

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tables, "append_row", fails)
    with pytest.raises(OSError, match="no space left"):
        promote(root, "the old shop is closed")
    assert champion(root.root)["promotion_reason"] == "the old shop is closed"


def test_what_fails_before_the_commit_leaves_the_champion(root: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    duel(root, (1.5, 1.5), (0.3, 2.0))

    def fails(*_: Any) -> None:
        raise ReviewriskError("review_scores cannot be read.")

    monkeypatch.setattr("jobs.registry.promote.open_tables", fails)
    with pytest.raises(ReviewriskError, match="cannot be read"):
        promote(root, "the old shop is closed")
    assert champion(root.root)["model_version"] == "old-1"


def test_a_reason_stays_until_the_model_is_promoted_anew(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    promote(root, "the old shop is closed")
    promote(root)
    assert champion(root.root)["promotion_reason"] == "the old shop is closed", "it is the champion already"
    run_promote(root, "old-1", None, None, lambda _: None)
    assert champion(root.root)["promotion_reason"] is None
    promote(root, "it opened again")
    assert champion(root.root)["promotion_reason"] == "it opened again"


def test_a_root_of_an_older_release_gets_the_column_with_the_next_promotion(root: Config) -> None:
    duel(root, (1.5, 1.5), (0.3, 2.0))
    old = tables.read_arrow(root.root, "models").drop_columns("promotion_reason")
    write_deltalake(root.root.join("tables", "models"), old, mode="overwrite", schema_mode="overwrite")
    promote(root, "the old shop is closed")
    assert champion(root.root)["promotion_reason"] == "the old shop is closed"


@pytest.mark.parametrize("moment", ["jobs.registry.promote.held_against_champion", "jobs.lake.tables.stage_arrow"])
def test_a_promotion_that_comes_between_comparison_and_commit_is_not_undone(
    root: Config, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run ends after this one has compared, or after this one has read the table that it is to replace."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    add_model(root, "other-3", logits(1.5, 1.5, seed=3), "candidate")
    real: Any = pkgutil.resolve_name(moment)
    began: list[str] = []

    def interrupted(*arguments: Any) -> Any:
        done = real(*arguments)
        if not began:
            began.append(moment)
            run_promote(root, "other-3", None, None, lambda _: None)
        return done

    monkeypatch.setattr(moment, interrupted)
    with pytest.raises(
        LostRaceError, match=r"new-2 is not promoted: it was compared with old-1, but other-3 is the champion now"
    ):
        promote(root)
    assert champion(root.root)["model_version"] == "other-3"
    monkeypatch.undo()
    promote(root)
    assert champion(root.root)["model_version"] == "new-2", "given again, it is held against the other one"


def test_two_first_promotions_at_once_make_one_champion(root: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model(root, "new-2", logits(1.5, 1.5, seed=2), "candidate")
    add_model(root, "other-3", logits(1.5, 1.5, seed=3), "candidate")
    real, began = tables.stage_arrow, []

    def interrupted(*arguments: Any) -> Any:
        if not began:
            began.append(True)
            run_promote(root, "other-3", None, None, lambda _: None)
        return real(*arguments)

    monkeypatch.setattr(tables, "stage_arrow", interrupted)
    with pytest.raises(LostRaceError, match="compared with no champion, but other-3 is the champion now"):
        promote(root)
    assert champion(root.root)["model_version"] == "other-3"


def test_a_loss_within_chance_does_not_stop_a_promotion(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.48, 1.5))
    promote(root)
    assert champion(root.root)["model_version"] == "new-2"


def test_a_locked_warehouse_does_not_stop_a_promotion(root: Config) -> None:
    """What is left to score is counted on the tables alone, after the commit."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    warehouse = root.root.local_path / "warehouse" / "reviewrisk.duckdb"
    warehouse.parent.mkdir()
    hold = (
        "import duckdb, sys; held = duckdb.connect(sys.argv[1]); held.execute('create table t (a int)'); print('held',"
        " flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ReviewriskError, match="cannot be opened"):
            open_warehouse(root.root)
        assert promote(root)[-1].startswith("  new-2 is the champion; 0 reviews in all are still to be scored")
        holder.communicate()


def test_without_scores_the_champion_is_compared_on_what_its_bundle_has(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5), scored=False)
    assert [one.period for one in compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))] == [
        "old",
        "new",
    ]


def change_scores(config: Config, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The scores with each row changed."""

    def changed(before: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([change(row) for row in before.to_pylist()], REVIEW_SCORES.schema)

    tables.replace_rows(config.root, "review_scores", "r", changed)


def without_hash(config: Config, name: str) -> None:
    """The bundle as earlier versions of the code wrote it."""
    path = config.root.local_path / "models" / name / "predictions.parquet"
    pq.write_table(pq.read_table(path).drop_columns("text_hash"), path)


def test_a_score_of_a_text_that_was_corrected_since_is_not_compared(root: Config) -> None:
    """The champion scored another text of every second review than the challenger was tested on; its bundle has the
    challenger's text of one of these.
    """
    duel(root, (1.5, 1.5), (1.5, 1.5))
    keep_predictions(root, "old-1", pc.field("review_id") == "R8")

    def corrected(row: dict[str, Any]) -> dict[str, Any]:
        is_even = int(row["review_id"][1:]) % 2 == 0
        return row | ({"text_hash": "corrected", "logit": -row["logit"]} if is_even else {})

    change_scores(root, corrected)
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.rows, new.rows) == (151, 150)
    assert old.champion["auc"]["value"] > 0.9, "none of the turned logits is in it"


@pytest.mark.parametrize("old_bundles", [("old-1",), ("new-2",), ("old-1", "new-2")])
def test_bundles_without_the_hash_of_texts_are_compared_by_review(root: Config, old_bundles: tuple[str, ...]) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    change_scores(root, lambda row: row | ({} if row["review_id"] != "R8" else {"text_hash": "corrected"}))
    for name in old_bundles:
        without_hash(root, name)
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.rows, new.rows) == (300, 300)


def test_of_the_champions_scores_only_those_of_the_test_rows_are_read(
    root: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has also scored other reviews of these months, and reviews of other months."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    others = [
        score(f"X{place}", model_version="old-1", review_month=day.replace(day=1))
        for place, day in enumerate([OLD_DAY, NEW_DAY, datetime.date(2012, 1, 1)])
    ]
    another_model = [score(f"R{row}", model_version="older-0", review_month=OLD_DAY.replace(day=1)) for row in range(9)]
    more = pa.Table.from_pylist([*others, *another_model], REVIEW_SCORES.schema)
    tables.replace_rows(root.root, "review_scores", "r", lambda before: pa.concat_tables([before, more]))
    real, read = tables.read_arrow, []

    def read_arrow(config_root: Any, name: str, *rest: Any, **options: Any) -> pa.Table:
        rows = real(config_root, name, *rest, **options)
        read.append((name, rows.num_rows))
        return rows

    monkeypatch.setattr(tables, "read_arrow", read_arrow)
    compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert [rows for name, rows in read if name == "review_scores"] == [ROWS]


def recorded(config: Config) -> dict[str, Any]:
    """The details of the one promotion that succeeded."""
    [run] = [row for row in tables.read_arrow(config.root, "job_runs").to_pylist() if row["status"] == "succeeded"]
    found: dict[str, Any] = json.loads(run["details"])
    return found


def refused_without_comparison(config: Config, reason: str) -> None:
    """The candidate is refused, with what could not be compared, why, and the command that goes on; an empty reason is
    none.
    """
    for override in (None, " "):
        with pytest.raises(
            ReviewriskError,
            match=(
                rf"could not be compared with the champion on the old period.*: .*{reason}.*promote new-2"
                r' --override "REASON"'
            ),
        ):
            promote(config, override)
    assert champion(config.root)["model_version"] == "old-1"


def harm(config: Config, file: str) -> None:
    (config.root.local_path / "models" / "old-1" / file).unlink()


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("predictions.parquet", "old-1 has no predictions.parquet"),
        ("manifest.json", "manifest.json is missing or changed"),
    ],
)
def test_a_champion_whose_bundle_cannot_be_read_stands_until_a_reason_is_given(
    root: Config, file: str, reason: str
) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    harm(root, file)
    refused_without_comparison(root, reason)
    printed = promote(root, "the old bundle is lost")
    assert champion(root.root)["model_version"] == "new-2"
    [said] = [line for line in printed if "not compared on the" in line]
    assert "old period" in said and "new period" in said and reason in said
    details = recorded(root)
    assert details["override"] == "the old bundle is lost" and reason in details["not compared on"]


@pytest.mark.parametrize("override", [None, "the old shop is closed"])
def test_a_storage_that_does_not_answer_is_no_reason_to_promote_without_comparison(
    root: Config, override: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))

    def fails(*_: Any) -> None:
        raise OutageError("s3://shop/root does not answer: run the command again.")

    monkeypatch.setattr("jobs.registry.compare_champion.local_bundle", fails)
    with pytest.raises(OutageError, match="does not answer"):
        promote(root, override)
    assert champion(root.root)["model_version"] == "old-1"
    models = champion(root.root), registered(root.root, "new-2")
    assert "does not answer" in challenge(root, *models, bears_outage=True).missing()[0]


def test_without_the_packages_of_training_a_champion_stands_until_a_reason_is_given(
    root: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    monkeypatch.setitem(sys.modules, "model.evaluation.metrics", None)
    refused_without_comparison(root, "Comparing models needs model.evaluation.metrics, which is not installed")


def test_a_first_champion_needs_no_comparison(root: Config) -> None:
    add_model(root, "new-2", logits(1.5, 1.5, seed=2), "candidate")
    (root.root.local_path / "models" / "new-2" / "predictions.parquet").unlink()
    printed = promote(root)
    assert champion(root.root)["model_version"] == "new-2" and not any("compared" in line for line in printed)


def test_the_run_of_a_promotion_says_what_was_promoted_and_from_which_day(root: Config) -> None:
    add_model(root, "new-2", logits(1.5, 1.5, seed=2), "candidate")
    run_promote(root, "new-2", datetime.date(2015, 8, 1), None, lambda line: None)
    [run] = tables.read_arrow(root.root, "job_runs").to_pylist()
    assert (run["command"], run["status"], run["model_version"], run["rows_read"]) == (
        "promote",
        "succeeded",
        "new-2",
        0,
    )
    assert json.loads(run["details"]) == {"since": "2015-08-01", "override": None}


def set_status(config: Config, name: str, status: str) -> None:
    def changed(before: pa.Table) -> pa.Table:
        return pa.Table.from_pylist(
            [{**row, "status": status} if row["model_version"] == name else row for row in before.to_pylist()],
            MODELS.schema,
        )

    tables.replace_rows(config.root, "models", "r", changed)


def keep_predictions(config: Config, name: str, chosen: pc.Expression) -> None:
    path = config.root.local_path / "models" / name / "predictions.parquet"
    pq.write_table(pq.read_table(path).filter(chosen), path)


IS_OLD = pc.field("review_date") <= pa.scalar(TEST_END)


def test_no_test_row_in_common_is_no_comparison(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5), scored=False)
    keep_predictions(root, "old-1", ~IS_OLD)
    refused_without_comparison(root, "old-1 has scored none of its 300 rows: run `reviewrisk score`")


def test_rows_that_allow_no_interval_are_no_comparison(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5), scored=False)
    keep_predictions(root, "old-1", (pc.field("product_id") == "P7") | ~IS_OLD)
    refused_without_comparison(root, "its 2 rows are too few or too similar to give an interval of AUC and F1")


def test_a_candidate_of_plain_training_is_promoted_and_the_new_period_named(root: Config) -> None:
    """Its test rows end with the test split, though the champion has scored the live reviews; 3 stars have no label."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    keep_predictions(root, "new-2", IS_OLD)
    live = [review(f"L{place}", review_date=NEW_DAY, star_rating=stars) for place, stars in enumerate((1, 3, 5))]
    tables.replace_rows(root.root, "reviews", "r", lambda _: arrow_rows("reviews", live))
    [said] = [line for line in promote(root) if "not compared on the new period" in line]
    assert (
        "new-2 was not tested on any of the 2 labelled reviews after 2015-08-31" in said
        and "`reviewrisk retrain`" in said
    )
    assert (
        champion(root.root)["model_version"] == "new-2" and "`reviewrisk retrain`" in recorded(root)["not compared on"]
    )


def test_the_last_day_of_the_test_split_belongs_to_the_old_period(root: Config) -> None:
    """A test row of that day is compared in it, and a stored review of that day is none since then."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    days = pa.array([TEST_END] * (ROWS // 2) + [TEST_END + datetime.timedelta(days=1)] * (ROWS // 2), pa.date32())
    for name in ("old-1", "new-2"):
        path = root.root.local_path / "models" / name / "predictions.parquet"
        rows = pq.read_table(path)
        pq.write_table(rows.set_column(rows.schema.get_field_index("review_date"), "review_date", days), path)
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.period, old.rows, new.period, new.rows) == ("old", 300, "new", 300)
    keep_predictions(root, "new-2", IS_OLD)
    edge = [review("L0", review_date=TEST_END), review("L1", review_date=TEST_END + datetime.timedelta(days=1))]
    tables.replace_rows(root.root, "reviews", "r", lambda _: arrow_rows("reviews", edge))
    [said] = [line for line in promote(root) if "not compared on the new period" in line]
    assert "was not tested on any of the 1 labelled reviews after 2015-08-31" in said


@pytest.mark.parametrize(("high", "is_loss"), [(-0.001, True), (0.0, False), (0.5, False), (None, False)])
def test_a_gain_whose_interval_reaches_zero_is_no_loss(high: float | None, is_loss: bool) -> None:
    gain = {"auc": {"value": -0.01, "low": -0.02, "high": high}, "f1": {"value": 0.1, "low": 0.05, "high": 0.2}}
    one = PeriodComparison("old", 10, 5, {}, {}, gain)
    assert one.losses == (["auc"] if is_loss else [])
    assert one.undecided == (["auc"] if high is None else [])


def test_a_combined_champion_has_learned_as_much_as_the_latest_of_its_parents(root: Config) -> None:
    """One was made by `retrain` up to 9 September, the other up to 19 September."""
    duel_with_a_retrained_champion(root, scored=False)
    set_status(root, "old-1", "candidate")
    add_model(root, "earlier-3", logits(0.7, 0.7, seed=1), "candidate")
    for parents, name in ((("earlier-3", "old-1"), "both-4"), (("old-1", "earlier-3"), "both-5")):
        add_model(root, name, logits(0.7, 0.7, seed=1), "candidate", parents=parents)
        keep_predictions(root, name, IS_OLD)
        champion_scores(root, name, logits(0.7, 0.7, seed=1))
        _, new = compare_with_champion(root, registered(root.root, name), registered(root.root, "new-2"))
        assert (new.rows, new.left_out) == (150, 150)


def test_a_root_without_live_reviews_has_no_new_period_to_compare(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    keep_predictions(root, "new-2", IS_OLD)
    [said] = [line for line in promote(root) if "not compared" in line]
    assert said.endswith("new period (reviews since then (live)): it has no labelled review yet: ingest newer reviews")


def test_a_new_period_that_the_champion_has_not_scored_is_named(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5), scored=False)
    keep_predictions(root, "old-1", IS_OLD)
    [said] = [line for line in promote(root) if "not compared" in line]
    assert "new period" in said and "run `reviewrisk score`, then promote again" in said


@pytest.mark.parametrize(
    ("only", "said_of_it"),
    [
        (
            "product_category=furniture",
            "new-2 was not tested on any of the 2 labelled reviews with product_category=furniture after 2015-08-31",
        ),
        (
            "product_category=unknown",
            "new-2 was not tested on any of the 3 labelled reviews with product_category=unknown after 2015-08-31",
        ),
        ("product_category=toys", "it has no labelled review with product_category=toys yet: ingest newer reviews"),
    ],
)
def test_live_reviews_that_a_model_is_not_for_are_not_said_to_be_untested(
    root: Config, only: str, said_of_it: str
) -> None:
    add_model(root, "old-1", logits(1.5, 1.5, seed=1), "champion")
    add_model(root, "new-2", logits(1.5, 1.5, seed=2), "candidate", only=only)
    keep_predictions(root, "new-2", IS_OLD)
    of_category = [
        (" FURNITURE", 1),
        ("furniture", 5),
        ("Furniture", 3),
        ("Kitchen", 5),
        (None, 1),
        (None, 4),
        (" ", 5),
    ]
    live = [
        review(f"L{place}", review_date=NEW_DAY, product_category=name, star_rating=stars)
        for place, (name, stars) in enumerate(of_category)
    ]
    tables.replace_rows(root.root, "reviews", "r", lambda _: arrow_rows("reviews", live))
    printed: list[str] = []
    held_against_champion(root, champion(root.root), registered(root.root, "new-2"), printed.append)
    [said] = [line for line in printed if "not compared on the new period" in line]
    assert said_of_it in said and ("toys" in only or f"`reviewrisk retrain --only {only}`" in said)


IS_LATER = pc.field("review_date") >= pa.scalar(LATER_DAY)
LEARNED = slice(ROWS // 2, 3 * ROWS // 4)


def duel_with_a_retrained_champion(config: Config, scored: bool = True) -> None:
    """Of the new period's rows the champion learned the earlier half by heart, and was tested on the later one; on all
    others both models are the same.
    """
    labels, dates = world()
    alike = logits(0.7, 0.7, seed=1)
    by_heart = alike.copy()
    by_heart[LEARNED] += 5 * (2 * labels[LEARNED] - 1)
    days = pa.array([*dates[: LEARNED.stop], *[LATER_DAY] * (ROWS - LEARNED.stop)], pa.date32())
    for name, status in (("old-1", "champion"), ("new-2", "candidate")):
        add_model(config, name, alike, status)
        path = config.root.local_path / "models" / name / "predictions.parquet"
        rows = pq.read_table(path)
        pq.write_table(rows.set_column(rows.schema.get_field_index("review_date"), "review_date", days), path)
    keep_predictions(config, "old-1", IS_OLD | IS_LATER)
    if scored:
        champion_scores(config, "old-1", by_heart)


def test_reviews_that_a_retrained_champion_learned_from_do_not_speak_against_a_challenger(root: Config) -> None:
    """The challenger's test starts before that of the champion, as after older live reviews came in late."""
    duel_with_a_retrained_champion(root)
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.rows, old.left_out, new.rows, new.left_out) == (300, 0, 150, 150)
    printed = promote(root)
    assert champion(root.root)["model_version"] == "new-2"
    assert any(
        "new period" in line
        and line.endswith("; 150 earlier ones are left out, as they may be among the champion's training rows")
        for line in printed
    )
    assert sum("left out" in line for line in printed) == 1, "the old period is kept out of every training"


def test_a_champion_of_the_corpus_alone_has_learned_from_no_live_review(root: Config) -> None:
    duel_with_a_retrained_champion(root)
    keep_predictions(root, "old-1", IS_OLD)
    _, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (new.rows, new.left_out) == (300, 0)


def test_a_champion_combined_of_retrained_models_has_learned_what_they_have(root: Config) -> None:
    """It is tested up to the test split alone, as every combined model is; of its parents one is of the corpus and one
    of `retrain`.
    """
    duel_with_a_retrained_champion(root, scored=False)
    set_status(root, "old-1", "candidate")
    labels, _ = world()
    for name, status, parents in (("corpus-3", "candidate", ()), ("child-4", "champion", ("old-1", "corpus-3"))):
        add_model(root, name, logits(0.7, 0.7, seed=1), status, parents=parents)
        keep_predictions(root, name, IS_OLD)
    by_heart = logits(0.7, 0.7, seed=1)
    by_heart[LEARNED] += 5 * (2 * labels[LEARNED] - 1)
    champion_scores(root, "child-4", by_heart)
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert (old.rows, old.left_out, new.rows, new.left_out) == (300, 0, 150, 150)


def test_a_new_period_that_the_champion_has_all_learned_from_is_named_with_what_to_do(root: Config) -> None:
    duel_with_a_retrained_champion(root)
    keep_predictions(root, "new-2", ~IS_LATER)
    [said] = [line for line in promote(root) if "not compared on the new period" in line]
    assert (
        "all 150 rows are from before 2015-09-20, and only later ones are surely new to the champion old-1: ingest"
        in said
    )
    assert said.endswith("then run `reviewrisk score` and `reviewrisk retrain`")
    assert (
        "are surely new to the champion" in recorded(root)["not compared on"]
        and champion(root.root)["model_version"] == "new-2"
    )


def test_of_rows_that_the_champion_has_yet_to_score_only_those_it_has_not_learned_from_count(root: Config) -> None:
    duel_with_a_retrained_champion(root, scored=False)
    keep_predictions(root, "old-1", IS_OLD | (pc.field("review_id") == "R599"))
    keep_predictions(root, "new-2", pc.field("review_id") != "R599")
    [said] = [line for line in promote(root) if "not compared on the new period" in line]
    assert "the champion old-1 has scored none of its 149 rows: run `reviewrisk score`, then promote again" in said


def test_every_figure_is_shown_with_its_interval(root: Config) -> None:
    duel(root, (1.5, 1.5), (1.5, 1.5))
    shown = [line.split() for line in promote(root) if " champion " in line and " challenger " in line]
    assert [" ".join(words[: words.index("champion")]) for words in shown] == [
        "AUC",
        "average precision",
        "F1",
        "ECE",
        "Brier",
    ] * 2
    assert all(" ".join(words).count("[") == 3 for words in shown)
    assert ["less" in words or "(less" in words for words in shown] == [False, False, False, True, True] * 2


def with_costs(config: Config, missed: float, false_alarm: float) -> Config:
    return with_thresholds(config, cost_false_negative=missed, cost_false_positive=false_alarm)


def with_thresholds(config: Config, **changes: Any) -> Config:
    thresholds = config.model.thresholds.model_copy(update=changes)
    return config.model_copy(update={"model": config.model.model_copy(update={"thresholds": thresholds})})


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """These bundles have no adapter, which thresholds do not need; the whole check of a bundle is tested with whole
    bundles.
    """
    monkeypatch.setattr("model.bundle.bundle.verify_bundle", lambda _: {})


@pytest.mark.usefixtures("unverified")
def test_another_cost_gives_another_threshold_row_and_leaves_scores_alone(root: Config) -> None:
    add_model(root, "old-1", logits(0.7, 0.7, seed=1), "champion", parts=("fitting", "choosing", "test"))
    champion_scores(root, "old-1", logits(0.7, 0.7, seed=1))
    before = tables.current_version(root.root, "review_scores")
    [cheap] = [
        row
        for row in run_thresholds(with_costs(root, 2, 1), None, lambda _: None)
        if row["threshold_name"] == "cost_2_1"
    ]
    run_thresholds(with_costs(root, 20, 1), None, lambda _: None)
    rows = {row["threshold_name"]: row for row in tables.read_arrow(root.root, "model_thresholds").to_pylist()}
    assert {"f1_max", "cost_20_1", "recall_90"} <= rows.keys()
    assert "cost_2_1" not in rows, "the config gives it no more"
    assert rows["cost_20_1"]["threshold"] < cheap["threshold"], "the dearer a miss, the lower the threshold"
    assert [name for name, row in rows.items() if row["is_default"]] == ["f1_max"]
    for row in rows.values():
        assert row["recall_low"] <= row["recall"] <= row["recall_high"]
    assert tables.current_version(root.root, "review_scores") == before


def fit_thresholds(config: Config) -> tuple[set[str], list[str]]:
    """The names of the champion's rows once the config's thresholds are fitted, and what was printed."""
    printed: list[str] = []
    run_thresholds(config, None, printed.append)
    rows = tables.read_arrow(config.root, "model_thresholds").to_pylist()
    return {row["threshold_name"] for row in rows if row["model_version"] == "old-1"}, printed


@pytest.mark.usefixtures("unverified")
def test_rows_that_the_config_gives_no_more_go_and_those_of_other_models_stay(root: Config) -> None:
    add_model(root, "old-1", logits(1.5, 1.5, seed=1), "champion", parts=("fitting", "choosing", "test"))
    add_model(root, "new-2", logits(1.5, 1.5, seed=2), "candidate")
    guarantees = with_thresholds(root, precision=0.5, recall=0.98)
    wanted, _ = fit_thresholds(with_thresholds(guarantees, reviews_per_day=2))
    assert wanted == {"f1_max", "cost_5_1", "precision_50", "recall_98", "review_low", "review_high"}
    without_band, printed = fit_thresholds(guarantees)
    assert without_band == wanted - {"review_low", "review_high"}
    assert "  dropped, as the config gives them no more: review_high, review_low" in printed
    unproven, printed = fit_thresholds(with_thresholds(guarantees, confidence=0.999))
    assert unproven == without_band - {"recall_98"}, "its row would be of another confidence"
    assert any("recall_98 could not be set" in line for line in printed)
    others = [
        row for row in tables.read_arrow(root.root, "model_thresholds").to_pylist() if row["model_version"] == "new-2"
    ]
    assert [row["threshold_name"] for row in others] == ["f1_max"]


@pytest.mark.usefixtures("unverified")
def test_an_active_threshold_that_cannot_be_set_keeps_its_row(root: Config) -> None:
    add_model(root, "old-1", logits(1.5, 1.5, seed=1), "champion", parts=("fitting", "choosing", "test"))
    active = with_thresholds(root, recall=0.98, active=("f1_max", "recall_98"))
    fit_thresholds(active)
    names, printed = fit_thresholds(with_thresholds(active, confidence=0.999))
    assert (
        "recall_98" in names
        and "  recall_98 keeps the row of an earlier fit, since model.thresholds.active names it" in printed
    )


def test_thresholds_without_a_champion_are_a_failed_run(root: Config) -> None:
    with pytest.raises(ReviewriskError, match="has no champion yet"):
        run_thresholds(root, None, lambda _: None)
    assert [(row["command"], row["status"]) for row in tables.read_arrow(root.root, "job_runs").to_pylist()] == [
        ("thresholds", "failed")
    ]


@pytest.mark.usefixtures("unverified")
def test_fitting_the_same_thresholds_again_changes_nothing(root: Config) -> None:
    add_model(root, "old-1", logits(1.5, 1.5, seed=1), "champion", parts=("fitting", "choosing", "test"))
    run_thresholds(root, None, lambda _: None)
    before = tables.current_version(root.root, "model_thresholds")
    run_thresholds(root, None, lambda _: None)
    assert tables.current_version(root.root, "model_thresholds") == before


def test_of_the_champions_scores_no_month_without_a_test_row_is_opened(root: Config) -> None:
    """The file of such a month holds zeros, so whoever opens it ends in an error."""
    duel(root, (1.5, 1.5), (1.5, 1.5))
    month = {"model_version": ["old-1"], "review_month": [datetime.date(2012, 1, 1)]}
    rows = pa.Table.from_pylist(
        [score("X", model_version="old-1", review_month=month["review_month"][0])], REVIEW_SCORES.schema
    )
    tables.publish(
        root.root, "review_scores", "r", lambda _: tables.stage_arrow(rows, root.root, "review_scores", "r", month)
    )
    [path] = delta.files_in_scope(delta.open_table(root.root, "review_scores"), month)
    file = root.root.local_path / "tables" / "review_scores" / path
    file.write_bytes(bytes(file.stat().st_size))
    old, new = compare_with_champion(root, champion(root.root), registered(root.root, "new-2"))
    assert old.rows == new.rows == ROWS // 2

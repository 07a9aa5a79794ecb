"""A cascade in the nightly job: off by default, its trade said and kept, its scores told apart from the network's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from jobs.config import CascadeSettings, Config
from jobs.lake import tables
from jobs.registry.bundles import local_bundle
from jobs.registry.models import champion, thresholds
from jobs.scoring import trade
from jobs.scoring.engines import run_compile
from jobs.scoring.score import run_score
from jobs.scoring.single import SingleText, run_single
from jobs.scoring.trade import OFFERED, chosen_cut, offered_cuts
from model.errors import ReviewriskError
from tests.support.trained_root import by_id

SHARE = 0.1


def with_cascade(config: Config, share: float | None = SHARE) -> Config:
    cascade = CascadeSettings(max_flipped_share=share)
    score = config.score.model_copy(update={"cascade": cascade, "engine": "torch", "precision": "float32"})
    return config.model_copy(update={"score": score})


def scores(spark: Any, config: Config) -> dict[str, dict[str, Any]]:
    run_score(spark, config, lambda _: None)
    return by_id(tables.read_arrow(config.root, "review_scores"))


def details(config: Config, command: str) -> list[dict[str, Any]]:
    """What the runs of a command left in job_runs, in order of time."""
    rows = tables.read_arrow(config.root, "job_runs", None, pc.field("command") == command).to_pylist()
    return [json.loads(row["details"]) for row in sorted(rows, key=lambda row: row["started_at"])]


def test_no_review_skips_the_network_unless_a_share_is_set(trained: Config) -> None:
    lines: list[str] = []
    assert trained.score.cascade.max_flipped_share is None
    assert chosen_cut(trained, champion(trained.root), lines.append) is None and lines == []


@pytest.fixture(scope="module")
def both(spark: Any, built: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[str], Config]:
    """A root scored with the cascade, what was printed, and one scored without."""
    folder, printed = tmp_path_factory.mktemp("cascade"), list[str]()
    configs = []
    for name, share in (("with", SHARE), ("without", None)):
        shutil.copytree(built.root.local_path, folder / name)
        paths = built.paths.model_copy(update={"root": str(folder / name)})
        config = with_cascade(built.model_copy(update={"paths": paths}), share)
        run_score(spark, config, printed.append if share else lambda _: None)
        configs.append(config)
    return configs[0], printed, configs[1]


def test_skipped_reviews_say_what_decided_them_and_the_others_have_the_networks_scores(
    both: tuple[Config, list[str], Config],
) -> None:
    found, network = (by_id(tables.read_arrow(config.root, "review_scores")) for config in (both[0], both[2]))
    skipped = {name for name, row in found.items() if row["engine"] == "tfidf"}
    kinds = {(row["engine"], row["precision"]) for row in found.values()}
    assert kinds == {("tfidf", "float64"), ("torch", "float32")} and found.keys() == network.keys()
    assert len(skipped) > len(found) / 10
    lowest = min(row["threshold"] for row in thresholds(both[0].root, champion(both[0].root)["model_version"]))
    assert all(found[name]["probability"] < lowest and found[name]["error"] is None for name in skipped)
    for name in found.keys() - skipped:
        same = ("error", "token_count", "has_rating_phrase", "engine", "precision")
        assert [found[name][column] for column in same] == [network[name][column] for column in same]
        assert found[name]["logit"] == pytest.approx(network[name]["logit"], abs=1e-5)
    assert found["empty"]["error"] == "no_text" and found["empty"]["engine"] == "torch"


def test_a_skipped_review_has_the_log_odds_by_which_training_knew_it(both: tuple[Config, list[str], Config]) -> None:
    config = both[0]
    bundle = local_bundle(config, champion(config.root))
    predicted = pq.read_table(bundle / "predictions.parquet", columns=["review_id", "tfidf_logit"]).to_pylist()
    found = by_id(tables.read_arrow(config.root, "review_scores"))
    pairs = [
        (found[row["review_id"]]["logit"], row["tfidf_logit"])
        for row in predicted
        if found[row["review_id"]]["engine"] == "tfidf"
    ]
    assert len(pairs) > 20
    np.testing.assert_allclose(*np.array(pairs).T, rtol=0, atol=1e-9)


def test_the_trade_is_said_and_kept(both: tuple[Config, list[str], Config]) -> None:
    config, printed, without = both
    version = champion(config.root)["model_version"]
    [run] = details(config, "score")
    cut = run["cascade"][version]
    by_baseline = pc.sum(pc.equal(tables.read_arrow(config.root, "review_scores")["engine"], "tfidf")).as_py()
    assert (cut["max_flipped_share"], cut["rows"]) == (SHARE, 125) and cut["skipped"] > 0
    assert set(cut["flipped"]) == {row["threshold_name"] for row in thresholds(config.root, version)}
    assert run["by_baseline"] == by_baseline and f", {by_baseline:,} decided by the baseline" in printed[-1]
    [head] = [place for place, line in enumerate(printed) if line.startswith(f"  score.cascade for {version}: fitted")]
    assert printed[head].endswith(" validation reviews, judged on its 125 test reviews")
    assert printed[head + 2].split()[:2] == [f"{SHARE:g}", f"{cut['skipped'] / 125:.1%}"]
    assert [run["cascade"] for run in details(without, "score")] == [{}]


def test_tokens_are_counted_of_what_the_network_read(both: tuple[Config, list[str], Config]) -> None:
    [run], [whole] = details(both[0], "score"), details(both[2], "score")
    rows = by_id(tables.read_arrow(both[0].root, "review_scores")).values()
    read = sum(min(row["token_count"], 64) for row in rows if row["engine"] == "torch" and row["error"] != "no_text")
    assert run["tokens"] == read < whole["tokens"] and run["scored"] == whole["scored"]


def test_a_single_text_has_the_score_of_the_nightly_job(both: tuple[Config, list[str], Config]) -> None:
    config = both[0]
    stored = by_id(tables.read_arrow(config.root, "review_scores"))
    reviews = [
        row for row in tables.read_arrow(config.root, "reviews").to_pylist() if stored[row["review_id"]]["logit"]
    ][:40]
    texts = [SingleText(row["review_headline"], row["review_body"]) for row in reviews]
    found = list(run_single(config, texts, with_words=True))
    for row, one in zip(reviews, found, strict=True):
        score = stored[row["review_id"]]
        assert one.score == pytest.approx(score["probability"], abs=1e-5)
        assert one.by_baseline == (score["engine"] == "tfidf") == (not one.words)
        assert json.loads(one.to_json()).get("engine") == ("tfidf" if one.by_baseline else None)
    assert {one.by_baseline for one in found} == {True, False}


def test_a_score_of_the_baseline_stays_until_its_row_is_deleted(spark: Any, trained: Config) -> None:
    """docs/operations.md, The cascade: how to score those reviews anew."""
    before = scores(spark, with_cascade(trained))
    skipped = {name for name, row in before.items() if row["engine"] == "tfidf"}
    assert scores(spark, with_cascade(trained, None)) == before and skipped
    DeltaTable(str(trained.root.local_path / "tables" / "review_scores")).delete("engine = 'tfidf'")
    after = scores(spark, with_cascade(trained, None))
    assert after.keys() == before.keys() and {row["engine"] for row in after.values()} == {"torch"}
    assert {name for name in after if after[name] != before[name]} == skipped


def test_compiling_says_the_trade_of_a_handful_of_limits(trained: Config) -> None:
    row, lines = champion(trained.root), list[str]()
    run_compile(with_cascade(trained, None), row, 1, lines.append, every=True)
    assert lines[0].startswith(f"  score.cascade for {row['model_version']}: fitted on its ")
    table = lines[2 : 2 + len(OFFERED)]
    assert [line.split()[0] for line in table] == [f"{share:g}" for share in OFFERED]
    assert "  none (it needs 1,999)  " in table[0]
    [run] = details(trained, "compile")
    assert [cut["max_flipped_share"] for cut in run["cascade"]] == list(OFFERED)
    lines.clear()
    run_compile(with_cascade(trained, None), row, 1, lines.append)
    assert not any("cascade" in line for line in lines), "the night tries engines alone"


def without_baseline(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The champion's bundle as an earlier version of the code would have written it."""
    bundle = local_bundle(config, champion(config.root))
    shutil.rmtree(bundle / "baseline")
    monkeypatch.setattr("model.bundle.bundle.verify_bundle", lambda folder: {})


def test_a_bundle_without_a_baseline_is_refused_where_a_share_is_set(
    trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_baseline(trained, monkeypatch)
    row, lines = champion(trained.root), list[str]()
    with pytest.raises(ReviewriskError, match=r"keeps no baseline, .*: train again, or set score\.cascade"):
        chosen_cut(with_cascade(trained), row, lines.append)
    assert offered_cuts(trained, row, lines.append) == []
    assert lines == [f"  {row['model_version']} offers no cascade: its bundle keeps no baseline (train again for one)"]


def test_a_changed_baseline_is_refused(trained: Config, tmp_path: Path) -> None:
    row = champion(trained.root)
    (local_bundle(trained, row) / "baseline" / "calibrator.json").write_text("{}")
    with pytest.raises(ReviewriskError, match=r"baseline/calibrator\.json has another sha256"):
        trade.chosen_cut(with_cascade(trained), row, lambda _: None)

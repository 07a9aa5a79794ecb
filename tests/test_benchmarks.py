"""The scripts behind docs/benchmarks.md still run and print their tables; what the figures are is no
test's business.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from jobs.config import Config
from jobs.lake.schemas import RAW_COLUMNS
from model.network.backbone import load_classifier
from tests import ROOT
from tests.support.command_line import written
from tests.support.tiny_models import planted_reviews, tiny_encoder
from tests.support.trained_root import tiny_config
from tests.support.warehouse_rows import CHAMPION, model, review, write_root

BENCHMARKS = ROOT / "benchmarks"


def printed(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    monkeypatch.setattr("sys.argv", [name, *options])
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as Python does for a script that is run by its path
    runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    return capsys.readouterr().out


def test_useful_operations_are_those_that_torch_counts_for_texts_without_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = benchmark("scoring_models", monkeypatch)
    bert = models.random_serving(tmp_path / "bert", str(tiny_encoder(tmp_path / "encoder", "bert")))
    distilbert = models.random_serving(tmp_path / "distilbert", str(tiny_encoder(tmp_path / "other")))
    for serving in (bert, distilbert):
        encoder = load_classifier(serving).encoder
        encoder.set_attn_implementation("eager")  # the fused one is not counted on a CPU
        counted = 0
        for length in (7, 20):
            ids = torch.ones((1, length), dtype=torch.int64)
            with FlopCounterMode(display=False) as counter:
                encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            counted += counter.get_total_flops()
        assert models.useful_flops(serving, np.array([7, 20])).sum() == counted


def test_reviews_are_drawn_without_equal_texts_for_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = benchmark("scoring_models", monkeypatch)
    bodies = ["Leg broke.", "leg  broke.", "Holds well.", "Leg broke.", "Too small."]
    lines = [
        "\t".join(["US", "C1", f"R{number}", *"pqtc", "2", "0", "0", "N", "Y", "", body, "2015-08-31"])
        for number, body in enumerate(bodies)
    ]
    source = tmp_path / "reviews.tsv"
    source.write_text("\n".join(["\t".join(RAW_COLUMNS), *lines]) + "\n", encoding="utf-8")
    assert sorted(" ".join(text.lower().split()) for text in models.read_reviews(source, 10)["text"]) == [
        "holds well.",
        "leg broke.",
        "too small.",
    ]
    assert len(models.read_reviews(source, 2)) == 2


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def test_training_speed_prints_every_recipe_and_the_difference_of_the_last_to_the_first(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_root(config.root.local_path, {"reviews": [review(**row) for row in planted_reviews().to_pylist()]})
    conf = tmp_path / "conf.yml"
    conf.write_text(
        yaml.safe_dump(tiny_config(config, tiny_encoder(tmp_path / "encoder")).model_dump(mode="json")),
        encoding="utf-8",
    )
    monkeypatch.setenv("REVIEWRISK_ROOT", str(config.root.local_path))
    options = ("--root", str(config.root.local_path), "--conf", str(conf), "--rows", "100")
    out = printed("training_speed.py", monkeypatch, capsys, *options, "--threads", "1")
    rows = [line.split("|") for line in out.splitlines() if line.startswith(("| plain", "| grouped", "| …"))]
    assert len(rows) == 5 and "reviewrisk train" in rows[4][1]
    assert rows[0][3].strip() == "1.00"
    assert float(rows[0][4]) > float(rows[1][4]), "the plain recipe computes more padded tokens a row"
    ends = printed("training_speed.py", monkeypatch, capsys, *options, "--ends")
    assert (
        len([line for line in ends.splitlines() if line.startswith(("| plain", "| `reviewrisk train`"))]) == 2
        and "| …" not in ends
    )
    assert re.search(
        r"Paired difference in average precision: [+-]\d\.\d{3} \[[+-]\d\.\d{3}, [+-]\d\.\d{3}\] \(\d+ rows\)", out
    )


def test_faithfulness_prints_what_each_way_costs_and_takes_out(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words that a tiny model goes by are known to it alone, but random ones must be worse."""
    conf = tmp_path / "conf.yml"
    conf.write_text(yaml.safe_dump(trained.model_dump(mode="json")), encoding="utf-8")
    causes = tmp_path / "causes.jsonl"
    causes.write_text("", encoding="utf-8")
    options = ("--conf", str(conf), "--rows", "8", "--steps", "8", "--causes", str(causes))
    out = printed("faithfulness.py", monkeypatch, capsys, *options, "--ways", "random", "occlusion", "reviewrisk")
    assert re.search(r"^8 flagged reviews of 1 and 2 stars, \d+ tokens each; gradients in \w+$", out, re.MULTILINE)
    captum, reference, random, occlusion, ours = [
        [cell.strip() for cell in line.split("|")]
        for line in out.splitlines()
        if line.startswith("| ") and "way" not in line
    ]
    assert "captum, 8 steps, float32" in captum[1] and reference[1] == "IG, 8 nodes, embeddings, [PAD]"
    assert (random[1], occlusion[1]) == ("random", "occlusion by word") and "reviewrisk explain" in ours[1]
    assert reference[8] == "+0.000 [+0.000, +0.000]"
    for way in (occlusion, ours):
        assert float(way[3]) > float(random[3]) and float(way[4]) < float(random[4])


def test_gpu_training_prints_the_whole_run_the_scorer_and_every_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"--rows": 64, "--epochs": 2, "--batch-size": 8, "--steps": 2, "--scored-rows": 70}
    small |= {"--layers": 1, "--heads": 2}
    out = printed("gpu_training.py", monkeypatch, capsys, *(str(word) for option in small.items() for word in option))
    assert re.search(
        r"^64 reviews x 2 epochs on \S+ in \S+: \d+ s with 2 validations of 70 rows, \d+ rows/s, \d[\d,]* tokens/s",
        out,
        re.MULTILINE,
    )
    assert re.search(r"^\| CPU, 1 thread, float32 \| 64 \| [\d,]+ \| 1\.0 \|$", out, re.MULTILINE)
    plain, grouped, ours, *quantised = [
        line.split("|") for line in out.splitlines() if line.startswith(("| plain", "| grouped", "| … on"))
    ]
    assert plain[3].strip() == "1.00" and int(plain[4]) == 256 > int(grouped[4]) == int(ours[4])
    assert len(quantised) == 2
    if not torch.cuda.is_available():
        assert all("not run: " in cells[2] and "needs an NVIDIA GPU" in cells[2] for cells in quantised)


def test_gpu_scoring_prints_the_scorer_beside_the_pipeline_and_the_share_of_the_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--device cpu --rows 70 --rounds 1 --dtypes float32 --tokens 512 4096 --threads 1 --sizes 64 --processes 1"
    out = printed("gpu_scoring.py", monkeypatch, capsys, *small.split(), "--layers", "1", "--heads", "2")
    names = re.findall(r"^\| ([^|]+) \| [\d,]+ \| [\d.]+ \|$", out, re.MULTILINE)
    assert [re.sub(r"batches of \d+", "batches of N", name) for name in names] == [
        "pipeline, batches of N",
        "pipeline, batches of N, texts sorted by length",
        "reviewrisk Scorer, 512 tokens a batch",
        "reviewrisk Scorer, 4,096 tokens a batch",
        "… its reading alone, without the network",
    ]
    assert len(re.findall(r"^\| [\d,]+ tokens a batch \| [\d,]+ \| \d+\.\d\d \| \d+\.\d% \|$", out, re.MULTILINE)) == 2
    assert re.search(r"^\| the fastest matrix product \| \| \d+\.\d\d \| 100% \|$", out, re.MULTILINE)


def test_cascade_prints_a_row_for_each_limit_that_validation_allows(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--conf",
        str(written(trained, tmp_path / "conf.yml")),
        "--rows",
        "60",
        "--rounds",
        "1",
        "--engine",
        "torch",
    )
    limits = ("--precision", "float32", "--limits", "0.005", "0.05", "0.1")
    out = printed("cascade.py", monkeypatch, capsys, *options, *limits)
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {9}
    assert [row[0].strip() for row in rows[2:]] == ["none", "0.05", "0.1"], "0.005 needs 199 validation reviews of 120"
    assert rows[2][8].strip() == "1.00" and 0 < float(rows[4][4].strip(" %")) < 100


def test_constructions_counts_each_kind_at_the_thresholds_of_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_root(tmp_path, {"models": [model(CHAMPION)]})
    rows = [("choosing", "v1", 1, 2.0, 2.0), ("choosing", "v2", 0, -2.0, -2.0)]
    rows += [("test", "t1", 1, 3.0, -3.0), ("test", "t2", 0, -3.0, 3.0), ("test", "t3", 1, 3.0, 3.0)]
    names = ("part", "review_id", "label", "model_logit", "tfidf_logit")
    bundle = root / "models" / CHAMPION
    bundle.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]), bundle / "predictions.parquet"
    )
    causes = root / "work" / "sample" / "furniture_reviews.causes.jsonl"
    causes.parent.mkdir(parents=True)
    lines = [
        {"review_id": "t1", "construction": "negation"},
        {"review_id": "t2", "construction": "negation"},
        {"review_id": "t3", "construction": "plain"},
    ]
    causes.write_text("\n".join(json.dumps(line) for line in [*lines, {"summary": {}}]), encoding="utf-8")
    out = printed("constructions.py", monkeypatch, capsys, str(root))
    assert out.splitlines()[2:] == [
        "| negation | 2 | 1 | 1.000 | 0.000 |",
        "| plain | 1 | 1 | 1.000 | 1.000 |",
        "| all | 3 | 2 | 1.000 | 0.500 |",
    ]


def test_calibrator_choice_prints_the_regret_of_each_rule_on_files_and_bundles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for number in range(400):
        stars, body = ("1", f"Leg {number} broke.") if number % 4 == 0 else ("5", f"Holds well, {number} days.")
        day = f"2015-{1 + number // 40:02d}-{1 + number % 28:02d}"
        product = f"B{number % 50}\tp\tt\tFurniture"
        lines.append(f"US\tC1\tR{number}\t{product}\t{stars}\t0\t0\tN\tY\t\t{body}\t{day}")
    source = tmp_path / "reviews.tsv"
    source.write_text("\n".join(["\t".join(RAW_COLUMNS), *lines]) + "\n", encoding="utf-8")
    bundle = tmp_path / "minilm-1"
    bundle.mkdir()
    generator, numbers = np.random.default_rng(1), np.arange(600)
    label = (numbers % 3 == 0).astype(np.int64)
    columns = {
        "part": ["fitting"] * 150 + ["choosing"] * 150 + ["test"] * 300,
        "product_id": [f"B{number % 40}" for number in numbers],
        "review_date": np.datetime64("2015-01-01") + numbers // 10,
        "label": label,
        "model_logit": generator.normal(6.0 * label - 3.0, 3.0),
        "tfidf_logit": generator.normal(3.0 * label - 1.5, 2.0),
    }
    pq.write_table(pa.table(columns), bundle / "predictions.parquet")
    shifts = {"calibration": {"model": {"prior_shift": 0.5}, "tfidf": {"prior_shift": 0.5}}}
    (bundle / "metrics.json").write_text(json.dumps(shifts), encoding="utf-8")
    options = ("--source", str(source), "--bundle", str(bundle), "--splits", "2")
    out = printed("calibrator_choice.py", monkeypatch, capsys, *options)
    assert re.findall(r"^(.+): 2 splits", out, re.MULTILINE) == [
        "TF-IDF on reviews.tsv",
        "TF-IDF, C = 1000 on reviews.tsv",
        "network on minilm-1",
        "TF-IDF on minilm-1",
    ]
    row = r"^\| (\S[^|]+?) +\| (\d\.\d{4}) ± \d\.\d{4} \| +(\d\.\d{4}) \|.*\| +(.+) \|$"
    rows = re.findall(row, out, re.MULTILINE)
    assert [rule for rule, *_ in rows] == [
        "least loss on the later half (before)",
        "least loss out of fold",
        "fewest parameters within 1 SE",
        "`auto`",
        "always temperature",
        "always beta",
        "the best on test, unknown beforehand",
    ] * 4
    assert all(float(mean) <= float(worst) for _, mean, worst, _ in rows)
    assert all(sum(map(int, re.findall(r"\d+", chosen))) == 2 for *_, chosen in rows)


STUB = """#!/usr/bin/env bash
echo "$1 $REVIEWRISK_ROOT ${@: -1}" >> "$CALLS"
if [ "$1-$FAILING" = ablate-train ]; then echo $$ > "$CALLS.pid"; exec sleep 600; fi
if [ "$1-$FAILING" = train-train ]; then until [ -s "$CALLS.pid" ]; do sleep 0.1; done; fi
if [ "$1" = "$FAILING" ]; then exit 1; fi
if [ "$1" = sql ]; then printf 'model_version\\nminilm-1\\n'; fi
if [ "$1" = train ]; then
    mkdir -p "$REVIEWRISK_ROOT/models/minilm-1"
    printf '# A card\\n## Errors\\nR1\\n## Calibration\\nkept\\n' > "$REVIEWRISK_ROOT/models/minilm-1/README.md"
    touch "$REVIEWRISK_ROOT/models/minilm-1/"{curves,reliability}.png
fi
"""


def test_results_go_on_where_they_stopped_and_begin_anew_with_other_files_or_settings(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(BENCHMARKS / "results.sh", tmp_path / "benchmarks")
    shutil.copytree(BENCHMARKS.parent / "conf", tmp_path / "conf")
    pairs = tmp_path / "tests" / "data" / "minimal_pairs.jsonl"
    pairs.parent.mkdir(parents=True)
    pairs.touch()
    stub = tmp_path / ".venv" / "bin" / "reviewrisk"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    reviews, others = tmp_path / "reviews.tsv", tmp_path / "others.tsv"
    reviews.write_text("a")
    others.write_text("b")

    def results(failing: str = "") -> tuple[int, list[list[str]]]:
        calls = tmp_path / "calls"
        calls.write_text("")
        run = subprocess.run(
            ["bash", "benchmarks/results.sh", "reviews.tsv", "others.tsv"],
            cwd=tmp_path,
            env={**os.environ, "CALLS": str(calls), "FAILING": failing},
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode, [line.split() for line in calls.read_text().splitlines()]

    code, calls = results(failing="train")
    assert code != 0 and sorted(command for command, *_ in calls) == ["ablate", "ingest", "ingest", "train"]
    with pytest.raises(ProcessLookupError):  # what ran beside the training ends with it
        os.kill(int((tmp_path / "calls.pid").read_text()), 0)
    assert calls[0][1:] != calls[1][1:] and calls[0][2] == str(reviews) and calls[1][2] == str(others), (
        "each file has a root of its own"
    )
    code, calls = results(failing="compare")
    assert code != 0 and sorted(command for command, *_ in calls) == [
        "ablate",
        "compare",
        "sql",
        "train",
    ], "what had ended well is not run again"
    code, calls = results()
    last = ["compare", "sql", "models", "sql", "diagnose", "models"]
    assert code == 0 and [command for command, *_ in calls] == last
    assert calls[2][2].endswith("/shifted") and calls[-1][2] == "minilm-1", (
        "the model is judged on the other population, and folded"
    )
    assert results() == (0, [])
    card = tmp_path / "docs" / "results" / "generated" / "model-card.md"
    assert card.read_text() == "# A card\n## Calibration\nkept\n", "no review's id"
    with (tmp_path / "conf" / "local.yml").open("a") as conf:
        conf.write("# another recipe\n")
    code, calls = results()
    assert code == 0 and sorted(command for command, *_ in calls) == sorted(["ablate", "train", "sql", *last]), (
        "all but ingest"
    )
    others.write_text("c")
    code, calls = results()
    assert code == 0 and sorted(command for command, *_ in calls) == sorted(
        ["ingest", "ingest", "ablate", "train", "sql", *last]
    )


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("breaks")


def test_every_break_by_hand_changes_a_text_that_stands_once_and_names_a_test(breaks: ModuleType) -> None:
    listed = breaks.all_breaks()
    assert len({(one.file, one.before, one.after) for one in listed}) == len(listed) >= 100
    for one in listed:
        assert one.broken() != (ROOT / one.file).read_text(encoding="utf-8")
        path, _, name = one.test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")


def test_a_break_is_killed_where_its_test_fails_and_survives_where_it_passes(
    breaks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "limits.py": "LEAST = 3\n\n\ndef is_enough(count):\n    return count >= LEAST\n",
        "tests/test_limits.py": "import limits\n\n\ndef test_five_is_enough():\n    assert limits.is_enough(5)\n",
        "benchmarks/breaks.yml": (
            "tests/test_limits.py:\n  limits.py:\n    - ['count >= LEAST', 'count < LEAST']\n"
            "    - ['count >= LEAST', 'count > LEAST']\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(breaks, "ROOT", tmp_path)
    monkeypatch.setattr(breaks, "PARTS", ("limits.py", "tests", "benchmarks"))
    monkeypatch.setattr("sys.argv", ["breaks.py"])
    breaks.main()
    assert capsys.readouterr().out.splitlines() == [
        "| file | break | result |",
        "|---|---|---|",
        "| limits.py | `count >= LEAST` → `count < LEAST` | killed |",
        "| limits.py | `count >= LEAST` → `count > LEAST` | **survived** |",
        "",
        "2 breaks, 1 killed, 1 survived.",
    ]
    breaks.ROOT.joinpath("benchmarks/breaks.yml").write_text("tests/test_limits.py: {limits.py: [[COUNT, count]]}\n")
    with pytest.raises(SystemExit, match=r"limits\.py holds 0 times, not once: COUNT"):
        breaks.main()


def test_mutants_prints_a_row_per_module_and_who_survived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit codes are mutmut's: 1 killed, 0 survived, 33 no tests, -24 out of time, none not run yet."""
    codes = {"a.x_f__mutmut_1": 1, "a.x_f__mutmut_2": 0, "a.x_f__mutmut_3": -24, "a.x_f__mutmut_4": 33}
    (tmp_path / "mutants").mkdir()
    for name, found in (("a", codes), ("b", {"b.x_f__mutmut_1": None}), ("c", {})):
        (tmp_path / "mutants" / f"{name}.py.meta").write_text(json.dumps({"exit_code_by_key": found}))
    monkeypatch.chdir(tmp_path)
    out = printed("mutants.py", monkeypatch, capsys, "--table").splitlines()
    assert out[3:6] == [
        "| `a.py` | 4 | 1 | 1 | 2 | 25.0% |",
        "| `b.py` | 0 | 0 | 0 | 0 | – |",
        "| all | 4 | 1 | 1 | 2 | 25.0% |",
    ]
    assert "1 mutants have no result yet." in out
    assert out[-2:] == ["- a.x_f__mutmut_2: survived", "- a.x_f__mutmut_4: no tests"]

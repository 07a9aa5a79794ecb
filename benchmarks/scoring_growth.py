"""How time and memory of `reviewrisk score` grow with the number of reviews, and what a second worker process gives.

    python benchmarks/scoring_growth.py [--rows 10000 30000 100000 300000] [--rounds 1] [--engine torch]

The real commands, each in a process of its own on a root of its own: `ingest` of so many invented reviews as long as
real ones, then `score`, whose time is that of its row in `job_runs`: from finding what to score to the last commit.
Memory is the resident set of the process that has most, sampled while `score` runs: the command's own Python, its JVM,
and one worker of Spark. Growth is measured on a tiny network, so that tokenising, Spark and the commits weigh most;
workers are compared on the bundled MiniLM with fewer reviews.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml
from invented_reviews import FIRST_DAY, write_reviews
from scoring_models import encoder_folder
from transformers import DistilBertConfig

from jobs.config import load_config
from jobs.lake import tables
from jobs.sample.write import run_sample
from model.network.backbone import BUNDLED_MINILM
from model.network.hardware import cpu_name

TRAINED_ROWS = 2000
KINDS = ("driver", "JVM", "worker")


class Root:
    """A root with the config that belongs to it; `command` gives one of reviewrisk's commands on it."""

    def __init__(self, folder: Path, config: dict[str, Any], master: str = "local[2]") -> None:
        self.config = {**config, "spark": {**config["spark"], "master": master}, "paths": {**config["paths"]}}
        self.config["paths"]["root"] = str(folder)
        self.folder, self.conf = folder, folder.with_suffix(".yml")
        self.conf.write_text(yaml.safe_dump(self.config), encoding="utf-8")

    def command(self, *words: str) -> dict[str, float]:
        """Run it; gives the peak MiB of each kind of process. Its output is shown where it fails."""
        environment = {name: value for name, value in os.environ.items() if name != "REVIEWRISK_ROOT"}
        command = [sys.executable, "-m", "jobs.cli.main", words[0], *words[1:], "--conf", str(self.conf)]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            peaks = _peaks(process)
            if process.wait():
                output.seek(0)
                raise SystemExit(f"{' '.join(words)} ended with {process.returncode}:\n{output.read()}")
        return peaks

    def seconds_of(self, command: str) -> float:
        """What the newest run of the command took."""
        columns = ("command", "started_at", "wall_seconds")
        runs = tables.read_arrow(load_config(self.conf).root, "job_runs", columns).sort_by("started_at")
        return float([row for row in runs.to_pylist() if row["command"] == command][-1]["wall_seconds"])

    def copied(self, folder: Path, master: str = "local[2]") -> Root:
        shutil.copytree(self.folder, folder)
        return Root(folder, self.config, master)


def _peaks(process: subprocess.Popen[str]) -> dict[str, float]:
    """The greatest resident set of any one process of each kind, in MiB, until the command has ended."""
    peaks: dict[str, float] = defaultdict(float)
    while process.poll() is None:
        for one in _family(process.pid):
            try:
                kind, memory = _kind(one.cmdline(), one.pid == process.pid), one.memory_info().rss / 2**20
            except psutil.Error:  # it has just ended
                continue
            peaks[kind] = max(peaks[kind], memory)
        time.sleep(0.2)
    return peaks


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.Error:
        return


def _kind(command: list[str], is_driver: bool) -> str:
    if is_driver:
        return "driver"
    return "worker" if any("pyspark" in word and "daemon" in word for word in command) else "JVM"


def trained_root(work: Path, name: str, backbone: str, options: argparse.Namespace) -> Root:
    """A root of a few invented reviews whose champion is a briefly trained model of that backbone."""
    config = yaml.safe_load(Path("conf/demo.yml").read_text(encoding="utf-8"))
    config["model"]["backbone"] |= {"name": backbone, "max_length": 256}
    config["model"]["training"]["max_rows"] = 320
    config["promotion"] |= {"minimum_auc": 0.0, "minimum_f1": 0.0, "maximum_ece": 1.0}
    config["score"] |= {"engine": options.engine, "precision": options.precision}
    root = Root(work / name, config)
    sample = work / f"{name}.tsv.gz"
    run_sample(sample, TRAINED_ROWS, 17)
    root.command("ingest", str(sample))
    root.command("train")
    root.command("models", "promote", "--since", str(FIRST_DAY))  # those that it was trained on are not scored
    return root


def with_reviews(base: Root, rows: int, work: Path) -> Root:
    """A copy of the root with so many new reviews."""
    root = base.copied(work / f"{base.folder.name}-{rows}")
    root.command("ingest", str(write_reviews(work / f"{rows}.tsv", rows)))
    return root


def scored(root: Root, work: Path, master: str = "local[2]") -> tuple[float, dict[str, float]]:
    """(seconds, peak MiB by kind of process) of `score` on a copy of the root."""
    copy = root.copied(work / "scored", master)
    peaks = copy.command("score")
    seconds = copy.seconds_of("score")
    shutil.rmtree(copy.folder)
    return seconds, peaks


def print_growth(base: Root, every: list[int], rounds: int, work: Path) -> None:
    """A row for each number of reviews; in every round they take turns."""
    roots = {rows: with_reviews(base, rows, work) for rows in every}
    runs: dict[int, list[tuple[float, dict[str, float]]]] = {rows: [] for rows in every}
    for _ in range(rounds):
        for rows, root in roots.items():
            runs[rows].append(scored(root, work))
    print("| reviews | ingest, s | score, s | ms a review | driver, MiB | JVM, MiB | a worker, MiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    points = []
    for rows, root in roots.items():
        seconds = statistics.median(taken for taken, _ in runs[rows])
        points.append((rows, seconds))
        memory = " | ".join(f"{max(peaks[kind] for _, peaks in runs[rows]):,.0f}" for kind in KINDS)
        ingest = root.seconds_of("ingest")
        print(f"| {rows:,} | {ingest:.1f} | {seconds:.1f} | {1000 * seconds / rows:.2f} | {memory} |", flush=True)
    for (fewer, before), (more, after) in pairwise(points):
        each = 1000 * (after - before) / (more - fewer)
        print(f"From {fewer:,} to {more:,} reviews each further one takes {each:.2f} ms.")


def print_workers(base: Root, rows: int, rounds: int, work: Path) -> None:
    """A row each for one worker and two, which take turns."""
    root = with_reviews(base, rows, work)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, taken in seconds.items():
            taken.append(scored(root, work, f"local[{workers}]")[0])
    print("\n| worker processes | reviews | score, s | reviews/s | speed-up |\n|---:|---:|---:|---:|---:|")
    for workers, taken in seconds.items():
        median = statistics.median(taken)
        speed_up = statistics.median(one / own for one, own in zip(seconds[1], taken, strict=True))
        print(f"| {workers} | {rows:,} | {median:.1f} | {rows / median:,.0f} | {speed_up:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000])
    parser.add_argument("--workers-rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; medians are shown")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    print(f"{cpu_name()}; {options.engine} {options.precision}, one thread a worker, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tiny = encoder_folder(work / "tiny", DistilBertConfig(n_layers=1, n_heads=2, dim=64, hidden_dim=128))
        print("\nA network of 1 layer, 64 wide:\n")
        print_growth(trained_root(work, "growth", str(tiny), options), options.rows, options.rounds, work)
        print(f"\n{BUNDLED_MINILM}:")
        print_workers(
            trained_root(work, "workers", BUNDLED_MINILM, options), options.workers_rows, options.rounds, work
        )


if __name__ == "__main__":
    main()

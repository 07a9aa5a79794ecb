"""Which engine scores a model here: tried once for each processor, kept in `job_runs`, and read from there later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from jobs.config import Config, ScoreSettings
from jobs.lake import tables
from jobs.lake.labelled import newest_labelled
from jobs.lake.runs import JobRun
from jobs.registry.bundles import local_bundle, serving_folder
from jobs.scoring.trade import offered_cuts, thresholds_by_name
from model.errors import needs_extra
from model.files import canonical_json
from model.progress import Report
from model.terminal import align

if TYPE_CHECKING:
    from model.scoring.engine_choice import ComparedReviews, Trial
    from model.scoring.engines.interface import EngineKind
    from model.scoring.parity import Parity

COMMAND = "compile"
_PACKAGES = ("torch", "transformers", "tokenizers", "openvino", "nncf")


def chosen_settings(config: Config, row: dict[str, Any], threads: int, report: Report) -> ScoreSettings:
    """config.score with the engine and precision by which a row of `models` is to be scored here, its graph compiled.

    What was found for this model, processor, number of threads and set of limits is read from `job_runs`; where nothing
    is there, the engines are tried now. Raises ReviewriskError where the engine that the config names does not decide
    like the reference, or none does.
    """
    with needs_extra("train", "Scoring"):
        from model.scoring.engine_choice import candidates, named
        from model.scoring.engines.interface import REFERENCE
        from model.scoring.engines.openvino_engine import compile_graph
    kinds = candidates(config.score)
    kind = REFERENCE
    if kinds != [REFERENCE] or config.score.device == "cuda":
        found = _recorded(config, row, _fingerprint(config, row, kinds, threads))
        kind = found or run_compile(config, row, threads, report)
    if kind.name == "openvino":
        compile_graph(serving_folder(config, row), kind.precision)
    chosen: ScoreSettings = named(config.score, kind)  # type: ignore[assignment]
    return chosen


def run_compile(config: Config, row: dict[str, Any], threads: int, report: Report, every: bool = False) -> EngineKind:
    """Try the engines that config.score leaves open on this machine, report their speed and parity as a table, keep it
    in `job_runs`, and return the fastest that may serve. With `every`, slower ones are compared, too, and the cascade's
    trade is said.

    Raises ReviewriskError where none may.
    """
    with needs_extra("train", "Scoring"):
        from model.scoring.engine_choice import candidates, fastest, try_engines
        from model.scoring.engines.interface import REFERENCE
    model_version = row["model_version"]
    with JobRun(config.root, COMMAND) as run:
        cascade = {"cascade": offered_cuts(config, row, report)} if every else {}
        kinds = candidates(config.score)
        reviews = _compared_reviews(config, model_version)
        least = config.score.parity.rows
        if len(reviews.label) < least and kinds[0] == REFERENCE:
            report(
                f"  {model_version} is scored by {REFERENCE}: other engines are compared on {least:,} labelled"
                f" validation and test reviews (score.parity.rows), and there are {len(reviews.label):,}"
            )
            run.finish(model_version=model_version, details=REFERENCE._asdict() | cascade)
            return REFERENCE
        report(f"  {model_version}: trying {len(kinds)} engines on {_processor(config.score)}, threads: {threads}")
        folders = local_bundle(config, row), serving_folder(config, row)
        trials = try_engines(*folders, kinds, reviews, config.score, threads, every, report)
        for line in _table(trials):
            report(line)
        details = {
            "fingerprint": _fingerprint(config, row, kinds, threads),
            "processor": _processor(config.score),
            "threads": threads,
            "limits": config.score.parity.model_dump(),
            "trials": [asdict(trial) for trial in trials],
            **cascade,
        }
        run.finish(model_version=model_version, rows_read=len(reviews.label), details=details)
        best = fastest(trials)
        details |= best.kind._asdict()
        run.finish(model_version=model_version, rows_read=len(reviews.label), details=details)
    report(f"  {model_version} is scored by {best.kind}: the fastest that decides like the reference")
    return best.kind


def _recorded(config: Config, row: dict[str, Any], fingerprint: str) -> EngineKind | None:
    """The engine that the newest successful trial of this fingerprint chose; None where there is none."""
    from model.scoring.engines.interface import EngineKind

    is_trial = (pc.field("command") == COMMAND) & (pc.field("status") == "succeeded")
    where = is_trial & (pc.field("model_version") == row["model_version"])
    runs = tables.read_arrow(config.root, "job_runs", ("started_at", "details"), where).sort_by(
        [("started_at", "descending")]
    )
    for text in runs["details"].to_pylist():
        details = json.loads(text)
        if details.get("fingerprint") == fingerprint:
            return EngineKind(details["name"], details["precision"])
    return None


def _fingerprint(config: Config, row: dict[str, Any], kinds: Sequence[EngineKind], threads: int) -> str:
    """What a trial depends on: another model, processor, package or limit asks for another one."""
    parts = {
        "bundle": row["bundle_checksum"],
        "thresholds": thresholds_by_name(config, row["model_version"]),
        "processor": _processor(config.score),
        "threads": threads if config.score.device == "cpu" else None,  # beside a GPU they read texts, for all alike
        "kinds": [str(kind) for kind in kinds],
        "limits": config.score.parity.model_dump(),
        "packages": {name: _installed(name) for name in _PACKAGES},
    }
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


def _processor(settings: ScoreSettings) -> str:
    """The GPU's name, or the CPU's with the instruction sets that decide how fast an engine is on it."""
    from model.network.hardware import cpu_capabilities, cpu_name, gpu_name

    if settings.device == "cuda":
        return gpu_name()
    matter = [name for name in cpu_capabilities() if name.startswith(("avx512_bf16", "avx512_vnni", "amx", "avx2"))]
    return f"{cpu_name()} ({', '.join(matter) or 'no AVX2'})"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _compared_reviews(config: Config, model_version: str) -> ComparedReviews:
    from model.scoring.engine_choice import ComparedReviews

    columns = ("review_headline", "review_body", "star_rating")
    reviews = newest_labelled(config.root, columns, ["validation", "test"], config.score.parity.rows)
    label = pc.less_equal(reviews["star_rating"], 2).to_numpy().astype("int64")
    return ComparedReviews(
        reviews["review_headline"].to_pylist(),
        reviews["review_body"].to_pylist(),
        label,
        thresholds_by_name(config, model_version),
    )


def _table(trials: Sequence[Trial]) -> list[str]:
    """One line for each engine, fastest first: speed, differences from the reference, and whether it may serve."""
    slowest = min(trial.rows_per_second for trial in trials)
    head = ["engine", "reviews/s", "ratio", "logit differs by", "at most", "flipped", "ECE changes by", "may serve"]
    rows = [
        [
            str(trial.kind),
            f"{trial.rows_per_second:,.0f}",
            f"{trial.rows_per_second / slowest:.2f}",
            *_differences(trial.parity),
            "not compared: slower" if trial.parity is None else f"no: {trial.problems[0]}" if trial.problems else "yes",
        ]
        for trial in trials
    ]
    right = [False, True, True, True, True, True, True, False]
    return [f"  {line}" for line in align([head, *rows], right)]


def _differences(found: Parity | None) -> list[str]:
    if found is None:
        return ["–"] * 4
    return [
        f"{found.mean_difference:.2g}",
        f"{found.greatest_difference:.2g}",
        f"{max(found.flipped.values())} of {found.rows:,}",
        f"{found.ece_change:+.5f}",
    ]

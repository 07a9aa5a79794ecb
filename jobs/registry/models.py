"""The model registry: the tables `models` and `model_thresholds`, which model is the champion, and what a model must be
to decide.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config, RoutingSettings
from jobs.lake import tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import MODELS
from jobs.registry.bundles import local_bundle
from jobs.registry.reference import beside_published
from jobs.registry.routes import published_routes
from jobs.storage import Root
from model.errors import OutageError, ReviewriskError, needs_extra
from model.progress import Report
from model.settings import PromotionSettings
from model.terminal import align


def champion(root: Root) -> dict[str, Any]:
    """The champion's row of `models`; an error that says what to do where there is none."""
    row = current_champion(root)
    if row is None:
        raise ReviewriskError(
            f"{root.uri} has no champion yet: run `reviewrisk train` and then `reviewrisk models promote`."
        )
    return row


def current_champion(root: Root) -> dict[str, Any] | None:
    """The champion's row of `models`; None where no model is champion yet."""
    return champion_of(all_models(root))


def champion_of(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The champion among rows of `models`; None where there is none."""
    return next((row for row in rows if row["status"] == "champion"), None)


def registered(root: Root, version: str) -> dict[str, Any]:
    """The model's row of `models`; an error that names the versions there are where it is none of them."""
    rows = all_models(root)
    found = [row for row in rows if row["model_version"] == version]
    if not found:
        raise ReviewriskError(
            f"There is no model {version}; there are: {', '.join(row['model_version'] for row in rows) or 'none'}."
        )
    return found[0]


def named_or_champion(root: Root, version: str | None) -> dict[str, Any]:
    """The row of `models` of the named model, of the champion where none is named."""
    if version is not None:
        return registered(root, version)
    row = current_champion(root)
    if row is None:
        raise ReviewriskError(
            f"{root.uri} has no champion yet: name a model of `reviewrisk models list`, or make one the champion with"
            " `reviewrisk models promote`."
        )
    return row


def thresholds(root: Root, model_version: str) -> list[dict[str, Any]]:
    """The rows of `model_thresholds` of one model."""
    rows: list[dict[str, Any]] = tables.read_arrow(root, "model_thresholds").to_pylist()
    return [row for row in rows if row["model_version"] == model_version]


def default_threshold(root: Root, model_version: str) -> dict[str, Any]:
    """The one threshold that decides; an error where the model has none."""
    return _one_of([row for row in thresholds(root, model_version) if row["is_default"]], model_version, "default")


def lowest_active_threshold(root: Root, model_version: str) -> dict[str, Any]:
    """The active threshold that flags most."""
    active = [row for row in thresholds(root, model_version) if row["is_active"]]
    return _one_of(sorted(active, key=lambda row: float(row["threshold"])), model_version, "active")


def missed_limits(row: dict[str, Any], settings: PromotionSettings) -> list[str]:
    """The limits of the section `promotion` that a model's figures on its test split miss, in words; none where it may
    decide.
    """
    compared = (
        ("AUC", row["test_auc"], "below", settings.minimum_auc, row["test_auc"] < settings.minimum_auc),
        ("F1", row["test_f1"], "below", settings.minimum_f1, row["test_f1"] < settings.minimum_f1),
        ("ECE", row["test_ece"], "above", settings.maximum_ece, row["test_ece"] > settings.maximum_ece),
    )
    return [
        f"{name} {value:.4f} is {relation} the config's {limit}"
        for name, value, relation, limit, is_missed in compared
        if is_missed
    ]


def routable(config: Config, version: str) -> dict[str, Any]:
    """The row of `models` of a model that the config's routes name.

    Raises ReviewriskError where the model is not registered, has no default or active threshold, misses a limit of
    `promotion` (what decides for some reviews must be as good as what decides for all), or was trained and tested on
    other reviews than those it is to get.
    """
    row = registered(config.root, version)
    for threshold in (default_threshold, lowest_active_threshold):
        threshold(config.root, version)
    if misses := missed_limits(row, config.promotion):
        raise ReviewriskError(
            f"routing.models names {version}, but on its test split {'; '.join(misses)}: name another model, or change"
            " the limits in the config's section promotion."
        )
    _check_row_filter(config.routing, row)
    return row


def _check_row_filter(routing: RoutingSettings, row: dict[str, Any]) -> None:
    asked = [
        f"{routing.column}={value}" for value, version in routing.by_key.items() if version == row["model_version"]
    ]
    foreign = [one for one in asked if row["row_filter"] not in (None, one)]
    if foreign:
        raise ReviewriskError(
            f"routing.models gives {', '.join(foreign)} to {row['model_version']}, which was trained and tested on"
            f" reviews with {row['row_filter']} alone: route those to it, or train a model for these (`reviewrisk train"
            f" --only {foreign[0]}`)."
        )


def _one_of(rows: list[dict[str, Any]], model_version: str, kind: str) -> dict[str, Any]:
    if not rows:
        raise ReviewriskError(
            f"{model_version} has no {kind} threshold in model_thresholds: train again, or promote another model."
        )
    return rows[0]


def list_models(root: Root) -> list[str]:
    """The registered models, newest first, as lines of text."""
    rows = sorted(all_models(root), key=lambda row: row["trained_at"], reverse=True)
    if not rows:
        return ["no model yet: run `reviewrisk train`"]
    routes = published_routes(root)
    lines = [("model_version", "status", "trained (UTC)", "test AUC", "F1", "ECE", "TF-IDF F1", "")]
    for row in rows:
        routed = ", ".join(routes.values_of(row["model_version"]))
        notes = [
            f"only {row['row_filter']}" if row["row_filter"] else "",
            "gain over TF-IDF may be chance" if row["beats_baseline"] is False else "",
            f"routed: {routed}" if routed else "",
        ]
        lines.append(
            (
                row["model_version"],
                row["status"],
                f"{row['trained_at']:%Y-%m-%d %H:%M}",
                *(f"{row[name]:.3f}" for name in ("test_auc", "test_f1")),
                f"{row['test_ece']:.4f}",
                f"{row['baseline_f1']:.3f}",
                "  ".join(filter(None, notes)),
            )
        )
    return align(lines, right=[False, False, False, True, True, True, True, False])


def run_retire(root: Root, version: str, report: Report) -> None:
    """Give a model the status retired: it is no candidate any more, and its scores and bundle stay.

    Raises ReviewriskError for the champion, and for a model that a published route names: a root that has scores must
    not be left without the models that they are of.
    """
    with JobRun(root, "retire") as run:
        before = registered(root, version)["status"]
        if routed := published_routes(root).values_of(version):
            raise ReviewriskError(
                f"{version} decides for {', '.join(routed)}: take it out of the config's routing.models, let"
                " `reviewrisk score` publish that, then retire it."
            )

        def retired(models: pa.Table) -> pa.Table:
            rows = models.to_pylist()
            for row in rows:
                if row["model_version"] == version:
                    if row["status"] == "champion":
                        raise ReviewriskError(
                            f"{version} is the champion: promote another model first (`reviewrisk models promote`),"
                            " which retires this one."
                        )
                    row["status"] = "retired"
            return pa.Table.from_pylist(rows, schema=MODELS.schema)

        tables.replace_rows(root, "models", run.run_id, retired)
        run.finish(model_version=version)
    report(
        f"  {version} was retired before; nothing changed"
        if before == "retired"
        else f"  {version} is retired; its bundle and its scores stay"
    )


def run_show(config: Config, version: str | None, report: Report) -> None:
    """Report all that is known of a model, the champion where none is named: counts, figures on test, thresholds, its
    bundle and whether that is whole, promotions, settings.
    """
    row = named_or_champion(config.root, version)
    version = row["model_version"]
    published = beside_published(config.reference, row)
    for line in [
        *_figure_lines(row),
        *published,
        *_threshold_lines(config.root, version),
        *_route_lines(config.root, version),
        *_promotion_lines(config.root, version),
    ]:
        report(line)
    for line in _bundle_lines(config, row):
        report(line)


def _figure_lines(row: dict[str, Any]) -> list[str]:
    """The model's own row."""
    figures = {
        "AUC": "auc",
        "average precision": "average_precision",
        "F1": "f1",
        "ECE": "ece",
        "Brier": "brier",
        "log-loss": "log_loss",
    }
    return [
        f"{row['model_version']}: {row['status']}, trained {row['trained_at']:%Y-%m-%d %H:%M} UTC",
        (
            f"  backbone     {row['backbone']}, revision {row['backbone_revision']}; {row['pooling']} pooling, at most"
            f" {row['max_length']} tokens"
        ),
        f"  adapter      rank {row['lora_rank']}, alpha {row['lora_alpha']:g}, on {row['lora_targets']}",
        f"  parameters   {row['trainable_parameters']:,} trained of {row['total_parameters']:,}",
        (
            f"  rows         {row['train_rows']:,} training, {row['validation_rows']:,} validation,"
            f" {row['test_rows']:,} test; data version {row['data_version']}"
        ),
        "  reviews      "
        + (
            f"only those with {row['row_filter']}, in training, validation and test alike"
            if row["row_filter"]
            else "all"
        ),
        "  on test      "
        + ", ".join(f"{title} {row[f'test_{name}']:.4f}" for title, name in figures.items())
        + f"; calibration {row['calibration']}",
        f"  TF-IDF there AUC {row['baseline_auc']:.4f}, F1 {row['baseline_f1']:.4f}{_gain(row)}",
        *([f"  reason       {row['promotion_reason']} (--override)"] if row["promotion_reason"] else []),
    ]


def _gain(row: dict[str, Any]) -> str:
    if row["f1_gain_low"] is None:
        return ""
    verdict = "is more than chance" if row["beats_baseline"] else "may be chance"
    return f"; the gain in F1, {row['f1_gain']:+.4f} [{row['f1_gain_low']:+.4f}, {row['f1_gain_high']:+.4f}], {verdict}"


def _threshold_lines(root: Root, version: str) -> list[str]:
    lines = []
    for row in sorted(thresholds(root, version), key=lambda row: (not row["is_default"], row["threshold_name"])):
        marks = ", ".join(
            name for name, is_set in (("default", row["is_default"]), ("active", row["is_active"])) if is_set
        )
        figures = ", ".join(
            f"{name.replace('_', ' ')} {_percent(row[name])}" for name in ("precision", "recall", "f1", "flagged_share")
        )
        lines.append(
            f"  threshold    {row['threshold_name']}{f' ({marks})' if marks else ''}: {row['threshold']:.4f}; on test"
            f" {figures}"
        )
    return lines or ["  threshold    none"]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _route_lines(root: Root, version: str) -> list[str]:
    routes = published_routes(root)
    return [f"  routed       {routes.column} {value}" for value in routes.values_of(version)]


def _promotion_lines(root: Root, version: str) -> list[str]:
    chosen = (
        (pc.field("command") == "promote")
        & (pc.field("model_version") == version)
        & (pc.field("status") == "succeeded")
    )
    runs = tables.read_arrow(root, "job_runs", ("started_at", "details"), chosen).to_pylist()
    lines = []
    for run in sorted(runs, key=lambda run: run["started_at"]):
        details = {name: value for name, value in json.loads(run["details"]).items() if value is not None}
        lines.append(
            f"  promoted     {run['started_at']:%Y-%m-%d %H:%M} UTC"
            + "".join(f", {name} {value}" for name, value in details.items())
        )
    return lines or ["  promoted     never"]


def _bundle_lines(config: Config, row: dict[str, Any]) -> list[str]:
    """Where the bundle lies, whether every file is what it was, and the settings it was made with."""
    place = config.root.join(*row["bundle_path"].split("/"))
    try:
        bundle = local_bundle(config, row)
        files = _verified_files(bundle)
        settings = json.loads((bundle / "settings.json").read_text(encoding="utf-8"))
    except OutageError:
        raise
    except ReviewriskError as error:
        return [f"  bundle       {place}", f"  NOT WHOLE    {error}"]
    lines = [f"  bundle       {place}: whole, {files} files as its manifest says"]
    return lines + [
        f"  setting      model.{section}.{name}: {value}"
        for section, values in settings.items()
        for name, value in values.items()
    ]


def _verified_files(bundle: Path) -> int:
    with needs_extra("train", "Looking into the bundle"):
        from model.bundle.bundle import verify_bundle
    return len(verify_bundle(bundle)["files"])


def all_models(root: Root) -> list[dict[str, Any]]:
    """The rows of `models`."""
    rows: list[dict[str, Any]] = tables.read_arrow(root, "models").to_pylist()
    return rows

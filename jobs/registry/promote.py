"""Making a model the champion: against the config's limits, and against the champion that stands."""

from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa

from jobs.config import Config
from jobs.lake import tables
from jobs.lake.query import open_tables
from jobs.lake.runs import JobRun
from jobs.lake.schemas import MODELS
from jobs.registry.compare_champion import held_against_champion
from jobs.registry.models import all_models, champion_of, current_champion, missed_limits, registered
from jobs.registry.period_comparison import PERIODS, Challenge
from jobs.storage import Root
from model.errors import LostRaceError, ReviewriskError
from model.progress import Report, progress

_TO_SCORE = """
    select count(*)
    from reviews
    anti join (select * from review_scores where model_version = $version) as scores
        using (review_id, review_month, text_hash)
    anti join (select * from model_routes where model_version <> $version) as routes on
        routes.route_value
        = coalesce(
            nullif(
                lower(trim(case routes.route_column when 'marketplace' then marketplace else product_category end)), ''
            ),
            'unknown'
        )
    where review_date >= $since
"""


def run_promote(
    config: Config, version: str | None, since: datetime.date | None, override: str | None, report: Report
) -> str:
    """Make a model (the newest candidate for all reviews where none is named) the champion; says how many rows it will
    score.

    Raises ReviewriskError where the model's test figures miss the config's limits; where it was made for some reviews
    alone (its `row_filter`); where it is significantly worse than the champion on the old or the new period (see
    `challenge`); and where it cannot be compared with the champion on the old one. The last three an `override`, the
    reason in words, allows. It is committed with the champion, and kept in `job_runs` too. With `since`, only reviews
    of that day and later will be scored by it. Raises LostRaceError where another model became champion meanwhile.
    """
    root = config.root
    with JobRun(root, "promote") as run:
        current = current_champion(root)
        row = _candidate(root, version, report)
        if misses := missed_limits(row, config.promotion):
            raise ReviewriskError(
                f"{row['model_version']} is not promoted, as on its test split {'; '.join(misses)}: train a better"
                " model, or change the limits in the config's section promotion."
            )
        override = (override or "").strip() or None
        if not override:
            _check_row_filter(row)
        held = held_against_champion(config, current, row, report)
        if held is not None and not override:
            _refuse(row["model_version"], held)
        with progress("counting what it is to score", report):
            rows_to_score = _rows_to_score(root, row["model_version"], since)
        _publish(root, row["model_version"], current, since, override, run.run_id)
        details = {"since": since, **_recorded(held), "override": override}
        run.finish(model_version=row["model_version"], rows_read=rows_to_score, details=details)
    scope = f"of {since} and later" if since else "in all"
    report(
        f"  {row['model_version']} is the champion; {rows_to_score:,} reviews {scope} are still to be scored by it"
        " (`reviewrisk score`)"
    )
    return str(row["model_version"])


def _publish(
    root: Root,
    version: str,
    compared: dict[str, Any] | None,
    since: datetime.date | None,
    reason: str | None,
    run_id: str,
) -> None:
    """Commit the model as champion with the reason, as long as `compared`, a row of `models`, is the champion.

    `compared` is None where the model was held against none. The champion promoted anew keeps its day and, without a
    new one, its reason.
    """
    now = datetime.datetime.now(datetime.UTC)
    expected = compared["model_version"] if compared else None

    def promoted(before: pa.Table) -> pa.Table:
        rows = before.to_pylist()
        found = champion_of(rows)
        if (found["model_version"] if found else None) != expected:
            raise _lost_race(version, expected, found)
        for other in rows:
            if other["model_version"] == version:
                was_champion = other["status"] == "champion"
                other.update(
                    status="champion",
                    score_since=since,
                    promoted_at=other["promoted_at"] if was_champion else now,
                    promotion_reason=reason or (other["promotion_reason"] if was_champion else None),
                )
            elif other["status"] == "champion":
                other["status"] = "retired"
        return pa.Table.from_pylist(rows, schema=MODELS.schema)

    tables.replace_rows(root, "models", run_id, promoted)


def _lost_race(version: str, expected: str | None, found: dict[str, Any] | None) -> LostRaceError:
    now = f"{found['model_version']} is" if found else "no model is"
    return LostRaceError(
        f"{version} is not promoted: it was compared with {expected or 'no champion'}, but {now} the champion now; run"
        " the command again to compare it with that."
    )


def _refuse(version: str, held: Challenge) -> None:
    """Raise ReviewriskError where the comparison speaks against the model, or does not cover the old period."""
    if held.losses:
        raise ReviewriskError(
            f"{version} is not promoted, as it is significantly worse than the champion in {', '.join(held.losses)}:"
            f" train a better one, or promote it anyway with `reviewrisk models promote {version} --override"
            ' "REASON"` (the reason is recorded).'
        )
    if reason := held.not_compared.get("old"):
        raise ReviewriskError(
            f"{version} is not promoted, because it could not be compared with the champion on the old period"
            f" ({PERIODS['old']}): {reason}; to promote it without this comparison, run `reviewrisk models promote"
            f' {version} --override "REASON"` (the reason is recorded).'
        )


def _recorded(held: Challenge | None) -> dict[str, Any]:
    """For `job_runs`: what the comparison found against the model, and what it does not cover."""
    if held is None:
        return {}
    return {"significantly worse in": held.losses or None, "not compared on": "; ".join(held.missing()) or None}


def _check_row_filter(row: dict[str, Any]) -> None:
    if only := row["row_filter"]:
        raise ReviewriskError(
            f"{row['model_version']} is not promoted: it was trained and tested only on reviews with {only}, but a"
            " champion decides for all reviews; add a route for these reviews (routing.models), or promote it anyway"
            ' with --override "REASON" (the reason is recorded).'
        )


def _candidate(root: Root, version: str | None, report: Report) -> dict[str, Any]:
    """The named model's row of `models`; where none is named, that of the newest candidate that was not made for some
    reviews alone.
    """
    if version is not None:
        return registered(root, version)
    rows = sorted((row for row in all_models(root) if row["status"] == "candidate"), key=lambda row: row["trained_at"])
    if not rows:
        raise ReviewriskError(
            "There is no candidate to promote: run `reviewrisk train`, or name a version (`reviewrisk models list`)."
        )
    general = [row for row in rows if not row["row_filter"]]
    if not general:
        newest = rows[-1]
        raise ReviewriskError(
            f"No candidate was made for all reviews: {newest['model_version']} was trained and tested only on those"
            f" with {newest['row_filter']}; add a route for these reviews (routing.models), or promote it anyway with"
            f' `reviewrisk models promote {newest["model_version"]} --override "REASON"` (the reason is recorded).'
        )
    for row in rows[rows.index(general[-1]) + 1 :]:
        report(
            f"  {row['model_version']} is newer but passed over, as it was made for reviews with {row['row_filter']}"
            " alone"
        )
    return general[-1]


def _rows_to_score(root: Root, version: str, since: datetime.date | None) -> int:
    """Reviews that the model has no current score for, less those that a published route gives to another model."""
    with open_tables(root) as connection:
        found = connection.execute(_TO_SCORE, {"version": version, "since": since or datetime.date.min}).fetchone()
    return int(found[0]) if found else 0

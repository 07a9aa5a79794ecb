"""Champion against challenger on the same test rows, on the period that both were made for and on the time since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.lake import tables
from jobs.registry.bundles import local_bundle
from jobs.registry.models import default_threshold, registered
from jobs.registry.period_comparison import FIGURES, PERIODS, Challenge, PeriodComparison
from model.errors import OutageError, ReviewriskError, needs_extra
from model.files import read_json
from model.progress import Report, progress
from model.scoring.engines.interface import BASELINE
from model.settings import RowSettings, route_key

if TYPE_CHECKING:
    from model.evaluation.metrics import Scored

# What is compared of the challenger's test rows.
_OWN = ("review_id", "product_id", "review_date", "label", "model_logit")


def challenge(
    config: Config, champion: dict[str, Any], challenger: dict[str, Any], bears_outage: bool = False
) -> Challenge:
    """Both models, rows of `models`, on both periods. What makes a comparison impossible is a reason in the result, not
    an error; but a storage that does not answer is an error, unless the caller has done so much that it `bears_outage`.
    """
    try:
        comparisons = compare_with_champion(config, champion, challenger)
        found = {one.period: one for one in comparisons}
        reasons = {period: _why_not(config, champion, challenger, period, found.get(period)) for period in PERIODS}
    except ReviewriskError as error:
        if isinstance(error, OutageError) and not bears_outage:
            raise
        return Challenge([], dict.fromkeys(PERIODS, str(error).rstrip(".")))
    return Challenge(comparisons, {period: reason for period, reason in reasons.items() if reason})


def held_against_champion(
    config: Config, current: dict[str, Any] | None, row: dict[str, Any], report: Report
) -> Challenge | None:
    """The model against the champion, rows of `models`, reported; None where there is none, or the model is it."""
    if current is None or current["model_version"] == row["model_version"]:
        return None
    with progress("comparing with the champion", report):
        held = challenge(config, current, row)
    for line in held.lines():
        report(line)
    return held


def compare_with_champion(
    config: Config, champion: dict[str, Any], challenger: dict[str, Any]
) -> list[PeriodComparison]:
    """One comparison per period in which the challenger has test rows that the champion has a score of and has not
    learned from.

    Arguments are rows of `models`. The challenger's log-odds are those of its bundle; the champion's come from
    `review_scores` (its nightly work) and, for the test split, from its bundle. Each decides with its own calibrator
    and default threshold.
    """
    with needs_extra("train", "Comparing models"):
        from model.evaluation.metrics import difference_intervals, intervals
    rows = _common_rows(config, champion, challenger)
    settings = config.model
    options = (settings.thresholds.confidence, settings.training.seed)
    found = []
    for period in PERIODS:
        common = rows.filter(pc.equal(rows["period"], period))
        part = _unseen(config, champion, common, period)
        if part.num_rows == 0:
            continue
        groups = part["product_id"].to_numpy(zero_copy_only=False)
        one, other = (
            _scored(config, row, part, column)
            for row, column in ((champion, "champion_logit"), (challenger, "model_logit"))
        )
        champion_figures, challenger_figures = (
            intervals(model, settings.calibration.bins, groups, *options, names=FIGURES) for model in (one, other)
        )
        gains = difference_intervals(other, one, settings.calibration.bins, groups, *options, names=FIGURES)
        left_out = common.num_rows - part.num_rows
        found.append(
            PeriodComparison(
                period, part.num_rows, int(one.label.sum()), champion_figures, challenger_figures, gains, left_out
            )
        )
    return found


def _why_not(
    config: Config, champion: dict[str, Any], challenger: dict[str, Any], period: str, found: PeriodComparison | None
) -> str | None:
    """Why the models are not held against each other on a period, in words that say how they would be; None where they
    are.
    """
    if found is not None:
        named = " and ".join(FIGURES[name] for name in found.undecided)
        return f"its {found.rows:,} rows are too few or too similar to give an interval of {named}" if named else None
    tested = _of_period(_test_rows(config, challenger), _test_end(config), period)
    if unseen := _unseen(config, champion, tested, period).num_rows:
        return (
            f"the champion {champion['model_version']} has scored none of its {unseen:,} rows: run `reviewrisk score`,"
            " then promote again"
        )
    if period == "old":
        return f"the bundle of {challenger['model_version']} has no test row of this period: train the model again"
    return _why_not_live(config, champion, challenger, tested.num_rows)


def _why_not_live(config: Config, champion: dict[str, Any], challenger: dict[str, Any], tested: int) -> str:
    """The same of the new period, where so many test rows of the challenger lie, and none that the champion has not
    learned from.
    """
    only = challenger["row_filter"]
    option, of = (f" --only {only}", f" with {only}") if only else ("", "")
    if tested:
        return (
            f"all {tested:,} rows are from before {_first_live_test_day(config, champion)}, and only later ones are"
            f" surely new to the champion {champion['model_version']}: ingest newer reviews, then run `reviewrisk"
            f" score` and `reviewrisk retrain{option}`"
        )
    test_end = _test_end(config)
    live = _live_rows(config, only, test_end)
    if not live:
        return f"it has no labelled review{of} yet: ingest newer reviews"
    return (
        f"{challenger['model_version']} was not tested on any of the {live:,} labelled reviews{of} after {test_end}:"
        f" run `reviewrisk retrain{option}`, which tests its model on them"
    )


def _of_period(rows: pa.Table, test_end: Any, period: str) -> pa.Table:
    """The rows with a review_date up to the test split's last day (old: all, where no day is known),
    or after it (new).
    """
    if test_end is None:
        return rows if period == "old" else rows.slice(0, 0)
    compared = pc.greater if period == "new" else pc.less_equal
    return rows.filter(compared(rows["review_date"], pa.scalar(test_end)))


def _unseen(config: Config, champion: dict[str, Any], rows: pa.Table, period: str) -> pa.Table:
    """The rows of a period that the champion has not learned from: in the new one, where `retrain` made it, those since
    its own test there starts.

    The days by which `retrain` cuts the live reviews move with what is ingested, so a challenger's test may start
    before that. A champion without a test row after the test split, as each of its parents where it was combined, was
    trained on the corpus alone: nothing is left out.
    """
    first = _first_live_test_day(config, champion) if period == "new" else None
    return rows if first is None else rows.filter(pc.greater_equal(rows["review_date"], pa.scalar(first)))


def _first_live_test_day(config: Config, row: dict[str, Any]) -> Any:
    """The earliest day of the model's test rows after the test split, or the latest of its parents' such days; None
    where there is no such row.

    A combined model is tested up to the test split alone, but has learned what its parents have.
    """
    own = pc.min(_of_period(_test_rows(config, row), _test_end(config), "new")["review_date"]).as_py()
    merged = read_json(local_bundle(config, row) / "metrics.json").get("merge", {})
    parents = (registered(config.root, version) for version in merged.get("parents", ()))
    days = [own, *(_first_live_test_day(config, parent) for parent in parents)]
    return max((day for day in days if day is not None), default=None)


def _live_rows(config: Config, only: str | None, test_end: Any) -> int:
    """Labelled reviews after the test split, of those that `only` (a `row_filter`) names."""
    if test_end is None:
        return 0
    later = (pc.field("review_date") > pa.scalar(test_end)) & (pc.field("star_rating") != 3)
    chosen = RowSettings(only=only).column_and_key
    if chosen is None:
        return int(tables.read_arrow(config.root, "reviews", ["star_rating"], later).num_rows)
    column, key = chosen
    counts = pc.value_counts(tables.read_arrow(config.root, "reviews", [column], later)[column]).to_pylist()
    return int(sum(one["counts"] for one in counts if route_key(one["values"] or "") == key))


def _common_rows(config: Config, champion: dict[str, Any], challenger: dict[str, Any]) -> pa.Table:
    """The challenger's test rows whose text the champion has scored: review_id, product_id, review_date, label,
    model_logit, champion_logit, period.

    A score that the champion gave to another version of the text is none of these. Bundles of earlier versions of the
    code lack text_hash: their rows are joined by review_id alone.
    """
    own = _test_rows(config, challenger)
    own = own.select([name for name in (*_OWN, "text_hash") if name in own.column_names])
    scored = _with_champion(own, _champion_scores(config, champion, own))
    others = own.join(scored.select(["review_id"]), "review_id", join_type="left anti")
    tested = _with_champion(others, _test_rows(config, champion))
    rows = pa.concat_tables([scored, tested]).sort_by("review_id")
    test_end = _test_end(config)
    parts = [(period, _of_period(rows, test_end, period)) for period in PERIODS]
    return pa.concat_tables(
        [part.append_column("period", pa.array([period] * part.num_rows, pa.string())) for period, part in parts]
    )


def _champion_scores(config: Config, champion: dict[str, Any], rows: pa.Table) -> pa.Table:
    """review_id, text_hash and model_logit of the champion's scores of these rows; no other score is read. Nor is one
    of the baseline, which let the review skip the champion's network.
    """
    months = pc.unique(pc.floor_temporal(rows["review_date"], unit="month")).cast(pa.date32())
    where = (
        (pc.field("model_version") == champion["model_version"])
        & pc.is_in(pc.field("review_month"), value_set=months)
        & pc.is_in(pc.field("review_id"), value_set=rows["review_id"].combine_chunks())
        & pc.field("logit").is_valid()
        & (pc.field("engine") != BASELINE.name)
    )
    scores = tables.read_arrow(config.root, "review_scores", ["review_id", "text_hash", "logit"], where)
    return scores.rename_columns(["review_id", "text_hash", "model_logit"])


def _with_champion(rows: pa.Table, champion: pa.Table) -> pa.Table:
    """The rows that the champion has a logit of, for the same text: _OWN and champion_logit."""
    keys = [name for name in ("review_id", "text_hash") if name in rows.column_names and name in champion.column_names]
    logits = champion.select([*keys, "model_logit"]).rename_columns([*keys, "champion_logit"])
    return rows.join(logits, keys, join_type="inner").select([*_OWN, "champion_logit"])


def _test_rows(config: Config, row: dict[str, Any]) -> pa.Table:
    path = local_bundle(config, row) / "predictions.parquet"
    if not path.is_file():
        raise ReviewriskError(
            f"The bundle of {row['model_version']} has no predictions.parquet (an earlier version of the code made it):"
            " train it again."
        )
    return pq.read_table(path, filters=pc.field("part") == "test")


def _test_end(config: Config) -> Any:
    ends = [row["last_date"] for row in tables.read_arrow(config.root, "splits").to_pylist() if row["split"] == "test"]
    return ends[0] if ends else None


def _scored(config: Config, row: dict[str, Any], rows: pa.Table, column: str) -> Scored:
    from model.evaluation.calibrators import Calibrator
    from model.evaluation.metrics import Scored

    logit = rows[column].to_numpy()
    calibrator = Calibrator.from_json(read_json(local_bundle(config, row) / "calibrator.json"))
    return Scored(
        logit,
        calibrator.apply(logit),
        rows["label"].to_numpy(),
        default_threshold(config.root, row["model_version"])["threshold"],
    )

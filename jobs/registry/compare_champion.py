"""Champion against challenger on the same test rows, on the period that both were made for and on the time since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import Config
from jobs.lake import tables
from jobs.registry.bundles import local_bundle
from jobs.registry.models import default_threshold, registered
from model.errors import ReviewriskError, needs_extra
from model.files import read_json
from model.progress import Report, progress
from model.settings import RowSettings, route_key

if TYPE_CHECKING:
    from model.evaluation.metrics import Scored

# Figures whose loss speaks against a challenger.
JUDGED = ("auc", "f1")
# All that are shown, with their titles; of the last two less is better.
FIGURES = {"auc": "AUC", "average_precision": "average precision", "f1": "F1", "ece": "ECE", "brier": "Brier"}
LESS_IS_BETTER = ("ece", "brier")
_CHAMPION = pa.schema([("review_id", pa.string()), ("champion_logit", pa.float64())])
PERIODS = {"old": "the corpus's test split", "new": "reviews since then (live)"}


@dataclass(frozen=True)
class PeriodComparison:
    """Both models on the test rows of one period: each of FIGURES with its interval, and challenger less champion by a
    paired bootstrap.

    `left_out` counts the rows that both have a score of, but that the champion may have learned from (see `_unseen`).
    """

    period: str
    rows: int
    positives: int
    champion: dict[str, dict[str, float | None]]
    challenger: dict[str, dict[str, float | None]]
    gain: dict[str, dict[str, float | None]]
    left_out: int = 0

    @property
    def losses(self) -> list[str]:
        """The figures on which the challenger is worse by more than chance: the gain's whole interval lies below 0."""
        return [name for name in JUDGED if (high := self.gain[name]["high"]) is not None and high < 0]

    @property
    def undecided(self) -> list[str]:
        """The judged figures whose gain has no interval, as of rows of one class or of one product: they speak neither
        for nor against.
        """
        return [name for name in JUDGED if self.gain[name]["high"] is None]


@dataclass(frozen=True)
class Challenge:
    """What holding a challenger against the champion gave: a comparison of each period that can be compared, the reason
    for each other one.
    """

    comparisons: list[PeriodComparison]
    not_compared: dict[str, str]

    @property
    def losses(self) -> list[str]:
        """Where the challenger is worse by more than chance, such as "f1 of the new period"."""
        return [f"{figure} of the {one.period} period" for one in self.comparisons for figure in one.losses]

    def shown(self) -> list[str]:
        """The comparisons, and what could not be compared, as lines for a terminal."""
        return [*shown_comparison(self.comparisons), *(f"  not compared on the {line}" for line in self.missing())]

    def missing(self) -> list[str]:
        """What could not be compared and why, one text a reason."""
        reasons = dict.fromkeys(self.not_compared.values())
        periods = {reason: [period for period, why in self.not_compared.items() if why == reason] for reason in reasons}
        return [
            f"{' and '.join(f'{period} period ({PERIODS[period]})' for period in named)}: {reason}"
            for reason, named in periods.items()
        ]


def challenge(config: Config, champion: dict[str, Any], challenger: dict[str, Any]) -> Challenge:
    """Both models, rows of `models`, on both periods. What makes a comparison impossible is a reason in the result, not
    an error.
    """
    try:
        comparisons = compare_with_champion(config, champion, challenger)
        found = {one.period: one for one in comparisons}
        reasons = {period: _why_not(config, champion, challenger, period, found.get(period)) for period in PERIODS}
    except ReviewriskError as error:
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
    for line in held.shown():
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
            {name: all_[name] for name in FIGURES}
            for all_ in (intervals(model, settings.calibration.bins, groups, *options) for model in (one, other))
        )
        gain = difference_intervals(other, one, settings.calibration.bins, groups, *options)
        gains = {name: gain[name] for name in FIGURES}
        left_out = common.num_rows - part.num_rows
        found.append(
            PeriodComparison(
                period, part.num_rows, int(one.label.sum()), champion_figures, challenger_figures, gains, left_out
            )
        )
    return found


def shown_comparison(comparisons: list[PeriodComparison]) -> list[str]:
    """The comparisons as lines for a terminal."""
    lines = []
    for one in comparisons:
        left_out = (
            f"; {one.left_out:,} earlier ones are left out, as the champion may have learned from them"
            if one.left_out
            else ""
        )
        lines.append(
            f"  {one.period} period ({PERIODS[one.period]}): {one.rows:,} rows, {one.positives:,}"
            f" dissatisfied{left_out}"
        )
        for name, title in FIGURES.items():
            marks = "  SIGNIFICANTLY WORSE" if name in one.losses else ""
            shown = (_shown(estimates[name]) for estimates in (one.champion, one.challenger))
            gain = "change (less is better)" if name in LESS_IS_BETTER else "gain"
            lines.append(
                f"    {title:<17} champion {next(shown)}, challenger {next(shown)}, {gain}"
                f" {_shown(one.gain[name])}{marks}"
            )
    return lines


def _why_not(
    config: Config, champion: dict[str, Any], challenger: dict[str, Any], period: str, found: PeriodComparison | None
) -> str | None:
    """Why the models are not held against each other on a period, in words that say how they would be; None where they
    are.
    """
    if found is not None:
        named = " and ".join(FIGURES[name] for name in found.undecided)
        return f"its {found.rows:,} rows are too few, or too alike, for an interval of {named}" if named else None
    tested = _of_period(_test_rows(config, challenger), _test_end(config), period)
    if unseen := _unseen(config, champion, tested, period).num_rows:
        return (
            f"the champion {champion['model_version']} has a score of none of its {unseen:,} rows: run `reviewrisk"
            " score`, then promote again"
        )
    if period == "old":
        return f"{challenger['model_version']} has no test row of it in its bundle: train it again"
    return _why_not_live(config, champion, challenger, tested.num_rows)


def _why_not_live(config: Config, champion: dict[str, Any], challenger: dict[str, Any], tested: int) -> str:
    """The same of the new period, where so many test rows of the challenger lie, and none that the champion has not
    learned from.
    """
    only = challenger["row_filter"]
    option, of = (f" --only {only}", f" with {only}") if only else ("", "")
    if tested:
        return (
            f"all of its {tested:,} rows lie before {_first_live_test_day(config, champion)}, up to when the champion"
            f" {champion['model_version']} may have learned from reviews: ingest newer reviews, run `reviewrisk score`,"
            f" and `reviewrisk retrain{option}` makes a challenger that is tested on later ones"
        )
    test_end = _test_end(config)
    live = _live_rows(config, only, test_end)
    if not live:
        return f"no labelled review{of} after the test split is stored yet"
    return (
        f"{challenger['model_version']} was not tested on the {live:,} labelled reviews{of} after {test_end}, as"
        f" training and combining end with the test split: `reviewrisk retrain{option}` makes a challenger that is, and"
        " compares it there"
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
        return int(tables.read_arrow(config.root, "reviews", ["review_id"], later).num_rows)
    column, key = chosen
    counts = pc.value_counts(tables.read_arrow(config.root, "reviews", [column], later)[column]).to_pylist()
    return int(sum(one["counts"] for one in counts if route_key(one["values"] or "") == key))


def _common_rows(config: Config, champion: dict[str, Any], challenger: dict[str, Any]) -> pa.Table:
    """The challenger's test rows that the champion has scored: review_id, product_id, review_date, label, model_logit,
    champion_logit, period.
    """
    own = _test_rows(config, challenger).select(["review_id", "product_id", "review_date", "label", "model_logit"])
    from_bundle = (
        _test_rows(config, champion)
        .select(["review_id", "model_logit"])
        .rename_columns(_CHAMPION.names)
        .cast(_CHAMPION)
    )
    chosen = (pc.field("model_version") == champion["model_version"]) & pc.field("logit").is_valid()
    scores = (
        tables.read_arrow(config.root, "review_scores", ["review_id", "logit"], chosen)
        .rename_columns(_CHAMPION.names)
        .cast(_CHAMPION)
    )
    unseen = from_bundle.join(scores.select(["review_id"]), "review_id", join_type="left anti")
    rows = own.join(pa.concat_tables([scores, unseen]), "review_id", join_type="inner").sort_by("review_id")
    test_end = _test_end(config)
    parts = [(period, _of_period(rows, test_end, period)) for period in PERIODS]
    return pa.concat_tables(
        [part.append_column("period", pa.array([period] * part.num_rows, pa.string())) for period, part in parts]
    )


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


def _shown(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    limits = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{limits}"

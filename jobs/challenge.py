"""Champion against challenger on the same test rows, on the period that both were made for and on the time since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import tables
from jobs.config import Config
from jobs.registry import all_models, default_threshold
from jobs.serving import local_bundle
from model.errors import ReviewriskError, install_extra
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.evaluation import Scored

# Figures whose loss speaks against a challenger.
FIGURES = ("auc", "f1")
_CHAMPION = pa.schema([("review_id", pa.string()), ("champion_logit", pa.float64())])
PERIODS = {"old": "the corpus's test split", "new": "reviews since then (live)"}


@dataclass(frozen=True)
class PeriodComparison:
    """Both models on the test rows of one period: each figure's value and interval, and the challenger's gain by a paired bootstrap."""

    period: str
    rows: int
    positives: int
    champion: dict[str, dict[str, float | None]]
    challenger: dict[str, dict[str, float | None]]
    gain: dict[str, dict[str, float | None]]

    @property
    def losses(self) -> list[str]:
        """The figures on which the challenger is worse by more than chance: the gain's whole interval lies below 0."""
        return [name for name in FIGURES if (high := self.gain[name]["high"]) is not None and high < 0]


def compare_with_champion(config: Config, champion: dict[str, Any], challenger: dict[str, Any]) -> list[PeriodComparison]:
    """One comparison per period in which the challenger has test rows that the champion has a score of; none where there is no such row.

    Arguments are rows of `models`. The challenger's log-odds are those of its bundle; the champion's come from `review_scores` (its
    nightly work) and, for the test split, from its bundle. Each decides with its own calibrator and default threshold.
    """
    try:
        from model.evaluation import difference_intervals, intervals
    except ImportError as error:
        raise ReviewriskError(f"Comparing models needs packages of training ({error.name} is missing): {install_extra('train')}.") from None
    rows = _common_rows(config, champion, challenger)
    settings = config.model
    options = (settings.thresholds.confidence, settings.training.seed)
    found = []
    for period in PERIODS:
        part = rows.filter(pc.equal(rows["period"], period))
        if part.num_rows == 0:
            continue
        groups = part["product_id"].to_numpy(zero_copy_only=False)
        one, other = (_scored(config, row, part, column) for row, column in ((champion, "champion_logit"), (challenger, "model_logit")))
        champion_figures, challenger_figures = (
            {name: all_[name] for name in FIGURES} for all_ in (intervals(model, settings.calibration.bins, groups, *options) for model in (one, other))
        )
        gain = difference_intervals(other, one, settings.calibration.bins, groups, *options)
        found.append(
            PeriodComparison(period, part.num_rows, int(one.label.sum()), champion_figures, challenger_figures, {name: gain[name] for name in FIGURES})
        )
    return found


def reported_comparison(config: Config, row: dict[str, Any], report: Report) -> list[PeriodComparison]:
    """The comparisons of a model (a row of `models`) with the champion, reported; where there are none, why is reported.

    Without a champion, or for the champion itself, nothing is.
    """
    current = [one for one in all_models(config.root) if one["status"] == "champion"]
    if not current or current[0]["model_version"] == row["model_version"]:
        return []
    missing = f"  not compared with the champion {current[0]['model_version']}: "
    try:
        with progress("comparing with the champion", report):
            comparisons = compare_with_champion(config, current[0], row)
    except ReviewriskError as error:
        report(f"{missing}{error}")
        return []
    for line in shown_comparison(comparisons) or [f"{missing}no test row has a score of both"]:
        report(line)
    return comparisons


def shown_comparison(comparisons: list[PeriodComparison]) -> list[str]:
    """The comparisons as lines for a terminal."""
    lines = []
    for one in comparisons:
        lines.append(f"  {one.period} period ({PERIODS[one.period]}): {one.rows:,} rows, {one.positives:,} dissatisfied")
        for name in FIGURES:
            marks = "  SIGNIFICANTLY WORSE" if name in one.losses else ""
            shown = (_shown(estimates[name]) for estimates in (one.champion, one.challenger))
            lines.append(f"    {name:<4} champion {next(shown)}, challenger {next(shown)}, gain {_shown(one.gain[name])}{marks}")
    return lines


def _common_rows(config: Config, champion: dict[str, Any], challenger: dict[str, Any]) -> pa.Table:
    """The challenger's test rows that the champion has scored: review_id, product_id, label, model_logit, champion_logit, period."""
    own = _test_rows(config, challenger).select(["review_id", "product_id", "review_date", "label", "model_logit"])
    from_bundle = _test_rows(config, champion).select(["review_id", "model_logit"]).rename_columns(_CHAMPION.names).cast(_CHAMPION)
    chosen = (pc.field("model_version") == champion["model_version"]) & pc.field("logit").is_valid()
    scores = tables.read_arrow(config.root, "review_scores", ["review_id", "logit"], chosen).rename_columns(_CHAMPION.names).cast(_CHAMPION)
    unseen = from_bundle.join(scores.select(["review_id"]), "review_id", join_type="left anti")
    rows = own.join(pa.concat_tables([scores, unseen]), "review_id", join_type="inner").sort_by("review_id")
    test_end = _test_end(config)
    is_new = pc.greater(rows["review_date"], pa.scalar(test_end)) if test_end else pa.array([False] * rows.num_rows)
    return rows.append_column("period", pc.if_else(is_new, "new", "old"))


def _test_rows(config: Config, row: dict[str, Any]) -> pa.Table:
    path = local_bundle(config, row) / "predictions.parquet"
    if not path.is_file():
        raise ReviewriskError(f"The bundle of {row['model_version']} has no predictions.parquet (an earlier version of the code made it): train it again.")
    return pq.read_table(path, filters=pc.field("part") == "test")


def _test_end(config: Config) -> Any:
    ends = [row["last_date"] for row in tables.read_arrow(config.root, "splits").to_pylist() if row["split"] == "test"]
    return ends[0] if ends else None


def _scored(config: Config, row: dict[str, Any], rows: pa.Table, column: str) -> Scored:
    from model.calibration import Calibrator
    from model.evaluation import Scored
    from model.files import read_json

    logit = rows[column].to_numpy()
    calibrator = Calibrator.from_json(read_json(local_bundle(config, row) / "calibrator.json"))
    return Scored(logit, calibrator.apply(logit), rows["label"].to_numpy(), default_threshold(config.root, row["model_version"])["threshold"])


def _shown(estimate: dict[str, float | None]) -> str:
    if estimate["value"] is None:
        return "–"
    limits = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{limits}"

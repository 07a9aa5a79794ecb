"""The headline figures of a report: read from the warehouse, and shown as lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from jobs.config import ReportSettings
from model.terminal import align

TITLE_LENGTH = 48
CATEGORIES = 5


@dataclass(frozen=True)
class ReportSummary:
    """The printed figures. Rates are 0 to 1 over labelled reviews (no 3 stars), None where there is nothing to divide
    by.

    `routes`: the model that decides for a value of the routes' column; the champion decides for all others.
    `predicted_rate`, `flagged_rate`: over those of them that are scored. `precision`, `recall`: on the test split, at
    the default thresholds. `explained`: of the `flagged` reviews, those whose words are known. `months`, `products`,
    `words`: one dict per line, named as in the dbt reports they come from.
    """

    champion: str | None
    routes: dict[str, str]
    threshold_name: str | None
    threshold: float | None
    reviews: int
    labelled: int
    dissatisfied_rate: float | None
    predicted_rate: float | None
    flagged_rate: float | None
    test_labelled: int
    precision: float | None
    recall: float | None
    flagged: int
    explained: int
    months: list[dict[str, Any]] = field(repr=False)
    products: list[dict[str, Any]] = field(repr=False)
    words: list[dict[str, Any]] = field(repr=False)


def read_summary(connection: duckdb.DuckDBPyConnection, settings: ReportSettings) -> ReportSummary:
    """The figures of the open warehouse, as its dbt reports have them."""
    champions = _rows(
        connection, "select model_version, default_threshold_name, default_threshold from dim_models where is_champion"
    )
    champion = (
        champions[0] if champions else dict.fromkeys(("model_version", "default_threshold_name", "default_threshold"))
    )
    *months, total = _rows(connection, _MONTHS)
    test = _rows(connection, _TEST)[0]
    return ReportSummary(
        champion=champion["model_version"],
        routes={row["route_value"]: row["model_version"] for row in _rows(connection, _ROUTES)},
        threshold_name=champion["default_threshold_name"],
        threshold=champion["default_threshold"],
        reviews=total["review_count"] or 0,
        labelled=total["labelled_count"] or 0,
        dissatisfied_rate=total["dissatisfied_rate"],
        predicted_rate=total["predicted_rate"],
        flagged_rate=total["flagged_rate"],
        test_labelled=test["labelled_count"],
        precision=test["test_precision"],
        recall=test["test_recall"],
        **_rows(connection, _EXPLAINED)[0],
        months=months[-settings.months :],
        products=_rows(
            connection,
            "select * from rpt_dissatisfaction_by_product order by dissatisfaction_rank limit ?",
            settings.products,
        ),
        words=_rows(connection, _WORDS, CATEGORIES, settings.words),
    )


# One row per month, oldest first, and last the row of all months together (review_month null).
_MONTHS = """
    select
        review_month,
        sum(review_count) as review_count,
        sum(labelled_count) as labelled_count,
        sum(dissatisfied_count) / nullif(sum(labelled_count), 0) as dissatisfied_rate,
        sum(predicted_rate * labelled_scored_count) / nullif(sum(labelled_scored_count), 0) as predicted_rate,
        sum(labelled_flagged_count) / nullif(sum(labelled_scored_count), 0) as flagged_rate
    from rpt_dissatisfaction_monthly
    group by rollup (review_month)
    order by review_month nulls last
"""
_ROUTES = "select route_value, model_version from model_routes order by route_value"
_TEST = """
    select
        count(*) as labelled_count,
        count(*) filter (where is_flagged and is_dissatisfied)
        / nullif(count(*) filter (where is_flagged), 0) as test_precision,
        count(*) filter (where is_flagged and is_dissatisfied)
        / nullif(count(*) filter (where is_dissatisfied), 0) as test_recall
    from fct_review_scores
    where split = 'test' and is_dissatisfied is not null and probability is not null
"""
_EXPLAINED = """
    select
        (select count(*) from fct_review_scores where is_flagged) as flagged,
        (select count(distinct review_id) from fct_token_attributions where is_flagged) as explained
"""
# The leading words of the categories whose words weigh most.
_WORDS = """
    with largest as (
        select category_key, sum(total_attribution) as weight
        from rpt_top_dissatisfaction_words
        group by category_key
        order by weight desc, category_key
        limit ?
    )
    select words.category_key, words.word, words.review_count, words.mean_attribution
    from rpt_top_dissatisfaction_words as words
    inner join largest on words.category_key = largest.category_key
    where words.word_rank <= ?
    order by largest.weight desc, words.category_key, words.word_rank
"""


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: int) -> list[dict[str, Any]]:
    result = connection.execute(sql, list(parameters))
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def format_summary(summary: ReportSummary, settings: ReportSettings) -> list[str]:
    """The report as lines of text."""
    lines = ["", "Dissatisfaction (1-2 stars against 4-5; 3-star reviews count as reviews and are in no rate)"]
    if summary.champion is None:
        lines.append(
            "  champion      none yet, so nothing is scored: run `reviewrisk train` and `reviewrisk models promote`"
        )
    else:
        lines.append(f"  champion      {summary.champion}, threshold {summary.threshold_name} {summary.threshold:.3f}")
    lines += [f"  routed        {value} → {version}" for value, version in summary.routes.items()]
    lines.append(f"  reviews       {summary.reviews:,}, of them labelled {summary.labelled:,}")
    lines.append(
        f"  dissatisfied  {_percent(summary.dissatisfied_rate)} of the labelled; predicted"
        f" {_percent(summary.predicted_rate)}"
    )
    lines.append(f"  flagged       {_percent(summary.flagged_rate)} of the labelled that are scored")
    lines.append(
        f"  test split    precision {_percent(summary.precision)}, recall {_percent(summary.recall)}"
        f" ({summary.test_labelled:,} labelled reviews)"
    )
    lines += ["", f"Last {len(summary.months)} months with reviews", *_month_lines(summary)]
    lines += [
        "",
        (
            "Products with most dissatisfaction, by the lower end of the 95% interval (at least"
            f" {settings.minimum_reviews} labelled reviews)"
        ),
    ]
    lines += _product_lines(summary) or ["  none has enough labelled reviews"]
    lines += [
        "",
        (
            "Words that push flagged reviews towards dissatisfied (reviews with the word;"
            f" {summary.explained:,} of {summary.flagged:,} flagged reviews are explained)"
        ),
    ]
    lines += _word_lines(summary) or ["  none: no flagged review is explained yet"]
    return lines


def _month_lines(summary: ReportSummary) -> list[str]:
    header = ("month", "reviews", "labelled", "dissatisfied", "predicted", "flagged")
    rows = [
        (
            f"{month['review_month']:%Y-%m}",
            f"{month['review_count']:,}",
            f"{month['labelled_count']:,}",
            *(_percent(month[name]) for name in ("dissatisfied_rate", "predicted_rate", "flagged_rate")),
        )
        for month in summary.months
    ]
    return [f"  {line}" for line in align([header, *rows], right=[False, True, True, True, True, True])]


def _product_lines(summary: ReportSummary) -> list[str]:
    rows = [
        (
            product["product_id"],
            f"{product['labelled_count']:,}",
            _percent(product["dissatisfied_rate"]),
            f"{_percent(product['dissatisfied_rate_lower'])} to {_percent(product['dissatisfied_rate_upper'])}",
            _shortened(product["product_title"] or ""),
        )
        for product in summary.products
    ]
    header = ("product", "labelled", "dissatisfied", "95% interval", "title")
    return [f"  {line}" for line in align([header, *rows], right=[False, True, True, True, False])] if rows else []


def _word_lines(summary: ReportSummary) -> list[str]:
    categories = list(dict.fromkeys(row["category_key"] for row in summary.words))
    words = {
        name: [f"{row['word']} {row['review_count']:,}" for row in summary.words if row["category_key"] == name]
        for name in categories
    }
    return (
        [f"  {line}" for line in align([(name, ", ".join(words[name])) for name in categories], right=[False, False])]
        if words
        else []
    )


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _shortened(title: str) -> str:
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1] + "…"

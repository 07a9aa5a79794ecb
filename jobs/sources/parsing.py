"""Lines of the raw file to typed reviews: every line gets its columns or the reason why it is none."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from jobs.lake.schemas import RAW_COLUMNS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

FIRST_DATE = datetime.date(1995, 1, 1)  # the shop opened in July 1995: an earlier date is impossible
UNREADABLE = "unreadable"  # the reason of a row that says where reading its file had to end
REPEATED_HEADER = "repeated_header"  # the header once more, as where files were concatenated
# Other programs write 4 as 4.0 and a day as its midnight. \z is the very end: $ would let a line separator pass.
STARS = r"\A[1-5](\.0+)?\z"
VOTES = r"\A(\d{1,9}(\.0+)?)?\z"
DAY = r"\A\d{4}-\d{2}-\d{2}([ T]00:00:00(\.0+)?)?\z"
HEADER = "\t".join(RAW_COLUMNS)
PROVENANCE = ("source_checksum", "source_line")


def classify(lines: DataFrame, today: datetime.date) -> DataFrame:
    """One row per line: provenance, `value` as read, the typed columns, `text_hash`, and `reason` and `detail` where it
    is no valid review. `fields`, where a line has them, are taken in place of its own; none: its quotes do not close.
    """
    from pyspark.sql import functions as F

    split = (
        lines.withColumn("is_text", F.expr("is_valid_utf8(value)"))
        .withColumn("line", F.when(F.col("is_text"), F.regexp_replace("value", r"\r\z", "")))
        .withColumn("fields", F.coalesce("fields", F.split("line", "\t", -1)))
        .withColumn("width", F.size("fields"))
        .withColumn("is_header", F.regexp_replace(F.concat_ws("\t", "fields"), r"\A\ufeff", "") == HEADER)
    )
    whole = F.when(F.col("width") == len(RAW_COLUMNS), F.col("fields"))
    named = split.select(
        *PROVENANCE,
        "value",
        "is_text",
        "line",
        "width",
        "is_header",
        "problem",
        *(F.get(whole, F.lit(place)).alias(name) for place, name in enumerate(RAW_COLUMNS)),
    )
    text = F.concat(F.coalesce("review_headline", F.lit("")), F.lit("\x1f"), F.coalesce("review_body", F.lit("")))
    return (
        named.withColumn("fault", _fault(today))
        .withColumn("text_hash", F.sha2(text, 256))
        .select(
            *PROVENANCE,
            "value",
            "is_text",
            "fault.reason",
            "fault.detail",
            *(_typed(name) for name in RAW_COLUMNS),
            "text_hash",
        )
    )


def _typed(name: str) -> Column:
    from pyspark.sql import functions as F

    trimmed = F.trim(F.col(name))
    if name in ("star_rating", "helpful_votes", "total_votes"):
        return F.regexp_replace(trimmed, r"\.0+\z", "").try_cast("int").alias(name)
    if name in ("vine", "verified_purchase"):
        return F.when(F.upper(trimmed).isin("Y", "N"), F.upper(trimmed) == "Y").alias(name)
    if name == "review_date":
        return _day(trimmed).alias(name)
    if name == "review_id":
        return trimmed.alias(name)
    return F.when(F.col(name) != "", F.col(name)).alias(name)


def _day(written: Column) -> Column:
    from pyspark.sql import functions as F

    return F.substring(written, 1, 10).try_cast("date")


def _fault(today: datetime.date) -> Column:
    """struct(reason, detail) of the first thing wrong with a line; null where nothing is."""
    from pyspark.sql import functions as F

    width = len(RAW_COLUMNS)
    trimmed = {name: F.trim(F.col(name)) for name in RAW_COLUMNS}
    day = _day(trimmed["review_date"])
    last = today + datetime.timedelta(days=1)  # a day's grace for time zones ahead of UTC
    found = F.concat(F.col("width").cast("string"), F.lit(f" fields, not {width}"))
    faults: list[tuple[Column, str, Column]] = [
        (F.col("problem").isNotNull(), UNREADABLE, F.col("problem")),
        (~F.col("is_text"), "not_utf8", F.lit("bytes that are not UTF-8")),
        (F.trim("line") == "", "blank_line", F.lit(None)),
        (F.col("is_header"), REPEATED_HEADER, F.lit(None)),
        (F.col("width") == 0, "bad_quoting", F.lit("a quoted field does not end in this line, or text follows it")),
        (F.col("width") < width, "too_few_fields", found),
        (F.col("width") > width, "too_many_fields", found),
        (trimmed["review_id"] == "", "bad_review_id", F.lit("no id")),
        (~trimmed["star_rating"].rlike(STARS), "bad_star_rating", F.col("star_rating")),
        (~trimmed["review_date"].rlike(DAY) | day.isNull(), "bad_review_date", F.col("review_date")),
        (
            ~day.between(F.lit(FIRST_DATE), F.lit(last)),
            "bad_review_date",
            F.concat("review_date", F.lit(f", not within {FIRST_DATE} to {last}")),
        ),
        *(
            (~F.upper(trimmed[name]).isin("Y", "N", ""), f"bad_{name}", F.col(name))
            for name in ("vine", "verified_purchase")
        ),
        *((~trimmed[name].rlike(VOTES), f"bad_{name}", F.col(name)) for name in ("helpful_votes", "total_votes")),
    ]
    chain: Column | None = None
    for condition, reason, detail in faults:
        value = F.struct(F.lit(reason).alias("reason"), F.substring(detail.cast("string"), 1, 200).alias("detail"))
        chain = F.when(condition, value) if chain is None else chain.when(condition, value)
    assert chain is not None
    return chain

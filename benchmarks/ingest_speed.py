"""MB/s of `reviewrisk ingest` against DuckDB, polars and plain Spark, which read the same file and write the same
months as Parquet.

    python benchmarks/ingest_speed.py [--source reviews.tsv.gz] [--megabytes 200] [--rounds 5]

The file is the source, unpacked and repeated under new review ids. In every round contestants take turns, each into a
new folder; all may use two threads, and both that need Spark use the same running session. Each of the others types the
15 columns, takes the month of the date and writes one folder a month; ours does more, as the table says.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from invented_reviews import write_reviews

from jobs.config import Config, SparkSettings, load_config
from jobs.ingest.merge import run_ingest
from jobs.lake.schemas import RAW_COLUMNS
from jobs.spark.session import build_session
from model.network.hardware import cpu_name

THREADS = 2
TYPES = {"star_rating": "integer", "helpful_votes": "integer", "total_votes": "integer", "review_date": "date"}


def repeated(source: Path, target: Path, megabytes: int) -> Path:
    """`target` with the rows of a raw file (.tsv or .tsv.gz) again and again, each time under new review ids."""
    raw = source.read_bytes()
    header, *lines = (gzip.decompress(raw) if source.suffix == ".gz" else raw).split(b"\n")
    rows = [line.split(b"\t", 3) for line in lines if line]
    copy = 0
    with target.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < megabytes * 1e6:
            copy += 1
            mark = b"-%d" % copy
            file.writelines(b"\t".join([*row[:2], row[2] + mark, row[3]]) + b"\n" for row in rows)
    return target


def ours(spark: Any, config: Config) -> Callable[[Path, Path], object]:
    """`reviewrisk ingest` into a new root."""

    def ingest(source: Path, folder: Path) -> object:
        paths = config.paths.model_copy(update={"root": str(folder)})
        return run_ingest(spark, config.model_copy(update={"paths": paths}), [str(source)], lambda _: None)

    return ingest


def plain_spark(spark: Any) -> Callable[[Path, Path], object]:
    """spark.read.csv and write.partitionBy, as Spark's documentation has them."""
    from pyspark.sql import functions as F

    schema = ", ".join(f"{name} {TYPES.get(name, 'string')}" for name in RAW_COLUMNS)

    def ingest(source: Path, folder: Path) -> object:
        rows = spark.read.csv(str(source), schema=schema, sep="\t", quote="", header=True)
        months = rows.withColumn("review_month", F.trunc("review_date", "month"))
        return months.write.option("compression", "zstd").partitionBy("review_month").parquet(str(folder))

    return ingest


def with_duckdb(source: Path, folder: Path) -> object:
    """read_csv into write_parquet."""
    import duckdb

    columns = {name: TYPES.get(name, "varchar") for name in RAW_COLUMNS}
    connection = duckdb.connect(config={"threads": THREADS})
    rows = connection.read_csv(str(source), sep="\t", quotechar="", escapechar="", header=True, columns=columns)
    months = rows.project("*, date_trunc('month', review_date)::date as review_month")
    return months.write_parquet(str(folder), compression="zstd", partition_by=["review_month"])


def with_polars(source: Path, folder: Path) -> object:
    """scan_csv streamed into sink_parquet; POLARS_MAX_THREADS is left as it is: one thread a core."""
    import polars

    types = {"integer": polars.Int32, "date": polars.Date}
    schema = {name: types.get(TYPES.get(name, ""), polars.String) for name in RAW_COLUMNS}
    rows = polars.scan_csv(source, separator="\t", quote_char=None, schema=schema)
    months = rows.with_columns(review_month=polars.col("review_date").dt.truncate("1mo"))
    return months.sink_parquet(polars.PartitionBy(folder, key="review_month"), compression="zstd", mkdir=True)


def rows_written(folder: Path) -> int:
    """Rows of the Parquet files in a folder, or of the table `reviews` where it is a root."""
    tables = folder / "tables" / "reviews"
    return sum(ds.dataset(path).count_rows() for path in (tables if tables.is_dir() else folder).rglob("*.parquet"))


def measured(
    contestants: dict[str, Callable[[Path, Path], object]], source: Path, rounds: int, work: Path
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds by contestant, and the rows that each wrote."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rows: dict[str, int] = {}
    for number in range(rounds):
        for name, ingest in contestants.items():
            folder = work / "written"
            started = time.perf_counter()
            ingest(source, folder)
            seconds[name].append(time.perf_counter() - started)
            rows[name] = rows_written(folder)
            shutil.rmtree(folder)
            print(f"  round {number + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    return seconds, rows


def print_table(size: float, seconds: dict[str, list[float]], rows: dict[str, int]) -> None:
    """A row per contestant; ratios are medians of each round's own."""
    print("\n| contestant | rows written | s (fastest–slowest) | MB/s | ours takes so many times as long |")
    print("|---|---:|---:|---:|---:|")
    mine: Sequence[float] = next(iter(seconds.values()))
    for name, taken in seconds.items():
        median = statistics.median(taken)
        ratio = statistics.median(own / their for own, their in zip(mine, taken, strict=True))
        span = f"{median:.1f} ({min(taken):.1f}–{max(taken):.1f})"
        print(f"| {name} | {rows[name]:,} | {span} | {size / 1e6 / median:,.1f} | {ratio:.1f} |")
    print(
        "\nOurs also checks every field of every line, keeps refused lines with their reason, takes the newest"
        " version of each review,\nhashes its text, assigns splits, checks what it staged, keeps the file's checksum,"
        " and commits to three Delta tables."
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, help="a raw file; else invented reviews")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    spark = build_session(SparkSettings(master=f"local[{THREADS}]"))
    contestants: dict[str, Callable[[Path, Path], object]] = {
        "reviewrisk ingest": ours(spark, load_config(Path("conf/local.yml"))),
        "plain Spark": plain_spark(spark),
        "DuckDB": with_duckdb,
        "polars": with_polars,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        given = options.source or write_reviews(work / "invented.tsv", 30_000)
        print(f"{cpu_name()}, {THREADS} threads", flush=True)
        measured(contestants, repeated(given, work / "warm.tsv", 1), 1, work)  # untimed: Java compiles
        source = repeated(given, work / "reviews.tsv", options.megabytes)
        size = source.stat().st_size
        seconds, rows = measured(contestants, source, options.rounds, work)
        print(f"\n{size / 1e6:,.0f} MB, {max(rows.values()):,} rows, {options.rounds} rounds")
        print_table(size, seconds, rows)
    spark.stop()


if __name__ == "__main__":
    main()

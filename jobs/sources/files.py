"""Source files of an ingest: found from files, folders and globs, told apart by checksum, their lines numbered by
Spark.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from jobs.lake.schemas import RAW_COLUMNS
from jobs.storage import literal_path
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ENDINGS = (".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.zst", ".gz", ".bz2", ".zst")


@dataclass(frozen=True)
class SourceFile:
    """A file to be ingested. `name` is what the tables show; `checksum` is the sha256 of the file as it lies."""

    path: Path
    checksum: str
    bytes: int

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def ingest_id(self) -> str:
        return self.checksum[:16]


def find_sources(arguments: Sequence[str]) -> list[SourceFile]:
    """The files that files, folders and globs stand for, in the order given (by name within each),
    each content once.
    """
    paths: dict[Path, None] = {}
    for argument in arguments:
        paths.update(dict.fromkeys(_expand(argument)))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_describe, paths))
    return list({source.checksum: source for source in reversed(found)}.values())[::-1]


def _expand(argument: str) -> list[Path]:
    if "://" in argument:
        raise ReviewriskError(
            f"{argument}: sources are local files, folders or globs; copy the file to a disk that every Spark worker"
            " sees."
        )
    path = Path(argument).expanduser()
    if path.is_dir():
        found = sorted(
            child
            for child in path.iterdir()
            if child.is_file() and child.name.endswith(ENDINGS) and not child.name.startswith(("_", "."))
        )
        if not found:
            raise ReviewriskError(f"The folder {argument} holds no file ending in {', '.join(ENDINGS[:4])}.")
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())  # noqa: PTH207 (a pattern may be absolute)
        if not found:
            raise ReviewriskError(f"There is no file {argument}, and as a glob it matches none.")
    hidden = [child for child in found if child.name.startswith(("_", "."))]
    if hidden:
        raise ReviewriskError(
            f"{hidden[0]} is not read: Spark takes files whose names begin with _ or . for unfinished ones. Rename it."
        )
    wrong = [child for child in found if not child.name.endswith(ENDINGS)]
    if wrong:
        raise ReviewriskError(f"{wrong[0]} is not a source: a name must end in {', '.join(ENDINGS[:4])}.")
    return [child.resolve() for child in found]


def _describe(path: Path) -> SourceFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return SourceFile(path, digest.hexdigest(), path.stat().st_size)


@dataclass(frozen=True)
class NumberedLines:
    """(source_checksum, source_order, source_line, value) for every line; and by checksum each file's first line and
    its line count.
    """

    frame: DataFrame
    headers: dict[str, str]
    counts: dict[str, int]


def number_lines(spark: SparkSession, sources: Iterable[SourceFile], first_order: int) -> NumberedLines:
    """Every line of the files with its number, the header being line 1.

    Spark reads a file in blocks. A first, cheap pass counts the lines of each block; the number of a line is then the
    lines of the blocks before it plus its place in its own. Both passes see the same blocks, as the session fixes
    spark.sql.files.minPartitionNum; whoever counts the lines of `frame` must find `counts`.
    """
    from pyspark.sql import functions as F

    listed = list(sources)
    lines = (
        spark.read.option("lineSep", "\n")
        .text([literal_path(str(source.path)) for source in listed])
        .select(
            "value",
            F.col("_metadata.file_path").alias("file_path"),
            F.col("_metadata.file_block_start").alias("block"),
            F.monotonically_increasing_id().alias("position"),
        )
    )
    blocks = (
        lines.groupBy("file_path", "block")
        .agg(
            F.count("*").alias("lines"),
            F.min("position").alias("first"),
            F.min_by("value", "position").alias("first_line"),
        )
        .orderBy("file_path", "block")
        .collect()
    )
    by_path = {str(source.path): (place, source) for place, source in enumerate(listed)}
    counts: dict[str, int] = {}
    headers: dict[str, str] = {}
    rows = []
    for block in blocks:
        place, source = by_path[unquote(urlsplit(block.file_path).path)]
        headers.setdefault(source.checksum, block.first_line)
        rows.append(
            (
                block.file_path,
                block.block,
                block.first,
                counts.get(source.checksum, 0) + 1,
                source.checksum,
                first_order + place,
            )
        )
        counts[source.checksum] = counts.get(source.checksum, 0) + block.lines
    schema = "file_path string, block long, first long, base long, source_checksum string, source_order long"
    numbered = lines.join(
        F.broadcast(spark.createDataFrame(rows, schema)), on=["file_path", "block"], how="inner"
    ).select(
        "source_checksum",
        "source_order",
        (F.col("base") + F.col("position") - F.col("first")).alias("source_line"),
        "value",
    )
    return NumberedLines(numbered, headers, counts)


def header_problem(line: str | None) -> str | None:
    """Why a first line is not the expected header, or None where it is. A byte-order mark and CRLF are accepted."""
    if line is None:
        return "it is empty"
    columns = line.removeprefix("\ufeff").rstrip("\r").split("\t")
    if tuple(columns) == RAW_COLUMNS:
        return None
    if len(columns) == 1:
        return f"its first line has no tab, so it is not tab-separated; expected the header {' '.join(RAW_COLUMNS)}"
    missing = [name for name in RAW_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in RAW_COLUMNS]
    if missing == [] and unknown == []:
        return "its header has the right columns in another order"
    return (
        f"its header lacks {', '.join(missing) or 'nothing'} and has unknown"
        f" {', '.join(repr(name[:40]) for name in unknown[:5]) or 'nothing'}"
    )

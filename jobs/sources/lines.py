"""Lines of source files in Spark, each with its number. Tasks read the files themselves, so that a file may have any
name and damage is a row that says so, not a failed task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.config import Quoting
from jobs.sources.files import SourceFile
from jobs.sources.formats import (
    LONGEST_LINE,
    UnreadableSourceError,
    compression_of,
    open_source,
    quoted_fields,
    read_bytes,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

CHUNK = 4 * 2**20
LINES_SCHEMA = pa.schema(
    [
        ("source_checksum", pa.string()),
        ("source_line", pa.int64()),
        ("value", pa.binary()),
        ("fields", pa.list_(pa.binary())),
        ("problem", pa.string()),
    ]
)


@dataclass(frozen=True)
class Block:
    """Whole lines of a source that one task reads: `length` bytes from `start`; None: to the end."""

    source: SourceFile
    start: int
    length: int | None
    first_line: int


def read_lines(spark: SparkSession, sources: Sequence[SourceFile], quoting: Quoting) -> DataFrame:
    """One row per line after the header (which is line 1): checksum, number, `value` as read, `fields` where
    quoting has to be undone (none where that fails), and `problem` where the file cannot be read from this line on.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    blocks = [block for source in sources for block in _blocks(source)]

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch.column(0).to_pylist():
                yield from read_block(blocks[place], quoting)

    lines = spark.range(0, len(blocks), 1, max(len(blocks), 1)).mapInArrow(read, from_arrow_schema(LINES_SCHEMA))
    return lines.withColumns({"value": F.col("value").cast("string"), "fields": F.col("fields").cast("array<string>")})


def _blocks(source: SourceFile) -> list[Block]:
    if compression_of(source.path):
        return [Block(source, 0, None, 1)]
    return [Block(source, cut.start, end.start - cut.start, cut.line) for cut, end in pairwise(source.cuts)]


def read_block(block: Block, quoting: Quoting) -> Iterator[pa.RecordBatch]:
    """A block's lines as rows of LINES_SCHEMA, the header left out; last a row with the problem, where there is one."""
    number = block.first_line
    try:
        for lines in _lines(block):
            skipped = 1 if number == 1 else 0
            yield _batch(block, number + skipped, lines[skipped:], quoting)
            number += len(lines)
        _check_unchanged(block.source)
    except UnreadableSourceError as error:
        yield _rows(block, [number], [None], [None], str(error))
    except OSError as error:
        problem = f"a Spark worker cannot read the file ({error.strerror}): put it where every worker can read it"
        yield _rows(block, [number], [None], [None], problem)


def _lines(block: Block) -> Iterator[list[bytes]]:
    """The block's lines, some at a time, without their line feeds."""
    rest = b""
    for data in _chunks(block):
        whole, end, rest = (rest + data).rpartition(b"\n")
        if end:
            yield whole.split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise UnreadableSourceError(
                f"a line is longer than {LONGEST_LINE // 2**20} MiB, so it is no review: remove it"
            )
    if rest:
        yield [rest]


def _chunks(block: Block) -> Iterator[bytes]:
    compression = compression_of(block.source.path)
    left = block.length
    with open_source(block.source.path, compression) as stream:
        if block.start:
            stream.seek(block.start)
        while left != 0 and (data := read_bytes(stream, CHUNK if left is None else min(CHUNK, left))):
            left = None if left is None else left - len(data)
            yield data


def _check_unchanged(source: SourceFile) -> None:
    found = source.path.stat()
    if (found.st_size, found.st_mtime_ns) != (source.bytes, source.modified):
        raise UnreadableSourceError("the file changed during reading: ingest it again when it is complete")


def _batch(block: Block, first: int, lines: list[bytes], quoting: Quoting) -> pa.RecordBatch:
    fields: list[list[bytes] | None] = [
        quoted_fields(line) if quoting == "double" and b'"' in line else None for line in lines
    ]
    return _rows(block, list(range(first, first + len(lines))), lines, fields)


def _rows(
    block: Block, numbers: list[int], lines: Sequence[bytes | None], fields: Any, problem: str | None = None
) -> pa.RecordBatch:
    columns = {
        "source_checksum": [block.source.checksum] * len(numbers),
        "source_line": numbers,
        "value": lines,
        "fields": fields,
        "problem": [problem] * len(numbers),
    }
    return pa.RecordBatch.from_pydict(columns, schema=LINES_SCHEMA)

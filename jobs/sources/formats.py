"""What a source file is, told from its name, its first bytes and its first lines before Spark reads it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from jobs.config import Quoting
from jobs.lake.schemas import RAW_COLUMNS

# How a name ends, in any case, and how such a file is compressed.
COMPRESSION: dict[str, str | None] = {".tsv": None, ".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
ENDINGS = ".tsv, .tsv.gz, .tsv.bz2 or .tsv.zst"
LONGEST_LINE = 64 * 2**20  # bytes; a longer one is no review, and a task must hold a line
SAMPLE = 2 * 2**20  # bytes that are looked at before a file is taken
EMPTY = "it is empty"

# First bytes, what they belong to, and how such a file is mended.
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "rename it to end in .tsv.gz"),
    (b"BZh", "compressed with bzip2", "rename it to end in .tsv.bz2"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "rename it to end in .tsv.zst"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it with `unxz` and give the .tsv file"),
    (b"PK\x03\x04", "a zip archive, as Excel files are too", "unpack it, or save the sheet as tab-separated text"),
    (b"PAR1", "a Parquet file", "write it as tab-separated text"),
)
BY_COMPRESSION = {None: "", "gzip": SIGNATURES[0][1], "bz2": SIGNATURES[1][1], "zstd": SIGNATURES[2][1]}


class UnreadableSourceError(Exception):
    """A source cannot be read to its end; the message says what it is and how to mend it."""


def compression_of(path: Path) -> str | None:
    """How a file of this name is compressed; None: not at all."""
    return COMPRESSION[path.suffix.lower()]


def is_source_name(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSION


def open_source(path: Path, compression: str | None) -> Any:
    """The file's text as a stream of bytes, unpacked. Read it with `read_bytes`."""
    file: IO[bytes] = path.open("rb")
    return file if compression is None else pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)


def read_bytes(stream: Any, size: int) -> bytes:
    """The next bytes of a source, none at its end; raises UnreadableSourceError where it is damaged."""
    try:
        data: bytes = stream.read(size)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the disk's fault, not the file's
            raise
        raise UnreadableSourceError(_damage(str(error))) from None
    return data


def _damage(message: str) -> str:
    """What an unpacker's message means; it stumbles over foreign bytes only behind a part that it could unpack."""
    if "Truncated" in message:
        return "the compressed file is cut short: copy it again"
    if any(words in message for words in ("header check", "compression method", "magic header", "frame descriptor")):
        return "other data follows its compressed data: unpack it, remove what does not belong, and compress it again"
    return f"the compressed file is damaged: copy it again ({message[:100]})"


def problem_of(path: Path, quoting: Quoting) -> str | None:
    """Why a file is refused, and how to mend it; EMPTY where it holds nothing, None where its lines can be read."""
    compression = compression_of(path)
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        return EMPTY
    problem = _compression_problem(path, start, compression)
    if problem:
        return problem
    try:
        with open_source(path, compression) as stream:
            sample = _read_sample(stream)
    except UnreadableSourceError as error:
        return str(error)
    return _text_problem(sample, quoting) if sample else EMPTY


def _read_sample(stream: Any) -> bytes:
    sample = b""
    while len(sample) < SAMPLE and (data := read_bytes(stream, SAMPLE - len(sample))):
        sample += data
    return sample


def _compression_problem(path: Path, start: bytes, compression: str | None) -> str | None:
    """Why the first bytes do not fit the name's ending."""
    for signature, kind, remedy in SIGNATURES:
        if start.startswith(signature) and kind != BY_COMPRESSION[compression]:
            return f"its content ({kind}) does not fit its name: {remedy}"
    if compression is not None and not any(start.startswith(signature) for signature, _, _ in SIGNATURES):
        return f"its name ends in {path.suffix}, but it is not compressed: rename it to end in .tsv"
    return None


def _text_problem(sample: bytes, quoting: Quoting) -> str | None:
    """Why the first part of a file's text is not what is expected."""
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in sample[:64]:
        return "it is not UTF-8 text, but perhaps UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"
    first, end, rest = sample.partition(b"\n")
    if not end and len(sample) >= SAMPLE:
        return f"its first line is longer than {SAMPLE // 2**20} MiB: give a table of reviews with one review a line"
    lines = rest.split(b"\n")
    return header_problem(first, quoting) or quoting_problem(lines[:-1] or lines, quoting)


def header_problem(line: bytes, quoting: Quoting) -> str | None:
    """Why a first line is not the expected header, or None where it is. A byte-order mark and CRLF are accepted."""
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r")
    columns = tuple(text.split("\t"))
    unquoted = tuple(name.strip('"') for name in columns)
    if columns == RAW_COLUMNS or (quoting == "double" and unquoted == RAW_COLUMNS):
        return None
    if unquoted == RAW_COLUMNS:
        return _IS_QUOTED
    if tuple(name.lower() for name in columns) == RAW_COLUMNS:
        return "the names in its header have capital letters: write them in small letters, such as marketplace"
    if columns[-1] == "" and columns[:-1] == RAW_COLUMNS:
        return "its header ends in a tab, which makes a sixteenth column: remove the tab at the end of each line"
    return _other_header(text, columns)


def _other_header(text: str, columns: tuple[str, ...]) -> str:
    if "\r" in text:
        return "its lines end in a carriage return alone: end them in a line feed, for example with `tr '\\r' '\\n'`"
    if len(columns) == 1 and text.count(",") >= 2:
        return "commas, not tabs, separate its columns: write it as tab-separated text"
    if len(columns) == 1:
        return f"its first line has no tab: {_EXPECTED}"
    if len(columns) == len(RAW_COLUMNS) and not set(columns) & set(RAW_COLUMNS):
        return f"its first line is no header; put this line before it, its names separated by tabs: {_NAMES}"
    missing = [name for name in RAW_COLUMNS if name not in columns]
    unknown = [repr(name[:40]) for name in columns if name not in RAW_COLUMNS]
    if not missing and not unknown:
        return f"its header has the columns in another order, or one twice: {_EXPECTED}"
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has the unknown {', '.join(unknown[:5])}"] if unknown else []
    return f"its header {' and '.join(parts)}: {_EXPECTED}"


_NAMES = " ".join(RAW_COLUMNS)
_EXPECTED = f"write a header of these 15 columns, separated by tabs: {_NAMES}"
_IS_QUOTED = (
    'its fields stand in quotes ("…", with "" for a quote), as pandas writes them: set ingest.quoting to double in'
    " the config"
)
_IS_NOT_QUOTED = (
    "its fields are not in quotes, as ingest.quoting double needs them: set ingest.quoting to none in the config"
)


def quoting_problem(lines: list[bytes], quoting: Quoting) -> str | None:
    """Why lines are not of the dialect that the config names, judged by their fields that have a quote in them.

    A writer that quotes wraps every such field and doubles the quotes inside. In text as it is, most quotes stand alone
    within a field, and one that is wrapped by chance has none doubled.
    """
    wrapped, bare, doubled, wrapped_lines = 0, 0, 0, 0
    for line in lines:
        fields = line.rstrip(b"\r").split(b"\t") if b'"' in line else []
        quoted = [field for field in fields if b'"' in field] if len(fields) == len(RAW_COLUMNS) else []
        whole = [field for field in quoted if _is_wrapped(field)]
        wrapped += len(whole)
        bare += len(quoted) - len(whole)
        doubled += sum(b'""' in field[1:-1] for field in whole)
        wrapped_lines += bool(whole)
    is_usual = wrapped_lines >= max(10, len(lines) / 2)
    if quoting == "none" and wrapped >= 9 * bare and (doubled or is_usual):
        return _IS_QUOTED
    return _IS_NOT_QUOTED if quoting == "double" and bare > wrapped else None


def _is_wrapped(field: bytes) -> bool:
    """Whether a field stands in quotes as a writer puts them: first and last, and those inside doubled."""
    return len(field) > 1 and field[:1] == field[-1:] == b'"' and b'"' not in field[1:-1].replace(b'""', b"")


def quoted_fields(line: bytes) -> list[bytes]:
    """The fields of a line in which quotes wrap fields and are doubled inside; none at all where they do not close."""
    csv.field_size_limit(2 * LONGEST_LINE)
    reader = csv.reader(io.StringIO(line.decode("latin-1"), newline=""), delimiter="\t", strict=True)
    try:
        return [field.encode("latin-1") for field in next(reader)]
    except csv.Error:
        return []

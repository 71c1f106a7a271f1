"""Reading text tables in bounded blocks of whole lines, and turning their text into exact numbers.

The first value that does not fit is found and named: file, row, column, what was expected, what was found.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from pipeline import InputError

from .archives import BROKEN, ByteStream, open_table

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
NULLS = ["", "null", "NULL", "None", "NA", "N/A", "nan", "NaN", "NAN", "-"]
"""Texts that mean no value."""

_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """The text a block of rows was read from: tells the line of a row in the file, and what stands in a cell."""

    block: bytes
    first_line: int
    """The file's line that the block begins with, from 1."""
    names: Sequence[str]
    delimiter: str

    def number(self, offset: int) -> int:
        """The file's line of the row at `offset`; lines that are empty hold no row."""
        return self.first_line + self._places()[offset]

    def cell(self, offset: int, column: str) -> str:
        """What is written in a cell, without blanks and quotes."""
        line = self.block.splitlines()[self._places()[offset]].decode("utf-8", "replace")
        cells = next(csv.reader([line], delimiter=self.delimiter), [])
        return cells[self.names.index(column)].strip() if column in self.names[: len(cells)] else ""

    def _places(self) -> list[int]:
        return [place for place, line in enumerate(self.block.splitlines()) if line]


@dataclass(frozen=True)
class Where:
    """A column of a block of rows: `file:first_row` and on, counting data rows from 1; 0 where they are not known."""

    file: Path
    first_row: int
    column: str = ""
    lines: Lines | None = None
    """The text they were read from, where there is one with a header: people look for a line, not for a row."""

    def at(self, column: str) -> Where:
        return Where(self.file, self.first_row, column, self.lines)

    def place(self, offset: int) -> str:
        """The row at `offset` within this block, as people are told of it."""
        if self.lines is not None:
            return f"{self.file}: line {self.lines.number(offset)}"
        return f"{self.file}: row {self.first_row + offset}" if self.first_row else str(self.file)

    def written(self, offset: int) -> str:
        """What stands where no value was found: `none`, or the text that means none."""
        text = self.lines.cell(offset, self.column) if self.lines is not None and self.column else ""
        return f"{text!r}, which means none" if text else "none"

    def error(self, offset: int, expected: str, found: str, suggestion: str = "") -> InputError:
        """The error for the row at `offset` within this block."""
        text = self.place(offset)
        if self.column:
            text += f", column '{self.column}'"
        text += f": expected {expected}, found {found}"
        return InputError(f"{text}; {suggestion}" if suggestion else text)


def blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The text of a plain, .gz or .zip file (one table) as blocks of whole lines, without a byte order mark.

    Holds one block at a time. Raises `InputError` where the file is absent, cut short or damaged.
    """
    done = 0
    try:
        with open_bytes(path) as stream:
            carry, ended = b"", False
            while not ended:
                piece = _filled(stream, block_bytes)
                ended = len(piece) < block_bytes
                if not done:
                    piece = _without_bom(path, piece)
                done += len(piece)
                carry += piece
                end = len(carry) if ended else carry.rfind(b"\n") + 1
                if end:
                    yield carry[:end]
                    carry = carry[end:]
                elif len(carry) > MAX_LINE_BYTES:
                    raise InputError(f"{path}: expected lines of text, found none in {MAX_LINE_BYTES >> 20} MiB")
    except BROKEN as error:
        raise InputError(
            f"{path}: expected a complete file, found damage after {done:,} bytes of text ({error}); "
            "fetch or unpack the file again"
        ) from error


def first_lines(path: Path, count: int) -> list[str]:
    """Up to `count` first lines that are not blank, without line ends; reads no more than a block."""
    for block in blocks(path, 1 << 16):
        lines = [line for line in block.decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[:count]
    return []


def open_bytes(path: Path) -> ByteStream:
    """A byte stream of a file's content, unpacked by what the file starts with rather than by its name."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file, found none")
    with path.open("rb") as head:
        magic = head.read(4)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path, "rb")
    if magic == b"\x28\xb5\x2f\xfd":
        raise InputError(f"{path}: expected plain text, gzip or zip, found zstandard; unpack it with `zstd -d`")
    if magic[:2] == b"PK" or path.suffix.lower() == ".zip":
        return open_table(path)
    return path.open("rb")


def table(block: bytes, names: Sequence[str], where: Where, delimiter: str = ",") -> pa.RecordBatch:
    """A block of lines as columns of text; null where a cell is empty or one of NULLS.

    Raises `InputError` for the first line with too few or too many cells.
    """
    wrong: list[Any] = []

    def refuse(row: Any) -> str:
        if not wrong:
            wrong.append(row)
        return "error"

    try:
        read = pa_csv.read_csv(
            io.BytesIO(block),
            pa_csv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(block) + 1),
            pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=refuse),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.utf8()),
                null_values=NULLS,
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        if wrong:
            row = wrong[0]
            raise where.error(
                (row.number or 1) - 1,
                f"{len(names)} columns ({delimiter.join(names)})",
                f"{row.actual_columns} in '{row.text[:120]}'",
                "check the delimiter and whether the file was cut short",
            ) from error
        raise InputError(f"{where.file}: after row {where.first_row}: {error}") from error
    batches: list[pa.RecordBatch] = read.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pydict({}, schema=read.schema)


def decimals(texts: pa.Array, kind: pa.DataType, where: Where) -> pa.Array:
    """Exact decimals (or float64, if `kind` is) of texts; a value with more digits than fit is an `InputError`."""
    return converted(texts, lambda part: part.cast(kind), f"a number that fits {kind}", where)


def required(values: pa.Array, where: Where) -> pa.Array:
    """The values, if none is null."""
    if values.null_count:
        offset = pc.index(pc.is_null(values), True).as_py()
        raise where.error(offset, "a value", where.written(offset))
    return values


def converted(texts: pa.Array, convert: Callable[[pa.Array], pa.Array], expected: str, where: Where) -> pa.Array:
    """`convert(texts)`, tried again without surrounding blanks; else an error naming the first row that fails."""
    try:
        return convert(texts)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts) if pa.types.is_string(texts.type) else texts
    except pa.ArrowNotImplementedError as error:
        raise where.error(0, expected, f"a value of type {texts.type}") from error
    try:
        return convert(trimmed)
    except pa.ArrowInvalid as error:
        offset = _first_failing(trimmed, convert)
        raise where.error(
            offset, expected, repr(texts[offset].as_py()), _advice(str(error), str(texts[offset].as_py()))
        ) from error


def _first_failing(texts: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    good, bad = 0, len(texts)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(texts.slice(good, middle - good))
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good


def _advice(message: str, value: str) -> str:
    # Arrow says the same of what has too many digits on either side of the point.
    if "data loss" in message and value.partition(".")[2].rstrip("0 "):
        return (
            "it has more decimal places than the stream's scale: declare `scale` or `size_scale`, "
            "or read floats: `--set containers.data.numbers=float64`"
        )
    if "data loss" in message or "does not fit" in message or "precision" in message:
        return "it is too large for the stream's scale: declare a smaller `scale` or `size_scale`"
    return ""


def _filled(stream: ByteStream, size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the end."""
    piece = stream.read(size)
    while 0 < len(piece) < size and (more := stream.read(size - len(piece))):
        piece += more
    return piece


def _without_bom(path: Path, piece: bytes) -> bytes:
    if piece[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path}: expected UTF-8 text, found UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`")
    return piece.removeprefix(_UTF8_BOM)

"""Reads text tables, plain, .gz or .zip, block by block as exact standard records.

A cell may be quoted but must not hold a line end. Errors name lines of the file, the header being one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline import InputError

from .columns import ColumnMap, map_columns
from .convert import Converter
from .counts import Counts
from .declaration import Declaration
from .recording import Recording
from .standardizing import Standardizer
from .text import Lines, Where, blocks, first_lines, table
from .times import guess_format

_NUMBER = re.compile(r'\s*"?[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"?\s*')


def open_csv(files: Sequence[Path], instrument: str, declared: Declaration) -> Recording:
    """The recording of text tables that share one layout; reads the first lines of each. Raises `InputError`.

    `instrument` names the rows of tables without such a column.
    """
    layouts = [Layout.of(file, declared) for file in files]
    for file, layout in zip(files, layouts, strict=True):
        if layout.names != layouts[0].names:
            raise InputError(
                f"{file}: expected the columns of {files[0].name} ({', '.join(layouts[0].names)}), "
                f"found {', '.join(layout.names)}; replay files of one layout at a time"
            )
    mapped = map_columns(layouts[0].names, declared, files[0], nameless_time=layouts[0].time_index(files[0]))
    schema = Converter(mapped, declared, float_columns=frozenset()).schema

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        converter = Converter(mapped, declared, float_columns=frozenset())
        standard = Standardizer(
            schema, counts, sources=[file.name for file in files], instruments=[instrument] * _unnamed(mapped)
        )
        for place, (file, layout) in enumerate(zip(files, layouts, strict=True)):
            standard.open(place)
            for rows, where in layout.rows(file):
                yield standard.batch(converter.columns(rows, where), where)

    return Recording(schema, tuple(files), read, mapped.unused)


class Layout:
    """How the lines of one file are cut into named columns."""

    def __init__(self, names: tuple[str, ...], delimiter: str, header: bool) -> None:
        self.names = names
        self._delimiter = delimiter
        self._header = header

    @classmethod
    def of(cls, file: Path, declared: Declaration) -> Layout:
        lines = first_lines(file, 1)
        if not lines:
            raise InputError(f"{file}: expected a table, found an empty file")
        delimiter = declared.delimiter or max(",;\t|", key=lines[0].count)
        cells = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
        header = declared.header
        if header is None:
            header = not any(_NUMBER.fullmatch(cell) for cell in cells)
        columns = declared.columns
        if isinstance(columns, list):
            if len(columns) != len(cells):
                raise InputError(
                    f"{file}: expected the {len(columns)} declared columns, found {len(cells)} in '{lines[0][:120]}'"
                )
            return cls(_distinct(columns), delimiter, header)
        if not header:
            raise InputError(
                f"{file}: expected a header, found '{lines[0][:120]}'; name the columns in order, such as "
                "`columns: [ts_event, open, high, low, close, volume]` (any other name for those to ignore)"
            )
        return cls(_distinct(cells), delimiter, header)

    def time_index(self, file: Path) -> str | None:
        """The first column, where the header has no name for it and it begins with a time: how pandas writes an index.

        A count of rows, which is the other index it writes, is too short for a time.
        """
        lines = first_lines(file, 2) if self.names[0] == _nameless(0) else []
        if not self._header or len(lines) < 2:
            return None
        cell = lines[1].split(self._delimiter)[0].strip().strip('"')
        is_count = cell.isdigit() and len(cell) < len("20240101")
        return None if is_count or guess_format(cell) is None else self.names[0]

    def rows(self, file: Path) -> Iterator[tuple[pa.RecordBatch, Where]]:
        row, line, skip = 1, 1, self._header
        for block in blocks(file):
            begins, line = line, line + block.count(b"\n")
            if skip:
                whole = block.count(b"\n")
                block = block.lstrip(b"\r\n")
                end = block.find(b"\n")
                if end < 0 and not block:
                    continue
                block, skip = block[end + 1 :] if end >= 0 else b"", False
                begins += whole - block.count(b"\n")
            if not block.strip():
                continue
            where = Where(file, row, lines=Lines(block, begins, self.names, self._delimiter))
            rows = table(block, self.names, where, self._delimiter)
            row += rows.num_rows
            if rows.num_rows:
                yield rows, where


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, later duplicates and blanks told apart by their place."""
    seen: set[str] = set()
    distinct = []
    for place, name in enumerate(names):
        if not name or name in seen:
            name = f"{name}{_nameless(place)}"
        seen.add(name)
        distinct.append(name)
    return tuple(distinct)


def _nameless(place: int) -> str:
    """What a column without a name is called."""
    return f"#{place + 1}"


def _unnamed(mapped: ColumnMap) -> bool:
    return "instrument_id" not in mapped.source

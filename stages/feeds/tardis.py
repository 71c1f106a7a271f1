"""Reads Tardis' CSV files: books and their changes, liquidations, derivative tickers, trades and quotes.

What the types of file hold is told in `tardis_columns`. Of derivative tickers, `schema: open_interest` reads the open
interest, otherwise their funding rates and prices are read; liquidations look like trades, and are told by the name of
their file or by `schema: liquidation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline import InputError
from stages.schemas import DEFAULT_SCALE, Scales, schema_of

from .counts import Counts
from .csv import Layout, open_csv
from .declaration import Declaration
from .recording import Recording
from .standardizing import Standardizer
from .tardis_columns import BOOK, LEVEL, Deltas, Liquidations, Reader, Snapshots, Ticker
from .text import first_lines

COMMON = ("exchange", "symbol", "timestamp", "local_timestamp")


def is_tardis(file: Path, declared: Declaration) -> bool:
    """Whether a file holds what only Tardis' header tells; its trades and quotes are tables like any other."""
    names = _header(file)
    return not declared.columns and names[:4] == COMMON and _kind_of(file, names, declared.schema) is not None


def open_tardis(files: Sequence[Path], declared: Declaration) -> Recording:
    """The recording of files of one type; reads their headers. Raises `InputError`."""
    names = _header(files[0])
    if names[:4] != COMMON:
        found = ", ".join(names[:8]) or "an empty file"
        raise InputError(f"{files[0]}: expected Tardis' columns ({', '.join(COMMON)}, ...), found {found}")
    kind = _kind_of(files[0], names, declared.schema)
    if kind is None:
        return open_csv(files, f"{files[0].name.split('.')[0]}.TARDIS".upper(), declared)
    for file in files[1:]:
        if (other := _header(file)) != names:
            raise InputError(
                f"{file}: expected the columns of {files[0].name}, found {', '.join(other[:12])}; "
                "replay files of one type at a time"
            )
    scale = DEFAULT_SCALE if declared.scale is None else declared.scale
    size_scale = scale if declared.size_scale is None else declared.size_scale
    schema = schema_of(kind, Scales(scale, size_scale))
    reader = _READERS[kind]

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        standard = Standardizer(schema, counts, sources=[file.name for file in files])
        for place, file in enumerate(files):
            standard.open(place)
            for columns, where in reader(schema, names).columns(Layout(names, ",", True).rows(file)):
                yield standard.batch(columns, where)

    return Recording(schema, tuple(files), read)


def _header(file: Path) -> tuple[str, ...]:
    lines = first_lines(file, 1)
    return tuple(cell.strip().strip('"') for cell in lines[0].split(",")) if lines else ()


def _kind_of(file: Path, names: Sequence[str], schema: str) -> str | None:
    """The kind of record of a type of file; None of trades and quotes, which the reader of CSV knows."""
    if names[4:] == BOOK:
        return "book_delta"
    if len(names) > 4 and all(LEVEL.fullmatch(name) for name in names[4:]):
        return "book_snapshot"
    if "funding_rate" in names:
        return "open_interest" if schema == "open_interest" else "funding_rate"
    if schema == "liquidation" or (schema == "auto" and "liquidations" in file.name):
        return "liquidation"
    return None


_READERS: dict[str, Callable[[pa.Schema, Sequence[str]], Reader]] = {
    "book_delta": Deltas,
    "book_snapshot": Snapshots,
    "liquidation": Liquidations,
    "funding_rate": Ticker,
    "open_interest": Ticker,
}

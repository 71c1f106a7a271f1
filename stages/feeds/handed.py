"""Reads a table that a program has handed over as standard records, by the rules for parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline import HandedTable

from .columns import map_columns
from .convert import Converter
from .counts import Counts
from .declaration import Declaration
from .parquet import READ_ROWS, time_index
from .recording import Recording
from .standardizing import Standardizer
from .text import Where

NAME = Path("the table")
"""What errors call it."""


def open_handed(handed: HandedTable, instrument: str, declared: Declaration) -> Recording:
    """The recording in a table; `instrument` names the rows where no column does. Raises `InputError`."""
    table = handed.table
    mapped = map_columns(table.column_names, declared, NAME, nameless_time=time_index(table.schema))
    floats = frozenset(
        standard for standard, source in mapped.source.items() if pa.types.is_floating(table.schema.field(source).type)
    )
    schema = Converter(mapped, declared, float_columns=floats).schema
    columns = list(dict.fromkeys(mapped.source.values()))
    chosen = table.select(columns).replace_schema_metadata(None)

    def read(counts: Counts) -> Iterator[pa.RecordBatch]:
        converter = Converter(mapped, declared, float_columns=floats)
        instruments = () if "instrument_id" in mapped.source else (instrument,)
        standard = Standardizer(schema, counts, sources=["table"], instruments=instruments)
        standard.open(0)
        row = 1
        for rows in chosen.to_batches(max_chunksize=READ_ROWS):
            if rows.num_rows:
                where = Where(NAME, row)
                yield standard.batch(converter.columns(rows, where), where)
                row += rows.num_rows

    naive = [
        source
        for standard, source in mapped.source.items()
        if standard in ("ts_event", "ts_recv", "bar_start", "bar_end") and _is_naive(table.schema.field(source).type)
    ]
    notes = (f"times in '{naive[0]}' say no zone and are read as {declared.time_zone}",) if naive else ()
    return Recording(schema, (), read, mapped.unused, notes)


def _is_naive(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None))

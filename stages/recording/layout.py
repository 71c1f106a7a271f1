"""Where the records of an instrument lie, and how they are written there."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from stages.sinks.encoding import encoding_options

NOTHING: Final = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the path of a file, by the convention of readers of such layouts."""
TOGETHER: Final = ("instrument",)
"""Kinds of which each instrument has a row or two: those of all lie in one file."""
_LONGEST: Final = 180


def folder_of(kind: str, venue: str, instrument: str | None, ts_recv: int) -> str:
    """`trade/venue=binance_spot/instrument=BTCUSDT.BINANCE/date=2024-08-08`, by the UTC date of receipt (ns)."""
    if kind in TOGETHER:
        return f"{kind}/venue={venue}/date={_date(ts_recv)}"
    return f"{kind}/venue={venue}/instrument={path_part(instrument)}/date={_date(ts_recv)}"


def _date(ts_recv: int) -> str:
    date = datetime.fromtimestamp(ts_recv // 1_000_000_000, UTC).date()
    return date.isoformat()


def path_part(name: str | None) -> str:
    """A name as a part of a path: what is no letter, digit or one of `-_.~` as `%2F`; one too long ends in a hash."""
    if name is None:
        return NOTHING
    part = quote(name, safe="")
    if len(part) > _LONGEST:
        part = f"{part[: _LONGEST - 33]}~{blake2b(name.encode(), digest_size=16).hexdigest()}"
    return part


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Of pyarrow's ParquetWriter. Rows are in order of when they were received, then of their messages."""
    import pyarrow.parquet as pq

    order = [pq.SortingColumn(schema.get_field_index(name)) for name in ("ts_recv", "ingest_seq")]
    return {**encoding_options(schema), "compression": "zstd", "compression_level": 3, "sorting_columns": order}

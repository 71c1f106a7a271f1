"""Where the records of an instrument lie, and how they are written there."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

NOTHING: Final = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the path of a file, by the convention of readers of such layouts."""
_LONGEST: Final = 180


def folder_of(kind: str, venue: str, instrument: str | None, ts_recv: int) -> str:
    """`trade/venue=binance_spot/instrument=BTCUSDT.BINANCE/date=2024-08-08`, by the UTC date of receipt (ns)."""
    date = datetime.fromtimestamp(ts_recv // 1_000_000_000, UTC).date().isoformat()
    return f"{kind}/venue={venue}/instrument={path_part(instrument)}/date={date}"


def path_part(name: str | None) -> str:
    """A name as a part of a path: what is no letter, digit or one of `-_.~` as `%2F`; one too long ends in a hash."""
    if name is None:
        return NOTHING
    part = quote(name, safe="")
    if len(part) > _LONGEST:
        part = f"{part[: _LONGEST - 33]}~{blake2b(name.encode(), digest_size=16).hexdigest()}"
    return part


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Of pyarrow's ParquetWriter: exact numbers as integers, times and ordinals as deltas, words by dictionary."""
    deltas = [field.name for field in schema if pa.types.is_timestamp(field.type) or pa.types.is_uint64(field.type)]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": [field.name for field in schema if _repeats(field.type)],
        "column_encoding": dict.fromkeys(deltas, "DELTA_BINARY_PACKED") or None,
        "write_statistics": [field.name for field in schema if pa.types.is_timestamp(field.type)],
        "store_decimal_as_integer": True,
        "sorting_columns": sorting(schema),
    }


def sorting(schema: pa.Schema) -> Any:
    """Rows are in order of when they were received, then of their messages."""
    import pyarrow.parquet as pq

    return [pq.SortingColumn(schema.get_field_index(name)) for name in ("ts_recv", "ingest_seq")]


def _repeats(kind: pa.DataType) -> bool:
    small = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
    return small or pa.types.is_dictionary(kind) or pa.types.is_decimal64(kind)

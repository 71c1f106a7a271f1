"""The records of markets: what each column is called, what it holds and in which unit, and how rows are made.

Every record opens with the common columns (`ts_event` to `flags`); TRADE, QUOTE and BAR are the schemas at the
default scale.

`kinds.py` lists every kind of record, column by column; Arrow schemas, row structs and `penstock schema --data` come
from it. What a venue sent is kept as `stages/messages`: columns, too, whose payloads lie together, so that compiled
scanners read them in place. Decoders add rows to `Records`, each with the place of its message; texts of prices
become integers in bulk (`text_kernels.py`), and a message with a value that does not fit becomes one `quality_event`,
whichever messages are decoded together.
"""

from .arrays import decimal_array, levels_array, name_array
from .arrow import (
    RECORD_KINDS,
    RecordKind,
    bar_schema,
    quote_schema,
    received_schema,
    record_kind,
    schema_of,
    trade_schema,
)
from .kinds import COMMON, KINDS, Column, Kind
from .names import Names
from .records import Records, Stamped
from .rows import struct_of
from .texts import Counts, decimal_units, time_ns
from .types import (
    DEFAULT_SCALE,
    EXACT,
    INSTRUMENT,
    LARGEST_DECIMAL64,
    NAME,
    NS_UTC,
    SOURCE,
    TRADE_TYPE,
    WIDE_SCALE,
    WORD,
    Scales,
    decimal_type,
)
from .words import (
    ADD,
    AGGREGATED,
    ASK,
    BAR_KINDS,
    BAR_SOURCES,
    BID,
    BLOCK,
    BUY,
    CLEAR,
    DELETE,
    FLAG_BAD_TS_RECV,
    FLAG_LAST,
    FLAG_MAYBE_BAD_BOOK,
    FLAG_MBP,
    FLAG_SNAPSHOT,
    FLAG_TOB,
    HOLES,
    KEYFRAME,
    NO_CHANGE,
    NO_SIDE,
    NO_TRADE,
    NOBODY,
    PLACES_KEY,
    PRICE_TYPES,
    QUALITY_KINDS,
    SELL,
    SHARD_KEY,
    UPDATE,
    WORDS,
)

TRADE = trade_schema()
QUOTE = quote_schema()
BAR = bar_schema()

__all__ = [
    "ADD",
    "AGGREGATED",
    "ASK",
    "BAR",
    "BAR_KINDS",
    "BAR_SOURCES",
    "BID",
    "BLOCK",
    "BUY",
    "CLEAR",
    "COMMON",
    "DEFAULT_SCALE",
    "DELETE",
    "EXACT",
    "FLAG_BAD_TS_RECV",
    "FLAG_LAST",
    "FLAG_MAYBE_BAD_BOOK",
    "FLAG_MBP",
    "FLAG_SNAPSHOT",
    "FLAG_TOB",
    "HOLES",
    "INSTRUMENT",
    "KEYFRAME",
    "KINDS",
    "LARGEST_DECIMAL64",
    "NAME",
    "NOBODY",
    "NO_CHANGE",
    "NO_SIDE",
    "NO_TRADE",
    "NS_UTC",
    "PLACES_KEY",
    "PRICE_TYPES",
    "QUALITY_KINDS",
    "QUOTE",
    "RECORD_KINDS",
    "SELL",
    "SHARD_KEY",
    "SOURCE",
    "TRADE",
    "TRADE_TYPE",
    "UPDATE",
    "WIDE_SCALE",
    "WORD",
    "WORDS",
    "Column",
    "Counts",
    "Kind",
    "Names",
    "RecordKind",
    "Records",
    "Scales",
    "Stamped",
    "bar_schema",
    "decimal_array",
    "decimal_type",
    "decimal_units",
    "levels_array",
    "name_array",
    "quote_schema",
    "received_schema",
    "record_kind",
    "schema_of",
    "struct_of",
    "time_ns",
    "trade_schema",
]

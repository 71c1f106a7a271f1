"""What the numbers and words in records stand for: flags, sides, actions, and lists of words in the order of codes."""

from __future__ import annotations

FLAG_LAST, FLAG_TOB, FLAG_SNAPSHOT, FLAG_MBP = 128, 64, 32, 16
FLAG_BAD_TS_RECV, FLAG_MAYBE_BAD_BOOK = 8, 4

BUY, SELL, NO_SIDE = 1, 2, 0
"""Values of `aggressor_side`, and of the side of a liquidation."""
BID, ASK = 1, 2
"""Values of `side` in book deltas; NO_SIDE where a delta concerns both."""

NO_CHANGE, ADD, UPDATE, DELETE, CLEAR = 0, 1, 2, 3, 4
"""Values of `action` in book deltas. NO_CHANGE only moves the sequence: it is received, never published."""

AGGREGATED = "aggregate"
"""Value of `trade_type` of a trade that is the sum of others, and is numbered apart from them."""

BLOCK = "block"
"""Value of `trade_type` of a trade agreed on outside of the book; where trades are numbered, apart from the others."""

NO_TRADE = "none"
"""Value of `trade_type` of what has a trade's number and was none: received, never published."""

BAR_KINDS = ("time", "tick", "volume", "value")
PRICE_TYPES = ("last", "bid", "ask", "mid")
BAR_SOURCES = ("venue", "internal")
QUALITY_KINDS = (
    "disconnect",
    "reconnect",
    "gap",
    "resync",
    "duplicate",
    "out_of_order",
    "late",
    "stale",
    "crossed",
    "checksum",
    "clock_skew",
    "overflow_drop",
    "parse_error",
    "out_of_session",
)
HOLES = ("gap", "reconnect", "stale")
"""Kinds of quality event whose time from `gap_start` to `gap_end` is without data."""
NOBODY = "-"
"""Stands for the instrument of events that are about none, such as a connection."""
WORDS = {"bar_kind": BAR_KINDS, "price_type": PRICE_TYPES, "source": BAR_SOURCES, "kind": QUALITY_KINDS}
"""The words of columns of type NAME, in the order of their codes."""

SHARD_KEY = b"penstock.shard"
"""Metadata of a parquet file that is one of several written in turns, row group by row group: `b"0/2"`, `b"1/2"`."""

KEYFRAME = "keyframe"
"""`source_id` of rows at the head of a file of book deltas which say what the book was before it; no update is so."""
PLACES_KEY = b"penstock.message_rows"
"""Metadata of a parquet file some of whose messages had rows of other instruments too, which lie in other files: two
rows of uint32, steps from row to row of the file and places among all rows of the message, by zlib and base 64."""

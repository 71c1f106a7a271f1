"""What the compiled scanner took of a run of messages, as columns of records."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.messages import MessageKind, Messages
from stages.schemas import (
    AGGREGATED,
    ASK,
    BID,
    DELETE,
    FLAG_LAST,
    FLAG_TOB,
    NO_CHANGE,
    NO_SIDE,
    UPDATE,
    Records,
    Scales,
)

from .scanning import (
    AGGREGATE,
    ASK_PRICE,
    ASK_SIZE,
    BEGIN,
    DEPTH,
    END,
    FIELDS,
    FIRST,
    ID,
    PREVIOUS,
    PRICE,
    QUOTE,
    SIDE,
    SIZE,
    SYMBOL,
    TIME,
    TRADE,
    scan,
)
from .streams import streams_of
from .tokens import MOST_SYMBOLS
from .wire import MICROSECONDS_FROM

FEW = 100
"""Numbers up to which it is faster to write one by one than to set up Arrow's cast."""
_SMALLEST_LEVEL = len('["1","2"],') - 1


class Scanned(NamedTuple):
    """For each message what it is, 0 where it was left, and its fields; levels of all; symbols in order of appearance.

    A symbol is the message it was first in, the code of its source there, and its text.
    """

    kinds: Any
    fields: Any
    prices: Any
    sizes: Any
    symbols: list[tuple[int, int, str]]

    def add(self, records: Records, codes: dict[str, int]) -> None:
        """Rows of everything that was taken."""
        instruments = np.array([codes[symbol] for _, _, symbol in self.symbols], np.int32)
        there = np.bincount(self.kinds, minlength=QUOTE + 1)
        if there[TRADE] or there[AGGREGATE]:
            self._trades(records, instruments)
        if there[QUOTE]:
            self._quotes(records, instruments)
        if there[DEPTH]:
            self._depth(records, instruments)

    def _of(self, whether: Any) -> tuple[Any, Any]:
        """The places of messages, and their fields, a row for each."""
        taken = np.flatnonzero(whether)
        return taken, self.fields if len(taken) == len(self.kinds) else self.fields[:, taken]

    def _trades(self, records: Records, instruments: Any) -> None:
        at, fields = self._of((self.kinds == TRADE) | (self.kinds == AGGREGATE))
        ids = fields[ID]
        sums = self.kinds[at] == AGGREGATE
        kind = AGGREGATED if sums.all() else np.where(sums, AGGREGATED, "regular").tolist() if sums.any() else "regular"
        records.add(
            "trade",
            at,
            ts_event=_nanoseconds(fields[TIME]),
            instrument_id=instruments[fields[SYMBOL]],
            sequence=ids.view(np.uint64),
            flags=FLAG_LAST,
            price=fields[PRICE],
            size=fields[SIZE],
            aggressor_side=fields[SIDE].astype(np.int8),
            trade_id=_written(ids),
            trade_type=kind,
        )

    def _quotes(self, records: Records, instruments: Any) -> None:
        at, fields = self._of(self.kinds == QUOTE)
        time = fields[TIME]
        records.add(
            "quote",
            at,
            ts_event=pa.array(_nanoseconds(time), mask=time < 0),
            instrument_id=instruments[fields[SYMBOL]],
            sequence=fields[ID].view(np.uint64),
            flags=FLAG_LAST | FLAG_TOB,
            bid_price=fields[PRICE],
            bid_size=fields[SIZE],
            ask_price=fields[ASK_PRICE],
            ask_size=fields[ASK_SIZE],
        )

    def _depth(self, records: Records, instruments: Any) -> None:
        at, fields = self._of(self.kinds == DEPTH)
        begin, end, bids_end = fields[BEGIN], fields[END], fields[SIDE]
        empty = begin == end
        counts = end - begin + empty
        stop = np.cumsum(counts)
        last = np.zeros(stop[-1], np.uint8)
        last[stop - 1] = FLAG_LAST
        prices, sizes = self.prices, self.sizes
        place = np.arange(stop[-1])
        side = np.where(place < np.repeat(stop - counts + bids_end - begin, counts), BID, ASK).astype(np.int8)
        action = np.where(sizes == 0, DELETE, UPDATE).astype(np.int8)
        if empty.any():
            levels = ~np.repeat(empty, counts)
            prices, sizes, action = (_spread(values, levels) for values in (prices, sizes, action))
            side[~levels], action[~levels] = NO_SIDE, NO_CHANGE
        previous = np.repeat(fields[PREVIOUS], counts)
        records.add(
            "book_delta",
            np.repeat(at, counts),
            ts_event=np.repeat(_nanoseconds(fields[TIME]), counts),
            instrument_id=np.repeat(instruments[fields[SYMBOL]], counts),
            sequence=np.repeat(fields[ID], counts).view(np.uint64),
            flags=last,
            action=action,
            side=side,
            price=prices,
            size=sizes,
            first_sequence=np.repeat(fields[FIRST], counts).view(np.uint64),
            prev_sequence=pa.array(previous.view(np.uint64), mask=previous < 0 if (previous < 0).any() else None),
        )


def scan_messages(messages: Messages, scales: Scales) -> Scanned:
    """What can be taken of a run of messages at these scales."""
    text, offsets = messages.joined()
    rows = len(messages)
    most = int(offsets[-1] - offsets[0]) // _SMALLEST_LEVEL + 1
    kinds, fields = np.empty(rows, np.int8), np.empty((FIELDS, rows), np.int64)
    prices, sizes = np.empty(most, np.int64), np.empty(most, np.int64)
    symbols = np.empty((MOST_SYMBOLS, 4), np.int64)
    plain = np.array(
        [all(stream.is_whole_depth or not stream.is_depth for stream in streams_of(url)) for url in messages.url]
    )
    known = scan(
        text,
        offsets,
        messages.kind == MessageKind.RECEIVED,
        plain[messages.url_code],
        messages.source_code.astype(np.int64),
        scales.price,
        scales.size,
        kinds,
        fields,
        prices,
        sizes,
        symbols,
    )
    depth = np.flatnonzero(kinds == DEPTH)
    levels = int(fields[END, depth[-1]]) if len(depth) else 0
    found = [
        (first, source, text[begin:end].tobytes().decode()) for source, begin, end, first in symbols[:known].tolist()
    ]
    return Scanned(kinds, fields, prices[:levels], sizes[:levels], found)


def _spread(values: Any, levels: Any) -> Any:
    """The values where there are levels, zeros between."""
    found = np.zeros(len(levels), values.dtype)
    found[levels] = values
    return found


def _written(ids: Any) -> pa.Array:
    if len(ids) < FEW:
        return pa.array([str(number) for number in ids.tolist()], pa.utf8())
    return pa.array(ids).cast(pa.utf8())


def _nanoseconds(times: Any) -> Any:
    if len(times) and times.max() >= MICROSECONDS_FROM:
        return times * np.where(times >= MICROSECONDS_FROM, 1000, 1_000_000)
    return times * 1_000_000

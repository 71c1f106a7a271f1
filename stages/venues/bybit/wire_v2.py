"""What Bybit sent of derivatives before v5: a structure for each topic's data, with the fields that are read.

Inverse contracts write numbers as numbers, linear ones as texts or either, which is why they are left as they are.
Sources: the documentation of the inverse and of the linear WebSocket API of v2, and recordings.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Symbol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Side: TypeAlias = Literal["Buy", "Sell"]


class Message(Struct, gc=False):
    """A message of a topic; times in microseconds."""

    topic: str
    data: Raw
    type: Literal["snapshot", "delta"] = "snapshot"
    cross_seq: Raw | UnsetType = UNSET
    timestamp_e6: Raw | UnsetType = UNSET


class Outline(Struct, gc=False):
    """Of a message that is of no topic, what tells what it is."""

    topic: Raw | UnsetType = UNSET
    success: bool | UnsetType = UNSET
    request: Raw | UnsetType = UNSET
    ret_code: int | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    time_now: str | UnsetType = UNSET


class Level(Struct, gc=False):
    """Of a book; a deleted level has no size."""

    price: Raw
    symbol: Symbol
    id: Raw
    side: Side
    size: Raw | UnsetType = UNSET


class WholeBook(Struct, gc=False):
    """How linear contracts write a snapshot."""

    order_book: list[Level]


class Changes(Struct, gc=False):
    """In the order in which they are to be made."""

    delete: list[Level] = []
    update: list[Level] = []
    insert: list[Level] = []


class Trade(Struct, gc=False):
    """`side` is the taker's. Before 2020 the time was a text alone."""

    symbol: Symbol
    side: Side
    size: Raw
    price: Raw
    trade_id: Annotated[str, Meta(min_length=1, max_length=64)]
    trade_time_ms: Raw | UnsetType = UNSET
    timestamp: Raw | UnsetType = UNSET
    cross_seq: Raw | UnsetType = UNSET


class Info(Struct, gc=False):
    """Of an instrument: told in full at first, then what has changed; `e4` is to be divided by 10^4."""

    symbol: Symbol
    mark_price: Raw | UnsetType = UNSET
    mark_price_e4: Raw | UnsetType = UNSET
    index_price: Raw | UnsetType = UNSET
    index_price_e4: Raw | UnsetType = UNSET
    funding_rate_e6: Raw | UnsetType = UNSET
    next_funding_time: str | UnsetType = UNSET
    funding_rate_interval: Raw | UnsetType = UNSET
    open_interest: Raw | UnsetType = UNSET
    open_interest_e8: Raw | UnsetType = UNSET


class InfoChanges(Struct, gc=False):
    update: list[Info]


class Candle(Struct, gc=False):
    """`start` and `end` in seconds, the end not included; `timestamp` in microseconds."""

    start: Raw
    end: Raw
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    confirm: bool
    timestamp: Raw


class Liquidation(Struct, gc=False):
    """`side` is that of the position."""

    symbol: Symbol
    side: Side
    price: Raw
    qty: Raw
    time: Raw


class PriceFilter(Struct, gc=False):
    tick_size: Raw


class LotSizeFilter(Struct, gc=False):
    qty_step: Raw


class Listed(Struct, gc=False):
    name: Symbol
    base_currency: str
    quote_currency: str
    price_filter: PriceFilter
    lot_size_filter: LotSizeFilter
    alias: str | None = None


message = msgspec.json.Decoder(Message)
outline = msgspec.json.Decoder(Outline)
levels = msgspec.json.Decoder(list[Level])
whole_book = msgspec.json.Decoder(WholeBook)
changes = msgspec.json.Decoder(Changes)
trades = msgspec.json.Decoder(list[Trade])
info = msgspec.json.Decoder(Info)
info_changes = msgspec.json.Decoder(InfoChanges)
candles = msgspec.json.Decoder(list[Candle])
liquidation = msgspec.json.Decoder(Liquidation)
liquidations = msgspec.json.Decoder(list[Liquidation])
listed = msgspec.json.Decoder(list[Listed])

"""What BitMEX sends: a structure for rows of each table, with the fields that are read and no others.

Numbers are left as the text they are. Source: the documentation of the WebSocket API, and of the tables under
`/api/v1/schema/websocketHelp`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Symbol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Side: TypeAlias = Literal["Buy", "Sell"]


class Filter(Struct, frozen=True, gc=False):
    symbol: Symbol | None = None


class Table(Struct, gc=False):
    """A message of a table: all its rows (partial), or changes of some."""

    table: str
    action: Literal["partial", "insert", "update", "delete"]
    data: Raw
    filter: Filter = Filter()


class Outline(Struct, gc=False):
    """Of a message that is of no table, what tells what it is."""

    table: Raw | UnsetType = UNSET
    info: Raw | UnsetType = UNSET
    success: Raw | UnsetType = UNSET
    subscribe: Raw | UnsetType = UNSET
    unsubscribe: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class LevelRow(Struct, gc=False):
    """Of `orderBookL2`: a price and a size are told where they are new."""

    symbol: Symbol
    id: Raw
    side: Side
    size: Raw | UnsetType = UNSET
    price: Raw | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET


class TopRow(Struct, gc=False):
    """Of `orderBook10`."""

    symbol: Symbol
    bids: list[tuple[Raw, Raw]]
    asks: list[tuple[Raw, Raw]]
    timestamp: str


class QuoteRow(Struct, gc=False):
    symbol: Symbol
    timestamp: str
    bidSize: Raw | UnsetType = UNSET
    bidPrice: Raw | UnsetType = UNSET
    askPrice: Raw | UnsetType = UNSET
    askSize: Raw | UnsetType = UNSET


class TradeRow(Struct, gc=False):
    """`side` is the taker's; `trdType` is told since 2022. Changes of an index are told as trades of size 0."""

    symbol: Symbol
    timestamp: str
    side: Side
    size: Raw
    price: Raw
    trdMatchID: Annotated[str, Meta(min_length=1, max_length=64)]
    trdType: str | None = None


class BinRow(Struct, gc=False):
    """Of `tradeBin1m` and the like: `timestamp` is the end of the span. Prices are null where nothing ever traded."""

    symbol: Symbol
    timestamp: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    volume: Raw
    trades: Raw
    vwap: Raw | UnsetType = UNSET


class FundingRow(Struct, gc=False):
    """Of `funding`: what was paid at `timestamp`."""

    symbol: Symbol
    timestamp: str
    fundingInterval: str
    fundingRate: Raw


class LiquidationRow(Struct, gc=False):
    """An order that closes a position: told in full when it begins, then what changes of it."""

    orderID: Annotated[str, Meta(min_length=1, max_length=64)]
    symbol: Symbol
    side: Side | UnsetType = UNSET
    price: Raw | UnsetType = UNSET
    leavesQty: Raw | UnsetType = UNSET


class InstrumentRow(Struct, gc=False):
    """Told in full at first, then what changes of it."""

    symbol: Symbol
    timestamp: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    typ: str | UnsetType = UNSET
    underlying: str | UnsetType = UNSET
    quoteCurrency: str | UnsetType = UNSET
    settlCurrency: str | UnsetType | None = UNSET
    listing: str | UnsetType | None = UNSET
    settle: str | UnsetType | None = UNSET
    lotSize: Raw | UnsetType = UNSET
    tickSize: Raw | UnsetType = UNSET
    markPrice: Raw | UnsetType = UNSET
    indicativeSettlePrice: Raw | UnsetType = UNSET
    fundingRate: Raw | UnsetType = UNSET
    fundingTimestamp: str | UnsetType | None = UNSET
    fundingInterval: str | UnsetType | None = UNSET
    openInterest: Raw | UnsetType = UNSET


BINS = {"tradeBin1m": 60, "tradeBin5m": 300, "tradeBin1h": 3600, "tradeBin1d": 86400}
"""Tables of candles, and their seconds."""
BOOKS = frozenset(("orderBookL2", "orderBookL2_25"))
"""Tables of a book: the whole one, and one of 25 levels a side."""
OTHERS = frozenset(
    (
        "announcement",
        "chat",
        "connected",
        "insurance",
        "porl",
        "publicNotifications",
        "quoteBin1m",
        "quoteBin5m",
        "quoteBin1h",
        "quoteBin1d",
        "settlement",
    )
)
"""Tables that are known and counted, but become no records."""

table = msgspec.json.Decoder(Table)
outline = msgspec.json.Decoder(Outline)
level_rows = msgspec.json.Decoder(list[LevelRow])
top_rows = msgspec.json.Decoder(list[TopRow])
quote_rows = msgspec.json.Decoder(list[QuoteRow])
trade_rows = msgspec.json.Decoder(list[TradeRow])
bin_rows = msgspec.json.Decoder(list[BinRow])
funding_rows = msgspec.json.Decoder(list[FundingRow])
liquidation_rows = msgspec.json.Decoder(list[LiquidationRow])
instrument_rows = msgspec.json.Decoder(list[InstrumentRow])

"""What Bybit sends (v5): a structure for each topic's data, with the fields that are read and no others.

Field names are Bybit's; prices and sizes are texts, times milliseconds since 1970. Source: the documentation of the
public streams and of `/v5/market/instruments-info`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Time: TypeAlias = Annotated[int, Meta(ge=0, lt=9 * 10**12)]
Id: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Symbol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Side: TypeAlias = Literal["Buy", "Sell"]


class Message(Struct, gc=False):
    """A message of a topic: `cts` is when the matching engine made what it tells, `cs` its number."""

    topic: str
    data: Raw
    ts: Time
    type: Literal["snapshot", "delta"] = "snapshot"
    cts: Time | None = None
    cs: Id | None = None


class Outline(Struct, gc=False):
    """Of a message that is of no topic, what tells what it is."""

    topic: Raw | UnsetType = UNSET
    op: str | UnsetType = UNSET
    success: bool | UnsetType = UNSET
    type: str | UnsetType = UNSET
    retCode: int | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    time: Time | UnsetType = UNSET


class Book(Struct, gc=False):
    """`u` counts the messages of the topic, and begins anew at 1; `seq` is the matching engine's number."""

    s: Symbol
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Id
    seq: Id | None = None


class Trade(Struct, gc=False):
    """`S` is the taker's side, `BT` whether it was a block trade."""

    T: Time
    s: Symbol
    S: Side
    v: str
    p: str
    i: Annotated[str, Meta(min_length=1, max_length=64)]
    BT: bool = False
    seq: Id | None = None


class Ticker(Struct, gc=False):
    """Told in full at first, then what has changed; empty where an instrument has no such thing.

    Best prices are read of options only, which have no topic of their own for them.
    """

    symbol: Symbol
    markPrice: str | UnsetType = UNSET
    indexPrice: str | UnsetType = UNSET
    fundingRate: str | UnsetType = UNSET
    nextFundingTime: str | UnsetType = UNSET
    fundingIntervalHour: str | UnsetType = UNSET
    openInterest: str | UnsetType = UNSET
    openInterestValue: str | UnsetType = UNSET
    bidPrice: str | UnsetType = UNSET
    bidSize: str | UnsetType = UNSET
    askPrice: str | UnsetType = UNSET
    askSize: str | UnsetType = UNSET


class Candle(Struct, gc=False):
    """`start` and `end` are its first and last millisecond, `turnover` what was paid for `volume`."""

    start: Time
    end: Time
    open: str
    high: str
    low: str
    close: str
    volume: str
    turnover: str
    confirm: bool
    timestamp: Time


class Liquidation(Struct, gc=False):
    """`S` is the side of the position."""

    T: Time
    s: Symbol
    S: Side
    v: str
    p: str


class OldLiquidation(Struct, gc=False):
    """The same in the topic of before 2025."""

    updatedTime: Time
    symbol: Symbol
    side: Side
    size: str
    price: str


class PriceFilter(Struct, gc=False):
    tickSize: str


class LotSizeFilter(Struct, gc=False):
    qtyStep: str | None = None
    basePrecision: str | None = None


class Listed(Struct, gc=False):
    symbol: Symbol
    baseCoin: str
    quoteCoin: str
    priceFilter: PriceFilter
    lotSizeFilter: LotSizeFilter
    contractType: str | None = None
    settleCoin: str | None = None
    launchTime: Raw | UnsetType = UNSET
    deliveryTime: Raw | UnsetType = UNSET


class Listing(Struct, gc=False):
    """The result of a request for instruments."""

    category: str
    listed: list[Listed] = msgspec.field(name="list")


message = msgspec.json.Decoder(Message)
outline = msgspec.json.Decoder(Outline)
book = msgspec.json.Decoder(Book)
trades = msgspec.json.Decoder(list[Trade])
ticker = msgspec.json.Decoder(Ticker)
candles = msgspec.json.Decoder(list[Candle])
liquidations = msgspec.json.Decoder(list[Liquidation])
old_liquidation = msgspec.json.Decoder(OldLiquidation)
listing = msgspec.json.Decoder(Listing)

"""What Binance sends: a structure for each message, with the fields that are read and no others.

Field names are Binance's letters. Times are milliseconds since 1970, or microseconds where a connection asked for them.
Sources: the documentation of spot, USD-M and COIN-M market streams and of the market data endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

MICROSECONDS_FROM = 9 * 10**12
"""Times from here on are in microseconds: as milliseconds they would lie beyond the year 2255."""

Time: TypeAlias = Annotated[int, Meta(ge=0, lt=9 * 10**15)]
Id: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Symbol: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Levels: TypeAlias = list[tuple[str, str]]


class Trade(Struct, tag_field="e", tag="trade", gc=False):
    """`m` is whether the buyer was the maker, so that the seller was the aggressor; futures say in `X` what it was."""

    s: Symbol
    t: Id
    p: str
    q: str
    T: Time
    m: bool
    X: str = "MARKET"


class BlockTrade(Trade, tag_field="e", tag="blockTrade", gc=False):
    """Agreed on outside of the book, and numbered apart from the others."""

    X: str = "BLOCK"


class AggTrade(Struct, tag_field="e", tag="aggTrade", gc=False):
    """Trades of one taker order at one price."""

    s: Symbol
    a: Id
    p: str
    q: str
    T: Time
    m: bool
    X: str = "MARKET"


class DepthUpdate(Struct, tag_field="e", tag="depthUpdate", gc=False):
    """Changed levels, or the best levels where the stream is of partial depth (futures)."""

    s: Symbol
    E: Time
    U: Id
    u: Id
    b: Levels
    a: Levels
    T: Time | UnsetType = UNSET
    pu: Id | UnsetType = UNSET


class _BestPrices(Struct, gc=False):
    s: Symbol
    u: Id
    b: str
    B: str
    a: str
    A: str
    T: Time | UnsetType = UNSET
    E: Time | UnsetType = UNSET


class BookTicker(_BestPrices, tag_field="e", tag="bookTicker", gc=False):
    """The best bid and offer, of futures."""


class SpotTicker(_BestPrices, gc=False):
    """The best bid and offer, whose type spot leaves out."""

    e: Literal["bookTicker"] = "bookTicker"


class Candle(Struct, gc=False):
    """`t` and `T` are its first and last millisecond, `q` what was paid for `v`, `V` what takers bought of it."""

    t: Time
    T: Time
    o: str
    h: str
    l: str  # noqa: E741
    c: str
    v: str
    n: Id
    x: bool
    q: str
    V: str


class Kline(Struct, tag_field="e", tag="kline", gc=False):
    s: Symbol
    E: Time
    k: Candle


class MarkPriceUpdate(Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    """`r` is empty and `T` 0 for contracts that are delivered; before 2021 they had neither."""

    s: Symbol
    E: Time
    p: str
    r: str = ""
    T: Time = 0
    i: str | None = None


class LiquidationOrder(Struct, gc=False):
    s: Symbol
    S: str
    q: str
    p: str
    ap: str
    X: str
    z: str
    T: Time


class ForceOrder(Struct, tag_field="e", tag="forceOrder", gc=False):
    E: Time
    o: LiquidationOrder


class ContractInfo(Struct, tag_field="e", tag="contractInfo", gc=False):
    """`cs` is the contract's status."""

    s: Symbol
    E: Time
    cs: str


Event: TypeAlias = (
    Trade | BlockTrade | AggTrade | DepthUpdate | BookTicker | Kline | MarkPriceUpdate | ForceOrder | ContractInfo
)
EVENTS: dict[str, type[Struct]] = {
    "trade": Trade,
    "blockTrade": BlockTrade,
    "aggTrade": AggTrade,
    "depthUpdate": DepthUpdate,
    "bookTicker": BookTicker,
    "kline": Kline,
    "markPriceUpdate": MarkPriceUpdate,
    "forceOrder": ForceOrder,
    "contractInfo": ContractInfo,
}

STATISTICS = frozenset(
    (
        "24hrTicker",
        "24hrMiniTicker",
        "1hTicker",
        "4hTicker",
        "1dTicker",
        "avgPrice",
        "referencePrice",
        "continuous_kline",
        "indexPrice_kline",
        "markPrice_kline",
        "indexPriceUpdate",
        "compositeIndex",
        "assetIndexUpdate",
        "tradingSession",
        "EquityUpdate",
        "CommodityUpdate",
        "serverShutdown",
    )
)
"""Events that are known and counted, but become no records: none is a fact of the market that other events lack."""


class PartialDepth(Struct, gc=False):
    """The best levels, as spot's partial depth streams and the depth endpoints give them."""

    lastUpdateId: Id
    bids: Levels
    asks: Levels
    E: Time | UnsetType = UNSET
    T: Time | UnsetType = UNSET
    symbol: Symbol | UnsetType = UNSET


class OpenInterest(Struct, gc=False):
    symbol: Symbol
    openInterest: str
    time: Time | None = None


class Listed(Struct, gc=False):
    """An instrument as exchange information has it; each market gives some of these fields."""

    symbol: Symbol
    baseAsset: str
    quoteAsset: str
    filters: list[dict[str, Any]]
    status: str | None = None
    contractStatus: str | None = None
    marginAsset: str | None = None
    contractType: str | None = None
    contractSize: int | None = None
    onboardDate: Time | None = None
    deliveryDate: Time | None = None


class ExchangeInfo(Struct, gc=False):
    symbols: list[Listed]
    serverTime: Time | None = None


class Combined(Struct, gc=False):
    """An event of a combined stream."""

    stream: str
    data: Event


class CombinedTicker(Struct, gc=False):
    """A best bid and offer of a combined stream, of spot or futures."""

    stream: str
    data: SpotTicker


class Outline(Struct, gc=False):
    """Of a message that is none of the above, what tells what it is."""

    stream: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    e: str | UnsetType = UNSET
    u: Raw | UnsetType = UNSET
    lastUpdateId: Raw | UnsetType = UNSET
    openInterest: Raw | UnsetType = UNSET
    symbols: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    serverTime: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    msg: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


combined = msgspec.json.Decoder(Combined)
combined_ticker = msgspec.json.Decoder(CombinedTicker)
event = msgspec.json.Decoder(Event)
ticker = msgspec.json.Decoder(SpotTicker)
outline = msgspec.json.Decoder(Outline)
outlines = msgspec.json.Decoder(list[Raw])

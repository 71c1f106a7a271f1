"""What a message can tell, in no venue's words.

For venues whose messages are read one at a time: they say what they found as facts, of which `fact_rows` makes rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

from msgspec import Struct

Time: TypeAlias = str | int | None
"""ISO 8601 or seconds as texts, ns since 1970, or not told; one venue's facts of one kind have one form."""
Level: TypeAlias = tuple[str, str]
"""Price and size, as the texts they came as."""


class Unreadable(Exception):
    """A message that is none of the venue's, or one that says something is wrong.

    `channel` and `symbol` are what it is about, where the reader knows; `told` are columns of the event it becomes.
    """

    kind: ClassVar[str] = "parse_error"

    def __init__(self, detail: str, channel: str | None = None, symbol: str | None = None, **told: int | None) -> None:
        super().__init__(detail)
        self.channel, self.symbol, self.told = channel, symbol, told


class Missed(Unreadable):
    """A message that shows that one before it never came."""

    kind: ClassVar[str] = "gap"


class Repeated(Unreadable):
    """A message that came before."""

    kind: ClassVar[str] = "duplicate"


class Late(Unreadable):
    """A message that should have come before another one."""

    kind: ClassVar[str] = "out_of_order"


class Trade(Struct, gc=False, kw_only=True):
    """`number` is the venue's, where its trades have one, `id` what it calls them where that is no number.

    `again`: sent for those who may not have had it.
    """

    symbol: str
    time: Time
    price: str
    size: str
    side: int
    number: int | None = None
    id: str | None = None
    kind: str | None = "regular"
    again: bool = False


class Quote(Struct, gc=False, kw_only=True):
    symbol: str
    time: Time
    bid: Level
    ask: Level
    bid_size_told: bool = True
    ask_size_told: bool = True
    number: int | None = None


class Book(Struct, kw_only=True):
    """A snapshot, or changed levels of which size 0 takes one away, in the order to apply them."""

    symbol: str
    time: Time
    bids: list[Level]
    asks: list[Level]
    snapshot: bool = False
    number: int | None = None
    previous: int | None = None
    checksum: int | None = None


class Top(Struct, kw_only=True):
    """The best levels, best first, of which `depth` a side were asked for."""

    symbol: str
    time: Time
    depth: int
    bids: list[Level]
    asks: list[Level]
    number: int | None = None


class Candle(Struct, gc=False, kw_only=True):
    """`start` and `end` in ns. Some venues send a candle at each change of it, and never say that it is complete."""

    symbol: str
    time: Time
    start: int
    end: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    vwap: float | None = None
    trades: int | None = None
    complete: bool = False


class Funding(Struct, gc=False, kw_only=True):
    """What holders of a perpetual contract pay each other; `next`, in ns, is when."""

    symbol: str
    time: Time
    rate: str | None = None
    minutes: int | None = None
    next: int | None = None
    mark: str | None = None
    index: str | None = None
    number: int | None = None


class Interest(Struct, gc=False, kw_only=True):
    """What all hold together."""

    symbol: str
    time: Time
    size: str
    value: str | None = None
    number: int | None = None


class Liquidation(Struct, gc=False, kw_only=True):
    """`side` is that of the order as it is matched: a buy closes a short."""

    symbol: str
    time: Time
    side: int
    price: str
    size: str
    id: str | None = None
    status: str | None = None


class Listing(Struct, gc=False, kw_only=True):
    """`settlement` where it is not the quote currency; `begins` and `ends` in ns."""

    symbol: str
    time: Time
    base: str
    quote: str
    price_increment: str | None
    size_increment: str | None
    kind: str = "spot"
    settlement: str | None = None
    size_unit: str = "base"
    begins: int | None = None
    ends: int | None = None


class Status(Struct, gc=False, kw_only=True):
    symbol: str
    time: Time
    action: str
    reason: str | None = None


Fact: TypeAlias = Trade | Quote | Book | Top | Candle | Funding | Interest | Liquidation | Listing | Status


def check(fact: Fact) -> None:
    """Raises `Unreadable` for a price or size below 0."""
    if isinstance(fact, Trade):
        _no_minus(((fact.price, fact.size),))
    elif isinstance(fact, Quote):
        _no_minus((fact.bid, fact.ask))
    elif isinstance(fact, Book | Top):
        _no_minus(fact.bids)
        _no_minus(fact.asks)
    elif isinstance(fact, Candle):
        _no_minus(((fact.open, fact.high), (fact.low, fact.close), (fact.volume, "")))
        if fact.start >= fact.end:
            raise Unreadable(f"expected a candle's end after its start {fact.start}, found {fact.end}")
    elif isinstance(fact, Liquidation):
        _no_minus(((fact.price, fact.size),))
    elif isinstance(fact, Interest):
        _no_minus(((fact.size, ""),))


def later(times: Sequence[str]) -> str | None:
    """The latest of some texts of one form."""
    return max(times, key=lambda text: (len(text.partition(".")[0]), text), default=None)


def is_zero(text: str) -> bool:
    """Whether it is a decimal text of 0, such as `0.000` or `0e-8`."""
    return not text.lower().partition("e")[0].strip("+0.")


def _no_minus(pairs: Sequence[Level]) -> None:
    for price, size in pairs:
        if price.startswith("-") or size.startswith("-"):
            raise Unreadable(f"expected a price and a size of at least 0, found {price!r:.40} and {size!r:.40}")

"""What both versions of Kraken's protocol share: limits, books with their checksum and depth, and listings of pairs.

Sources: Kraken's documentation of spot WebSocket channels, of book checksums and of the endpoint AssetPairs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from stages.books.rule import BookRule, Levels
from stages.venues.facts import Fact, Listing, Status, Unreadable
from stages.venues.factual import FactualDecoder
from stages.venues.venue import Limits, Venue, comes_from

DEPTHS = (10, 25, 100, 500, 1000)
"""Levels a side that a book may be asked for with."""
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""Minutes of candles."""
_DEPTH = "|".join(map(str, DEPTHS))
_INTERVAL = "|".join(map(str, INTERVALS))
CHANNEL = re.compile(rf"(trade|ticker|spread|instrument|level3)|(book)(?:-({_DEPTH}))?|(ohlc)(?:-({_INTERVAL}))?")
"""A channel in our words, of which depth and minutes are a part as in version 1's names of channels."""
_RECORDS = {"trade": "trade", "ticker": "quote", "spread": "quote", "book": "book_delta", "ohlc": "bar",
            "instrument": "instrument"}  # fmt: skip
_ACTIONS = {"online": "trading"}


def checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 of the ten best asks, then bids: price and size without the point and leading zeros."""
    text = "".join(f"{price}{size}" for levels in (asks, bids) for price, size in levels)
    return zlib.crc32(text.encode())


RULE = BookRule(
    chain="none",
    join="stream",
    snapshots="stream",
    depth=DEPTHS[-1],
    checksum=checksum,
    checksum_places=tuple((places, lots) for lots in (8, 7, 6, 5, 4, 3, 2, 1, 0) for places in range(11)),
)
"""Nothing numbers updates: one that is missing is told by the checksum, which is of the ten best levels of a side, once
one of these is wrong. The depth is that of messages, where they tell it."""


class KrakenMarket(Venue, frozen=True, kw_only=True):
    """Kraken's spot market by one version of its protocol."""

    path: str
    """At which it is spoken."""

    def book_rule(self, instrument_id: str) -> BookRule:
        return RULE

    def record_of(self, channel: str) -> str | None:
        return _RECORDS.get(channel.partition("-")[0])

    def recognises(self, url: str, payload: bytes) -> bool:
        parts = urlsplit(url)
        if comes_from(url, ("ws.kraken.com", "beta-ws.kraken.com")):
            return parts.path.rstrip("/") == self.path
        return comes_from(url, ()) is None and self.writes(payload)

    def writes(self, payload: bytes) -> bool:
        """Whether only this version writes such a message."""
        return False


LIMITS = Limits(
    streams_per_connection=200,
    streams_per_request=50,
    messages_per_second=5,
    connections_per_minute=15,
    weight_per_minute=60,
)
"""150 connections in 10 minutes and one public request a second are the venue's; it tells no other limits of public
connections, so that these are moderate."""


class KrakenDecoder(FactualDecoder):
    """Remembers beside how deep each book was asked for first; the venue does not tell of what lies deeper."""

    def __init__(self, suffix: str) -> None:
        super().__init__(suffix)
        self._depths: dict[str, int] = {}

    def book_rule(self, instrument_id: str, rule: BookRule) -> BookRule:
        depth = self._depths.get(instrument_id.removesuffix(f".{self._suffix}"))
        return rule if depth is None else msgspec.structs.replace(rule, depth=depth)

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "depths": dict(self._depths)}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._depths = dict(state["depths"])


def depth_that_holds(levels: int) -> int:
    """The smallest depth a book of so many levels a side can have been asked for with."""
    return next((depth for depth in DEPTHS if depth >= levels), DEPTHS[-1])


class Pair(Struct, gc=False):
    """Of AssetPairs. Those without a `wsname` have no streams; a tick is told since 2022."""

    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    tick_size: str = ""
    status: str = ""


class AssetPairs(Struct, gc=False):
    result: dict[str, Pair]


_pairs = msgspec.json.Decoder(AssetPairs)


def asset_pairs(payload: bytes) -> list[Fact]:
    """Pairs by the names that streams of version 1 have."""
    found: list[Fact] = []
    for pair in _pairs.decode(payload).result.values():
        if not pair.wsname:
            continue
        base, slash, quote = pair.wsname.partition("/")
        if not slash or min(pair.pair_decimals, pair.lot_decimals) < 0:
            raise Unreadable(f"expected a pair such as XBT/USD and its decimal places, found {pair!r:.120}")
        found.append(
            Listing(
                symbol=pair.wsname,
                time=None,
                base=base,
                quote=quote,
                price_increment=pair.tick_size or f"1e-{pair.pair_decimals}",
                size_increment=f"1e-{pair.lot_decimals}",
            )
        )
        if pair.status:
            found.append(status(pair.wsname, None, pair.status))
    return found


def status(symbol: str, time: str | None, word: str) -> Status:
    """What may be done with a pair; words that say more than trading or not stay Kraken's."""
    return Status(symbol=symbol, time=time, action=_ACTIONS.get(word, word))

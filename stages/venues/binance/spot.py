"""Binance's spot market, and Binance.US, which speaks as it does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.books.rule import BookRule
from stages.messages import RawMessage
from stages.venues.venue import Limits

from .markets import BinanceMarket
from .streams import DEFAULT_STREAMS

_LIMITS = Limits(
    streams_per_connection=1024,
    streams_per_request=100,
    messages_per_second=5,
    connections_per_minute=60,
    weight_per_minute=6000,
    connection_hours=24,
)
_BEGINS = rb'(\{"stream":"[^"]+","data":)?\{'
_TRADE = re.compile(_BEGINS + rb'"e":"(agg)?[tT]rade",.*"M":(true|false)\}\}?$')
_DEPTH = re.compile(_BEGINS + rb'"e":"depthUpdate","E":(\d{13}|\d{16}),"s":"[^"]+","U":\d+,"u":\d+,"b":')
_TICKER = re.compile(_BEGINS + rb'"u":\d+,"s":"[^"]+","b":"[^"]+","B":"[^"]+","a":"[^"]+","A":"[^"]+"\}')


class SpotMarket(BinanceMarket, frozen=True, kw_only=True):
    """Updates follow each other without a hole; the first one after a snapshot has the number after the snapshot's."""

    def writes(self, payload: bytes) -> bool:
        return any(form.match(payload) for form in (_TRADE, _DEPTH, _TICKER))

    def made_up(self, symbol: str, start_ns: int, seconds: int, seed: int) -> Iterator[RawMessage]:
        from .made_up import made_up

        return made_up(symbol, self.snapshot_request(symbol).url, start_ns, seconds, seed)


class SpotMarketUs(BinanceMarket, frozen=True, kw_only=True):
    """The same protocol; known by its hosts alone, since its messages look the same."""


BINANCE_SPOT = SpotMarket(
    name="binance_spot",
    suffix="BINANCE",
    websocket_url="wss://stream.binance.com:9443",
    http_url="https://api.binance.com",
    limits=_LIMITS,
    hosts=(
        "stream.binance.com",
        "data-stream.binance.vision",
        "data-api.binance.vision",
        "testnet.binance.vision",
        *("demo-stream.binance.com", "demo-api.binance.com", "ws-api.binance.com"),
        *(f"api{number}.binance.com" for number in ("", 1, 2, 3, 4, "-gcp")),
    ),
    streams=DEFAULT_STREAMS,
    rule=BookRule(chain="contiguous", join="spot", snapshots="http", known_depth=1000),
    depth_path="/api/v3/depth",
    depth_weight=50,
)
BINANCE_US = SpotMarketUs(
    name="binance_us",
    suffix="BINANCE_US",
    websocket_url="wss://stream.binance.us:9443",
    http_url="https://api.binance.us",
    limits=_LIMITS,
    hosts=("binance.us",),
    shared_hosts=(),
    streams=DEFAULT_STREAMS,
    rule=BINANCE_SPOT.rule,
    depth_path="/api/v3/depth",
    depth_weight=50,
)

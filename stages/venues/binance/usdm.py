"""Binance's USD-M futures."""

from __future__ import annotations

import re

from stages.books.rule import BookRule
from stages.venues.venue import Limits

from .markets import BinanceMarket
from .streams import FUTURES_STREAMS, stream_named

_MESSAGE = re.compile(rb'"s":"(BTCBUSD_\d{6}|[^"-]+(?<!USD_PERP)(?<!USD_\d{6}))"')
"""Symbols of options have hyphens."""
_FUTURES = (
    re.compile(rb'"e":"depthUpdate",.*"pu":\d'),
    re.compile(rb'"e":"bookTicker"'),
    re.compile(rb'"e":"trade",.*"X":"'),
    re.compile(rb'"e":"aggTrade",.*"m":(true|false)\}\}?$'),
    re.compile(rb'"e":"(markPriceUpdate|forceOrder)"'),
)


def is_of_futures(payload: bytes) -> bool:
    """Whether only futures are told of in such a way."""
    return any(form.search(payload) for form in _FUTURES)


class UsdmMarket(BinanceMarket, frozen=True, kw_only=True):
    """Updates name the one before; since 2026 depth and best quotes are asked for at another path than the rest."""

    def path_of(self, name: str) -> str:
        stream = stream_named(name)
        return "/public" if stream.is_depth or stream.channel == "bookTicker" else "/market"

    def writes(self, payload: bytes) -> bool:
        return is_of_futures(payload) and _MESSAGE.search(payload) is not None


BINANCE_USDM = UsdmMarket(
    name="binance_usdm",
    suffix="BINANCE_USDM",
    websocket_url="wss://fstream.binance.com",
    http_url="https://fapi.binance.com",
    limits=Limits(
        streams_per_connection=1024,
        streams_per_request=100,
        messages_per_second=10,
        connections_per_minute=60,
        weight_per_minute=2400,
        connection_hours=24,
    ),
    hosts=(
        *("fstream.binance.com", "fstream-auth.binance.com", "fstream-mm.binance.com", "fapi.binance.com"),
        "stream.binancefuture.com",
        "testnet.binancefuture.com",
    ),
    streams=FUTURES_STREAMS,
    rule=BookRule(chain="previous", join="futures", snapshots="http", known_depth=1000),
    depth_path="/fapi/v1/depth",
    depth_weight=20,
)

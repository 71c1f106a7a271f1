"""Binance's COIN-M futures, whose sizes are contracts of a fixed number of dollars."""

from __future__ import annotations

import re

from stages.books.rule import BookRule
from stages.venues.venue import Limits

from .markets import BinanceMarket
from .streams import FUTURES_STREAMS
from .usdm import is_of_futures

_MESSAGE = re.compile(rb'"s":"[^"-]+(?<!BTCB)USD_(PERP|\d{6})"')
"""BTCBUSD_210129 was one of USD-M."""


class CoinmMarket(BinanceMarket, frozen=True, kw_only=True):
    """Updates name the one before."""

    def writes(self, payload: bytes) -> bool:
        return is_of_futures(payload) and _MESSAGE.search(payload) is not None


BINANCE_COINM = CoinmMarket(
    name="binance_coinm",
    suffix="BINANCE_COINM",
    websocket_url="wss://dstream.binance.com",
    http_url="https://dapi.binance.com",
    limits=Limits(
        streams_per_connection=1024,
        streams_per_request=100,
        messages_per_second=10,
        connections_per_minute=60,
        weight_per_minute=2400,
        connection_hours=24,
    ),
    hosts=("dstream.binance.com", "dapi.binance.com", "dstream.binancefuture.com"),
    streams=FUTURES_STREAMS,
    rule=BookRule(chain="previous", join="futures", snapshots="http", known_depth=1000),
    depth_path="/dapi/v1/depth",
    depth_weight=20,
    size_unit="contract",
)

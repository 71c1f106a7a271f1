"""Names of streams, such as `btcusdt@depth@100ms`: what they bring, and connections that bring many of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from stages.venues.venue import ConnectionPlan, Limits, nearest

_INTERVALS = "1s|1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M"
_KNOWN = re.compile(
    rf"trade|aggTrade|blockTrade|bookTicker|(rpiD|d)epth(5|10|20)?(@\d+ms)?|kline_({_INTERVALS})|markPrice(@1s)?(@arr)?|forceOrder"
    r"|(arr@)?(mini)?[tT]icker(_1h|_4h|_1d)?(@arr)?|contractInfo|avgPrice|forceOrder@arr"
)
_PARTIAL = re.compile(r"depth(\d+)(@\d+ms)?")

DEFAULT_STREAMS = {
    "trade": "trade",
    "quote": "bookTicker",
    "book_delta": "depth@100ms",
    "book_snapshot": "depth20@100ms",
    "bar": "kline_1m",
}
FUTURES_STREAMS = {**DEFAULT_STREAMS, "funding_rate": "markPrice@1s", "liquidation": "forceOrder"}
"""The stream of a symbol that brings a kind of record."""


class Stream(NamedTuple):
    """A stream's name taken apart; `symbol` is empty where it is of all symbols."""

    symbol: str
    channel: str

    @property
    def is_known(self) -> bool:
        return _KNOWN.fullmatch(self.channel) is not None

    @property
    def levels(self) -> int | None:
        """How many levels a side it gives, where it gives the best ones only."""
        found = _PARTIAL.fullmatch(self.channel)
        return int(found[1]) if found else None

    @property
    def is_depth(self) -> bool:
        return "epth" in self.channel

    @property
    def is_whole_depth(self) -> bool:
        """Whether it brings every change of the book that instruments trade in."""
        return self.channel == "depth" or self.channel.startswith("depth@")


@lru_cache(maxsize=4096)
def stream_named(name: str) -> Stream:
    """A stream's name taken apart, known or not."""
    if name.startswith("!"):
        return Stream("", name[1:])
    symbol, _, channel = name.partition("@")
    return Stream(symbol.upper(), channel)


@lru_cache(maxsize=1024)
def streams_of(url: str) -> tuple[Stream, ...]:
    """The streams that a WebSocket's address asks for."""
    if not url.startswith(("ws://", "wss://")):
        return ()
    parts = urlsplit(url)
    named = "/".join(parse_qs(parts.query).get("streams", ()))
    if not named:
        named = parts.path.rpartition("/ws/")[2]
    found = (stream_named(name) for name in named.split("/"))
    return tuple(stream for stream in found if stream.is_known)


@lru_cache(maxsize=1024)
def symbol_asked_for(url: str) -> str | None:
    """The symbol that an HTTP request names."""
    if not url.startswith(("http://", "https://")):
        return None
    return next(iter(parse_qs(urlsplit(url).query).get("symbol", ())), "").upper() or None


def stream_name(symbol: str, channel: str, streams: dict[str, str]) -> str:
    """The name of the stream of a symbol that brings a kind of record, or that Binance calls `channel`."""
    word = streams.get(channel, channel)
    if not _KNOWN.fullmatch(word):
        raise LookupError(
            f"no stream brings '{channel}'; {nearest(channel, [*streams, 'aggTrade', 'depth', 'kline_5m'])}"
        )
    return f"{symbol.lower()}@{word}"


def plans(names: Sequence[str], base_url: str, limits: Limits, path: Callable[[str], str]) -> list[ConnectionPlan]:
    """Connections for streams, by the path they are asked for at; subscriptions are sent once a connection is open.

    Names given twice are asked for once.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(path(name), []).append(name)
    found = []
    for where, streams in groups.items():
        for begin in range(0, len(streams), limits.streams_per_connection):
            part = tuple(streams[begin : begin + limits.streams_per_connection])
            first, rest = part[: limits.streams_per_request], part[limits.streams_per_request :]
            sends = [
                msgspec.json.encode(
                    {"method": "SUBSCRIBE", "params": rest[at : at + limits.streams_per_request], "id": id}
                )
                for id, at in enumerate(range(0, len(rest), limits.streams_per_request), 1)
            ]
            url = f"{base_url.rstrip('/')}{where}/stream?streams={'/'.join(first)}"
            found.append(ConnectionPlan(url, tuple(sends), part))
    return found

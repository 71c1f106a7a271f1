"""The recipe of a live feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa

from pipeline import Context, Duration, Feed, InputError, Stage, parse_duration
from stages.interpreting import Interpreting
from stages.venues import VENUES, ConnectionPlan, Venue, nearest, venue_named

INSTALL = "pip install 'penstock[live]'"
NAMES = ", ".join(venue.name for venue in VENUES)


def _is_venue(word: str) -> None:
    try:
        venue_named(word)
    except LookupError as error:
        raise ValueError(str(error)) from None


VenueName = Annotated[
    str,
    msgspec.Meta(
        extra={
            "expected": "the name of a venue",
            "check": _is_venue,
            "suggest": lambda word: nearest(str(word), [venue.name for venue in VENUES]),
        }
    ),
]


class Live(Interpreting, Stage, frozen=True, kw_only=True):
    """What a venue sends now, as records: its connections are kept, its books made whole from snapshots.

    ```yaml
    containers:
      market:
        type: live
        venue: binance_spot
        symbols: [BTCUSDT, ETHUSDT]
        channels: [trade, quote, book_delta]
      minutes:
        type: bars
        every: 1m
        inputs: [{from: market, records: trade}]
    ```

    `channels` are kinds of record, or the venue's own words, such as `depth@100ms`. Whatever is missing, late, twice or
    unreadable is a row of kind `quality_event`, and so is every connection that is lost and comes back. Needs the
    extra `live`.

    A slow consumer makes the venue wait: what came and is not taken yet is bounded by `buffer_messages` and
    `buffer_mb`, and nothing of it is lost. A venue that will not wait closes the connection, which is told.
    """

    live: ClassVar[bool] = True
    is_feed: ClassVar[bool | None] = True
    tuning: ClassVar[frozenset[str]] = frozenset({"buffer_messages", "buffer_mb", "websocket_url", "http_url"})

    venue: VenueName
    symbols: tuple[str, ...]
    """The venue's own words for its instruments."""
    channels: tuple[str, ...] = ("trade", "quote", "book_delta")
    websocket_url: str | None = None
    """Where to connect to, such as `ws://127.0.0.1:8765`; left out: the venue's own address."""
    http_url: str | None = None
    """Where snapshots of books are had; left out: the venue's own address."""
    stale_after: Duration | None = "30s"
    """A channel of an instrument that brings nothing for so long is told by a `stale` event; a connection that brings
    nothing at all is opened anew as well. Left out, or null: neither."""
    lateness: Duration = "2s"
    """How far event time may step back, over all channels: watermarks trail by as much."""
    buffer_messages: int = 65_536
    buffer_mb: float = 64.0
    """Messages that wait for the consumer at most, and their size, before sockets are no longer read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, schemes in (("websocket_url", ("ws", "wss")), ("http_url", ("http", "https"))):
            address = getattr(self, name)
            if address is not None and (urlsplit(address).scheme not in schemes or not urlsplit(address).hostname):
                raise ValueError(
                    f"{name}: expected an address such as {schemes[0]}://127.0.0.1:8765, found '{address}'"
                )
        if not self.symbols:
            raise ValueError("symbols: expected at least one, such as [BTCUSDT], found none")
        if self.buffer_messages < 1 or self.buffer_mb <= 0:
            raise ValueError("buffer_messages, buffer_mb: expected room for at least one message, found none")
        for symbol in self.symbols:
            try:
                self.named_venue.check_symbol(symbol)
            except LookupError as error:
                raise ValueError(f"symbols: {error.args[0]}") from None
        self.plans()

    def build(self, context: Context) -> Feed:
        try:
            from .feed import LiveFeed
        except ImportError as error:
            raise InputError(f"a live feed needs websockets and aiohttp ({error}); try: {INSTALL}") from error
        return LiveFeed(self, context)

    def record_schemas(self, inputs: Mapping[str, pa.Schema | None]) -> Mapping[str, pa.Schema]:
        return self.schemas(self.named_venue.scales)

    def plans(self) -> list[ConnectionPlan]:
        """The connections it takes. Raises ValueError for symbols or channels there are none for."""
        try:
            return self.named_venue.connections(self.symbols, self.channels, self.websocket_url)
        except LookupError as error:
            raise ValueError(f"channels: {error.args[0]}") from None

    @property
    def named_venue(self) -> Venue:
        return venue_named(self.venue)

    @property
    def lateness_ns(self) -> int:
        return parse_duration(self.lateness)

"""What a venue tells of itself: how to read it, how to connect to it, and by which rule its books go on."""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from stages.books.rule import BookRule
from stages.messages import Messages, RawMessage
from stages.schemas import Records, Scales

from .serving import VenueServer


class Decoder(ABC):
    """Reads one venue's messages; what it remembers is only what the venue's own format needs to be read.

    Deterministic: what a message becomes depends on it and those before it, never on how they were cut into runs.
    """

    def __init__(self) -> None:
        self.control: Counter[str] = Counter()
        """Messages that are understood and leave no rows (replies, heartbeats, statistics), by what they are."""

    @abstractmethod
    def decode(self, messages: Messages, records: Records) -> None:
        """Add to `records` what the messages say.

        Every message leaves rows, or exactly one quality event with its bytes, or is counted in `control`. Never
        raises for what a message holds.
        """

    def book_rule(self, instrument_id: str, rule: BookRule) -> BookRule:
        """The venue's rule for a book, with what messages have told of it, such as how deep it was asked for."""
        return rule

    def snapshot(self) -> dict[str, Any]:
        """What it remembers, as plain values; the counts are its user's."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what another decoder of this venue gave as `snapshot`."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue allows one address to ask of it."""

    streams_per_connection: int
    streams_per_request: int
    """Streams named in one subscription, so that it stays a message of moderate length."""
    messages_per_second: float
    """Messages that a client may send on one connection, pings and pongs among them."""
    connections_per_minute: float
    weight_per_minute: int
    """Of HTTP requests to one host; each costs its own weight."""
    connection_hours: float | None = None
    """After so long the venue closes a connection by itself."""


class Heartbeat(msgspec.Struct, frozen=True):
    """What a client sends so that a connection is kept."""

    payload: bytes
    every_seconds: float


class ConnectionPlan(msgspec.Struct, frozen=True):
    """One connection: where to, which messages to send once it is open, and the streams that come of it."""

    url: str
    sends: tuple[bytes, ...] = ()
    streams: tuple[str, ...] = ()


class SnapshotRequest(msgspec.Struct, frozen=True):
    """An HTTP GET whose response, given to the decoder with this url, is a snapshot of a book."""

    url: str
    weight: int


class Venue(msgspec.Struct, frozen=True):
    """One venue: a frozen value, made and registered once. Its name and its words are found in its own file only."""

    name: str
    """The word for it in YAML, such as `binance_spot`."""
    suffix: str
    """What its instruments' names end with: SYMBOL.SUFFIX."""
    websocket_url: str
    http_url: str
    limits: Limits
    trade_sequence: Literal["next", "monotone", "none"] = "none"
    """How the numbers of an instrument's trades go on: each the last + 1, which is known of the venue; rising; or they
    have none and are told apart by their ids."""
    scales: Scales = Scales()
    """Decimal places that hold every price and size it sends, where nobody declares others."""
    symbol_form: str = r"[^\s.]+"
    """Regular expression of its words for instruments, so that what can be none is told before anything runs."""

    def decoder(self) -> Decoder:
        """A decoder that remembers nothing yet."""
        raise NotImplementedError(f"{type(self).__name__} does not define decoder()")

    def book_rule(self, instrument_id: str) -> BookRule:
        """By which rule that instrument's book goes on."""
        raise NotImplementedError(f"{type(self).__name__} does not define book_rule()")

    def connections(
        self, symbols: Sequence[str], channels: Sequence[str], base_url: str | None = None
    ) -> list[ConnectionPlan]:
        """Connections that bring the channels of the symbols, as few as its limits allow.

        Channels are kinds of record (`trade`, `quote`, `book_delta` ...) or the venue's own words. Raises LookupError
        for a channel that is neither, with the nearest that is.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define connections()")

    def snapshot_request(self, symbol: str, base_url: str | None = None) -> SnapshotRequest | None:
        """What to ask for a snapshot of a book; None where it comes in the stream."""
        return None

    def server(self) -> VenueServer | None:
        """Its side of the conversation, by which recordings are served; None where nobody has written it yet."""
        return None

    def record_of(self, channel: str) -> str | None:
        """Kind of record that a channel, in the venue's word for it, brings; None of one that is not known."""
        return None

    def instrument_asked(self, url: str) -> str | None:
        """Of which instrument the book was asked for by this address, as `snapshot_request` makes it."""
        return None

    def heartbeat(self) -> Heartbeat | None:
        """What a client has to send of itself; None where answering the venue's pings is enough."""
        return None

    def recognises(self, url: str, payload: bytes) -> bool:
        """Whether a message is surely this venue's, by where it came from or by what only this venue writes."""
        return False

    def check_symbol(self, symbol: str) -> None:
        """Raises LookupError for a word that can be none of its instruments, with what may have been meant."""
        if re.fullmatch(self.symbol_form, symbol):
            return
        meant = re.sub(r"\W", "", self.symbol(symbol.strip()).upper())
        hint = f"; did you mean '{meant}'?" if re.fullmatch(self.symbol_form, meant) else ""
        raise LookupError(f"'{symbol}' is no symbol of {self.name}{hint}")

    def made_up(self, symbol: str, start_ns: int, seconds: int, seed: int) -> Iterator[RawMessage]:
        """Messages as the venue would send them, of a made-up market, in the order received and numbered from 0.

        Raises LookupError where there are none of this venue.
        """
        raise LookupError(f"there is no made-up market of {self.name}; read a capture of it")

    def instrument_id(self, symbol: str) -> str:
        """The name of one of its instruments."""
        return f"{symbol}.{self.suffix}"

    def symbol(self, instrument_id: str) -> str:
        """The venue's own word for an instrument."""
        return instrument_id.removesuffix(f".{self.suffix}")


def comes_from(url: str, hosts: Sequence[str]) -> bool | None:
    """Whether an address is one of these hosts', or of a host below one.

    None where it has no name of its own, as a server that stands in for a venue: what it writes has to tell.
    """
    host = urlsplit(url).hostname or ""
    if any(host == each or host.endswith(f".{each}") for each in hosts):
        return True
    return False if "." in host and not host.replace(".", "").isdigit() else None


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean 'x'?`, or all that is known."""
    near = difflib.get_close_matches(word.lower(), [each.lower() for each in known], n=1)
    for each in known:
        if near and each.lower() == near[0]:
            return f"did you mean '{each}'?"
    return f"known: {', '.join(known)}"

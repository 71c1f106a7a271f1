"""What a venue tells of its other side: how it is spoken to, and how it answers; by this a recording is served."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from stages.messages import Messages


class Event(NamedTuple):
    """A recorded message as what a venue sent: the stream it belongs to, and what it says, without any wrapper."""

    stream: str
    data: bytes


class Subscriptions:
    """What one client has asked for."""

    def __init__(self, names: Iterable[str] = (), *, wrapped: bool = False) -> None:
        self.names: dict[str, None] = dict.fromkeys(names)
        """Streams, in the order they were asked for."""
        self.wrapped = wrapped
        """Whether messages say which stream they are of, where the client may choose that."""


class BookNow(msgspec.Struct, frozen=True):
    """A book as it stands at a moment of the recording; levels are texts of price and size, best first."""

    symbol: str
    sequence: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    event_ns: int | None
    """When the venue made it what it is, ns UTC."""
    now_ns: int
    """The moment, ns UTC."""


class BookAsked(msgspec.Struct, frozen=True):
    """Somebody asks for a book, so many levels a side; a request of this weight."""

    symbol: str
    limit: int
    weight: int


class TimeAsked(msgspec.Struct, frozen=True):
    """Somebody asks what time it is there, or whether there is somebody."""

    weight: int


class OtherAsked(msgspec.Struct, frozen=True):
    """Somebody asks for something else, which may be in the recording as it was once answered."""

    weight: int


class Reply(msgspec.Struct, frozen=True):
    """What is answered over HTTP."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class VenueServer(ABC):
    """One venue's side of the conversation; plain functions that keep nothing and do nothing."""

    ping_seconds: float
    """How often it pings its clients."""
    pong_seconds: float
    """How long it waits for the pong before it closes the connection."""

    @abstractmethod
    def opened(self, path: str) -> Subscriptions | None:
        """What a client asks for by the address it connects to; None where nothing is there to connect to."""

    @abstractmethod
    def answer(self, said: str | bytes, subscriptions: Subscriptions) -> bytes | None:
        """Do to its subscriptions what a client says, and what to answer; None for nothing."""

    @abstractmethod
    def events(self, messages: Messages) -> list[Event | None]:
        """Each message as what was sent; None for one that a client cannot subscribe to, such as a reply."""

    @abstractmethod
    def kin(self, stream: str) -> str:
        """The same word for streams that tell the same and differ in how often; whoever asks for one that was not
        recorded gets its kin."""

    @abstractmethod
    def frame(self, name: str, data: bytes, *, wrapped: bool) -> bytes:
        """An event as it is sent to a client that asked for the stream by this name."""

    @abstractmethod
    def asked(self, path: str) -> BookAsked | TimeAsked | OtherAsked | Reply:
        """What an HTTP GET asks for; a reply where that is wrong already."""

    @abstractmethod
    def book(self, book: BookNow) -> bytes:
        """The body that tells a book, of which there is no more than was asked for."""

    @abstractmethod
    def told(self, body: bytes, symbol: str, now_ns: int) -> BookNow | None:
        """What such a body tells; None where it is none."""

    @abstractmethod
    def time(self, path: str, now_ns: int) -> bytes:
        """The body that answers `TimeAsked`."""

    @abstractmethod
    def weighed(self, used: int) -> tuple[tuple[str, str], ...]:
        """Headers that tell a client what it has used of its allowance in this minute."""

    @abstractmethod
    def refused(self, status: int, why: str = "", retry_seconds: float | None = None) -> Reply:
        """A refusal in the venue's words: 429 and 418 for too much asked, 4xx for what is not there, 5xx for itself."""

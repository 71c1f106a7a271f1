"""A recorded live feed beside a server whose faults wait until all before them has arrived."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline import Context, SystemClock
from stages.live.conduct import Conduct
from stages.messages import MessageKind, Messages
from stages.recording import RecordedLive, RecordTo
from stages.recording.recorded_feed import RecordedFeed
from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, Reorder, ReplayServer, Snapshot, Stall
from stages.venues import venue_named

HOUR: Final = 3600.0
"""A stall of an hour is one that lasts until the feed is ready, see `Gates`."""
PATIENCE: Final = 3600.0 if "PENSTOCK_SOAK" in os.environ else 600.0
"""Seconds, after which whoever waits in vain fails."""
OPENING: Final = 4
"""Updates of a book after which it is waited for to begin."""


@dataclass(frozen=True)
class Served:
    """A recording as it is served: whose it is, and by symbol the streams of its trades, best quotes and book."""

    venue: str
    streams: dict[str, tuple[str, str, str]]
    depth: str
    """The venue's word for updates of books as they were recorded."""
    messages: Messages

    def instrument(self, stream: str) -> str:
        symbol = next(symbol for symbol, names in self.streams.items() if stream in names)
        return venue_named(self.venue).instrument_id(symbol)

    def is_depth(self, stream: str) -> bool:
        return any(stream == names[2] for names in self.streams.values())

    @cached_property
    def sent(self) -> list[tuple[str, bytes]]:
        """All that is sent to clients, in order: stream and what it says."""
        server = venue_named(self.venue).server()
        assert server is not None
        return [(event.stream, event.data) for event in server.events(self.messages) if event is not None]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where the messages of each stream stand among those that are sent."""
        found: dict[str, list[int]] = {}
        for place, (stream, _) in enumerate(self.sent):
            found.setdefault(stream, []).append(place)
        return found

    def place_of(self, fault: Fault) -> int:
        """Before which of the messages that are sent a fault acts; one of requests before all."""
        if isinstance(fault, Snapshot) or fault.message is None:
            return -1
        stream = fault.stream
        return fault.message - 1 if stream is None else self.places[stream][fault.message - 1]

    def spoilt(self, faults: Sequence[Fault]) -> set[int]:
        """Places of messages that are not sent, or not as they are."""
        found: set[int] = set()
        for fault in faults:
            match fault:
                case Drop():
                    first = fault.message - 1
                    found.update(self.places[fault.stream][first : first + fault.count])
                case Cut():
                    found.add(self.place_of(fault))
                case Disconnect():
                    found.update(range(self.place_of(fault), self.place_of(fault) + fault.lose))
        return found

    def behind(self, place: int) -> dict[str, int]:
        """Of each book's stream the third of its messages from a place on, where it has as many: by then holes show."""
        found = {}
        for *_, depth in self.streams.values():
            number = bisect_left(self.places[depth], place) + 3
            if number <= len(self.places[depth]):
                found[depth] = number
        return found


class Gates(SystemClock):
    """The server's clock, by which a stall of an hour lasts until the next of these is so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], bool]] = []

    async def sleep_until(self, monotonic_ns: int) -> None:
        if monotonic_ns - self.monotonic_ns() < HOUR / 2 * 1e9:
            await super().sleep_until(monotonic_ns)
            return
        is_so = self.waiting.pop(0)
        while not is_so():
            await asyncio.sleep(0.001)


def gated(served: Served, faults: Sequence[Fault]) -> list[Fault]:
    """The faults in the order they come, between stalls of an hour: before any of them books are whole, and behind."""
    found: list[Fault] = [Stall(stream=depth, message=OPENING, seconds=HOUR) for *_, depth in served.streams.values()]
    for fault in faults:
        found.append(fault)
        if isinstance(fault, Disconnect):
            found.append(Stall(message=fault.message, seconds=HOUR))
            if fault.lose:
                behind = served.behind(served.place_of(fault) + fault.lose)
                found += [Stall(stream=stream, message=number, seconds=HOUR) for stream, number in behind.items()]
        elif isinstance(fault, Drop | Duplicate | Reorder | Cut):
            more = fault.count if isinstance(fault, Drop) else 1
            for number in (fault.message, fault.message + more + 1):
                if number <= len(served.places[fault.stream]):
                    found.append(Stall(stream=fault.stream, message=number, seconds=HOUR))
    return sorted(dict.fromkeys(found), key=served.place_of)


class Following:
    """One feed that records what a server sends, in this process, until that has ended and books are whole."""

    def __init__(self, served: Served, server: ReplayServer, folder: Path, **to: Any) -> None:
        recipe = RecordedLive(
            venue=served.venue, symbols=tuple(served.streams), channels=("trade", "quote", served.depth),
            websocket_url=server.websocket_url, http_url=server.http_url,
            record=RecordTo(folder=str(folder), durability="process", **to),
        )  # fmt: skip
        assert recipe.record is not None
        self.feed = RecordedFeed(
            recipe, recipe.record, Context(), conduct=Conduct(first_retry=0.01, longest_retry=0.02),
            on_messages=self._note,
        )  # fmt: skip
        self.server, self.venue = server, venue_named(served.venue)
        self.sockets = len(recipe.plans())
        self._symbols = len(served.streams)
        self._told = self.venue.server()
        self._seen: set[bytes] = set()
        self._arrived: set[bytes] = set()
        self._closed: set[str] = set()

    async def _note(self, messages: Messages) -> None:
        assert self._told is not None
        self._seen.update(event.data for event in self._told.events(messages) if event is not None)
        for at in np.flatnonzero(messages.kind == MessageKind.CLOSED).tolist():
            if b"1000" in messages.raw(at):
                self._closed.add(messages.source[int(messages.source_code[at])])

    @property
    def is_whole(self) -> bool:
        """Whether all books are live."""
        books = self.feed.interpreter.books
        names = books.instruments_kept()
        return len(names) == self._symbols and all(books.state(name).name == "LIVE" for name in names)

    def ready(self, before: set[bytes], opened: int) -> bool:
        """Whether these messages are interpreted, books are whole and so many connections were opened in all."""
        here = self.server._audience.subscribed >= self.sockets and self.feed.session.figures()["opened"] >= opened
        return here and before <= self._arrived and self.is_whole

    async def follow(self) -> None:
        ending = asyncio.create_task(self.server.finished())
        try:
            await asyncio.to_thread(self.feed.warm)
            async for _ in self.feed.batches():
                self._arrived |= self._seen
                if ending.done() and len(self._closed) == self.sockets and self.is_whole:
                    self.feed.stop()
            await ending
        finally:
            ending.cancel()
            await asyncio.to_thread(self.feed.close)


async def followed(
    served: Served, folder: Path, speed: float | None, faults: Sequence[Fault] = (), *, held: bool = True, **to: Any
) -> None:
    """Record a server that plays these faults, to its end; unless `held`, one after the other without waiting."""
    gates, script = Gates(), gated(served, faults) if held else list(faults)
    names = (served.venue, tuple(served.streams), ("trade", "quote", served.depth))
    sockets = len(RecordedLive(venue=names[0], symbols=names[1], channels=names[2]).plans())
    runs = [served.messages.slice(at, at + 1000) for at in range(0, len(served.messages), 1000)]
    async with (
        asyncio.timeout(PATIENCE),
        ReplayServer(
            lambda: iter(runs), venue=served.venue, speed=speed, faults=script, wait_for=sockets, clock=gates,
            queue_bytes=100_000 if speed is None else 64 << 20,
        ) as server,
    ):  # fmt: skip
        following = Following(served, server, folder, **to)
        gates.waiting = conditions(served, script, following) if held else []
        await following.follow()
        assert not gates.waiting and (not held or server.figures()["unplayed"] == [])


def conditions(served: Served, script: Sequence[Fault], following: Following) -> list[Callable[[], bool]]:
    """What each stall of an hour waits for, in the order they come: of each stream the last message before it."""
    spoilt, opened = served.spoilt(script), following.sockets
    late = {
        served.place_of(fault): served.places[fault.stream][fault.message]
        for fault in script
        if isinstance(fault, Reorder)
    }
    found: list[Callable[[], bool]] = []
    for fault in script:
        if isinstance(fault, Disconnect):
            opened += following.sockets
        if isinstance(fault, Stall) and fault.seconds == HOUR:
            place = served.place_of(fault)
            away = spoilt | {at for at, until in late.items() if at < place <= until}
            last = (
                max((at for at in places if at < place and at not in away), default=None)
                for places in served.places.values()
            )
            before = {served.sent[at][1] for at in last if at is not None}
            found.append(partial(following.ready, before, opened))
    return found

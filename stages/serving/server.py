"""Serves a recording as its venue would: its WebSocket streams and its HTTP endpoints, on one port."""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from pipeline import Clock, InputError, PenstockError, SystemClock
from stages.venues.serving import BookAsked, OtherAsked, Reply, TimeAsked

from .allowance import Allowance
from .audience import Audience
from .client import Client
from .faults import Fault, fault_said
from .playing import Playing, in_thread
from .source import Runs, Source, open_source
from .stock import Stock

QUEUE_BYTES = 8 << 20
"""What may wait to be sent to one client, unless declared."""
CLOSE_SECONDS = 2
"""How long a client may take to answer a closing frame."""
DONE, AGAIN, BROKEN = 1000, 1012, 1011
SHOWN = 6
"""Streams that are named where many are meant."""
log = logging.getLogger("penstock.serving")


class ReplayServer:
    """A venue that tells a recording; entered with `async with`, and gone without a trace when left.

    recording:  a capture's file, folder or glob, or several, or a function that begins to read runs of `Messages`.
    venue:      whose it is, by name; None: found from the messages.
    speed:      so many times real time, each message at its absolute deadline, what is late at once; None: as fast as
                it is taken.
    faults:     what goes wrong, see `Fault`; `load_faults` reads them from a file.
    port:       0 takes one that is free.
    wait_for:   time begins when so many clients have subscribed to something; all get the same stream from there on.
    at_end:     "close" ends all connections with 1000; "loop" with 1012, and begins again when clients are back.
    queue_bytes: what may wait for one client. At a speed a client with more is closed with 1008, as time does not wait;
                at `speed=None` everyone waits for the slowest, and for clients that left, down to `wait_for`.
    weight_per_minute: of HTTP requests in a minute of the clock, beyond which they get 429; None: the venue's.

    A request for a book is answered with it as of the moment of the recording that the stream has reached. Raises
    `InputError` on entering where there is nothing to serve, or the port is taken.
    """

    def __init__(
        self,
        recording: str | Path | Iterable[str | Path] | Runs,
        *,
        venue: str | None = None,
        speed: float | None = None,
        faults: Sequence[Fault] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        wait_for: int = 1,
        at_end: Literal["close", "loop"] = "close",
        queue_bytes: int = QUEUE_BYTES,
        weight_per_minute: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"expected a speed above 0, or None for as fast as possible, found {speed:g}")
        if wait_for < 1:
            raise ValueError(f"expected to wait for at least 1 client, found {wait_for}")
        self._recording, self._venue, self._speed = recording, venue, speed
        self._faults, self._wait_for, self._at_end = tuple(faults), wait_for, at_end
        self._host, self._port, self._queue_bytes = host, port, queue_bytes
        self._weight, self._clock = weight_per_minute, clock or SystemClock()
        self._numbers = count(1)
        self._over = False
        self._unanswered: set[ServerConnection] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._source = source = await in_thread(lambda: open_source(self._recording, self._venue))
        weight = source.venue.limits.weight_per_minute if self._weight is None else self._weight
        self._allowance = Allowance(weight, self._clock)
        self._audience = Audience(source.server)
        self._playing = await self._made(source)
        try:
            self._server: Server = await serve(
                self._talk,
                self._host,
                self._port,
                process_request=self._asked,
                compression=None,
                open_timeout=None,
                ping_interval=source.server.ping_seconds,
                ping_timeout=source.server.pong_seconds,
                close_timeout=CLOSE_SECONDS,
                server_header=None,
            )
        except OSError as error:
            raise InputError(
                f"{self._host}:{self._port}: expected a port to serve at, found {error}; try another, or 0"
            ) from error
        self._task = asyncio.create_task(self._play(), name="replay server")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._over = True
        self._task.cancel()
        await asyncio.wait([self._task])
        for connection in self._unanswered:
            connection.transport.close()
        for client in self._audience.clients.values():
            client.end(1001, "the server stops", at_once=True)
        self._server.close()
        await self._server.wait_closed()
        if error is None and not self._task.cancelled() and self._task.exception() is not None:
            await self._task

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    @property
    def websocket_url(self) -> str:
        """What takes the place of the venue's base URL of streams."""
        return "ws://{}:{}".format(*self.address)

    @property
    def http_url(self) -> str:
        """What takes the place of the venue's base URL of requests."""
        return "http://{}:{}".format(*self.address)

    @property
    def venue(self) -> str:
        """Whose side it plays."""
        return self._source.venue.name

    @property
    def now_ns(self) -> int:
        """The moment of the recording that the stream has reached, ns UTC."""
        return self._playing.now_ns

    def figures(self) -> dict[str, Any]:
        """What has happened so far."""
        playing = self._playing
        return {
            "messages": playing.messages,
            "clients": len(self._audience.clients),
            "too_slow": playing.too_slow,
            "max_lag_ms": playing.max_lag_ns // 1_000_000,
            "unplayed": [fault_said(fault) for fault in playing.script.waiting],
        }

    def told(self) -> list[tuple[str, str]]:
        """What it serves, and where: labels and words."""
        begins = datetime.fromtimestamp(self._playing.begins_ns // 1_000_000_000, UTC)
        speed = "as fast as it is taken" if self._speed is None else f"at {self._speed:g} times real time"
        return [
            ("venue", self.venue),
            ("streams", self.websocket_url),
            ("requests", self.http_url),
            ("replay", f"from {begins:%Y-%m-%dT%H:%M:%SZ}, {speed}, when {self._clients_said} subscribed"),
            ("faults", f"{len(self._faults):,}" if self._faults else "none"),
        ]

    def said(self) -> str:
        """How far it is, in a few words."""
        playing, now = self._playing, datetime.fromtimestamp(self.now_ns // 1_000_000_000, UTC)
        words = [
            f"{playing.messages:,} messages of the recording, to {now:%Y-%m-%dT%H:%M:%SZ}",
            f"{len(self._audience.clients):,} clients now",
        ]
        if playing.too_slow:
            words.append(f"{playing.too_slow:,} were too slow")
        return ", ".join(words)

    @property
    def _clients_said(self) -> str:
        return "a client has" if self._wait_for == 1 else f"{self._wait_for} clients have"

    async def finished(self) -> None:
        """Wait until the recording has ended and all clients have what there was for them; for ever where it loops.

        Raises what ended it otherwise.
        """
        if self._task is None:
            raise PenstockError("expected a server that was entered with `async with`, found one that was not")
        await asyncio.shield(self._task)

    # -- the replay ------------------------------------------------------------------------------------------------

    async def _made(self, source: Source) -> Playing:
        stock = await in_thread(lambda: Stock(source.venue, source.server, source.head))
        self._audience.recorded = await in_thread(
            lambda: {event.stream for run in source.head for event in source.server.events(run) if event is not None}
        )
        return Playing(source, stock, self._audience, self._faults, self._clock, self._speed, self._wait_for)

    async def _play(self) -> None:
        while True:
            try:
                await self._playing.play()
            except Exception:
                self._end(BROKEN, "the recording cannot be read further")
                raise
            if self._at_end == "close":
                self._over = True
            clients = list(self._audience.clients.values())
            self._end(DONE if self._over else AGAIN, "end of the recording")
            for client in clients:
                await client.drained()
            if self._over:
                return
            self._playing = await self._made(self._source)

    def _end(self, code: int, reason: str) -> None:
        for client in self._audience.clients.values():
            client.end(code, reason)

    # -- streams ---------------------------------------------------------------------------------------------------

    async def _talk(self, connection: ServerConnection) -> None:
        """One client, from its first message to its last."""
        assert connection.request is not None
        subscriptions = self._source.server.opened(connection.request.path)
        assert subscriptions is not None
        client = Client(next(self._numbers), connection, subscriptions, self._queue_bytes)
        self._audience.enter(client)
        told = self._tell_missing(client, set())
        if self._over:
            client.end(DONE, "end of the recording")
        delivering = asyncio.create_task(client.deliver(), name=f"client {client.number}")
        try:
            async for said in connection:
                answer = self._source.server.answer(said, subscriptions)
                if answer is not None:
                    client.put(answer)
                self._audience.changed()
                told = self._tell_missing(client, told)
        except ConnectionClosed:
            pass
        finally:
            client.gone()
            self._audience.leave(client)
            delivering.cancel()
            with suppress(asyncio.CancelledError):
                await delivering

    def _tell_missing(self, client: Client, told: set[str]) -> set[str]:
        """A client who waits for what never comes is not to be left in the dark, nor who serves it."""
        missing = [name for name in self._audience.missing(client) if name not in told]
        if missing:
            log.warning(
                "client %s asked for %s: the recording begins without; it has %s", client.number, _some(missing),
                _some(sorted(self._audience.recorded)),
            )  # fmt: skip
        return told | set(missing)

    # -- requests --------------------------------------------------------------------------------------------------

    async def _asked(self, connection: ServerConnection, request: Request) -> Response | None:
        venue = self._source.server
        if self._clock.monotonic_ns() < self._playing.refuses_until:
            return _response(venue.refused(503, "nobody gets in"))
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if venue.opened(request.path) is None:
                return _response(venue.refused(404, f"no stream is at {request.path}"))
            return None
        reply = await self._replied(connection, request.path)
        return _response(reply, venue.weighed(self._allowance.used))

    async def _replied(self, connection: ServerConnection, path: str) -> Reply:
        venue, playing = self._source.server, self._playing
        asked = venue.asked(path)
        if isinstance(asked, Reply):
            self._allowance.takes(1)
            return asked
        if isinstance(asked, BookAsked) and (fault := playing.script.snapshot()) is not None:
            if fault.status == "timeout":
                self._unanswered.add(connection)
                await connection.wait_closed()
                self._unanswered.discard(connection)
                return venue.refused(500)
            return venue.refused(fault.status, retry_seconds=fault.retry_seconds)
        if not self._allowance.takes(asked.weight):
            return venue.refused(429, retry_seconds=self._allowance.whole_again_seconds)
        if isinstance(asked, BookAsked):
            return await self._book(playing, asked)
        if isinstance(asked, TimeAsked):
            return Reply(200, venue.time(path, playing.now_ns))
        assert isinstance(asked, OtherAsked)
        body = await playing.ask(lambda position: playing.stock.answer(path, position))
        return venue.refused(404, f"the recording has no answer to {path}") if body is None else Reply(200, body)

    async def _book(self, playing: Playing, asked: BookAsked) -> Reply:
        venue, stock = self._source.server, playing.stock
        told = await playing.ask(lambda position: stock.book(asked.symbol, asked.limit, position, playing.now_ns))
        if told is not None:
            return Reply(200, venue.book(told))
        if not stock.knows(asked.symbol):
            return venue.refused(400, "Invalid symbol.")
        return venue.refused(503, f"the recording does not have the book of {asked.symbol} at this moment")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(name[:80] for name in names[:SHOWN]) or 'none'}{more}"


def _response(reply: Reply, more: tuple[tuple[str, str], ...] = ()) -> Response:
    told = dict([*more, *reply.headers])
    headers = Headers([*told.items(), ("Content-Length", str(len(reply.body))), ("Connection", "close")])
    return Response(reply.status, http.HTTPStatus(reply.status).phrase, headers, reply.body)

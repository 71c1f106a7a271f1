"""Snapshots of books: asked for one after the other, and no more often than their host allows."""

from __future__ import annotations

import asyncio
import email.utils
from collections import deque
from collections.abc import Mapping
from typing import Any

import aiohttp

from stages.messages import MessageKind
from stages.venues import SnapshotRequest

from .conduct import Means
from .hosts import Host, host_of
from .waiting import within

MAX_BODY_BYTES = 64 << 20
LONGEST_WAIT_SECONDS = 3600.0
"""However long a server says it wants to be left alone, it is asked again after this."""


class Snapshots:
    """Fetches what is asked for in the order it was asked for, an instrument at a time, until it is had.

    What came of it becomes a message: RESPONSE with the body, or FAILED with the status (0: none came) and the body. A
    failure closes the host for everyone: longer each time, and for as long as it says itself (`Retry-After`).
    """

    def __init__(self, source: str, http_url: str | None, means: Means) -> None:
        self.source, self.means = source, means
        self.had = self.failed = 0
        self._base = http_url or means.venue.http_url
        self._queue: deque[str] = deque()
        self._waiting: set[str] = set()
        """Those in the queue, and those whose request the host does not admit yet."""
        self._asked = asyncio.Event()
        self._backoff = means.backoff()

    def ask(self, instrument_id: str) -> None:
        """Fetch a snapshot of this book, unless one is to be fetched already."""
        if instrument_id not in self._waiting:
            self._waiting.add(instrument_id)
            self._queue.append(instrument_id)
            self._asked.set()

    async def work(self) -> None:
        """Until cancelled."""
        connector = aiohttp.TCPConnector(ssl=True if self.means.context is None else self.means.context)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as http:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self.means.conduct.snapshots_at_once):
                    tasks.create_task(self._serve(http))

    async def _serve(self, http: aiohttp.ClientSession) -> None:
        venue = self.means.venue
        while True:
            while not self._queue:
                self._asked.clear()
                await self._asked.wait()
            instrument_id = self._queue.popleft()
            request = venue.snapshot_request(venue.symbol(instrument_id), self._base)
            if request is None:
                self._waiting.discard(instrument_id)
                continue
            host = host_of(request.url, venue.limits, self.means.clock)
            await host.admit(request.weight)
            self._waiting.discard(instrument_id)
            if not await self._fetch(http, request, host):
                self.ask(instrument_id)

    async def _fetch(self, http: aiohttp.ClientSession, request: SnapshotRequest, host: Host) -> bool:
        means = self.means
        headers: Mapping[str, str] = {}
        try:
            status, headers, body = await within(means.clock, means.conduct.snapshot_timeout, _get(http, request.url))
        except (aiohttp.ClientError, OSError) as error:
            status, body = 0, f"{type(error).__name__}: {error}".encode()
        if status == 200:
            self.had += 1
            self._backoff.reset()
            means.buffer.add(MessageKind.RESPONSE, self.source, request.url, body)
            return True
        self.failed += 1
        wait = _retry_after(headers.get("Retry-After"), means.clock.now_ns()) or 0
        host.leave_alone(max(self._backoff.next(), min(wait, LONGEST_WAIT_SECONDS)))
        means.log.warning("%s: no snapshot: %s %s", request.url, status, body[:200].decode(errors="replace"))
        means.buffer.add(MessageKind.FAILED, self.source, request.url, b"%d %b" % (status, body))
        return False


async def _get(http: aiohttp.ClientSession, url: str) -> tuple[int, Mapping[str, str], bytes]:
    async with http.get(url) as response:
        parts, room = [], MAX_BODY_BYTES
        async for part in response.content.iter_any():
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise aiohttp.ClientPayloadError(f"expected at most {MAX_BODY_BYTES:,} bytes, found more")
        return response.status, response.headers, b"".join(parts)


def _retry_after(said: Any, now_ns: int) -> float | None:
    """Seconds a server wants to be left alone: it says how many, or until when; None where it says nothing readable."""
    try:
        return max(float(said), 0.0)
    except (TypeError, ValueError):
        pass
    try:
        return max(email.utils.parsedate_to_datetime(said).timestamp() - now_ns / 1e9, 0.0)
    except (TypeError, ValueError):
        return None

"""A live feed at work: messages of a session become records, and what those need is asked of the session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow.compute as pc

from pipeline import Batch, Context, Feed, Watermark
from stages.interpreting import Interpreted, Interpreter
from stages.interpreting.settings import chosen
from stages.messages import MessageKind, Messages, RawMessage

from .buffer import Bound
from .conduct import Conduct
from .live import Live
from .session import Session

ASK_AGAIN_NS: Final = 60_000_000_000
"""Books that were given up are asked for once more in so much time."""
IDLE_PARTS: Final = 4
"""Silence is told so many times before it is too long."""


class LiveFeed(Feed):
    """Takes runs of messages, interprets them in a thread of its own, and gives records of all kinds together.

    `on_messages` is awaited with each run before it is interpreted. It ends when it is stopped. What a venue sent
    between a checkpoint and the run that goes on from it is not to be had again: a `reconnect` of each connection says
    since when nothing was heard.
    """

    def __init__(
        self,
        recipe: Live,
        context: Context,
        conduct: Conduct | None = None,
        on_messages: Callable[[Messages], Awaitable[None]] | None = None,
    ) -> None:
        stale = recipe.stale_ns
        conduct = conduct or Conduct(
            idle_every=None if stale is None else stale / IDLE_PARTS / 1e9,
            bound=Bound(messages=recipe.buffer_messages, num_bytes=round(recipe.buffer_mb * (1 << 20))),
        )
        venue = recipe.named_venue
        self.lateness_ns = recipe.lateness_ns
        self.interpreter = Interpreter(venue, chosen(recipe))
        self.session = Session(
            venue, recipe.plans(), http_url=recipe.http_url, conduct=conduct, clock=context.clock,
            random=context.random(), on_messages=on_messages, log=context.log,
        )  # fmt: skip
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-live")
        self._asked_again = 0
        self._gave_until: int | None = None

    def had_given(self, batch: Batch) -> None:
        newest = pc.max(batch.columns.column("ts_recv")).value
        self._gave_until = max(self._gave_until or 0, newest or 0)

    async def batches(self) -> AsyncGenerator[tuple[Batch, ...] | Watermark]:
        async with self.session as session:
            if self._gave_until is not None:
                sources = (f"{session.venue.name}/{number}" for number in range(1, len(session.plans) + 1))
                self.interpreter.went_away(sources, self._gave_until)
            while (messages := await session.messages()) is not None:
                for found in await self.interpreted(messages):
                    for needed in found.requests:
                        self._fetch(needed.instrument_id)
                    for source in found.silent:
                        session.renew(source, "it brings nothing")
                    self._ask_again(int(messages.ts_recv[-1]))
                    if found.batches:
                        yield tuple(Batch(batch) for batch in found.batches)
                    else:
                        yield Watermark(None, idle=True)

    async def interpreted(self, messages: Messages) -> list[Interpreted]:
        """What a run came to, in one part or several, one after the other."""
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._thread, self.interpreter.interpret, messages)]

    def stop(self) -> bool:
        """Connections are closed; what came by them is still given."""
        self.session.stop()
        return True

    def warm(self) -> None:
        """Compile what reads messages and keeps books, before the first one comes."""
        venue, settings = self.interpreter.venue, self.interpreter.settings
        Interpreter(venue, settings).interpret(Messages.of([RawMessage(0, 0, MessageKind.RECEIVED, "", "", b"{}")]))

    def metrics(self) -> Mapping[str, Any]:
        return {**self.interpreter.ledger.figures(), **self.session.figures()}

    def progress(self) -> str:
        ledger, waiting = self.interpreter.ledger, len(self.session.buffer)
        events = sum(map(Counter.total, ledger.events.values()))
        return (
            f"{ledger.messages:,} messages"
            + (f", {waiting:,} waiting" if waiting else "")
            + (f", {events:,} quality events" if events else "")
        )

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _fetch(self, instrument_id: str) -> None:
        """Have a book's snapshot: by asking for it, or, where it comes in the stream, by subscribing anew."""
        venue = self.session.venue
        if venue.snapshot_request(venue.symbol(instrument_id)) is not None:
            self.session.request(instrument_id)
        elif (source := self.interpreter.source_of(instrument_id)) is not None:
            self.session.renew(source, f"the book of {instrument_id} is to begin anew")

    def _ask_again(self, now_ns: int) -> None:
        if now_ns < self._asked_again:
            return
        for instrument_id in self.interpreter.stale_books() if self._asked_again else ():
            self._fetch(instrument_id)
        self._asked_again = now_ns + ASK_AGAIN_NS

"""What the program's command `record` does: draws live feeds whose recorders do the work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pipeline import (
    Config,
    ConfigError,
    Context,
    InputError,
    Problem,
    SystemClock,
    UnderWay,
    WorkDone,
    compose,
    rows_said,
    seconds_said,
)
from stages.live.live import INSTALL

from .recorded_live import RecordedLive
from .works import advised, closing, quality_said, said

try:
    from .recorded_feed import RecordedFeed
except ImportError as error:
    raise InputError(f"a live feed needs websockets and aiohttp ({error}); try: {INSTALL}") from error


async def record_work(under_way: UnderWay, *, config: Config) -> WorkDone:
    """`penstock record`: the live feeds of a configuration that say `record:`, until it is asked to stop.

    Where one fails the others end too, with all they have published, and its error is raised.
    """
    nodes = [node for node in compose(config).nodes if isinstance(node.stage, RecordedLive) and node.stage.record]
    if not nodes:
        expected = "expected a feed of `type: live` that says `record: {folder: recordings/mine}`"
        raise ConfigError([Problem("containers", expected, "none", "penstock ingest takes captures in")])
    feeds = [node.stage.build(Context(name=node.name, seed=config.seed)) for node in nodes]
    return await record([feed for feed in feeds if isinstance(feed, RecordedFeed)], under_way)


async def record(feeds: Sequence[RecordedFeed], under_way: UnderWay) -> WorkDone:
    """Draw all feeds, whose recorders do the work, until it is asked to stop or one of them ends."""
    under_way.tell(Progress(feeds).said)
    drawing = [asyncio.ensure_future(_draw(feed)) for feed in feeds]
    stopping = asyncio.ensure_future(under_way.stop.wait())
    try:
        await asyncio.wait({stopping, *drawing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for feed in feeds:
            feed.stop()
        ended = await asyncio.gather(*drawing, return_exceptions=True)
    for found in ended:
        if isinstance(found, BaseException):
            raise found
    words: list[tuple[str, str]] = []
    for feed in feeds:
        assert feed.recorder is not None
        words += closing(feed.recorder.figures())
        words += ((name, quality_said(found)) for name, found in feed.recorder.quality().items())
        words.append(("recording", feed.to.folder))
    return WorkDone(words, {feed.to.folder: feed.metrics() for feed in feeds})


async def _draw(feed: RecordedFeed) -> None:
    """What comes out is in files already; nobody else wants it here."""
    try:
        await asyncio.to_thread(feed.warm)
        with advised():
            async for _ in feed.batches():
                pass
    finally:
        feed.close()


class Progress:
    """How far several recorders are, and how fast."""

    def __init__(self, feeds: Sequence[RecordedFeed]) -> None:
        self._feeds = feeds
        self._clock = SystemClock()
        self._before = (self._clock.monotonic_ns(), 0)

    def said(self) -> str:
        parts, messages = [], 0
        for feed in self._feeds:
            if feed.recorder is None:
                parts.append(f"{feed.to.folder}: opening")
                continue
            figures = feed.recorder.figures()
            messages += figures.messages
            lag = max(0, self._clock.now_ns() - figures.newest_ts) / 1e9 if figures.messages else 0.0
            waiting = len(feed.session.buffer)
            parts.append(said(figures) + f", {seconds_said(lag)} ago" + (f", {waiting:,} waiting" if waiting else ""))
        now = self._clock.monotonic_ns()
        rate = (messages - self._before[1]) / max(1e-9, (now - self._before[0]) / 1e9)
        self._before = (now, messages)
        return f"{rows_said(rate)} messages/s; " + "; ".join(parts)

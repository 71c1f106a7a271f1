"""Replays a recording before a person's eyes: a table of the market, keys to steer it; lines where nobody watches."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import click
import msgspec
import pyarrow as pa

from pipeline.errors import Interrupted, PenstockError
from pipeline.frames import Batch
from pipeline.service import Pipeline, Run
from pipeline.summary import PhaseSummary
from pipeline.windows import iso

from .conduct import Stopper
from .figures import quality_said, rows_said
from .keys import pressed
from .latest import Board
from .tables import may_decorate, text_table

FEED = "market"
LIVE_SECONDS = 1 / 8
LINE_SECONDS = 2.0
STEP_NS = 1_000_000_000
LEGEND = "space pause  n or right: one row  s: one second  + - speed  q quit"
COLUMNS = {
    "price": "last", "size": "size", "bid_size": "bid size", "bid_price": "bid", "ask_price": "ask",
    "ask_size": "ask size",
}  # fmt: skip
Show: TypeAlias = Callable[["Replayed"], Coroutine[Any, Any, None]]


class Replayed:
    """A replay under way, and what of the market has passed."""

    def __init__(self, run: Run, speed: float | None) -> None:
        self.run, self.speed = run, speed
        self.board = Board()
        self.rows_per_second = 0.0
        self._step: asyncio.Task[None] | None = None
        self._seen = (time.monotonic(), 0)

    def key(self, key: str) -> None:
        """What a key does; one that does nothing is none."""
        stepping = self._step is not None and not self._step.done()
        if key == " " and not stepping:
            (self.run.resume if self.run.replay_state == "paused" else self.run.pause)()
        elif key in ("n", "right") and not stepping:
            self._step = asyncio.create_task(self._stepped(rows=1))
        elif key == "s" and not stepping:
            self._step = asyncio.create_task(self._stepped(until=(self.run.replayed_ns or 0) + STEP_NS))
        elif key in ("+", "="):
            self._set_speed(None if self.speed is None else self.speed * 2)
        elif key in ("-", "_"):
            self._set_speed(1.0 if self.speed is None else self.speed / 2)
        elif key == "q":
            self.run.drain()

    async def close(self) -> None:
        if self._step is not None:
            self._step.cancel()
            await asyncio.wait([self._step])

    def look(self) -> None:
        """Take the rate of rows since the last look."""
        now, rows = time.monotonic(), self.board.rows
        then, before = self._seen
        if now > then:
            self.rows_per_second = (rows - before) / (now - then)
        self._seen = (now, rows)

    def said(self) -> str:
        """How far it is, in one line."""
        at = self.run.replayed_ns
        speed = "as fast as it goes" if self.speed is None else f"{self.speed:g}x"
        words = [self.run.replay_state, "-" if at is None else iso(at), speed, f"{rows_said(self.board.rows)} rows"]
        words.append(f"{rows_said(self.rows_per_second)} rows/s")
        lag = self.run.replay_lag_ms
        if lag is not None:
            words.append(f"at most {lag:,.0f} ms late")
        return ", ".join(words)

    def table(self) -> str:
        """The market: a line for each instrument."""
        rows = []
        for name, latest in self.board.instruments.items():
            told = [latest.values.get(column) or "-" for column in COLUMNS]
            rows.append([name, *told, rows_said(latest.rows)])
        return text_table(["instrument", *COLUMNS.values(), "rows"], rows)

    async def _stepped(self, **words: Any) -> None:
        with contextlib.suppress(PenstockError):  # the run has failed, which is told by it
            await self.run.step(**words)

    def _set_speed(self, speed: float | None) -> None:
        self.speed = speed
        self.run.set_speed(speed)


def replayed(feed: dict[str, Any], speed: float | None, until: str | None, as_json: bool, quiet: bool) -> bool:
    """Replay one feed; whether it was stopped before its end. Its run leaves nothing on the disk."""
    with tempfile.TemporaryDirectory(prefix="penstock-replay-") as folder:
        config = {"name": "replay", "containers": {FEED: feed}}
        pipeline = Pipeline.from_yaml(config, output=Path(folder), until=until)
        return asyncio.run(_replayed(pipeline, speed, as_json, quiet))


async def _replayed(pipeline: Pipeline, speed: float | None, as_json: bool, quiet: bool) -> bool:
    run = pipeline.start(owns_process=True)
    watched = Replayed(run, speed)
    show = _show(silent=as_json or quiet)
    summary: PhaseSummary | None = None
    with Stopper(run, 5.0) as stopper, pressed(watched.key):
        showing = asyncio.create_task(show(watched))
        try:
            async with run, run.subscribe(FEED) as batches:
                async for batch in batches:
                    watched.board.take(batch)
                    if as_json:
                        await asyncio.to_thread(_print_rows, batch)
                summary = await run.finished()
            return False
        except Interrupted:
            return stopper.asked > 0
        finally:
            await watched.close()
            showing.cancel()
            await asyncio.wait([showing])
            await stopper.settled()
            watched.look()
            if not as_json and watched.board.instruments:
                click.echo(watched.table())
            if not as_json:
                wrong = "" if summary is None else quality_said(summary.aggregate_metrics)
                click.echo(f"{rows_said(watched.board.rows)} rows" + (f", {wrong}" if wrong else ""))
            if summary is not None and not watched.board.rows:
                click.echo("nothing came; look at the path, and at --records, --from and --until", err=True)


def _print_rows(batch: Batch) -> None:
    """Each row as a line of JSON: times as ns, exact numbers as text."""
    columns = batch.columns
    told = [_told(column) for column in columns.columns]
    names = columns.schema.names
    lines = [
        msgspec.json.encode({"record": batch.record, **dict(zip(names, row, strict=True))})
        for row in zip(*told, strict=True)
    ]
    click.echo(b"".join(line + b"\n" for line in lines), nl=False)


def _told(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.utf8())
    found: list[Any] = column.to_pylist()
    return found


def _show(*, silent: bool) -> Show:
    if silent:
        return _nothing
    if may_decorate(sys.stdout):
        return _live
    return _lines


async def _nothing(watched: Replayed) -> None:
    return None


async def _lines(watched: Replayed) -> None:
    """Until cancelled: a line every two seconds."""
    while True:
        await asyncio.sleep(LINE_SECONDS)
        watched.look()
        if watched.run.replayed_ns is not None:
            click.echo(watched.said())


async def _live(watched: Replayed) -> None:
    """Until cancelled: the table, drawn anew eight times a second in a thread."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    live = Live(console=Console(), auto_refresh=False, transient=True)
    live.start()
    try:
        while True:
            watched.look()
            picture = Text("\n".join([watched.said(), watched.table(), LEGEND]))
            drawing = asyncio.ensure_future(asyncio.to_thread(live.update, picture, refresh=True))
            try:
                await asyncio.shield(drawing)
            except asyncio.CancelledError:
                await drawing
                raise
            await asyncio.sleep(LIVE_SECONDS)
    finally:
        with contextlib.suppress(OSError):
            live.stop()

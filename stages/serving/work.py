"""What the program's command `replay --serve` does, and what it says of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline import PenstockError, UnderWay, WorkDone

from .faults import load_faults

log = logging.getLogger("penstock.serving")


async def serve_work(
    under_way: UnderWay,
    *,
    paths: Sequence[Path],
    host: str,
    port: int,
    speed: float | None,
    faults: Path | None,
    venue: str | None,
    wait_for: int,
    loop: bool,
) -> WorkDone:
    """`penstock replay --serve`: until the recording has ended, or it is asked to stop."""
    played = () if faults is None else await asyncio.to_thread(load_faults, faults)
    try:
        from .server import ReplayServer
    except ImportError as error:
        raise PenstockError(
            f"expected the library websockets to serve with, found {error}; try: pip install 'penstock[live]'"
        ) from error
    server = ReplayServer(
        paths, venue=venue, speed=speed, faults=played, host=host, port=port, wait_for=wait_for,
        at_end="loop" if loop else "close",
    )  # fmt: skip
    async with server:
        for label, told in server.told():
            log.info("%-8s  %s", label, told)
        under_way.tell(server.said)
        ends = [asyncio.create_task(server.finished()), asyncio.create_task(under_way.stop.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait(ends)
        if ends[0].done() and not ends[0].cancelled():
            ends[0].result()
        figures = server.figures()
    words = [("served", server.said())]
    words += [("unplayed", fault) for fault in figures["unplayed"]]
    return WorkDone(words, figures)

"""Carries out the work of a package: signals ask it to end, and how far it is is told meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec

from pipeline.errors import InputError
from pipeline.registry import Registry
from pipeline.report import Work, WorkDone

from . import INTERRUPTED
from .conduct import SIGNALS
from .figures import printable
from .looking import labelled
from .tables import may_decorate

LINE_SECONDS = 10.0
LIVE_SECONDS = 0.5
CLEAR = "\r\x1b[2K"
log = logging.getLogger("penstock.progress")


class Worker:
    """Hears the signals and tells how far the work is. The first asks it to end, the third ends the process."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.asked = 0
        self._said: Callable[[], str] = lambda: "beginning"

    def tell(self, said: Callable[[], str]) -> None:
        self._said = said

    def signal(self) -> None:
        self.asked += 1
        if self.asked >= 3:
            os._exit(INTERRUPTED)
        if self.asked == 1:
            log.warning("stopping: what was done is kept; two more signals end it at once")
        self.stop.set()

    async def show(self, quiet: bool) -> None:
        """Until cancelled: one line that is written anew on a terminal, a line of the log now and then elsewhere."""
        live = not quiet and may_decorate(sys.stderr)
        while not quiet:
            await asyncio.sleep(LIVE_SECONDS if live else LINE_SECONDS)
            said = printable(self._said())
            if live:
                with contextlib.suppress(OSError):
                    click.echo(f"{CLEAR}{said[:200]}", nl=False, err=True)
            else:
                log.info("%s", said)


def work_of(name: str) -> Work:
    """Raises `InputError` where no package that is installed does such work."""
    works = Registry.installed().works
    if name not in works:
        raise InputError(f"no package that is installed knows how to {name}; there is: {', '.join(works) or 'none'}")
    return works[name]


async def carried_out(work: Work, quiet: bool, **options: Any) -> tuple[WorkDone, bool]:
    """What came of it, and whether a signal has ended it."""
    worker = Worker()
    with _heard(worker):
        showing = asyncio.create_task(worker.show(quiet), name="penstock:watch")
        try:
            done = await work(worker, **options)
        finally:
            showing.cancel()
            await asyncio.wait([showing])
            if not quiet and may_decorate(sys.stderr):
                with contextlib.suppress(OSError):
                    click.echo(CLEAR, nl=False, err=True)
    return done, worker.asked > 0


def shown(done: WorkDone, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done.figures), indent=2).decode())
    else:
        click.echo(labelled(done.words))


@contextlib.contextmanager
def _heard(worker: Worker) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    heard = [*SIGNALS, *(() if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,))]  # nohup
    for number in heard:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, worker.signal)
    try:
        yield
    finally:
        for number in heard:
            with contextlib.suppress(ValueError, RuntimeError):
                loop.remove_signal_handler(number)

"""Work that signals end: a terminal that closes asks as Ctrl-C does, unless it is not to be heard."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import UnderWay, WorkDone
from pipeline.cli.working import carried_out


@pytest.fixture(params=["heard", "ignored"])
def hangups(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the program was begun so that it hears them; under `nohup` it does not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if request.param == "ignored" else _unheard)
    yield request.param == "heard"
    signal.signal(signal.SIGHUP, before)


def _unheard(number: int, frame: Any) -> None:
    raise AssertionError("nobody heard the signal")


async def test_a_terminal_that_closes_ends_work_as_one_signal_does(hangups: bool) -> None:
    async def work(under_way: UnderWay) -> WorkDone:
        signal.raise_signal(signal.SIGHUP)
        if hangups:
            await under_way.stop.wait()
        return WorkDone([], {})

    _, stopped = await carried_out(work, quiet=True)
    assert stopped == hangups

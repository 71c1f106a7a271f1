"""What a recorder stores of a served market is what its file says, at any speed and with any fault."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, Reorder, Snapshot, Stall
from tests.conftest import tasks_left
from tests.stages.serving.examined import examine
from tests.stages.serving.parts import COINM, SPOT, USDM, Part
from tests.stages.serving.random_faults import drawn
from tests.stages.serving.recorded import Served, followed

PARTS = (SPOT, USDM, COINM)
SECOND = 1_000_000_000
SOAK = "PENSTOCK_SOAK" in os.environ


def served_of(part: Part, recordings: Path, seconds: float) -> Served:
    """So many seconds of a capture."""
    messages = part.read(recordings, 200_000 if seconds > 30 else 8_000)
    messages = messages.slice(0, int(np.searchsorted(messages.ts_recv, messages.ts_recv[0] + int(seconds * SECOND))))
    trades, quotes, depth = part.streams
    return Served(part.venue, {part.symbol: (trades, quotes, depth)}, depth.partition("@")[2], messages)


def faults_of(served: Served) -> dict[str, list[Fault]]:
    """By kind: of trades and of the book, in the midst of what is served."""
    ((trades, _, depth),) = served.streams.values()
    trade, update = (len(served.places[stream]) // 2 for stream in (trades, depth))
    middle = len(served.sent) // 2
    return {
        "none": [],
        "a trade dropped": [Drop(stream=trades, message=trade)],
        "an update dropped": [Drop(stream=depth, message=update)],
        "both repeated": [Duplicate(stream=trades, message=trade), Duplicate(stream=depth, message=update)],
        "both late": [Reorder(stream=trades, message=trade), Reorder(stream=depth, message=update)],
        "both spoilt": [Cut(stream=trades, message=trade), Cut(stream=depth, message=update)],
        "stalled": [Stall(message=middle, seconds=0.05)],
        "disconnected": [Disconnect(message=middle)],
        "disconnected for a while": [Disconnect(message=middle, lose=middle // 4)],
        "snapshots refused": [Snapshot(request=1, count=2, retry_seconds=0), Drop(stream=depth, message=update)],
    }


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.venue)
async def test_as_fast_as_it_is_taken_each_fault_alone(part: Part, recordings: Path, tmp_path: Path) -> None:
    served = served_of(part, recordings, 4)
    for name, faults in faults_of(served).items():
        await followed(served, tmp_path / name, None, faults, roll_rows=1500)
        examine(served, tmp_path / name, faults)
    assert await tasks_left() == set()


WHOLE = 3600
"""Longer than any of the captures: five to six minutes each."""
LENGTHS = [(1, 3, 12), (50, 20, 60), *([(1, WHOLE, 300), (50, WHOLE, 300), (None, WHOLE, 300)] if SOAK else [])]


@pytest.mark.parametrize(("speed", "seconds", "every"), LENGTHS)
async def test_at_a_speed_without_faults_and_with_all_of_them(
    speed: float | None, seconds: int, every: int, recordings: Path, tmp_path: Path
) -> None:
    """Six recorders at once, each beside its own server: they wait for their time most of the while. Of whole captures
    files roll every 30 seconds."""
    words = {"roll_every": "30s"} if seconds == WHOLE else {}
    drops = {"disconnects": 6} if seconds == WHOLE else {}
    cases = []
    for part in PARTS:
        served = served_of(part, recordings, seconds)
        for faults in ([], drawn(served, 1, every=every, **drops)):
            cases.append((served, tmp_path / f"{part.venue}-{len(faults)}", faults))
    await asyncio.gather(*(followed(served, folder, speed, faults, **words) for served, folder, faults in cases))
    for served, folder, faults in cases:
        examine(served, folder, faults)
    assert await tasks_left() == set()

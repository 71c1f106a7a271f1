"""Edges that spill, at a cut: what is under way is kept where it lies, and comes back on another edge, to a bound."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoints.cuts import LaneCut
from pipeline.edges.edge import EdgePolicy
from pipeline.edges.in_flight import EdgesAccount
from pipeline.edges.inbox import Inbox
from pipeline.edges.spilling import SpillingEdge
from pipeline.edges.under_way import Recording
from pipeline.errors import CorruptEntry
from pipeline.frames import CHECKPOINT, Barrier, Batch, End, Row, Watermark
from pipeline.pool import Pool
from pipeline.storage.workspace import Workspace
from tests.counted import count

ITEM = Batch.from_pydict({"n": np.arange(100)}).num_bytes
CUT = Barrier(1, CHECKPOINT)


class Tick(Row, frozen=True):
    n: int


def item(n: int) -> Batch:
    return Batch.from_pydict({"n": np.arange(n, n + 100)}).stamped("a", n * 100)


def edge(workspace: Workspace, items: int, pool: Pool | None = None) -> SpillingEdge:
    policy = EdgePolicy(max_bytes=items * ITEM, when_full="spill")
    return SpillingEdge("a", "b", policy, EdgesAccount(pool), workspace)


def said(frame: Any) -> Any:
    if isinstance(frame, Watermark | End):
        return frame
    batch = frame if isinstance(frame, Batch) else frame.read()
    return (
        batch.source,
        batch.first_seq,
        batch.is_rows,
        list(batch.rows) if batch.is_rows else batch.columns.to_pydict(),
    )


def newest(frames: Iterable[Any]) -> list[Any]:
    """Of watermarks in a row, the last: an edge keeps no other."""
    found: list[Any] = []
    for frame in frames:
        if isinstance(frame, Watermark) and found and isinstance(found[-1], Watermark):
            found.pop()
        found.append(frame)
    return found


async def quiet(line: SpillingEdge) -> None:
    while line._flight is not None or line._reads or line._leaving:
        await anyio.lowlevel.checkpoint()


async def fill(line: SpillingEdge, numbers: range) -> None:
    for n in numbers:
        await line.send(item(n))
        await quiet(line)


async def take(line: SpillingEdge) -> Batch:
    batch = await line.receive()
    assert isinstance(batch, Batch)
    line.finish(batch)
    return batch


async def rest_of(line: SpillingEdge) -> list[Any]:
    """Everything up to the end, each frame as `said`."""
    found = []
    while not isinstance(frame := await line.receive(), End):
        if not isinstance(frame, Barrier):
            found.append(said(frame))
        if isinstance(frame, Batch):
            line.finish(frame)
        assert line.stats().in_flight_bytes <= line.policy.max_bytes + ITEM
    return found


@pytest.fixture
async def workspace(tmp_path: Path) -> Any:
    workspace = Workspace(tmp_path / "w")
    yield workspace
    await workspace.close()
    assert workspace.loaned_bytes == 0


async def test_r6_what_is_on_disk_is_kept_there_though_its_consumer_goes_on(workspace: Workspace) -> None:
    """R-6: neither in memory nor overwritten by what is spilled later, until it is let go."""
    line = edge(workspace, 6)
    await fill(line, range(30))
    assert line.stats().on_disk_rows > 2000
    recording = Recording(CUT, None, idle=False)
    held = line.account.charged
    recording.add(line, LaneCut(source="a", finished_rows=0), passed=False)
    assert line.account.charged == held, "each byte once"
    line.send_nowait(CUT)
    assert recording.is_complete
    for n in range(30):
        assert said(await take(line)) == said(item(n))
    assert line.account.charged <= 6 * ITEM
    await fill(line, range(100, 130))
    (lane,) = recording.cut().lanes
    assert [said(frame) for frame in lane.frames] == [said(item(n)) for n in range(30)]
    assert lane.rows_under_way == 3000
    recording.close()
    await line.receive()  # the barrier
    for n in range(100, 130):
        assert said(await take(line)) == said(item(n))
    assert (line.account.charged, workspace.spill.live_bytes) == (0, 0)
    await line.close()


async def test_r6_what_leaves_for_the_disk_while_it_is_recorded_is_kept_in_memory_no_longer(
    workspace: Workspace,
) -> None:
    """C-6, R-6: so a checkpoint of a fan-in that waits long holds no more than the edge does."""
    line = edge(workspace, 6)
    recording = Recording(CUT, None, idle=False)
    recording.add(line, LaneCut(source="a", finished_rows=0), passed=False)
    await fill(line, range(60))
    assert line.account.charged <= 6 * ITEM
    line.send_nowait(CUT)
    (lane,) = recording.cut().lanes
    assert [said(frame) for frame in lane.frames] == [said(item(n)) for n in range(60)]
    assert recording._bytes <= 6 * ITEM
    recording.close()
    line.detach()
    await line.close()


async def test_e14_a_record_that_is_damaged_is_told_by_who_reads_it(workspace: Workspace) -> None:
    line = edge(workspace, 4)
    await fill(line, range(12))
    recording = Recording(CUT, None, idle=False)
    recording.add(line, LaneCut(source="a", finished_rows=0), passed=False)
    line.send_nowait(CUT)
    [path] = workspace.spill.folder.glob("*.seg")
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CorruptEntry, match="checksum"):
        [said(frame) for frame in recording.cut().lanes[0].frames]
    recording.close()
    await line.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.booleans())
async def test_r6_from_any_cut_an_equal_edge_gives_what_was_left(
    tmp_path_factory: pytest.TempPathFactory, seed: int, memory: int, pooled: bool
) -> None:
    """R-6, C-6: at any moment of any history; what comes before the barrier is recorded, in memory and on disk."""
    dice = random.Random(seed)
    folder = tmp_path_factory.mktemp("w")
    first, second = Workspace(folder / "first"), Workspace(folder / "second")
    pool = Pool(20 * ITEM) if pooled else None
    line = edge(first, memory, pool)
    inbox = Inbox([line])
    queued: list[Any] = []
    left: list[Any] | None = None
    """What the cut is to have."""
    cut_at, barred = dice.randrange(80), False
    for step in range(160):
        if step == cut_at:
            inbox.request(CUT)
            assert inbox.receive_nowait() == CUT
            left = list(queued)
        if left is not None and not barred and dice.random() < 0.1:
            assert line.send_nowait(CUT)
            barred = True
        if dice.random() < 0.7:
            n = dice.randrange(1000)
            rows = Batch.from_rows([Tick(n)] * 3).stamped("a", n)
            frame: Any = dice.choice([item(n), item(n), rows, Watermark(step)])
            if line.send_nowait(frame):
                queued.append(frame)
                if left is not None and not barred:
                    left.append(frame)
        elif isinstance(got := inbox.receive_nowait(), Batch | Watermark):
            queued = queued[queued.index(got) :] if isinstance(got, Watermark) else queued
            assert said(queued.pop(0)) == said(got)
            if isinstance(got, Batch):
                inbox.finish(got)
        if dice.random() < 0.3:
            await quiet(line)
    if not barred:
        line.send_nowait(CUT)
    recording = inbox.recording
    assert recording is not None and left is not None
    count("cuts of edges that spill")
    if not recording.is_complete:
        assert pool is not None and "were under way to 'b'" in recording.failure
        count("cuts of edges that spill, given up for want of room")
        line.detach()
        await line.close()
        await first.close()
        return
    (lane,) = recording.cut().lanes
    assert newest(map(said, lane.frames)) == newest(map(said, left))
    again = edge(second, memory, Pool(20 * ITEM) if pooled else None)
    brought = await again.bring_back(lane.frames)
    count("batches that came back to an edge's disk", sum(not isinstance(f, Batch | Watermark) for f in brought))
    again.go_on(lane.finished_rows, brought)
    assert again.stats().in_flight_bytes <= again.policy.max_bytes
    assert again.stats().in_flight_rows == lane.rows_under_way
    recording.close()
    line.detach()
    await line.close()
    assert (line.account.charged, first.loaned_bytes, first.spill.live_bytes) == (0, 0, 0)
    again.send_nowait(End())
    assert newest(await rest_of(again)) == newest(map(said, left))
    await again.close()
    assert (again.account.charged, second.loaned_bytes, second.spill.live_bytes) == (0, 0, 0)
    await first.close()
    await second.close()

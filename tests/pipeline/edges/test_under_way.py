"""What is recorded at fan-in: from any cut, and in any order of events, the same rows come in the same order."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoints.cuts import Checkpoint, ContainerCut, InboxCut
from pipeline.checkpoints.records import decode_checkpoint, decode_frame, encode_checkpoint, encode_frame
from pipeline.edges.edge import Edge
from pipeline.edges.in_flight import EdgesAccount
from pipeline.edges.inbox import Inbox
from pipeline.edges.under_way import POOL_SHARE
from pipeline.errors import BudgetExceeded, StateMismatch
from pipeline.frames import CHECKPOINT, Barrier, Batch, End, Row, Watermark
from pipeline.pool import Pool

TRIALS = 2000 if os.environ.get("PENSTOCK_SOAK") else 150
LATENESS = 5


class Tick(Row, frozen=True):
    ts_event: int
    n: int


def frames_of(lane: int, kind: str, stamps: Sequence[Sequence[int]]) -> list[Batch | Watermark]:
    """What one producer sends: a batch for each list of stamps, and a watermark where it may."""
    frames: list[Batch | Watermark] = []
    newest: int | None = None
    seq = 0
    for part in stamps:
        numbers = [1000 * lane + seq + i for i in range(len(part))]
        if kind == "rows":
            batch = Batch.from_rows([Tick(ts, n) for ts, n in zip(part, numbers, strict=True)])
        elif kind == "timeless":
            batch = Batch.from_pydict({"n": numbers})
        else:
            batch = Batch.from_pydict({"ts_event": list(part), "n": numbers})
        frames.append(batch.stamped(f"p{lane}", seq))
        seq += len(part)
        if kind != "timeless" and (newest is None or max(part) > newest):
            newest = max(part)
            frames.append(Watermark(newest - LATENESS))
    return frames


class Graph:
    """Producers, their edges and one inbox; every step is one thing that may happen next."""

    def __init__(self, scripts: Sequence[Sequence[Any]], dice: random.Random) -> None:
        self.scripts, self.dice = [list(script) for script in scripts], dice
        self.edges = [Edge(f"p{i}", "c") for i in range(len(scripts))]
        self.inbox = Inbox(self.edges)
        self.got: list[tuple[str, int]] = []
        self.ended = False
        self.cut: tuple[int, Any] | None = None
        """Rows received before the cut, and what is recorded at it."""
        self.left: list[list[Any]] = []
        """What each producer had yet to send when it sent its barrier, or its end."""

    def go(self, barrier_after: int | None = None) -> None:
        """Let everything happen in a random order until the end; the barrier is begun after so many steps."""
        steps = 0
        barred = [False] * len(self.scripts)
        sent_end = [False] * len(self.scripts)
        self.left = [[] for _ in self.scripts]
        while not self.ended:
            steps += 1
            place = self.dice.randrange(len(self.scripts) + 1)
            if place == len(self.scripts):
                if barrier_after is not None and steps > barrier_after and self.dice.random() < 0.1:
                    self.inbox.request(Barrier(1, CHECKPOINT))  # somebody was not patient enough
                self.receive()
                continue
            is_due = barrier_after is not None and steps > barrier_after and not barred[place] and not sent_end[place]
            if is_due and self.dice.random() < 0.5:
                barred[place] = self.edges[place].send_nowait(Barrier(1, CHECKPOINT))
                self.left[place] = list(self.scripts[place])
                continue
            if self.scripts[place]:
                if self.edges[place].send_nowait(self.scripts[place][0]):
                    self.scripts[place].pop(0)
            elif not sent_end[place]:
                sent_end[place] = self.edges[place].send_nowait(End())

    def receive(self) -> None:
        frame = self.inbox.receive_nowait()
        if isinstance(frame, Batch):
            self.got += [(frame.source, row.n) for row in frame.rows]
            self.inbox.finish(frame)
        elif isinstance(frame, Barrier):
            assert self.cut is None, "a barrier comes once"
            self.cut = (len(self.got), self.inbox.recording)
        self.ended = isinstance(frame, End)


def written(checkpoint: Checkpoint, told: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Keys and payloads as they are read back."""
    return [(key, b"".join(pieces)) for key, pieces in encode_checkpoint(checkpoint, told)]


def through_bytes(cut: InboxCut, sent: dict[str, int]) -> InboxCut:
    """What a checkpoint would give back; its books must balance."""
    whole = Checkpoint(
        phase="run",
        number=1,
        containers={
            **{name: ContainerCut(kind="feed", sent_rows=rows) for name, rows in sent.items()},
            "c": ContainerCut(kind="replayed", inbox=cut),
        },
    )
    assert whole.faults() == []
    again = decode_checkpoint(written(whole, {"version": "1"}), {"version": "1"}).containers["c"].inbox
    assert again is not None
    return again


stamps = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), min_size=0, max_size=6)
lanes = st.lists(st.tuples(st.sampled_from(["columns", "rows", "columns", "timeless"]), stamps), min_size=1, max_size=3)


def in_time(part: list[list[int]], seed: int) -> list[list[int]]:
    """The same cuts, times in order but for steps back within the lateness, ties left as they fall."""
    dice = random.Random(seed)
    flat = sorted(ts for batch in part for ts in batch)
    flat = [max(0, ts - dice.choice([0, 0, 0, dice.randrange(LATENESS + 1)])) for ts in flat]
    found, at = [], 0
    for batch in part:
        found.append(flat[at : at + len(batch)])
        at += len(batch)
    return found


@settings(max_examples=TRIALS, deadline=None)
@given(lanes, st.integers(0, 10_000), st.integers(0, 40))
def test_from_any_cut_the_same_rows_come_in_the_same_order(
    given_lanes: list[tuple[str, list[list[int]]]], seed: int, barrier_after: int
) -> None:
    """R-6: 1 to 3 inputs; ties, lateness, rows without time; barriers waited for and not; the cut goes through bytes,
    the books balance."""
    scripts = [frames_of(i, kind, in_time(part, seed + i)) for i, (kind, part) in enumerate(given_lanes)]
    whole = Graph(scripts, random.Random(seed))
    whole.go()
    cut = Graph(scripts, random.Random(seed + 1))
    cut.go(barrier_after)
    timed = all(kind != "timeless" for kind, _ in given_lanes)
    if timed:
        assert cut.got == whole.got, "a barrier does not change the order"
    if cut.cut is None:
        return
    before, recording = cut.cut
    assert recording.is_complete
    total = {edge.source: edge.stats().sent_rows for edge in cut.edges}
    sent = {
        name: rows - sum(frame.num_rows for frame in left if isinstance(frame, Batch))
        for (name, rows), left in zip(total.items(), cut.left, strict=True)
    }
    state = through_bytes(recording.cut(), sent)
    recording.close()
    assert all(edge.account.charged == 0 for edge in cut.edges)
    rest = Graph(cut.left, random.Random(seed + 2))
    rest.inbox.go_on(state)
    rest.go()
    got = [*cut.got[:before], *rest.got]
    if timed:
        assert got == whole.got
    for edge in rest.edges:
        assert [n for name, n in got if name == edge.source] == [n for name, n in whole.got if name == edge.source]
        stats = edge.stats()
        assert (stats.sent_rows, stats.received_rows, stats.in_flight_rows) == (
            total[edge.source],
            total[edge.source],
            0,
        )
        assert edge.account.charged == 0


def test_a_cut_asked_for_when_all_inputs_have_ended_holds_what_their_edges_hold() -> None:
    """R-6."""
    a, b = Edge("a", "c"), Edge("b", "c")
    inbox = Inbox([a, b])
    for edge in (a, b):
        edge.send_nowait(Batch.from_pydict({"ts_event": [1, 2]}))
        edge.send_nowait(Watermark(2))
        edge.send_nowait(End())
    first = inbox.receive_nowait()
    assert isinstance(first, Batch)
    inbox.finish(first)
    inbox.request(Barrier(1, CHECKPOINT))
    assert inbox.receive_nowait() == Barrier(1, CHECKPOINT)
    assert inbox.recording is not None
    cut = inbox.recording.cut()
    assert [lane.finished_rows + lane.rows_under_way for lane in cut.lanes] == [2, 2]
    assert sum(lane.rows_under_way for lane in cut.lanes) == 4 - first.num_rows
    inbox.recording.close()


def test_a_barrier_does_not_wait_for_an_input_that_is_not_read() -> None:
    """R-6: what is recorded is complete when the barrier arrives, not when it is received."""
    a, b = Edge("a", "c"), Edge("b", "c")
    inbox = Inbox([a, b])
    a.send_nowait(Batch.from_pydict({"ts_event": [10]}))
    a.send_nowait(Barrier(1, CHECKPOINT))
    assert inbox.receive_nowait() is None, "b may still send an earlier row"
    b.send_nowait(Barrier(1, CHECKPOINT))
    assert inbox.receive_nowait() == Barrier(1, CHECKPOINT)
    assert inbox.recording is not None and inbox.recording.is_complete
    assert inbox.recording.cut().lanes[0].rows_under_way == 1
    inbox.recording.close()


def test_barriers_nobody_has_read_hold_no_producer_up() -> None:
    """R-6: a newer checkpoint makes those before it void."""
    edge = Edge("a", "c")
    assert all(edge.send_nowait(Barrier(number, CHECKPOINT)) for number in range(10))
    inbox = Inbox([edge])
    assert inbox.receive_nowait() == Barrier(8, CHECKPOINT)
    assert inbox.receive_nowait() == Barrier(9, CHECKPOINT)
    assert inbox.receive_nowait() is None


def test_a_newer_barrier_gives_up_what_an_older_one_recorded() -> None:
    a, b = Edge("a", "c"), Edge("b", "c")
    inbox = Inbox([a, b])
    a.send_nowait(Barrier(1, CHECKPOINT))
    assert inbox.receive_nowait() == Barrier(1, CHECKPOINT)
    older = inbox.recording
    assert older is not None and not older.is_complete
    b.send_nowait(Batch.from_pydict({"ts_event": [1]}))
    b.send_nowait(Barrier(2, CHECKPOINT))
    a.send_nowait(Watermark(5))
    a.send_nowait(Barrier(2, CHECKPOINT))
    received = [inbox.receive_nowait() for _ in range(3)]
    assert Barrier(2, CHECKPOINT) in received
    assert older.failure == "a newer checkpoint was begun"
    assert inbox.recording is not None and inbox.recording.is_complete
    inbox.recording.close()


def test_more_under_way_than_a_part_of_the_pool_gives_the_checkpoint_up() -> None:
    """C-6: what is recorded is charged as long as it is held."""
    batch = Batch.from_pydict({"ts_event": np.zeros(1000, np.int64)})
    pool = Pool(2 * POOL_SHARE * batch.num_bytes)  # room for two of three
    account = EdgesAccount(pool)
    a, b = Edge("a", "c", account=account), Edge("b", "c", account=account)
    inbox = Inbox([a, b])
    a.send_nowait(Barrier(1, CHECKPOINT))
    assert inbox.receive_nowait() == Barrier(1, CHECKPOINT)
    recording = inbox.recording
    assert recording is not None
    told: list[str] = []
    recording.on_complete = lambda: told.append(recording.failure)
    for number in range(1, 4):
        times = np.full(1000, number, np.int64)
        assert b.send_nowait(Batch.from_pydict({"ts_event": times}))
        a.send_nowait(Watermark(number + 1))
        while not isinstance(frame := inbox.receive_nowait(), Batch):
            assert frame is not None
        inbox.finish(frame)
        assert b.is_idle and (account.charged > 0) == (not told), "held as long as it is recorded"
    assert len(told) == 1 and "were under way to 'c'" in told[0]
    assert account.charged == 0 and pool.charged == 0


def test_a_smaller_pool_than_what_was_under_way_is_an_error_that_says_so() -> None:
    batch = Batch.from_pydict({"ts_event": np.zeros(1000, np.int64)})
    edge = Edge("a", "c", account=EdgesAccount(Pool(100)))
    with pytest.raises(BudgetExceeded, match=r"a -> c: what was under way: .*process_memory_mb"):
        edge.go_on(0, [batch])


def test_a_checkpoint_of_another_version_or_of_other_things_is_refused() -> None:
    records = written(Checkpoint(phase="run", number=1, containers={}), {"version": "1", "code": "a"})
    with pytest.raises(StateMismatch, match="code 'b', found 'a'"):
        decode_checkpoint(records, {"version": "1", "code": "b"})
    with pytest.raises(StateMismatch, match="tells whose checkpoint it is"):
        decode_checkpoint(records[1:], {})


def test_rows_of_a_class_that_has_no_name_come_back_as_columns() -> None:
    class Local(Row, frozen=True):
        ts_event: int

    known, local = Batch.from_rows([Tick(1, 2)]), Batch.from_rows([Local(1)])
    cut = InboxCut(lanes=[])
    assert through_bytes(cut, {}) == cut
    again = decode_frame(encode_frame(known))
    assert isinstance(again, Batch) and list(again.rows) == [Tick(1, 2)] and again.is_rows
    columns = decode_frame(encode_frame(local))
    assert isinstance(columns, Batch) and not columns.is_rows
    assert columns.columns.schema == pa.schema([("ts_event", pa.timestamp("ns", "UTC"))])
    assert decode_frame(encode_frame(Watermark(7, idle=True))) == Watermark(7, idle=True)

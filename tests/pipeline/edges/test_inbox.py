"""Inboxes: one order for all inputs, decided by the data and not by the scheduler."""

from __future__ import annotations

import random

import pytest

from pipeline.edges.edge import Edge
from pipeline.edges.inbox import Inbox
from pipeline.errors import EdgeClosed
from pipeline.frames import Batch, End, Watermark


def batch(*stamps: int, tag: str = "") -> Batch:
    return Batch.from_pydict({"ts_event": list(stamps), "tag": [tag] * len(stamps)})


def drain(inbox: Inbox) -> list[object]:
    """Frames until nothing is ready: stamps with tags, watermarks, 'end'."""
    got: list[object] = []
    while (frame := inbox.receive_nowait()) is not None:
        if isinstance(frame, Batch):
            got += [(row.ts_event, row.tag) for row in frame.rows]
            inbox.finish(frame)
        elif isinstance(frame, Watermark):
            got.append(("wm", frame.ts if not frame.idle else "idle"))
        elif isinstance(frame, End):
            got.append("end")
            break
    return got


def pair() -> tuple[Edge, Edge, Inbox]:
    a, b = Edge("a", "c"), Edge("b", "c")
    return a, b, Inbox([a, b])


def test_rows_of_two_inputs_come_by_time_and_ties_by_rank() -> None:
    a, b, inbox = pair()
    a.send_nowait(batch(1, 3, 5, tag="a"))
    b.send_nowait(batch(2, 3, 4, tag="b"))
    a.send_nowait(End())
    b.send_nowait(End())
    rows = [item for item in drain(inbox) if isinstance(item, tuple) and item[0] != "wm"]
    assert rows == [(1, "a"), (2, "b"), (3, "a"), (3, "b"), (4, "b"), (5, "a")]
    assert a.stats().in_flight_rows == b.stats().in_flight_rows == 0


def test_a_row_waits_for_an_input_that_may_still_send_an_earlier_one() -> None:
    a, b, inbox = pair()
    a.send_nowait(batch(10, tag="a"))
    assert drain(inbox) == []
    b.send_nowait(Watermark(9))
    assert drain(inbox) == []
    b.send_nowait(Watermark(11))
    assert drain(inbox) == [(10, "a")]
    a.send_nowait(Watermark(10))
    assert drain(inbox) == [("wm", 10)]


def test_an_idle_input_holds_nobody_up() -> None:
    a, b, inbox = pair()
    a.send_nowait(batch(10, tag="a"))
    b.send_nowait(Watermark(None, idle=True))
    assert (10, "a") in drain(inbox)


def test_watermarks_are_the_smallest_over_the_inputs_and_never_ahead_of_their_rows() -> None:
    a, b, inbox = pair()
    a.send_nowait(Watermark(100))
    assert drain(inbox) == []
    b.send_nowait(batch(50, tag="b"))
    b.send_nowait(Watermark(60))
    assert drain(inbox) == [(50, "b"), ("wm", 60)]
    b.send_nowait(End())
    assert drain(inbox) == [("wm", 100)]


def test_the_end_comes_when_every_input_has_ended() -> None:
    a, b, inbox = pair()
    a.send_nowait(End())
    assert drain(inbox) == []
    b.send_nowait(End())
    assert drain(inbox) == ["end"]


def test_a_failed_input_is_an_error_that_names_it() -> None:
    a, _, inbox = pair()
    a.fail(RuntimeError("boom"))
    with pytest.raises(EdgeClosed, match="'a'"):
        drain(inbox)


@pytest.mark.parametrize("lateness", [0, 5])
@pytest.mark.parametrize("seed", range(50))
def test_the_order_does_not_depend_on_cuts_or_arrival(seed: int, lateness: int) -> None:
    """A row that steps back stands with the latest before it in its input, whichever batch that came in."""
    fixed = random.Random(7)
    streams = {
        name: [max(0, ts - fixed.randrange(lateness + 1)) for ts in sorted(fixed.randrange(60) for _ in range(40))]
        for name in "abc"
    }
    shuffle = random.Random(seed)
    edges = {name: Edge(name, "x") for name in streams}
    inbox = Inbox(list(edges.values()))
    left = {name: list(enumerate(stamps)) for name, stamps in streams.items()}
    got: list[object] = []
    while any(left.values()):
        name = shuffle.choice([name for name in left if left[name]])
        size = shuffle.randrange(1, 6)
        part, left[name] = left[name][:size], left[name][size:]
        edges[name].send_nowait(batch(*[ts for _, ts in part], tag=name))
        if shuffle.random() < 0.5:
            newest = max(ts for _, ts in list(enumerate(streams[name]))[: len(streams[name]) - len(left[name])])
            edges[name].send_nowait(Watermark(newest - lateness))
        if not left[name]:
            edges[name].send_nowait(End())
        if shuffle.random() < 0.7:
            got += drain(inbox)
    got += drain(inbox)
    rows = [item for item in got if isinstance(item, tuple) and item[0] != "wm"]
    placed = [
        (max(stamps[: place + 1]), name, place, ts)
        for name, stamps in streams.items()
        for place, ts in enumerate(stamps)
    ]
    assert rows == [(ts, name) for _, name, _, ts in sorted(placed)]
    assert got[-1] == "end"

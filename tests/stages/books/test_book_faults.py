"""One message of a capture dropped, repeated or late: one correct record, and the book is right after the resync."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pytest

from stages.books.keeper import BookKeeper, BookState
from stages.books.kept import Kept
from stages.books.rule import BookRule
from stages.schemas import Names, Scales
from tests.counted import count
from tests.stages.books.conftest import CAPTURES, RECORDINGS
from tests.stages.books.groups import Event, hftbacktest, received

RULES: dict[str, BookRule] = {}
LATER = 6
"""Groups after a fault at which books are compared, before all others are taken at once."""


class Moment(NamedTuple):
    """An event as a batch, and what an undamaged keeper was after it."""

    event: Event
    batch: pa.RecordBatch
    state: Any
    books: dict[str, bytes]


@pytest.fixture
def moments(recordings: Path) -> list[Moment]:
    """The first minute of a spot and of a futures capture, as two instruments of one stream."""
    return _moments()


@lru_cache(maxsize=1)
def _moments() -> list[Moment]:
    events = []
    for name, instrument, length in (("spot", "BTC.SPOT", 60), ("usdm", "BTC.USDM", 120)):
        rule, files = CAPTURES[name]
        RULES[instrument] = rule
        seen = hftbacktest([RECORDINGS / "hftbacktest" / files[0]], instrument)
        events += islice((event for event in seen if isinstance(event, Event)), length)
    events.sort(key=operator.attrgetter("recv"))
    names, books = Names(), fresh()
    found = []
    for place, event in enumerate(events):
        batch = received([event], names, first_seq=place)
        assert books.apply(batch).quality.num_rows == 0
        found.append(Moment(event, batch, books.snapshot(), told(books)))
    return found


def fresh() -> BookKeeper:
    return BookKeeper(lambda name: RULES[name], Scales(), Names(RULES))


def told(books: BookKeeper) -> dict[str, bytes]:
    return {
        name: b"".join(array.tobytes() for side in books.book(name) for array in side)
        for name in books.instruments_kept()
    }


def resumed(moment: Moment) -> BookKeeper:
    books = fresh()
    books.restore(moment.state)
    return books


def snapshot_of(moment: Moment, instrument: str, ts: int) -> pa.RecordBatch:
    """What the venue would have answered at that moment."""
    books = resumed(moment)
    keyframe = books.keyframe(instrument, ts, ts, "http")
    return keyframe.append_column("checksum", pa.nulls(keyframe.num_rows, pa.uint32()))


def live_from(moments: list[Moment]) -> int:
    """The first event after which both books have gone live and taken an update."""
    for place, moment in enumerate(moments):
        books = resumed(moment)
        if all(books.state(name) == BookState.LIVE for name in RULES):
            return place + 4
    raise AssertionError("the captures never went live")


class Played(NamedTuple):
    quality: list[dict[str, Any]]
    requests: list[str]
    equal_from: int | None


def play(moments: list[Moment], order: list[int], begin: int, delay: int) -> Played:
    """Give a keeper as it was before `begin` the events of these numbers; snapshots it asks for come `delay` later.

    Books are compared whenever all events up to the highest number given have been given, for LATER groups after the
    last request was answered, and at the end.
    """
    books = resumed(moments[begin - 1])
    quality: list[dict[str, Any]] = []
    requests: list[str] = []
    pending: list[tuple[int, str, int]] = []

    def took(kept: Kept, step: int, number: int) -> None:
        quality.extend(kept.quality.to_pylist())
        for request in kept.requests:
            requests.append(request.instrument_id)
            pending.append((step + delay, request.instrument_id, number))

    lost = not set(order) >= set(range(begin, len(moments)))
    step, now = 0, begin
    compared = 0
    while step < len(order):
        now = max(now, order[step])
        took(books.apply(moments[order[step]].batch), step, now)
        while pending and pending[0][0] <= step:
            _, name, then = pending.pop(0)
            took(books.apply(snapshot_of(moments[then], name, moments[then].event.recv)), step, now)
        step += 1
        whole = set(order[:step]) >= set(range(begin, now + 1)) & set(order) and (requests or not lost)
        if whole and not pending and all(books.state(name) == BookState.LIVE for name in RULES):
            assert told(books) == moments[now].books
            compared += 1
            if compared == LATER:
                break
    rest = [moments[number].batch for number in order[step:]]
    if rest:
        took(books.apply(pa.Table.from_batches(rest).combine_chunks().to_batches()[0]), step, now)
    for _, name, _ in pending:
        took(books.apply(snapshot_of(moments[-1], name, moments[-1].event.recv)), step, now)
    assert told(books) == moments[-1].books
    return Played(quality, requests, compared)


def next_of_same(moments: list[Moment], at: int) -> int | None:
    """The number of the next event of the same instrument."""
    later = (n for n in range(at + 1, len(moments)) if moments[n].event.instrument == moments[at].event.instrument)
    return next(later, None)


def faulty(moments: list[Moment]) -> Iterator[tuple[int, int, int, int]]:
    """Every event of the live books that has three more after it: it, the next, the beginning, and a delay in turn."""
    first = live_from(moments)
    for at in range(first, len(moments)):
        second = next_of_same(moments, at)
        third = None if second is None else next_of_same(moments, second)
        if second is not None and third is not None and next_of_same(moments, third) is not None:
            yield at, second, first, (0, 1, 3)[at % 3]


def test_a_dropped_update_is_one_gap_and_a_resync(moments: list[Moment]) -> None:
    for at, second, _, delay in faulty(moments):
        dropped, after = moments[at].event, moments[second].event
        order = [number for number in range(at, len(moments)) if number != at]
        played = play(moments, order, at, delay)
        gap, resync = played.quality
        assert (gap["kind"], gap["instrument_id"]) == ("gap", dropped.instrument)
        assert (resync["kind"], resync["instrument_id"]) == ("resync", dropped.instrument)
        assert gap["sequence"] == after.sequence and gap["ingest_seq"] == second
        if RULES[dropped.instrument].chain == "contiguous":
            assert (gap["seq_expected"], gap["seq_got"]) == (dropped.first, after.first)
            assert dropped.sequence is not None and dropped.first is not None
            assert gap["missing"] == dropped.sequence - dropped.first + 1
        else:
            assert (gap["seq_expected"], gap["seq_got"]) == (dropped.previous, dropped.sequence)
        assert played.requests == [dropped.instrument]
        count("faults in book captures")


def test_a_repeated_update_is_one_duplicate_and_changes_nothing(moments: list[Moment]) -> None:
    for at, second, _, _ in faulty(moments):
        for where in (at + 1, second + 1)[at % 2 :][:1]:
            order = list(range(at, len(moments)))
            order.insert(where - at, at)
            played = play(moments, order, at, 0)
            (duplicate,) = played.quality
            assert (duplicate["kind"], duplicate["instrument_id"]) == ("duplicate", moments[at].event.instrument)
            assert duplicate["seq_got"] == moments[at].event.sequence
            assert not played.requests
            count("faults in book captures")


def test_two_updates_in_the_wrong_order_are_one_gap_and_one_late_record(moments: list[Moment]) -> None:
    for at, second, _, delay in faulty(moments):
        order = list(range(at, len(moments)))
        order[0], order[second - at] = second, at
        played = play(moments, order, at, delay)
        kinds = sorted(event["kind"] for event in played.quality)
        assert kinds == ["gap", "out_of_order", "resync"]
        assert {event["instrument_id"] for event in played.quality} == {moments[at].event.instrument}
        assert played.requests == [moments[at].event.instrument]
        count("faults in book captures")


def test_only_the_book_with_the_gap_stops_being_published(moments: list[Moment]) -> None:
    at, second, _, _ = next(faulty(moments))
    hurt = moments[at].event.instrument
    books = resumed(moments[at - 1])
    for number in range(at + 1, len(moments)):
        deltas = books.apply(moments[number].batch).deltas
        event = moments[number].event
        assert bool(deltas.num_rows) == (event.instrument != hurt and bool(event.bids or event.asks))
    assert books.state(hurt) == BookState.SYNCING
    assert told(books)[hurt] == moments[at - 1].books[hurt], "the last good book can still be read"
    assert second


def test_a_snapshot_too_old_is_asked_for_again_until_the_book_is_stale_and_one_that_fits_brings_it_back(
    moments: list[Moment],
) -> None:
    at, second, _, _ = next(faulty(moments))
    hurt = moments[at].event.instrument
    books = resumed(moments[at - 1])
    requests = [books.apply(moments[number].batch).requests for number in range(at + 1, second + 1)]
    assert [request.instrument_id for asked in requests for request in asked] == [hurt]
    old = snapshot_of(moments[at - 1], hurt, 1)
    for asked in (1, 1, 1, 1, 0, 0):
        kept = books.apply(old)
        assert len(kept.requests) == asked and not kept.deltas.num_rows
        assert [event["kind"] for event in kept.quality.to_pylist()] == [] or asked == 0
    assert books.state(hurt) == BookState.STALE
    kept = books.apply(snapshot_of(moments[second], hurt, 2))
    assert kept.quality.column("kind").to_pylist() == ["resync"]
    assert books.state(hurt) == BookState.LIVE and told(books)[hurt] == moments[second].books[hurt]


def test_a_keyframe_is_the_whole_book_and_says_when_it_may_be_bad(moments: list[Moment]) -> None:
    at, second, _, _ = next(faulty(moments))
    hurt = moments[at].event.instrument
    books = resumed(moments[at - 1])
    good = books.keyframe(hurt, 7, 8, "head")
    for number in range(at + 1, second + 1):
        books.apply(moments[number].batch)
    bad = books.keyframe(hurt, 7, 8, "head")
    assert good.num_rows == bad.num_rows == 1 + sum(len(prices) for prices, _ in books.book(hurt))
    assert set(good.column("flags").to_pylist()) == {32, 32 | 128}
    assert set(bad.column("flags").to_pylist()) == {32 | 4, 32 | 128 | 4}
    assert fresh().keyframe(hurt, 7, 8, "head").num_rows == 0
    assert msgspec.json.encode(good.column("action").to_pylist()[:2]) == b"[4,1]"

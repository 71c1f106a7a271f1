"""Kraken's checksums as the oracle: each is right, and each fault in between is found by one."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.books.keeper import BookKeeper, BookState
from stages.schemas import Names
from stages.venues.kraken.market import RULE
from tests.counted import count
from tests.stages.books.conftest import RECORDINGS
from tests.stages.books.groups import Event, received
from tests.stages.books.kraken import SCALES, events
from tests.stages.books.plain import PlainBook


@lru_cache(maxsize=1)
def _events() -> list[Event]:
    return list(events(RECORDINGS / "cryptofeed" / "KRAKEN.ws.50.0"))


@pytest.fixture
def captured(recordings: Path) -> list[Event]:
    """All book messages of the capture: ten pairs, written with 5 to 9 decimal places."""
    return _events()


def keeper(depth: int = 0) -> BookKeeper:
    return BookKeeper(lambda name: RULE, SCALES, Names(), depth=depth)


def test_every_checksum_of_a_capture_is_right(captured: list[Event]) -> None:
    assert sum(event.checksum is not None for event in captured) == 4269
    books = keeper()
    kept = books.apply(received(captured, Names(), SCALES))
    assert kept.quality.num_rows == 0 and kept.requests == []
    assert {books.state(name) for name in books.instruments_kept()} == {BookState.LIVE}
    assert len(books.instruments_kept()) == 10
    assert books.counts == {**dict.fromkeys(books.counts, 0), "groups": len(captured), "unusual": 10}


def test_books_are_cut_to_the_venues_depth_and_the_rows_published_say_so(captured: list[Event]) -> None:
    """The published rows alone rebuild the book, although the venue never tells of what falls off its end."""
    published = keeper().apply(received(captured, Names(), SCALES)).deltas.to_pylist()
    books = keeper()
    books.apply(received(captured, Names(), SCALES))
    plain: dict[str, PlainBook] = {}
    for event in captured:
        book = plain[event.instrument] = PlainBook() if event.snapshot else plain[event.instrument]
        book.change(event.bids, event.asks)
        book.cut(1000)
    again: dict[str, PlainBook] = {name: PlainBook() for name in plain}
    for row in published:
        again[row["instrument_id"]].row(row)
        assert row["flags"] & 128 or row["size"] is not None
    for name, expected in plain.items():
        assert again[name].levels() == expected.levels()
        for (prices, sizes), levels in zip(books.book(name), expected.levels(), strict=True):
            assert [
                (Decimal(p).scaleb(-8), Decimal(s).scaleb(-8))
                for p, s in zip(prices.tolist(), sizes.tolist(), strict=True)
            ] == levels
    lasts = sum(row["flags"] >> 7 for row in published)
    assert lasts == len(captured), "what falls off the end belongs to the group that pushed it"


def test_a_dropped_message_is_one_checksum_record_and_the_last_good_book_stays(captured: list[Event]) -> None:
    """Where it touched one of the ten best levels; the venue's checksum covers no others."""
    pair = "SC/EUR"
    mine = [event for event in captured if event.instrument == pair][:160]
    moments = []
    books = keeper()
    for place, event in enumerate(mine):
        before = books.snapshot()
        batch = received([event], Names(), SCALES, first_seq=place)
        books.apply(batch)
        moments.append((before, batch, books.book(pair)))
    for at in range(1, len(mine) - 40, 3):
        hurt = keeper()
        hurt.restore(moments[at][0])
        kinds: list[str] = []
        good = hurt.book(pair)
        for before, batch, _ in moments[at + 1 :]:
            kept = hurt.apply(batch)
            if kept.quality.num_rows:
                kinds += kept.quality.column("kind").to_pylist()
                assert [request.instrument_id for request in kept.requests] == [pair]
                assert kept.deltas.num_rows == kept.quotes.num_rows == 0
                fine = keeper()
                fine.restore(before)
                fine.apply(batch)
                assert same(hurt.book(pair), good), "the message that showed it is taken back"
                head = fine.keyframe(pair, 1, 1, "again")
                kept = hurt.apply(head.append_column("checksum", pa.nulls(head.num_rows, pa.uint32())))
                kinds += kept.quality.column("kind").to_pylist()
                break
            good = hurt.book(pair)
        else:
            assert [top(side) for side in hurt.book(pair)] == [top(side) for side in moments[-1][2]]
            continue
        assert kinds == ["checksum", "resync"]
        assert same(hurt.book(pair), fine.book(pair))
        count("faults in book captures")


def test_a_repeated_message_is_known_by_its_time_and_rows_where_nothing_counts_them(captured: list[Event]) -> None:
    for at in range(60):
        again = [*captured[:60]]
        again.insert(at, captured[at])
        kept = keeper().apply(received(again, Names(), SCALES))
        (duplicate,) = kept.quality.to_pylist()
        assert (duplicate["kind"], duplicate["instrument_id"]) == ("duplicate", captured[at].instrument)
        assert duplicate["ingest_seq"] == at + 1
        count("faults in book captures")


def top(side: Any) -> list[list[int]]:
    return [array[:10].tolist() for array in side]


def same(one: Any, two: Any) -> bool:
    return all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))

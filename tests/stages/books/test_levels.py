"""Compiled sides against a plain book of dicts, whatever comes."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.books import shelf
from stages.books.keeper import BookKeeper
from stages.schemas import Names, Scales
from tests.stages.books.groups import UNCOUNTED, Event, received
from tests.stages.books.plain import PlainBook, Quote

SCALES = Scales(2, 1)
NAMES = ("A", "B", "C")
WHOLE = UNCOUNTED
CUT = msgspec.structs.replace(WHOLE, depth=5)

level = st.tuples(st.integers(1, 400).map(str), st.sampled_from(["0", "0", "1", "2.5", "30"]))
sides = st.lists(level, max_size=40)
event = st.tuples(st.sampled_from(NAMES), sides, sides, st.sampled_from([False] * 9 + [True])).map(
    lambda drawn: Event(drawn[0], drawn[1], drawn[2], snapshot=drawn[3])
)
BEST = ("bid_price", "bid_size", "ask_price", "ask_size")


def first_snapshots() -> list[Event]:
    return [Event(name, [], [], snapshot=True) for name in NAMES]


@settings(deadline=None, max_examples=40)
@given(events=st.lists(event, max_size=25), depth=st.sampled_from([None, 5]), cut=st.integers(1, 9))
def test_books_quotes_tops_and_published_rows_are_those_of_a_plain_book(
    events: list[Event], depth: int | None, cut: int
) -> None:
    books = BookKeeper(lambda name: CUT if depth else WHOLE, SCALES, Names(), depth=3)
    plain = {name: PlainBook() for name in NAMES}
    again = {name: PlainBook() for name in NAMES}
    events = first_snapshots() + events
    quotes: list[tuple[str, Quote]] = []
    told: list[tuple[str, Quote]] = []
    tops: list[tuple[str, object]] = []
    told_tops: list[tuple[str, object]] = []
    last: dict[str, Quote] = dict.fromkeys(NAMES, (None, None, None, None))
    last_tops: dict[str, object] = dict.fromkeys(NAMES, ([], []))
    for start in range(0, len(events), cut):
        part = events[start : start + cut]
        kept = books.apply(received(part, Names(NAMES), SCALES, first_seq=start))
        for one in part:
            book = plain[one.instrument] = PlainBook() if one.snapshot else plain[one.instrument]
            book.change(one.bids, one.asks)
            book.cut(depth or 1000)
            if book.best() != last[one.instrument]:
                last[one.instrument] = book.best()
                quotes.append((one.instrument, book.best()))
            if book.levels(3) != last_tops[one.instrument]:
                last_tops[one.instrument] = book.levels(3)
                tops.append((one.instrument, book.levels(3)))
        for row in kept.quotes.to_pylist():
            bid, bid_size, ask, ask_size = (row[name] for name in BEST)
            told.append((row["instrument_id"], (bid, bid_size, ask, ask_size)))
        for row in kept.snapshots.to_pylist():
            listed = tuple([(one["price"], one["size"]) for one in row[side]] for side in ("bids", "asks"))
            told_tops.append((row["instrument_id"], listed))
        for row in kept.deltas.to_pylist():
            again[row["instrument_id"]].row(row)
    assert told == quotes
    assert told_tops == tops
    for name in NAMES:
        assert again[name].levels() == plain[name].levels()
        for (prices, sizes), expected in zip(books.book(name), plain[name].levels(), strict=True):
            pairs = zip(prices.tolist(), sizes.tolist(), strict=True)
            found = [(Decimal(price).scaleb(-2), Decimal(size).scaleb(-1)) for price, size in pairs]
            assert found == expected


def test_a_book_has_a_bound_and_loses_what_is_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MAX_LEVELS", 100)
    books = BookKeeper(lambda name: WHOLE, SCALES, Names())
    events = [Event("A", [], [], snapshot=True)]
    events += [Event("A", [(str(price), "1")], [(str(5000 + price), "1")]) for price in range(1, 1001)]
    deltas = pa.Table.from_batches([books.apply(received(events, Names(), SCALES)).deltas])
    (bids, _), (asks, _) = books.book("A")
    assert bids.tolist() == [price * 100 for price in range(1000, 900, -1)]
    assert asks.tolist() == [(5000 + price) * 100 for price in range(1, 101)]
    assert deltas.column("action").to_pylist().count(3) == 2 * 900


def test_growing_books_of_many_instruments_keep_their_levels() -> None:
    """Sides move when they outgrow their room, and all of them when the arrays do."""
    names = [f"I{number}" for number in range(40)]
    books = BookKeeper(lambda name: WHOLE, SCALES, Names())
    books.apply(received([Event(name, [], [], snapshot=True) for name in names], Names(names), SCALES))
    for turn in range(30):
        events = [
            Event(name, [(str(1 + turn * 20 + n), str(1 + place)) for n in range(20)], [])
            for place, name in enumerate(names)
        ]
        books.apply(received(events, Names(names), SCALES))
    for place, name in enumerate(names):
        (prices, sizes), _ = books.book(name)
        assert prices.tolist() == [100 * price for price in range(600, 0, -1)]
        assert set(sizes.tolist()) == {10 * (1 + place)}

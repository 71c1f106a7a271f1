"""Real captures as the oracle: books equal what the venues themselves said of them at the same moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages.books.keeper import BookKeeper, BookState
from stages.books.kept import Kept, SnapshotNeeded
from stages.messages.captures import open_captures
from stages.schemas import FLAG_LAST, FLAG_MAYBE_BAD_BOOK, FLAG_TOB, Names, Records, Scales
from stages.venues.binance import BINANCE_USDM
from tests.stages.books.conftest import Capture
from tests.stages.books.plain import PlainBook

Captures = Callable[[str], Capture]
BEST = ("bid_price", "bid_size", "ask_price", "ask_size")


def keeper(capture: Capture, depth: int = 0, every_ns: int = 0) -> BookKeeper:
    return BookKeeper(lambda name: capture.rule, Scales(), Names(), depth=depth, every_ns=every_ns)


def cut(batch: pa.RecordBatch, groups: int) -> list[pa.RecordBatch]:
    """The batch in pieces of so many event groups."""
    ends = np.flatnonzero(np.asarray(batch.column("flags")) & FLAG_LAST) + 1
    cuts = [0, *ends[groups - 1 :: groups].tolist()]
    cuts += [batch.num_rows] if cuts[-1] != batch.num_rows else []
    return [batch.slice(first, last - first) for first, last in pairwise(cuts)]


def rows(parts: list[Kept]) -> tuple[list[pa.Table], list[SnapshotNeeded]]:
    """All published rows, by kind, and what was asked for."""
    kinds = ("deltas", "quotes", "snapshots", "quality")
    tables = [pa.Table.from_batches([getattr(part, kind) for part in parts]).combine_chunks() for kind in kinds]
    return tables, [request for part in parts for request in part.requests]


@pytest.mark.parametrize(("name", "comparisons"), [("spot", 1072), ("coinm", 1885), ("usdm", 629)])
def test_a_rebuilt_book_equals_the_venues_best_quote_at_every_equal_update(
    capture: Captures, name: str, comparisons: int
) -> None:
    given = capture(name)
    books = keeper(given)
    kept = books.apply(given.batch)
    quotes = kept.quotes.select(["sequence", "flags", *BEST]).to_pylist()
    moments = [quote["sequence"] for quote in quotes]
    updates = {event.sequence for event in given.events if not event.snapshot}
    compared = [ticker for ticker in given.tickers if ticker.sequence in updates and ticker.sequence >= moments[0]]
    assert len(compared) == comparisons
    for ticker in compared:
        quote = quotes[bisect_right(moments, ticker.sequence) - 1]
        assert tuple(quote[side] for side in BEST) == tuple(Decimal(text) for text in ticker.best)
    assert kept.quality.num_rows == 0
    assert [request.instrument_id for request in kept.requests] == ["BTC"]
    (snapshot,) = (event for event in given.events if event.snapshot)
    lowest, highest = Decimal(snapshot.bids[-1][0]), Decimal(snapshot.asks[-1][0])
    for quote in quotes:
        assert quote["bid_price"] < quote["ask_price"]
        beyond = quote["bid_price"] < lowest or quote["ask_price"] > highest
        assert quote["flags"] == FLAG_TOB | (FLAG_MAYBE_BAD_BOOK if beyond else 0), "beyond it a snapshot knows nothing"
    assert books.state("BTC") == BookState.LIVE
    before = [event.snapshot for event in given.events].index(True)
    assert books.counts["unusual"] <= before + 2, "what is in order takes the compiled path"


def test_the_venues_own_decoder_leads_to_the_same_quotes(capture: Captures, recordings: Path) -> None:
    given = capture("usdm")
    expected = keeper(given).apply(given.batch).quotes.select([*BEST, "sequence", "ts_recv", "flags"])
    names, quotes = Names(), []
    books = BookKeeper(BINANCE_USDM.book_rule, Scales(), names)
    decoder = BINANCE_USDM.decoder()
    for run in open_captures(recordings / "hftbacktest" / "usdm").runs():
        records = Records(run, Scales(), names)
        decoder.decode(run, records)
        kept = books.apply(records.take("book_delta", received=True))
        assert kept.quality.num_rows == 0
        quotes.append(kept.quotes.select(expected.schema.names))
    assert pa.Table.from_batches(quotes).equals(pa.Table.from_batches([expected]))


def test_a_plain_book_of_the_updates_and_one_of_the_published_rows_are_the_book(capture: Captures) -> None:
    given = capture("spot")
    books = keeper(given)
    published = books.apply(cut(given.batch, 2_000)[0]).deltas
    (snapshot,) = (event for event in given.events if event.snapshot)
    plain = PlainBook()
    plain.change(snapshot.bids, snapshot.asks)
    for event in given.events[:2_000]:
        if not event.snapshot and (event.sequence or 0) > (snapshot.sequence or 0):
            plain.change(event.bids, event.asks)
    again = PlainBook()
    for action, side, price, size in zip(
        *(published.column(column).to_pylist() for column in ("action", "side", "price", "size")), strict=True
    ):
        again.row({"action": action, "side": side, "price": price, "size": size})
    units = Decimal(10) ** 8
    bids, asks = books.book("BTC")
    for book in (plain, again):
        for found, expected in zip((bids, asks), book.levels(), strict=True):
            assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == [
                (int(price * units), int(size * units)) for price, size in expected
            ]


def test_the_same_rows_come_out_however_groups_are_cut_into_batches(capture: Captures) -> None:
    given = capture("coinm")
    first = cut(given.batch, 1_000)[0]
    whole = rows([keeper(given, depth=5).apply(first)])
    deltas, quotes, snapshots, _ = whole[0]
    assert len(deltas) > 5_000 and len(quotes) > 100 and len(snapshots) > 300
    for groups in (1, 7):
        books = keeper(given, depth=5)
        assert rows([books.apply(part) for part in cut(first, groups)]) == whole


def test_a_keeper_goes_on_from_its_snapshot(capture: Captures) -> None:
    given = capture("usdm")
    parts = cut(given.batch, 20)[:40]
    straight = keeper(given, depth=3)
    expected = [straight.apply(part) for part in parts]
    for stop in (1, 3, 20):
        books = keeper(given, depth=3)
        before = [books.apply(part) for part in parts[:stop]]
        resumed = keeper(given, depth=3)
        resumed.restore(books.snapshot())
        assert rows(before + [resumed.apply(part) for part in parts[stop:]]) == rows(expected)

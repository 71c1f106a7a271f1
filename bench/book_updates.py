"""Book updates applied per second, from columns to live books, over cryptofeed's own book on the same capture.

cryptofeed and the compiled book it uses (`order_book`) are there in the environment of `make bench-peers`; elsewhere a
SortedDict with Decimal keys for each side stands in, and the figures say so.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from bench.harness import arguments, race, ratio, row, show
from stages.books.keeper import BookKeeper
from stages.books.rule import BookRule
from stages.messages import Messages
from stages.schemas import ADD, ASK, BID, CLEAR, DELETE, FLAG_LAST, FLAG_SNAPSHOT, UPDATE, Names, Records, Scales

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/hftbacktest"
CAPTURES = {
    "USD-M": ("usdm/btcusdt_20240808.gz", BookRule(chain="previous", join="futures", known_depth=1000)),
    "spot": ("spot/btcusdt_20240808.gz", BookRule(chain="contiguous", join="spot", known_depth=1000)),
}
GROUPS = 1000
"""Event groups in a batch."""
NAME = "BTCUSDT.BINANCE"


def messages(name: str, quick: bool) -> list[dict[str, Any]]:
    """A snapshot, then every depth update after it, as parsed JSON; generated where there is no recording."""
    path = FOLDER / CAPTURES[name][0]
    if not path.is_file():
        return generated()
    found: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = []
    with gzip.open(path) as lines:
        for line in lines:
            body = line.partition(b" ")[2]
            if b"lastUpdateId" in body:
                found.append(msgspec.json.decode(body))
            elif b"depthUpdate" in body:
                (found if found else before).append(msgspec.json.decode(body)["data"])
    kept = [one for one in before if one["u"] > found[0]["lastUpdateId"]]
    found[1:] = kept + [one for one in found[1:] if one["u"] > found[0]["lastUpdateId"]]
    return found[:1500] if quick else found


def generated() -> list[dict[str, Any]]:
    """A book of 1000 levels a side whose touch walks, with updates most often near it."""
    draw = np.random.default_rng(5)
    levels = [[f"{60000 - n}.00", "1.5"] for n in range(1000)], [[f"{60001 + n}.00", "1.5"] for n in range(1000)]
    found: list[dict[str, Any]] = [{"lastUpdateId": 0, "bids": levels[0], "asks": levels[1]}]
    for number in range(1, 6001):
        sides = [
            [[f"{base + sign * int(away)}.00", f"{int(size)}.0"] for away, size in draw.geometric(0.02, (34, 2)) - 1]
            for sign, base in ((-1, 60000), (1, 60001))
        ]
        update = {"U": number, "u": number, "pu": number - 1, "E": number, "s": "BTCUSDT"}
        found.append({**update, "b": sides[0], "a": sides[1]})
    return found


def columns(given: list[dict[str, Any]]) -> pa.RecordBatch:
    """The same as book deltas."""
    table: dict[str, list[Any]] = {
        name: [] for name in ("sequence", "first_sequence", "prev_sequence", "flags", "action", "side", "price", "size")
    }
    at = []
    for place, one in enumerate(given):
        snapshot = "lastUpdateId" in one
        rows = [(CLEAR, 0, "0", "0")] if snapshot else []
        for side, key in ((BID, "bids" if snapshot else "b"), (ASK, "asks" if snapshot else "a")):
            for price, size in one[key]:
                rows.append((ADD if snapshot else UPDATE if size.strip("0.") else DELETE, side, price, size))
        ids = (one["lastUpdateId"], None, None) if snapshot else (one["u"], one["U"], one.get("pu"))
        for number, cells in enumerate(rows):
            flags = (FLAG_SNAPSHOT if snapshot else 0) | (FLAG_LAST if number == len(rows) - 1 else 0)
            for column, value in zip(table.values(), (*ids, flags, *cells), strict=True):
                column.append(value)
        at += [place] * len(rows)
    records = Records(Messages.of_payloads([b""] * len(given), np.arange(len(given))), Scales(), Names())
    records.add("book_delta", at, instrument_id=NAME, **table)
    batch = records.take("book_delta", received=True)
    assert batch is not None
    return batch


def cut(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Batches of whole groups."""
    ends = np.flatnonzero(np.asarray(batch.column("flags")) & FLAG_LAST)[GROUPS - 1 :: GROUPS] + 1
    edges = [0, *ends[ends < batch.num_rows].tolist(), batch.num_rows]
    return [batch.slice(first, last - first) for first, last in pairwise(edges)]


def ours(rule: BookRule, batches: list[pa.RecordBatch], depth: int = 0) -> BookKeeper:
    """Sequences checked, books kept, deltas and best quotes published."""
    keeper = BookKeeper(lambda name: rule, Scales(), Names(), depth=depth)
    for batch in batches:
        keeper.apply(batch)
    return keeper


def theirs() -> Any:
    """cryptofeed's book; None where it is not installed."""
    try:
        from order_book import OrderBook
    except ImportError:
        return None
    return OrderBook


def sorted_dicts() -> Any:
    """What stands in: a SortedDict a side."""
    from sortedcontainers import SortedDict

    class Book:
        def __init__(self) -> None:
            self.bid, self.ask = SortedDict(), SortedDict()

        def __getitem__(self, side: str) -> Any:
            return self.bid if side == "bid" else self.ask

    return Book


def by_levels(make: Any, parsed: list[tuple[list[Any], list[Any]]], quotes: bool) -> Any:
    """The statements of cryptofeed's handler on prices and sizes that are Decimals already; nothing else.

    `quotes`: look at the best of each side after each message. Without, its book is a dict that nobody has sorted.
    """
    book = make()
    bids, asks = book["bid"], book["ask"]
    best = None
    for sides in parsed:
        for side, levels in zip(("bid", "ask"), sides, strict=True):
            for price, size in levels:
                if size == 0:
                    if price in book[side]:
                        del book[side][price]
                else:
                    book[side][price] = size
        if quotes and hasattr(bids, "peekitem"):
            best = bids.peekitem(-1), asks.peekitem(0)
        elif quotes:
            best = bids.index(0), asks.index(0)
    assert best is not None or not quotes
    return book


def by_handler(given: list[dict[str, Any]]) -> Any:
    """cryptofeed's own `Binance._book`, given parsed JSON: it makes Decimals, checks ids, and keeps the book."""
    from cryptofeed.defines import ASK as ASKS
    from cryptofeed.defines import BID as BIDS
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.exchanges import Binance, BinanceFutures
    from cryptofeed.types import OrderBook

    kind = BinanceFutures if "pu" in given[1] else Binance
    feed = kind.__new__(kind)
    feed.callbacks, feed.cross_check, feed.id = {L2_BOOK: []}, False, kind.id
    feed.exchange_symbol_to_std_symbol = lambda symbol: symbol
    feed._l2_book, feed.last_update_id, feed.forced_snapshot = {}, {}, set()
    book = OrderBook(feed.id, "BTC", max_depth=0)
    sides = {BIDS: given[0]["bids"], ASKS: given[0]["asks"]}
    for side, levels in sides.items():
        for price, size in levels:
            book.book[side][Decimal(price)] = Decimal(size)
    feed._l2_book["BTC"], feed.last_update_id["BTC"] = book, given[0]["lastUpdateId"]
    feed.forced_snapshot.add("BTC")

    async def run() -> None:
        for one in given[1:]:
            await feed._book(one, "BTC", 0.0)

    asyncio.run(run())
    return book.book


def check(name: str, keeper: BookKeeper, book: Any) -> None:
    """The contender has made the same book, level by level."""
    for (prices, sizes), side in zip(keeper.book(NAME), ("bid", "ask"), strict=True):
        found = {
            Decimal(p).scaleb(-8): Decimal(s).scaleb(-8) for p, s in zip(prices.tolist(), sizes.tolist(), strict=True)
        }
        other = book[side]
        expected = dict(other.items()) if hasattr(other, "items") else dict(other.to_dict())
        assert found == expected, (name, side, len(found), len(expected))


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (2 if options.quick else 7)
    peer, told = theirs(), "cryptofeed's order_book"
    if peer is None:
        peer, told = sorted_dicts(), "SortedDict of Decimals (cryptofeed is not installed)"
    rows = []
    for name, (_, rule) in CAPTURES.items():
        given = messages(name, options.quick)
        batch = columns(given)
        batches = cut(batch)
        parsed = [
            tuple(
                [(Decimal(price), Decimal(size)) for price, size in one[side if side in one else long]]
                for side, long in (("b", "bids"), ("a", "asks"))
            )
            for one in given
        ]
        rule_of = msgspec.structs.replace(rule, known_depth=None)
        contenders: dict[str, Any] = {
            "ours": lambda rule=rule_of, batches=batches: ours(rule, batches),
            "tops": lambda rule=rule_of, batches=batches: ours(rule, batches, 10),
            "quoted": lambda parsed=parsed: by_levels(peer, parsed, True),
            "levels": lambda parsed=parsed: by_levels(peer, parsed, False),
        }
        if theirs() is not None:
            contenders["handler"] = lambda given=given: by_handler(given)
        for other in ("quoted", "levels", "handler"):
            if other in contenders:
                check(f"{name} {other}", contenders["ours"](), contenders[other]())
        times = race(contenders, rounds, clock=time.process_time)
        texts = {
            "ours": "from columns to published columns and quotes",
            "tops": "the same with the best ten levels at each change",
            "quoted": f"{told}, Decimals given, best read at each message",
            "levels": f"{told}, Decimals given, never read",
            "handler": "cryptofeed's handler, parsed JSON given",
        }
        for key in contenders:
            rows.append(row(f"{name}: {texts[key]}", [batch.num_rows / s / 1e6 for s in times[key]], "M rows/s"))
        rows.append(ratio(f"{name}: over {told}, best read", times["ours"], times["quoted"]))
        rows.append(ratio(f"{name}: over {told}, never read", times["ours"], times["levels"]))
        if "handler" in times:
            rows.append(ratio(f"{name}: over cryptofeed's handler", times["ours"], times["handler"], ">= 5x"))
    return show("Book updates applied on one core, processor time", rows)


if __name__ == "__main__":
    main()

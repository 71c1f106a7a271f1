"""Made-up markets with any faults: recorded, they are what was sent, and what is missing is told, whatever happens."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from stages import SyntheticVenue
from stages.feeds.synthetic_venue import MadeUp
from stages.messages import Messages
from stages.serving import Cut, Disconnect, Drop, Duplicate, Fault, Reorder, Snapshot
from tests.counted import count
from tests.stages.serving.examined import directly, examine, examine_books, joined, of, rows, stored
from tests.stages.serving.random_faults import drawn
from tests.stages.serving.recorded import Served, followed

SOAK = "PENSTOCK_SOAK" in os.environ
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def made_up(seed: int, symbols: int, seconds: int) -> Served:
    recipe = SyntheticVenue(symbols=SYMBOLS[:symbols], seconds=seconds, seed=seed)
    streams = {
        symbol: tuple(f"{symbol.lower()}@{word}" for word in ("trade", "bookTicker", "depth@100ms"))
        for symbol in recipe.symbols
    }
    return Served(recipe.of_venue().name, streams, "depth@100ms", Messages.concat(list(MadeUp(recipe).runs())))


@pytest.mark.parametrize("seed", range(200 if SOAK else 6))
async def test_of_faults_apart_from_each_other_each_is_told_once_for_its_instrument(seed: int, tmp_path: Path) -> None:
    """Exactly: rows, books of all symbols, and one event for each fault."""
    dice = random.Random(seed)
    served = made_up(seed, dice.randrange(1, 4), dice.randrange(5, 8))
    faults = drawn(served, seed, every=dice.randrange(8, 30), disconnects=dice.randrange(3))
    await followed(served, tmp_path, dice.choice([None, None, 50]), faults, roll_rows=dice.choice([800, 10**6]))
    examine(served, tmp_path, faults)
    count("faults of served markets", len(faults))


def heaped(served: Served, seed: int) -> list[Fault]:
    """Faults without regard for each other; trades come or do not, but are never spoilt."""
    dice, found = random.Random(seed), []
    for trades, _, depth in served.streams.values():
        if dice.random() < 0.3:
            continue  # nothing goes wrong with this one
        for stream, kinds in ((trades, (Drop, Duplicate, Reorder)), (depth, (Drop, Duplicate, Reorder, Cut))):
            numbers = range(2, len(served.places[stream]) - 1)
            for number in dice.sample(numbers, dice.randrange(len(numbers) // 2)):
                found.append(dice.choice(kinds)(stream=stream, message=number))
    for _ in range(dice.randrange(3)):
        place = dice.randrange(len(served.sent) // 4, len(served.sent) * 3 // 4)
        found.append(Disconnect(message=place + 1, lose=dice.randrange(len(served.sent) // 5)))
        found.append(Snapshot(request=1 + dice.randrange(4), count=1 + dice.randrange(3), status=503, retry_seconds=0))
    return found


@pytest.mark.parametrize("seed", range(200 if SOAK else 4))
async def test_faults_upon_faults_leave_nothing_untold_and_no_book_that_never_was(seed: int, tmp_path: Path) -> None:
    """Trades: stored and told to be missing are all of them. Books: published is what was, and the last one is."""
    served = made_up(seed, 3, 6)
    faults = heaped(served, seed)
    await followed(served, tmp_path, None, faults, held=False)
    files, direct = stored(tmp_path), directly(served)
    found = joined(files)
    events = found["quality_event"]
    missing: Counter[str] = Counter()
    for row in events.to_pylist():
        if row["channel"] == "trade":
            assert row["kind"] in ("gap", "out_of_order", "duplicate")
            missing[row["instrument_id"]] += {"gap": row["missing"] or 0, "out_of_order": -1}.get(row["kind"], 0)
    for trades, _, depth in served.streams.values():
        name = served.instrument(trades)
        sent, kept = (rows(of(table["trade"], name)).to_pylist() for table in (direct, found))
        ids = [row["trade_id"] for row in kept]
        known = {row["trade_id"]: row for row in sent}
        assert len(set(ids)) == len(ids) and all(known[row["trade_id"]] == row for row in kept)
        assert len(kept) + missing[name] == len(sent)
        examine_books(name, files, direct["book_delta"], is_clean=False, most_lost=True)
        if not any(
            getattr(fault, "stream", None) in (trades, depth) or isinstance(fault, Disconnect) for fault in faults
        ):
            assert not of(events, name).num_rows
    count("faults of served markets", len(faults))

"""Real captures are read to the last message, whichever way and in whatever cuts."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from binance_decoding import batches, both_ways, capture, in_cuts

from stages.messages import Messages
from stages.schemas import Names
from stages.venues import Venue, venue_of
from stages.venues.binance.group import Market

LIMIT = 6_000
CAPTURES = {
    "hftbacktest/spot/btcusdt_20240808.gz": ("binance_spot", 1),
    "hftbacktest/spot/btcusdt_20240809.gz": ("binance_spot", 0),
    "hftbacktest/usdm/btcusdt_20240808.gz": ("binance_usdm", 1),
    "hftbacktest/cm/btcusd_perp_20240808.gz": ("binance_coinm", 1),
    "hftbacktest/cm/btcusd_perp_20240809.gz": ("binance_coinm", 0),
    "cryptofeed/BINANCE.ws.1.0": ("binance_spot", 2),
    "cryptofeed/BINANCE.http.0.0": ("binance_spot", 4),
    "cryptofeed/BINANCE.0": ("binance_spot", 1),
    "cryptofeed/BINANCE_FUTURES.ws.1.0": ("binance_usdm", 67),
    "cryptofeed/BINANCE_FUTURES.http.0.0": ("binance_usdm", 4),
    "cryptofeed/BINANCE_FUTURES.0": ("binance_usdm", 1),
    "cryptofeed/BINANCE_US.ws.1.0": ("binance_us", 5),
    "cryptofeed/BINANCE_US.http.0.0": ("binance_us", 4),
    "cryptofeed/BINANCE_US.0": ("binance_us", 1),
}
"""Whose they are, and how many messages the scanner leaves to the structures: candles, responses."""


@pytest.fixture(params=CAPTURES)
def captured(request: pytest.FixtureRequest, recordings: Path) -> tuple[Venue, Messages, int]:
    word, left = CAPTURES[request.param]
    messages = capture(recordings / request.param, LIMIT)
    venue = venue_of(messages)
    assert venue.name == word
    return venue, messages, left


def test_every_message_of_a_capture_is_accounted_for_and_both_ways_agree(captured: tuple[Venue, Messages, int]) -> None:
    venue, messages, left = captured
    scanning, plain = both_ways(venue, Market("base"))
    one, two = (batches(decoder, messages, Names()) for decoder in (scanning, plain))
    assert one.keys() == two.keys() and all(one[kind].equals(two[kind]) for kind in one)
    assert "quality_event" not in one
    opened = scanning.control["opened"]
    assert (scanning.scanned, scanning.parsed) == (len(messages) - opened - left, left + opened) and not plain.scanned
    told = set().union(*(pc.unique(batch["ingest_seq"]).to_pylist() for batch in one.values()))
    assert len(told) == len(messages) - opened and scanning.control.total() == opened


@pytest.mark.parametrize("size", [1, 7])
def test_cuts_make_no_difference(captured: tuple[Venue, Messages, int], size: int) -> None:
    venue, messages, _ = captured
    some = messages.slice(0, 150 * size)
    whole = in_cuts(venue.decoder(), some, len(some))
    parts = in_cuts(venue.decoder(), some, size)
    assert whole.keys() == parts.keys()
    for kind, table in whole.items():
        assert table.combine_chunks().equals(parts[kind].combine_chunks())


def test_a_decoder_goes_on_where_another_one_stood(recordings: Path) -> None:
    messages = capture(recordings / "hftbacktest/spot/btcusdt_20240808.gz", 20)
    venue, names = venue_of(messages), Names()
    first, second = venue.decoder(), venue.decoder()
    batches(first, messages.slice(0, 5), names)
    second.restore(first.snapshot())
    one, two = (batches(decoder, messages.slice(5), Names(names.names)) for decoder in (first, second))
    assert len(one["book_delta"]) > 1000 and all(one[kind].equals(two[kind]) for kind in one)

"""No alarm on clean captures: each one of a known venue, replayed as it is found, with nothing declared but a path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import Context, InputError
from stages.feeds.captured import CaptureFeed
from stages.feeds.replay import Replay
from stages.schemas import schema_of
from stages.venues import venue_named
from tests.conftest import ROOT

CAPTURES = {
    "cryptofeed/BINANCE": "binance_spot",
    "cryptofeed/BINANCE_FUTURES": "binance_usdm",
    "cryptofeed/BINANCE_US": "binance_us",
    "cryptofeed/BITFINEX": None,
    "cryptofeed/BITMEX": "bitmex",
    "cryptofeed/BITSTAMP": None,
    "cryptofeed/BYBIT": "bybit_v2",
    "cryptofeed/COINBASE": "coinbase_exchange",
    "cryptofeed/KRAKEN": "kraken_v1",
    "cryptofeed/POLONIEX": None,
    "hftbacktest/cm": "binance_coinm",
    "hftbacktest/hyperliquid": None,
    "hftbacktest/spot": "binance_spot",
    "hftbacktest/usdm": "binance_usdm",
}
"""All that there are, and whose they are; None: of a venue that is not known."""


def captures(recordings: Path) -> dict[str, list[str]]:
    """Files of one recorder's session, those of cryptofeed by what their names begin with."""
    found: dict[str, list[str]] = {}
    for file in sorted(recordings.glob("cryptofeed/*.*")):
        found.setdefault(f"cryptofeed/{file.name.partition('.')[0]}", []).append(str(file))
    for file in sorted(recordings.glob("hftbacktest/*/*.gz")):
        found.setdefault(f"hftbacktest/{file.parent.name}", []).append(str(file))
    return found


def test_all_captures_that_there_are_are_tried(recordings: Path) -> None:
    assert captures(recordings).keys() == CAPTURES.keys()


@pytest.mark.parametrize("name", [name for name, venue in CAPTURES.items() if venue is not None])
def test_nothing_is_wrong_with_a_capture_that_is_replayed_as_it_is(name: str, recordings: Path) -> None:
    """And its batches have the columns that were told before any was read."""
    recipe = Replay(path=tuple(captures(recordings)[name]))
    told = recipe.record_schemas({})
    feed = recipe.build(Context())
    assert isinstance(feed, CaptureFeed)
    sent = set()
    for batches in feed.batches():
        for batch in batches:
            assert batch.record is not None and batch.columns.schema == told[batch.record]
            sent.add(batch.record)
    figures = feed.metrics()
    assert figures["venue"] == CAPTURES[name] and figures["messages"] and {"trade", "book_delta"} <= sent
    assert (figures["quality"], figures["wrong_lines"], figures["time_steps_back"]) == ({}, {}, 0)


@pytest.mark.parametrize("name", [name for name, venue in CAPTURES.items() if venue is None])
def test_of_an_unknown_venue_is_told_before_anything_runs(name: str, recordings: Path) -> None:
    with pytest.raises(InputError, match="expected messages of a known venue"):
        Replay(path=tuple(captures(recordings)[name])).record_schemas({})


def test_whose_a_capture_is_is_found_without_what_only_a_run_needs(recordings: Path) -> None:
    code = (
        "import sys\nfrom stages.feeds.replay import Replay\n"
        f"assert 'trade' in Replay(path={str(recordings / 'cryptofeed/BITMEX.*')!r}).record_schemas({{}})\n"
        "assert not {'numba', 'llvmlite', 'pandas', 'polars'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_decimal_places_are_the_venue_s_unless_they_are_declared(recordings: Path) -> None:
    path = tuple(captures(recordings)["cryptofeed/BITMEX"])
    venue = venue_named("bitmex")
    assert Replay(path=path).record_schemas({})["trade"] == schema_of("trade", venue.scales)
    for words in ({"scale": 4}, {"size_scale": 2}, {"scale": 4, "size_scale": 2}):
        recipe = Replay(path=path, records=("trade",), **words)  # type: ignore[arg-type]
        told = recipe.record_schemas({})["trade"]
        assert told == schema_of("trade", venue.scales.declared(words.get("scale"), words.get("size_scale")))
        (trades, *_) = (part for run in recipe.build(Context()).batches() for part in run if part.record == "trade")  # type: ignore[union-attr]
        assert trades.columns.schema == told

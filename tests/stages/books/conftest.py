"""Real captures of books, read once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from stages.books.rule import BookRule
from stages.schemas import Names
from tests.stages.books.groups import FUTURES, SPOT, Event, Ticker, hftbacktest, received

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "data"
CAPTURES = {
    "spot": (SPOT, ["spot/btcusdt_20240808.gz", "spot/btcusdt_20240809.gz"]),
    "coinm": (FUTURES, ["cm/btcusd_perp_20240808.gz", "cm/btcusd_perp_20240809.gz"]),
    "usdm": (FUTURES, ["usdm/btcusdt_20240808.gz"]),
}


class Capture(NamedTuple):
    """One venue's recording: its events about the book `BTC`, its own best quotes, and all events as one batch."""

    rule: BookRule
    events: list[Event]
    tickers: list[Ticker]
    batch: pa.RecordBatch


@pytest.fixture
def recordings() -> Path:
    """The folder of real recordings, which are not part of the project; tests skip where it is absent."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"real recordings are not at {RECORDINGS}")
    return RECORDINGS


@pytest.fixture
def capture(recordings: Path) -> Callable[[str], Capture]:
    """A capture by its name in CAPTURES."""
    return _capture


@cache
def _capture(name: str) -> Capture:
    rule, files = CAPTURES[name]
    seen = list(hftbacktest([RECORDINGS / "hftbacktest" / file for file in files], "BTC"))
    events = [one for one in seen if isinstance(one, Event)]
    return Capture(rule, events, [one for one in seen if isinstance(one, Ticker)], received(events, Names()))

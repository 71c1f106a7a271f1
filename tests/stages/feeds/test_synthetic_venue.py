"""A made-up venue: its messages are as the venue's own, its books as its best quotes say, in every process the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from pipeline import Context
from stages.feeds.replay import Replay
from stages.feeds.synthetic_venue import SyntheticVenue
from stages.schemas import schema_of


def tables_of(recipe: Any) -> dict[str, pa.Table]:
    found: dict[str, list[pa.RecordBatch]] = {}
    for batches in recipe.build(Context()).batches():
        for batch in batches:
            found.setdefault(batch.record, []).append(batch.columns)
    return {kind: pa.Table.from_batches(parts) for kind, parts in found.items()}


def test_best_quotes_of_its_books_are_those_it_sends_and_nothing_is_wrong() -> None:
    recipe = SyntheticVenue(symbols=("BTCUSDT", "ETHUSDT"), seconds=20, seed=2)
    sent, made = tables_of(recipe), tables_of(msgspec.structs.replace(recipe, quotes="book"))
    assert set(sent) == {"trade", "quote", "book_delta"} and recipe.record_schemas({})["trade"] == schema_of("trade")
    columns = ["instrument_id", "sequence", "bid_price", "bid_size", "ask_price", "ask_size"]
    by_number = {(row["instrument_id"], row["sequence"]): row for row in made["quote"].select(columns).to_pylist()}
    compared = 0
    for row in sent["quote"].select(columns).to_pylist():
        if (found := by_number.get((row["instrument_id"], row["sequence"]))) is not None:
            assert found == row
            compared += 1
    assert compared > 300
    assert {name.as_py() for name in sent["trade"].column("instrument_id").unique()} == {
        "BTCUSDT.BINANCE", "ETHUSDT.BINANCE",
    }  # fmt: skip


def test_written_as_a_capture_it_is_replayed_to_the_same_rows(tmp_path: Path) -> None:
    recipe = SyntheticVenue(seconds=3, seed=5)
    recipe.write(tmp_path / "btcusdt")
    replayed, direct = tables_of(Replay(path=str(tmp_path / "btcusdt"))), tables_of(recipe)
    assert {kind: table.to_pylist() for kind, table in replayed.items()} == {
        kind: table.to_pylist() for kind, table in direct.items()
    }


def test_it_is_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from stages import SyntheticVenue; "
        "rows = b''.join(m.payload for m in SyntheticVenue(seconds=2, seed=9).messages()); "
        "print(hashlib.sha256(rows).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    here = b"".join(message.payload for message in SyntheticVenue(seconds=2, seed=9).messages())
    assert told == {hashlib.sha256(here).hexdigest()}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symbols": []}, "symbols: expected distinct names, found none"),
        ({"start": "x"}, "start: expected a time"),
        ({"seconds": -1}, "expected 0 or more seconds"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(fields, SyntheticVenue)


def test_of_other_venues_there_is_none() -> None:
    with pytest.raises(LookupError, match="no made-up market of binance_usdm"):
        list(SyntheticVenue(venue="binance_usdm").messages())

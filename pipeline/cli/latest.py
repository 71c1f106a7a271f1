"""What a market was at last, by instrument, gathered from the rows of a feed as they pass."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.frames import Batch

NAME = "instrument_id"
SHOWN = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size")


class Latest(msgspec.Struct):
    """One instrument: rows seen, and the last values of what its rows say, as exact text."""

    rows: int = 0
    values: dict[str, str | None] = {}


class Board:
    """All instruments, in order of first appearance."""

    def __init__(self) -> None:
        self.instruments: dict[str, Latest] = {}
        self.rows = 0

    def take(self, batch: Batch) -> None:
        """Note the last row of each instrument; rows without one only count."""
        columns = batch.columns
        self.rows += columns.num_rows
        place = columns.schema.get_field_index(NAME)
        if place < 0 or not columns.num_rows:
            return
        names = columns.column(place)
        if not pa.types.is_dictionary(names.type):
            names = names.dictionary_encode()
        codes = names.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        told, first, counts = np.unique(codes[::-1], return_index=True, return_counts=True)
        prices = batch.record in (None, "trade", "quote")
        for code, at, count in zip(told.tolist(), first.tolist(), counts.tolist(), strict=True):
            if code < 0:
                continue
            latest = self.instruments.setdefault(names.dictionary[code].as_py(), Latest())
            latest.rows += count
            if prices:
                self._note(latest, columns, len(codes) - 1 - at)

    def _note(self, latest: Latest, columns: pa.RecordBatch, row: int) -> None:
        for name in SHOWN:
            place = columns.schema.get_field_index(name)
            if place >= 0:
                value = columns.column(place)[row].as_py()
                latest.values[name] = None if value is None else plain_number(value)


def plain_number(value: Any) -> str:
    """`61837.63` of a decimal of 61837.63000000."""
    text = f"{value:f}" if not isinstance(value, float) else repr(value)
    return text.rstrip("0").rstrip(".") if "." in text else text

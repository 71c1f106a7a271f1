"""Bars kept back until all bars of their moment have come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import InputError

from .exact import Floats, Values


@dataclass(frozen=True)
class Piece:
    """Some bars: their columns, what features are computed from, and each one's instrument and time (ns)."""

    columns: Sequence[pa.Array]
    schema: pa.Schema
    values: Sequence[Floats]
    owners: Values
    times: Values

    def cut(self, first: int, last: int) -> Piece:
        """Those from `first` up to `last`."""
        own = slice(first, last)
        return Piece(
            [column.slice(first, last - first) for column in self.columns],
            self.schema,
            [values[own] for values in self.values],
            self.owners[own],
            self.times[own],
        )

    def snapshot(self) -> dict[str, Any]:
        """Its columns as rows, and what they will be sent as."""
        own = pa.schema(list(self.schema)[: len(self.columns)])
        return {
            "rows": pa.RecordBatch.from_arrays(self.columns, schema=own),
            "schema": self.schema.empty_table(),
            "values": [values.copy() for values in self.values],
            "owners": self.owners.copy(),
            "times": self.times.copy(),
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Piece:
        """The same from a snapshot."""
        schema = state["schema"].schema
        return cls(state["rows"].columns, schema, state["values"], state["owners"], state["times"])


class Held:
    """Lets bars go when a later one has come, or when told that no more of their moment will.

    Memory: the bars of one moment, one per instrument. Raises `InputError` where time goes back.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._newest: int | None = None

    def snapshot(self) -> dict[str, Any]:
        """The bars that wait, and their moment."""
        return {"newest": self._newest, "pieces": [piece.snapshot() for piece in self._pieces]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot."""
        self._newest = state["newest"]
        self._pieces = [Piece.restored(piece) for piece in state["pieces"]]

    def add(self, piece: Piece) -> Iterator[list[Piece]]:
        """Take bars; those whose moment is over, as a list of pieces to be seen together."""
        times = piece.times
        before = np.concatenate([times[:1] if self._newest is None else [self._newest], times[:-1]])
        if (times < before).any():
            at = int(np.flatnonzero(times < before)[0])
            found, last = (str(np.datetime64(int(ns), "ns")) for ns in (times[at], before[at]))
            raise InputError(
                "features over several instruments need bars of all of them in the order of time, found one of "
                f"{found} after one of {last}; sort the recording by time, or read all instruments with one feed"
            )
        last_moment = int(times[-1])
        begin = int(np.searchsorted(times, last_moment))
        if self._newest is None or last_moment > self._newest:
            done = [*self._pieces, piece.cut(0, begin)] if begin else self._pieces
            self._pieces = []
            if done:
                yield done
        self._newest = last_moment
        self._pieces.append(piece.cut(begin, len(times)))

    def passed(self, watermark: int | None) -> Iterator[list[Piece]]:
        """All of them, where the watermark (ns) is past their moment: bars at the watermark may still follow."""
        if watermark is not None and self._newest is not None and watermark > self._newest:
            yield from self.all()

    def all(self) -> Iterator[list[Piece]]:
        """All of them, whoever may still come."""
        done, self._pieces = self._pieces, []
        if done:
            yield done

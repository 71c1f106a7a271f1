"""Bars of one call as the ledger reads them: whole arrays, in steps, cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.features.feature import Feature

from .accounting import Block
from .bars import Bars, Floats, Times
from .statistics import CALENDARS

Volatility: TypeAlias = tuple[int, str]
"""Returns it is measured over, and the calendar that says what a year is."""


class Tape:
    """Bars in the order of steps; a step is all rows with one `bar_end`, in the order of instruments.

    `owners` (rows,) says whose bar each row is, `steps` (steps + 1,) where each step begins; `warm` steps at the
    beginning lie before the window.
    """

    def __init__(self, columns: pa.RecordBatch, owners: Times, steps: Times, warm: int) -> None:
        self.columns, self.owners, self.steps, self.warm = columns, owners, steps, warm
        self.bars = Bars(columns)
        self._years: dict[Volatility, Floats] = {}
        self._blocks: dict[tuple[int, int], Block] = {}

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def warm_rows(self) -> int:
        """Rows before the window."""
        return int(self.steps[self.warm])

    @cached_property
    def step_ends(self) -> Times:
        """The end of each step in the window, int64 ns."""
        return self.bars.times("bar_end")[self.steps[self.warm : -1]]

    @cached_property
    def trades(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether anything traded in each row: not where it `is_empty` or its volume is 0; an unknown one counts."""
        traded = np.ones(len(self), np.bool_)
        names = self.columns.schema.names
        if "is_empty" in names:
            empty = pc.fill_null(self.columns.column(names.index("is_empty")).cast(pa.bool_()), False)
            traded &= ~empty.to_numpy(zero_copy_only=False)
        if "volume" in names and self.columns.column(names.index("volume")).null_count < len(self):
            traded &= self.bars["volume"] != 0.0
        return traded

    @cached_property
    def parts(self) -> dict[int, tuple[Times, Bars]]:
        """For each instrument with rows: their places, and its bars alone."""
        found = np.unique(self.owners)
        if len(found) == 1:
            return {int(found[0]): (np.arange(len(self)), self.bars)}
        parts = {}
        for owner in found.tolist():
            places = np.flatnonzero(self.owners == owner)
            parts[owner] = (places, Bars(self.columns.take(pa.array(places))))
        return parts

    def blocks(self, rows: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Steps `first` to `last` in pieces of about so many rows, at least one step each."""
        while first < last:
            cut = int(np.searchsorted(self.steps, self.steps[first] + rows, side="right")) - 1
            cut = min(max(cut, first + 1), last)
            yield first, cut
            first = cut

    def read(self, first: int, last: int, slots: Times, volatilities: Sequence[Volatility]) -> Block:
        """Steps `first` to `last` as the ledger reads them; `slots` are where their equity is kept."""
        found = self._blocks.get((first, last))
        if found is None:
            begin, end = int(self.steps[first]), int(self.steps[last])
            bars, own, is_kept = self.bars, slice(begin, end), slots >= 0
            found = self._blocks[first, last] = Block(
                opens=bars["open"][own],
                highs=bars["high"][own],
                lows=bars["low"][own],
                closes=bars["close"][own],
                starts=bars.times("bar_start")[own],
                ends=bars.times("bar_end")[own],
                trades=self.trades[own],
                owners=self.owners[own],
                steps=self.steps[first : last + 1] - begin,
                slots=slots,
                kept_steps=np.flatnonzero(is_kept),
                kept_before=np.concatenate([[0], np.cumsum(is_kept)]),
                volatilities=np.array([self._volatility(*kind)[own] for kind in volatilities]).reshape(-1, end - begin),
            ).sealed()
        return found

    def _volatility(self, n: int, calendar: str) -> Floats:
        """Of a year, by row: the feature times the square root of the periods of the bar's length in a year."""
        found = self._years.get((n, calendar))
        if found is None:
            lengths, places = np.unique(self.bars.times("bar_end") - self.bars.times("bar_start"), return_inverse=True)
            periods = [CALENDARS[calendar].periods(length) if length > 0 else np.inf for length in lengths.tolist()]
            year = np.sqrt(np.array(periods, np.float64))[places]
            found = self._years[n, calendar] = np.asarray(self.bars[Feature.volatility(n)] * year)
        return found

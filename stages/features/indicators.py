"""The running indicators: one plan for all features wanted, one state per instrument, one kernel call per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import kernels as k
from .exact import Floats, Values, floats_of, lines, primitive
from .feature import Feature

LEAST_KEPT = 64
"""Values a window's history keeps at least when it is full and begins anew."""

_MADE_BY = {
    "ema": k.EMA,
    "rsi": k.RSI,
    "sma": k.SMA,
    "bollinger_middle": k.SMA,
    "bollinger_upper": k.UPPER,
    "bollinger_lower": k.LOWER,
    "volatility": k.DEVIATION,
}
_RECURSIVE = (k.EMA, k.RSI)


class Indicators:
    """Features over bars that come in time order per instrument; fed batch by batch, it remembers.

    Memory per instrument: 48 bytes times the longest window (at least 64) for each column with windows, and 24
    bytes per feature. A bar whose value is null, NaN or infinite changes no state and has null features.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = sorted({feature.column for feature in features})
        ordered = sorted(range(len(features)), key=lambda place: self._plan_key(features[place]))
        planned = [features[place] for place in ordered]
        keys = [self._plan_key(feature) for feature in planned]
        self._features = np.array(
            [
                (_MADE_BY[feature.kind], feature.n, place, int(i == 0 or keys[i][:4] != keys[i - 1][:4]))
                for i, (feature, place) in enumerate(zip(planned, ordered, strict=True))
            ],
            np.int64,
        ).reshape(-1, 4)
        self._widths = np.array([feature.k or 0.0 for feature in planned])
        self._series, self._windows = self._series_of(planned)
        self._instruments = 0
        self._state: dict[str, Values] = {}
        self._grow(1)

    def compute(self, columns: pa.RecordBatch, owners: Values) -> list[pa.Array]:
        """One float64 column per feature, in the order given; null (NaN beneath) until formed.

        `owners` (int64, one per row) is the instrument of each row, numbered from 0.
        """
        values = [floats_of(name, columns.column(name)) for name in self.columns]
        return self.over(values, owners, int(owners.max()) + 1 if len(owners) else 0)

    def over(self, values: Sequence[Floats], owners: Values, instruments: int) -> list[pa.Array]:
        """The same for the columns named by `self.columns`; `owners` are below `instruments`."""
        rows = len(owners)
        if not rows or not self.features:
            return [pa.nulls(rows, pa.float64()) for _ in self.features]
        if instruments > self._instruments:
            self._grow(max(instruments, 2 * self._instruments))
        out = np.full((len(self.features), rows), np.nan)
        kernel: Callable[..., int] = k.compute
        unformed = kernel(
            values[0].reshape(1, rows) if len(values) == 1 else np.stack(values), owners,
            self._series, self._features, self._widths, self._windows,
            *self._state.values(), out,
        )  # fmt: skip
        if not unformed:
            return lines(pa.float64(), out, *range(len(out)))
        return [primitive(pa.float64(), line, np.isnan(line)) for line in out]

    def snapshot(self) -> dict[str, Any]:
        """Everything remembered, as arrays."""
        return {name: values.copy() for name, values in self._state.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of the same features."""
        self._state = {name: np.array(state[name]) for name in self._state}
        self._instruments = len(self._state["counts"])

    @staticmethod
    def _plan_key(feature: Feature) -> tuple[str, bool, bool, int, int, float]:
        """Order of work: by series, those that follow value by value first, then windows of one length together."""
        made_by = _MADE_BY[feature.kind]
        windowed = made_by not in _RECURSIVE
        return (feature.column, feature.kind == "volatility", windowed, feature.n, made_by, feature.k or 0.0)

    def _series_of(self, planned: Sequence[Feature]) -> tuple[Values, Values]:
        series, windows = [], []
        first = 0
        while first < len(planned):
            key = self._plan_key(planned[first])[:2]
            members = [i for i, feature in enumerate(planned) if self._plan_key(feature)[:2] == key]
            windowed = [i for i in members if self._plan_key(planned[i])[2]]
            last = members[-1] + 1
            kept = max([LEAST_KEPT, *(planned[i].n for i in windowed)]) if windowed else 0
            series.append((self.columns.index(key[0]), int(key[1]), kept, first, last))
            windows.append((windowed[0] if windowed else last, last))
            first = last
        return np.array(series, np.int64).reshape(-1, 5), np.array(windows, np.int64).reshape(-1, 2)

    def _grow(self, instruments: int) -> None:
        series = len(self._series)
        length = 2 * int(self._series[:, 2].max()) if series else 0
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "history": ((instruments, series, length), np.float64),
            "high": ((instruments, series, length + 1), np.float64),
            "low": ((instruments, series, length + 1), np.float64),
            "counts": ((instruments, series, 2), np.int64),
            "last": ((instruments, series), np.float64),
            "memory": ((instruments, len(self.features), 3), np.float64),
        }
        for name, (shape, dtype) in shapes.items():
            grown: Values = np.full(shape, np.nan if name == "last" else 0, dtype)
            if self._instruments:
                grown[: self._instruments] = self._state[name]
            self._state[name] = grown
        self._instruments = instruments

"""The running indicators: every feature wanted, each computed once, whatever bars come how many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa

from .exact import Floats, Values, floats_of, lines, primitive
from .feature import Feature
from .remembered import Remembered

if TYPE_CHECKING:
    from .lags import Lags
    from .moments import Moments


ORDERED = ("returns", "max", "min", "median", "quantile")
"""Kinds whose windows know the order of what is in them."""


class Family(Protocol):
    """Features made by one kernel, from some columns, with their state: one line of `out` for each of `features`."""

    @property
    def features(self) -> Sequence[Feature]: ...
    @property
    def columns(self) -> Sequence[str]: ...
    @property
    def state(self) -> Remembered: ...


class OneByOne(Family, Protocol):
    """A family that looks at each instrument alone."""

    def over(self, values: Sequence[Floats], owners: Values, out: Floats) -> int: ...


class Indicators:
    """Features over bars that come in time order per instrument; fed batch by batch, it remembers.

    What a family of features keeps in memory stands at its class. A bar whose value is null, NaN or infinite changes no
    state and has null features. Features that cross instruments also want times and numbers of instruments: see
    `Moments` for the order in which bars must come then.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.columns = sorted({column for feature in features for column in feature.inputs})
        plain = sorted({_plain(feature) for feature in features}, key=lambda feature: feature.sort_key)
        self._families = _families([feature for feature in plain if not feature.crosses])
        crossing = [feature for feature in plain if feature.crosses]
        self._moments: Moments | None = None
        if crossing:
            from .moments import Moments

            self._moments = Moments(crossing)
        order = [*(feature for family in self._families for feature in family.features), *crossing]
        delayed = [feature for feature in features if feature.lag]
        place = {feature: line for line, feature in enumerate([*order, *delayed])}
        self._lags: Lags | None = None
        if delayed:
            from .lags import Lags

            self._lags = Lags([place[_plain(feature)] for feature in delayed], [feature.lag for feature in delayed])
        self._places = [place[feature] for feature in features]
        self._plain, self._lines = len(order), len(order) + len(delayed)

    @property
    def others(self) -> list[str | None]:
        """The other instrument of each feature that crosses instruments; None for ranks."""
        return [] if self._moments is None else [feature.other for feature in self._moments.features]

    def compute(self, columns: pa.RecordBatch, owners: Values) -> list[pa.Array]:
        """One float64 column per feature, in the order given; null (NaN beneath) until formed.

        `owners` (int64, one per row) is the instrument of each row, numbered from 0.
        """
        values = [floats_of(name, columns.column(name)) for name in self.columns]
        return self.over(values, owners, int(owners.max()) + 1 if len(owners) else 0)

    def over(
        self,
        values: Sequence[Floats],
        owners: Values,
        instruments: int,
        times: Values | None = None,
        others: Sequence[int] = (),
    ) -> list[pa.Array]:
        """The same for the columns named by `self.columns`; `owners` are below `instruments`.

        `times` (int64, one per row) and the numbers of `self.others` (-1 for those who have not appeared) are needed
        where features cross instruments.
        """
        rows = len(owners)
        if not rows or not self.features:
            return [pa.nulls(rows, pa.float64()) for _ in self.features]
        out = np.full((self._lines, rows), np.nan)
        unformed = first = 0
        for family in self._families:
            family.state.hold(instruments)
            last = first + len(family.features)
            unformed += family.over(self._of(values, family), owners, out[first:last])
            first = last
        if self._moments is not None:
            assert times is not None
            self._moments.state.hold(instruments)
            numbers = np.array(others, np.int64)
            unformed += self._moments.over(
                self._of(values, self._moments), owners, times, numbers, out[first : self._plain]
            )
        if self._lags is not None:
            self._lags.state.hold(instruments)
            unformed += self._lags.over(out[: self._plain], owners, out[self._plain :])
        if not unformed:
            return lines(pa.float64(), out, *self._places)
        return [primitive(pa.float64(), out[line], np.isnan(out[line])) for line in self._places]

    def snapshot(self) -> dict[str, Any]:
        """Everything remembered, as arrays by family."""
        return {name: state.snapshot() for name, state in self._states().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of the same features. Raises `StateMismatch`."""
        for name, remembered in self._states().items():
            remembered.restore(state.get(name, {}))

    def _of(self, values: Sequence[Floats], family: Family) -> list[Floats]:
        return [values[self.columns.index(name)] for name in family.columns]

    def _states(self) -> dict[str, Remembered]:
        families: list[Family | Lags | None] = [*self._families, self._moments, self._lags]
        return {type(family).__name__: family.state for family in families if family is not None}


def _plain(feature: Feature) -> Feature:
    """The feature without its lag."""
    return msgspec.structs.replace(feature, lag=0)


def _families(features: Sequence[Feature]) -> list[OneByOne]:
    """The families these features need; the kernels of the others are not loaded."""
    found: list[OneByOne] = []
    if ranges := [feature for feature in features if feature.kind == "atr"]:
        from .ranges import Ranges

        found.append(Ranges(ranges))
    if weighted := [feature for feature in features if feature.kind == "vwap"]:
        from .weighted import Weighted

        found.append(Weighted(weighted))
    if windows := [feature for feature in features if feature.kind in ORDERED]:
        from .windows import Windows

        found.append(Windows(windows))
    if averages := [feature for feature in features if feature.kind not in ("atr", "vwap", *ORDERED)]:
        from .averages import Averages

        found.append(Averages(averages))
    return found

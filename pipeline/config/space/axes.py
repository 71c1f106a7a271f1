"""One parameter's values: a list, steps, points spaced evenly or by a factor, or a distribution to draw from."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias, overload

import msgspec

from pipeline.data.policy import Settings

MAX_POINTS = 100_000
"""Points of one `Spaced`; they are made at once."""
SIGNIFICANT_DIGITS = 12
"""What is computed is rounded to so many, so that every machine's mathematics gives the same value."""


class Range(Settings, frozen=True):
    """`{start: 20, stop: 200, step: 10}`: `stop` is included when it is hit exactly.

    Whole numbers stay whole; fractions are counted in decimal, so 0.1 .. 0.5 by 0.1 holds 0.3, not 0.30000000000000004.
    """

    start: int | float
    stop: int | float
    step: int | float = 1

    def __post_init__(self) -> None:
        _check_finite(self.start, self.stop, self.step)
        if self.step == 0 or (self.stop - self.start) * self.step < 0:
            raise ValueError(f"expected a step that leads from {self.start} to {self.stop}, found {self.step}")
        # Before counting in decimal, which knows no numbers of so many digits.
        if abs(self.stop - self.start) / abs(self.step) >= sys.maxsize:
            raise ValueError("expected fewer values")


class Spaced(Settings, frozen=True):
    """`{start: 1, stop: 1000, num: 7, scale: log}`: `num` values, both ends included.

    `scale: log` gives each the same ratio to the one before, `linear` the same distance. Where both ends are whole
    numbers the values are rounded to whole ones (halves to even) and those that become equal are held once, so that
    there may be fewer than `num`; write an end as 1.0 to have fractions.
    """

    start: int | float
    stop: int | float
    num: Annotated[int, msgspec.Meta(ge=1, le=MAX_POINTS)]
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        _check_finite(self.start, self.stop)
        if self.scale == "log" and min(self.start, self.stop) <= 0:
            raise ValueError(f"expected a start and stop above 0 for 'scale: log', found {self.start} and {self.stop}")
        if self.num == 1 and self.start != self.stop:
            raise ValueError(f"expected a num of 2 or more between {self.start} and {self.stop}, found 1")


class Distribution(Settings, frozen=True):
    """`{low: 0.001, high: 0.1, scale: log}`: every value from `low` to `high`; it has no grid and needs `sample`.

    `linear` draws each value as likely, `log` each ratio. Where both ends are whole numbers so is what is drawn, both
    ends included.
    """

    low: int | float
    high: int | float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        _check_finite(self.low, self.high)
        if self.low >= self.high:
            raise ValueError(f"expected a low below high, found {self.low} and {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"expected a low above 0 for 'scale: log', found {self.low}")

    def at(self, share: float) -> int | float:
        """The value below which `share` (0 to below 1) of what is drawn lies."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            if self.scale == "linear":
                return min(self.low + int(share * (self.high - self.low + 1)), self.high)
            ratio = (self.high + 1) / self.low
            return min(max(int(self.low * float(ratio**share)), self.low), self.high)
        if self.scale == "linear":
            value = self.low + share * (self.high - self.low)
        else:
            value = self.low * (self.high / self.low) ** share
        return min(max(_rounded(value), float(self.low)), float(self.high))


class Steps(Sequence[int | float]):
    """The values of a `Range`, made when asked for."""

    def __init__(self, given: Range) -> None:
        self.whole = all(isinstance(number, int) for number in (given.start, given.stop, given.step))
        self.start, stop, self.step = (Decimal(repr(number)) for number in (given.start, given.stop, given.step))
        self.size = int((stop - self.start) // self.step) + 1

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> int | float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int | float]: ...
    def __getitem__(self, index: int | slice) -> int | float | Sequence[int | float]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        value = self.start + (index % self.size) * self.step
        return int(value) if self.whole else float(value)


class Points(tuple[int | float, ...]):
    """The values of a `Spaced`."""

    def __new__(cls, given: Spaced) -> Points:
        whole = isinstance(given.start, int) and isinstance(given.stop, int)
        values = [_point(given, place) for place in range(given.num)]
        return super().__new__(cls, dict.fromkeys(round(value) for value in values) if whole else values)


Given: TypeAlias = list[Any] | Range | Spaced | Distribution
"""An axis as a file writes it."""
Axis: TypeAlias = Sequence[Any] | Distribution
"""An axis at work."""


def axis_of(given: Sequence[Any] | Given) -> Axis:
    """The values an axis stands for."""
    if isinstance(given, Range):
        return Steps(given)
    if isinstance(given, Spaced):
        return Points(given)
    return given if isinstance(given, Distribution) else tuple(given) if isinstance(given, list) else given


def value_at(axis: Axis, share: float) -> Any:
    """The value of an axis at a share (0 to below 1) of its way."""
    if isinstance(axis, Distribution):
        return axis.at(share)
    return axis[min(int(share * len(axis)), len(axis) - 1)]


def _point(given: Spaced, place: int) -> int | float:
    if place in (0, given.num - 1):
        return given.start if place == 0 else given.stop
    share = place / (given.num - 1)
    if given.scale == "log":
        return _rounded(given.start * (given.stop / given.start) ** share)
    return _rounded(given.start + (given.stop - given.start) * share)


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _check_finite(*numbers: float) -> None:
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("expected finite numbers")

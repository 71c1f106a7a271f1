"""The parameter space: every combination of the listed values, counted without being made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, overload

from pipeline.data.policy import Settings

MAX_COMBINATIONS = 2**40
"""More than anybody can run; keeps `len()` within what Python can say."""


class Range(Settings, frozen=True):
    """`{start: 20, stop: 200, step: 10}`: `stop` is included when it is hit exactly.

    Whole numbers stay whole; fractions are counted in decimal, so 0.1 .. 0.5 by 0.1 holds 0.3, not 0.30000000000000004.
    """

    start: int | float
    stop: int | float
    step: int | float = 1

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.start, self.stop, self.step)):
            raise ValueError("expected finite numbers")
        if self.step == 0 or (self.stop - self.start) * self.step < 0:
            raise ValueError(f"expected a step that leads from {self.start} to {self.stop}, found {self.step}")
        if len(Steps(self)) > MAX_COMBINATIONS:
            raise ValueError("expected fewer values")


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


class ParameterSpace(Sequence[Mapping[str, Any]]):
    """Combinations in the order of the keys, the last key fastest. Without keys there is one, empty, combination.

    `bool(space)` says whether anything varies at all.
    """

    def __init__(self, axes: Mapping[str, Sequence[Any] | Range] | None = None) -> None:
        self.given = dict(axes or {})
        self.axes: dict[str, Sequence[Any]] = {
            name: Steps(values) if isinstance(values, Range) else tuple(values) for name, values in self.given.items()
        }
        self.size = math.prod(len(values) for values in self.axes.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.axes)

    def __bool__(self) -> bool:
        return bool(self.axes)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        chosen: dict[str, Any] = {}
        for name, values in reversed(self.axes.items()):
            index, position = divmod(index, len(values))
            chosen[name] = values[position]
        return {name: chosen[name] for name in self.axes}

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[index] for index in range(self.size))

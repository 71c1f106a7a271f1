"""All combinations of some axes that satisfy constraints, counted and looked up without being made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np

from .where import Column, Constraint, column

MAX_LOOKED_THROUGH = 4_000_000
"""Combinations of parameters tied by constraints that are looked through to learn which of them are left."""
CHUNK = 1 << 18
"""Looked at in one go."""


class GridTooLarge(ValueError):
    """Constraints tie parameters of more combinations than are looked through."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        super().__init__(f"{', '.join(names)}: {size:,}")
        self.names, self.size = tuple(names), size


class Grid(Sequence[tuple[Any, ...]]):
    """Combinations in the order of the axes, the last axis fastest; values in the order of the axes.

    Axes that constraints tie together count as one, which stands where the first of them stands: what constraints leave
    is then a product again, however large, and only the tied ones are ever looked through.
    """

    def __init__(self, axes: Mapping[str, Sequence[Any]], where: Sequence[Constraint] = ()) -> None:
        self.axes = dict(axes)
        self.whole = math.prod(len(values) for values in self.axes.values())
        """Combinations before constraints."""
        self.ties = [_Tie(self.axes, names, own) for names, own in _tied(list(axes), where)]

    @cached_property
    def size(self) -> int:
        """Combinations that are left. Raises `GridTooLarge`, and `ConstraintError` where one has no answer."""
        return math.prod(tie.size for tie in self.ties)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Any, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Any, ...] | Sequence[tuple[Any, ...]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        index %= self.size
        chosen: dict[str, Any] = {}
        for tie in reversed(self.ties):
            index, place = divmod(index, tie.size)
            chosen |= tie.values(place)
        return tuple(chosen[name] for name in self.axes)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[index] for index in range(self.size))


class _Tie:
    """Axes that constraints tie together; or one that is free."""

    def __init__(self, axes: Mapping[str, Sequence[Any]], names: Sequence[str], where: Sequence[Constraint]) -> None:
        self.axes = {name: axes[name] for name in names}
        self.where = where
        self.whole = math.prod(len(values) for values in self.axes.values())

    @cached_property
    def size(self) -> int:
        return len(self.left) if self.where else self.whole

    @cached_property
    def left(self) -> Column:
        """Places of the combinations that satisfy the constraints, int64, ascending."""
        if self.whole > MAX_LOOKED_THROUGH:
            raise GridTooLarge(list(self.axes), self.whole)
        columns = {name: column(list(values)) for name, values in self.axes.items()}
        found = []
        for begin in range(0, self.whole, CHUNK):
            rest = places = np.arange(begin, min(begin + CHUNK, self.whole))
            at: dict[str, Column] = {}
            for name, values in reversed(columns.items()):
                rest, own = np.divmod(rest, len(values))
                at[name] = values[own]
            found.append(places[satisfied(self.where, at, len(places))])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def values(self, place: int) -> dict[str, Any]:
        rest = int(self.left[place]) if self.where else place
        chosen = {}
        for name, values in reversed(self.axes.items()):
            rest, own = divmod(rest, len(values))
            chosen[name] = values[own]
        return chosen


def satisfied(where: Sequence[Constraint], columns: Mapping[str, Column], rows: int) -> Column:
    """Which of some combinations satisfy every constraint, bool."""
    answer = np.ones(rows, np.bool_)
    for constraint in where:
        answer &= constraint.holds({name: columns[name] for name in constraint.names}, rows)
    return answer


def _tied(names: Sequence[str], where: Sequence[Constraint]) -> list[tuple[list[str], list[Constraint]]]:
    """Names that constraints join, directly or through others, in the order of the first of each, with those."""
    of = {name: {name} for name in names}
    for constraint in where:
        joined = set().union(*(of[name] for name in constraint.names))
        for name in joined:
            of[name] = joined
    made = []
    for name in names:
        tied = [other for other in names if other in of[name]]
        if tied[0] == name:
            made.append((tied, [constraint for constraint in where if constraint.names[0] in of[name]]))
    return made

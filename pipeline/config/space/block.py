"""One block of a parameter space: axes, the constraints between them, and what is chosen for all of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

from ..located import Located
from .axes import Axis, Distribution, Given, axis_of
from .grid import Grid
from .sample import Sample, draw
from .where import Constraint


class Block(Sequence[Mapping[str, Any]]):
    """Combinations of some axes: those of the grid that satisfy `where`, or a sample of them."""

    def __init__(
        self,
        axes: Mapping[str, Sequence[Any] | Given] | None = None,
        *,
        where: Sequence[Constraint] = (),
        sample: Sample | None = None,
        seed: Sequence[int] = (0, 0),
        choices: Mapping[str, Located] | None = None,
        number: int = 0,
        path: str = "parameter_space",
    ) -> None:
        self.given: dict[str, Sequence[Any] | Given] = dict(axes or {})
        self.axes: dict[str, Axis] = {name: axis_of(values) for name, values in self.given.items()}
        self.where, self.sample = tuple(where), sample
        self.seed = tuple(seed)
        """Of the sample: its own or the run's, and the block's number."""
        self.choices = dict(choices or {})
        """Fields of the stage that are the same for the whole block, such as `strategy`, as they were written."""
        self.number = number
        self.path = path
        """Where it stands in the configuration."""

    @cached_property
    def grid(self) -> Grid | None:
        """The grid of its axes; None where one is a distribution."""
        discrete = {name: axis for name, axis in self.axes.items() if not isinstance(axis, Distribution)}
        return Grid(discrete, self.where) if len(discrete) == len(self.axes) else None

    @property
    def whole(self) -> int | None:
        """Combinations of the grid before constraints; None where there is no grid."""
        return self.grid.whole if self.grid is not None else None

    @cached_property
    def size(self) -> int:
        """Combinations, counted without being made; of a sample as many as are wanted of it."""
        if self.sample is not None:
            return self.sample.size
        assert self.grid is not None, "a distribution is refused where nothing is sampled"
        return self.grid.size

    @cached_property
    def drawn(self) -> Sequence[tuple[Any, ...]]:
        """The combinations' values: the grid's, made when asked for, or those of the sample. Raises `TooFew`."""
        if self.sample is not None:
            return draw(self.axes, self.where, self.sample, self.seed)
        assert self.grid is not None
        return self.grid

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self.size))]
        return dict(zip(self.axes, self.drawn[index], strict=True))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[index] for index in range(self.size))

    @property
    def continuous(self) -> list[str]:
        """Axes that are distributions."""
        return [name for name, axis in self.axes.items() if isinstance(axis, Distribution)]

    def said_whole(self) -> str:
        """How many combinations there are to choose from, in words."""
        if self.whole is not None:
            return f"{self.whole:,}"
        others = math.prod(len(axis) for axis in self.axes.values() if not isinstance(axis, Distribution))
        return "continuous" if others == 1 else f"{others:,} x continuous"

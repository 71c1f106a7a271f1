"""Draws combinations from a space: seeded, the same on every machine, none of them twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from pipeline.data.policy import Settings

from .axes import Axis, Distribution, value_at
from .grid import Grid, GridTooLarge, satisfied
from .where import Constraint, column

MAX_DRAWS = 2_000_000
"""Points drawn at most to find as many as are wanted that satisfy the constraints and are not there already."""
SHUFFLED = 1 << 20
"""Up to so many combinations are shuffled rather than drawn, so that all of them can be had."""
FEW_DRAWS = 1_024


class Sample(Settings, frozen=True):
    """`sample: {method: latin_hypercube, size: 200, seed: 7}`: some combinations of a space instead of all."""

    size: Annotated[int, msgspec.Meta(gt=0)]
    """How many, each another one."""
    method: Literal["random", "latin_hypercube"] = "random"
    """`random`: each combination as likely; fewer of them are the first of more. `latin_hypercube`: each parameter's
    range is cut into `size` equal parts and each part is met once; what constraints or repetitions take out is made up
    for by further hypercubes."""
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """None: the run's."""


class TooFew(ValueError):
    """Constraints leave fewer combinations than are wanted; `known` says whether all were looked through."""

    def __init__(self, found: int, known: bool) -> None:
        super().__init__(f"{found:,}")
        self.found, self.known = found, known


def draw(
    axes: Mapping[str, Axis], where: Sequence[Constraint], sample: Sample, seed: Sequence[int]
) -> list[tuple[Any, ...]]:
    """`sample.size` combinations, values in the order of the axes. `seed` stands for the run and the place in it.

    Every axis has random numbers of its own, made of the seed and its name, so that another axis does not change them.
    Raises `TooFew`, and `ConstraintError` where a constraint has no answer.
    """
    grid = _countable(axes, where)
    if grid is not None and grid.size < sample.size:
        raise TooFew(grid.size, True)
    taken: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    if sample.method == "random" and grid is not None:
        sources: list[Iterator[list[tuple[Any, ...]]]] = [_of_grid(grid, sample.size, seed)]
    else:
        streams = {name: _Stream(seed, name) for name in axes}
        cut = sample.size if sample.method == "latin_hypercube" else None
        sources = [_points(axes, where, streams, sample.size, cut, once=grid is not None)]
        if grid is not None:
            sources.append(_of_grid(grid, sample.size, seed))
    for source in sources:
        for points in source:
            for point in points:
                taken.setdefault(_identity(point), point)
                if len(taken) == sample.size:
                    return list(taken.values())
    raise TooFew(len(taken), False)


def _countable(axes: Mapping[str, Axis], where: Sequence[Constraint]) -> Grid | None:
    """The grid to draw from, where there is one whose combinations can be counted."""
    discrete = {name: axis for name, axis in axes.items() if not isinstance(axis, Distribution)}
    if len(discrete) < len(axes):
        return None
    grid = Grid(discrete, where)
    try:
        grid.size  # noqa: B018 - counted once, here
    except GridTooLarge:
        return None
    return grid


def _of_grid(grid: Grid, wanted: int, seed: Sequence[int]) -> Iterator[list[tuple[Any, ...]]]:
    """Combinations of a grid, each as likely: all of them shuffled where they are few, drawn by number where not."""
    stream = _Stream(seed, "")
    if grid.size <= SHUFFLED:
        order = np.argsort(stream.words(grid.size), kind="stable")
        for begin in range(0, len(order), wanted):
            yield [grid[int(place)] for place in order[begin : begin + wanted]]
        return
    parts = grid.size.bit_length() // 64 + 2
    for _ in range(0, MAX_DRAWS, wanted):
        words = stream.words(wanted * parts).astype("<u8").tobytes()
        step = parts * 8
        numbers = (int.from_bytes(words[at : at + step], "little") for at in range(0, len(words), step))
        yield [grid[number % grid.size] for number in numbers]


def _points(
    axes: Mapping[str, Axis],
    where: Sequence[Constraint],
    streams: Mapping[str, _Stream],
    wanted: int,
    cut: int | None,
    *,
    once: bool,
) -> Iterator[list[tuple[Any, ...]]]:
    """Points that satisfy the constraints; with `cut`, of hypercubes of so many parts, else of the whole ranges."""
    rows = cut or max(wanted, FEW_DRAWS)
    for _ in range(1 if once else max(1, MAX_DRAWS // rows)):
        drawn = {}
        for name, axis in axes.items():
            shares = streams[name].shares(rows) if cut is None else streams[name].strata(cut)
            drawn[name] = [value_at(axis, share) for share in shares]
        points = list(zip(*drawn.values(), strict=True))
        if not where:
            yield points
            continue
        columns = {name: column(drawn[name]) for constraint in where for name in constraint.names}
        yield [points[place] for place in np.flatnonzero(satisfied(where, columns, rows))]


class _Stream:
    """Random numbers of one axis. Raw words of PCG64 are the same whatever the version of numpy."""

    def __init__(self, seed: Sequence[int], name: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([*seed, *name.encode()]))

    def words(self, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
        return np.asarray(self._bits.random_raw(count), np.uint64)

    def shares(self, count: int) -> list[float]:
        """Numbers from 0 to below 1."""
        found: list[float] = ((self.words(count) >> np.uint64(11)) * 2.0**-53).tolist()
        return found

    def strata(self, parts: int) -> list[float]:
        """One number of each of so many equal parts of 0 to below 1, shuffled."""
        order = np.argsort(self.words(parts), kind="stable")
        within = (self.words(parts) >> np.uint64(11)) * 2.0**-53
        found: list[float] = np.minimum((order + within) / parts, np.nextafter(1.0, 0.0)).tolist()
        return found


def _identity(point: tuple[Any, ...]) -> tuple[Any, ...]:
    """What tells two combinations apart: their values, also where these cannot be hashed."""
    return tuple(value if isinstance(value, int | float | str) else repr(value) for value in point)

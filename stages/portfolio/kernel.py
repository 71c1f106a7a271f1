"""Strategies whose rule is one compiled function: a thousand of them are asked in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.features.feature import Feature

from .bars import Bars, Floats, timestamp
from .failures import StrategyFailed

if TYPE_CHECKING:
    from .strategy import Strategy

BUILT_IN = "stages"
"""Kernels of this package are cached on disk and trusted with their indices; a user's are compiled anew and checked."""
SAID_LINES = 6
"""Lines of a compiler's message that are passed on."""


class KernelGroup:
    """Targets of many strategies of one class, by its `kernel`; every distinct column is read once per block of bars.

    Raises `ValueError` where members' features or parameters are not equal in number.
    """

    stateless = True

    def __init__(self, members: Sequence[Strategy]) -> None:
        self._members = members
        self._kernel = type(members[0]).kernel
        named = [[*member.columns, *_names(member.features())] for member in members]
        numbers = [[float(number) for number in member.parameters()] for member in members]
        for what, lengths in (("features", map(len, named)), ("parameters", map(len, numbers))):
            counts = dict(zip(lengths, members, strict=True))
            if len(counts) > 1:
                (few, one), (many, other) = sorted(counts.items())[:2]
                raise ValueError(
                    f"a strategy with a kernel has the same number of {what} whatever its fields, found "
                    f"{few} in {one!r} and {many} in {other!r}"
                )
        self._names = sorted({name for names in named for name in names})
        place = {name: index for index, name in enumerate(self._names)}
        self._places = np.array([[place[name] for name in names] for names in named], np.int64)
        self._parameters = np.array(numbers, np.float64)
        self._matrix: Floats = np.empty((0, 0))
        self._times = np.empty(0, np.int64)

    def warm(self) -> None:
        """Compile. Raises `StrategyFailed` where numba refuses the kernel."""
        walker()
        try:
            compiled(self._kernel)
        except Exception as error:
            raise StrategyFailed(
                f"strategy {type(self._members[0]).__name__} failed: its kernel cannot be compiled: {_told(error)}; "
                "a kernel is numbers, arrays and numpy, which numba compiles (without one, on_bars or on_bar is asked)"
            ) from error

    def look(self, bars: Bars, first_bar: int, length: int) -> None:
        """Gather this block's columns."""
        block = slice(first_bar, first_bar + length)
        self._matrix = np.empty((len(self._names), length))
        for row, name in zip(self._matrix, self._names, strict=True):
            row[:] = bars[name][block]
        self._times = bars.times("bar_end")[block]

    def on_bars(self, first: int, targets: Floats) -> Mapping[int, StrategyFailed] | None:
        """Fill `targets` (members, bars) for members from `first`; those that failed, by number, decide nothing."""
        last = first + len(targets)
        try:
            if self._walk(first, last, targets) < 0:
                return None
        except Exception:  # whose it was is found below
            pass
        failed = {at: error for at in range(first, last) if (error := self._alone(at, targets[at - first])) is not None}
        for at in failed:
            targets[at - first] = np.nan
        return failed

    def _alone(self, at: int, targets: Floats) -> StrategyFailed | None:
        """Why one member fails, which is asked by itself."""
        try:
            infinite = self._walk(at, at + 1, targets.reshape(1, -1))
        except Exception as error:
            said = f"in its kernel: {type(error).__name__}: {str(error) or self._given(at)}"
            return self._failed(at, 0, said, "in the block of bars from")
        if infinite < 0:
            return None
        bar = int(np.flatnonzero(np.isinf(targets))[0])
        return self._failed(at, bar, "the target is infinite", "at the bar ending")

    def _given(self, at: int) -> str:
        """What a member's kernel is called with; compiled code that cannot unpack it says no more than that."""
        names = ", ".join(self._names[place] for place in self._places[at])
        numbers = self._parameters.shape[1]
        return f"it is given {self._places.shape[1]} inputs ({names}) and {numbers} parameters"

    def _walk(self, first: int, last: int, targets: Floats) -> int:
        found: int = walker()(
            compiled(self._kernel), self._matrix, self._places[first:last], self._parameters[first:last], targets
        )
        return found

    def _failed(self, at: int, bar: int, said: str, where: str) -> StrategyFailed:
        when = f" {where} {timestamp(int(self._times[bar]))}" if len(self._times) else ""
        return StrategyFailed(f"strategy {self._members[at]!r} failed{when}: {said}")


class OneKernel:
    """The same for one strategy."""

    stateless = True

    def __init__(self, strategy: Strategy) -> None:
        self._group = KernelGroup([strategy])

    def warm(self) -> None:
        """Compile. Raises `StrategyFailed` where numba refuses the kernel."""
        self._group.warm()

    def on_bars(self, bars: Bars) -> Floats:
        """One target per bar, NaN to keep the one before."""
        targets = np.empty(len(bars))
        self._group.look(bars, 0, len(bars))
        failed = self._group.on_bars(0, targets.reshape(1, -1))
        if failed:
            raise failed[0]
        return targets


@lru_cache(maxsize=256)
def compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    """A strategy's `kernel`, compiled for any number of inputs and parameters: releases the GIL."""
    import numba

    ours = kernel.__module__.partition(".")[0] == BUILT_IN
    # Nobody else's kernel is trusted with its indices: beyond the end lie other portfolios' targets.
    made: Callable[..., None] = numba.njit(
        _signature(), nogil=True, cache=ours, error_model="numpy", boundscheck=not ours
    )(kernel)
    return made


@lru_cache(maxsize=1)
def walker() -> Callable[..., int]:
    """`walk`, compiled: releases the GIL, cached on disk. The first call imports numba."""
    import numba
    from numba import types

    matrix, places = types.Array(types.float64, 2, "C"), types.Array(types.int64, 2, "C")
    signature = types.int64(types.FunctionType(_signature()), matrix, places, matrix, matrix)
    made: Callable[..., int] = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(walk)
    return made


def walk(
    kernel: Any,
    matrix: np.ndarray[Any, Any],
    places: np.ndarray[Any, Any],
    parameters: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
) -> int:
    """Ask `kernel` for each member; the first with an infinite target, -1 where there is none.

    `matrix` (columns, bars), `places` (members, inputs) rows of it, `parameters` (members, numbers), `targets`
    (members, bars) is written, NaN where the kernel writes nothing.
    """
    infinite = -1
    inputs = np.empty((places.shape[1], targets.shape[1]))
    for m in range(targets.shape[0]):
        for i in range(places.shape[1]):
            if m == 0 or places[m, i] != places[m - 1, i]:
                column, copy = matrix[places[m, i]], inputs[i]
                for bar in range(len(copy)):  # twice as fast as assigning the whole line
                    copy[bar] = column[bar]
        own = targets[m]
        own[:] = np.nan
        kernel(inputs, parameters[m], own)
        wrong = 0
        for bar in range(len(own)):
            wrong += abs(own[bar]) == np.inf
        if wrong and infinite < 0:
            infinite = m
    return infinite


def _signature() -> Any:
    """What a kernel is called with: inputs and parameters that cannot be written to, and targets."""
    from numba import types

    return types.void(
        types.Array(types.float64, 2, "C", readonly=True),
        types.Array(types.float64, 1, "C", readonly=True),
        types.Array(types.float64, 1, "C"),
    )


def _names(features: Sequence[str | Feature]) -> list[str]:
    """Columns in the order in which they were asked for."""
    parsed = [Feature.parse(item) if isinstance(item, str) else (item,) for item in features]
    return [feature.name for group in parsed for feature in group]


def _told(error: Exception) -> str:
    """The beginning of a compiler's long message, on one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(said[:SAID_LINES])

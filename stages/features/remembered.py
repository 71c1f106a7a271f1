"""What indicators remember of each instrument: arrays that grow as instruments appear."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline import fitting

from .exact import Values


class Remembered:
    """Arrays by name with one line per instrument: `remembered["pool"][instrument]`.

    Each is declared as its shape per instrument, its type, and what a new instrument begins with.
    """

    def __init__(self, **arrays: tuple[tuple[int, ...], Any, float]) -> None:
        self._declared = arrays
        self._arrays: dict[str, Values] = {}
        self._instruments = 0
        self.hold(1)

    def __getitem__(self, name: str) -> Values:
        return self._arrays[name]

    @property
    def arrays(self) -> tuple[Values, ...]:
        """All of them, in the order in which they were declared."""
        return tuple(self._arrays.values())

    def hold(self, instruments: int) -> None:
        """Make room for instruments numbered below this."""
        if instruments <= self._instruments:
            return
        most = max(instruments, 2 * self._instruments)
        for name, (shape, dtype, first) in self._declared.items():
            grown: Values = np.full((most, *shape), first, dtype)
            if self._instruments:
                grown[: self._instruments] = self._arrays[name]
            self._arrays[name] = grown
        self._instruments = most

    def snapshot(self) -> dict[str, Any]:
        """Copies of all arrays."""
        return {name: values.copy() for name, values in self._arrays.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of the same declaration. Raises `StateMismatch`."""
        self._arrays = {name: fitting(name, state.get(name), self._arrays[name], rows=True) for name in self._declared}
        self._instruments = len(next(iter(self._arrays.values()), ()))

"""The portfolio others are held against: it buys for all its equity on the window's first bar, and holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from .bars import Floats
from .exits import Exits
from .sizing import Sizing
from .strategies.buy_and_hold import BuyAndHold

if TYPE_CHECKING:
    from .portfolio import Portfolio
    from .tape import Tape


class Baseline:
    """What the baseline of a group trades, and which targets it has; `place` is its place among the members."""

    def __init__(self, first: Portfolio, name: str, place: int) -> None:
        self.name, self.place = name, place
        names = first.instruments
        self.recipe = msgspec.structs.replace(
            first,
            strategy=BuyAndHold(),
            sizing=Sizing(by="equity", share=1.0 if names is None or names == "all" else 1.0 / len(names)),
            fills=msgspec.structs.replace(first.fills, order="market", offset_bps=0.0, expires_bars=None),
            exits=Exits(),
        )
        self._waits = names == "all"
        self._chosen: np.ndarray[Any, np.dtype[np.int64]] | None = None

    def snapshot(self) -> dict[str, Any]:
        """Which instruments it holds."""
        return {"waits": self._waits, "chosen": None if self._chosen is None else self._chosen.copy()}

    def restore(self, state: dict[str, Any], terms: np.ndarray[Any, Any]) -> None:
        """Continue from a snapshot."""
        self._waits = state["waits"]
        if state["chosen"] is not None:
            self._hold(np.array(state["chosen"]), terms)

    def targets(self, tape: Tape, terms: np.ndarray[Any, Any]) -> Floats:
        """A target per row; of `all` instruments those of the window's first step are held, in equal parts."""
        if self._waits and tape.warm < len(tape.steps) - 1:
            self._waits = False
            first, last = tape.steps[tape.warm], tape.steps[tape.warm + 1]
            self._hold(tape.owners[first:last].copy(), terms)
        targets = np.ones(len(tape))
        if self._chosen is not None:
            targets[~np.isin(tape.owners, self._chosen)] = np.nan
        return targets

    def _hold(self, chosen: np.ndarray[Any, np.dtype[np.int64]], terms: np.ndarray[Any, Any]) -> None:
        """These instruments, in equal parts."""
        self._chosen = chosen
        terms[self.place]["share"] = 1.0 / len(chosen)

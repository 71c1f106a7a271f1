"""The books of a group's members: their records, the kept equity, and the call that carries them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import fitting

from .accounting import (
    FILL,
    HOLDING,
    MOST_FILLS_A_BAR,
    TERMS,
    Block,
    account_kernel,
    opening_holdings,
    opening_state,
    terms_of,
)
from .bars import Floats, Times
from .equity import EquityGrid
from .tape import Tape, Volatility

if TYPE_CHECKING:
    from .portfolio import Portfolio


SHEETS = 3
"""Calls for whose most possible fills a thread has room at once. Only what is written takes memory."""


class Books:
    """Struct-of-arrays state of all members, `threads` of which may be worked on at once."""

    def __init__(self, recipes: Sequence[Portfolio], instruments: int, threads: int) -> None:
        self.state = opening_state([recipe.start_equity for recipe in recipes])
        self.holdings = opening_holdings(len(recipes), instruments)
        kinds = {_volatility(recipe): None for recipe in recipes}
        self._volatilities: list[Volatility] = [kind for kind in kinds if kind is not None]
        rows = {kind: row for row, kind in enumerate(self._volatilities)}
        terms = [terms_of(recipe, rows.get(_volatility(recipe) or (0, ""), 0)) for recipe in recipes]
        self.terms = np.array(terms, TERMS)
        self.grid = EquityGrid(len(recipes))
        self.rows = 0
        """Bars in the window so far."""
        self.traded_rows = 0
        """Those of them in which anything traded."""
        self._lengths_ns = 0
        self._sheets = [np.empty(0, FILL) for _ in range(threads)]
        self._used = [0] * threads
        self._slots: Times = np.empty(0, np.int64)

    @property
    def mean_length_ns(self) -> float:
        """Of a bar."""
        return self._lengths_ns / self.rows if self.rows else 0.0

    def warm(self) -> None:
        """Load the kernel, and compile it where that was never done."""
        account_kernel()

    def extend(self, tape: Tape, instruments: int) -> None:
        """Make room for the steps of this tape and its instruments; then they are accounted."""
        have = self.holdings.shape[1]
        if instruments > have:
            holdings = np.empty((len(self.state), instruments), HOLDING)
            holdings[:, :have] = self.holdings
            holdings[:, have:] = opening_holdings(len(self.state), instruments - have)
            self.holdings = holdings
        starts, ends = (tape.bars.times(name)[tape.warm_rows :] for name in ("bar_start", "bar_end"))
        self._lengths_ns += int((ends - starts).sum())
        self.rows += len(ends)
        self.traded_rows += int(np.count_nonzero(tape.trades[tape.warm_rows :]))
        self._slots = self.grid.extend(tape.step_ends) if len(ends) else np.empty(0, np.int64)

    def read(self, tape: Tape, first: int, last: int) -> Block:
        """Steps of the tape that was made room for last, as `account` takes them."""
        return tape.read(first, last, self._slots[first - tape.warm : last - tape.warm], self._volatilities)

    def snapshot(self) -> dict[str, Any]:
        """What members have and hold, and the kept equity."""
        return {
            "state": self.state.copy(),
            "holdings": self.holdings.copy(),
            "rows": self.rows,
            "traded_rows": self.traded_rows,
            "lengths_ns": self._lengths_ns,
            "equity": self.grid.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a snapshot of the same members. Raises `StateMismatch`."""
        self.state = fitting("members", state["state"], self.state)
        instruments = np.shape(state["holdings"])[1:]
        self.holdings = fitting("holdings", state["holdings"], np.empty((len(self.state), *instruments), HOLDING))
        self.rows, self.traded_rows, self._lengths_ns = state["rows"], state["traded_rows"], state["lengths_ns"]
        self.grid.restore(state["equity"])

    def retire(self, place: int) -> None:
        """A member that trades no more: nothing is held and no order waits."""
        self.state[place] = opening_state([1.0])[0]
        self.holdings[place] = opening_holdings(1, self.holdings.shape[1])[0]

    def account(self, thread: int, first: int, targets: Floats, block: Block) -> np.ndarray[Any, Any] | None:
        """Carry members from `first` on with `targets` (members, rows); gives their fills (FILL), None for none.

        They are views, good until `release`.
        """
        members, rows = targets.shape
        own, most = slice(first, first + members), MOST_FILLS_A_BAR * members * rows
        if len(self._sheets[thread]) - self._used[thread] < most:
            self._sheets[thread] = np.empty(SHEETS * most, FILL)
            self._used[thread] = 0
        sheet = self._sheets[thread][self._used[thread] :]
        written = account_kernel()(
            self.state[own],
            self.holdings[own],
            self.terms[own],
            targets,
            block,
            self.grid.values[own],
            sheet,
        )
        self._used[thread] += written
        fills = sheet[:written]
        if first:
            fills["member"] += first
        return fills if written else None

    def release(self) -> None:
        """The fills given so far are no longer looked at."""
        self._used = [0] * len(self._used)


def _volatility(recipe: Portfolio) -> Volatility | None:
    return (recipe.sizing.n, recipe.sizing.calendar) if recipe.sizing.by == "volatility" else None

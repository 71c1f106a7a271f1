"""What the ledger carries from bar to bar: the records of a member, of what it holds, of its terms and of a fill.

All money is float64 in quote currency, units are float64, times int64 ns UTC. Cash may go below zero: there are no
margin rules. The rules themselves stand in `fills.py`, `sizing.py` and `exits.py`; `ledger.py` follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .bars import Floats, Times

if TYPE_CHECKING:
    from .portfolio import Portfolio

ROUNDING = 1e-12
"""Share of the peak below which a dip is the rounding of float64, and no drawdown; of units, no difference."""
NEAR = 2.0**-50
"""Share of a level within which a price is at it."""
MOST_FILLS_A_BAR = 3
"""Fills one member can have in one bar of one instrument: a change of side, and an exit from it."""
ORDERS = ("market", "limit", "stop")
SIZINGS = ("quantity", "equity", "weight", "volatility")


def _record(floats: str, integers: str) -> np.dtype[Any]:
    return np.dtype(
        [(name, np.float64) for name in floats.split()] + [(name, np.int64) for name in integers.split()], align=True
    )


STATE = _record(
    "cash equity peak max_drawdown equity_sum gross_sum net_sum max_leverage realised fees slippage traded won lost",
    "bars flat_bars held orders fills trades wins losses begun ended peak_at under_water longest_under_water exposed"
    " ruined",
)
"""One member. `peak` is the highest equity at any bar's end and begins at the starting equity; `max_drawdown` a share
of it; `equity_sum` goes over bars, without the last `flat_bars` of them, which all had this `equity`; `gross_sum` and
`net_sum` are those of |position value| / equity and position value / equity; `realised` is before fees; `traded` is
the notional of all fills; `won` and `lost` sum the results of trades. `held` counts instruments with a position;
`begun` is the start of the first bar, `ended` the end of the last; `under_water`, `longest_under_water` and `exposed`
are ns; `ruined` is 1 once equity has been 0 or below."""

HOLDING = _record("position entry pending level decided units best close trade_result trade_traded", "age passing")
"""One instrument of a member. `entry` is the average price paid; `pending` the position a waiting order leads to, NaN
for none, `level` its limit or stop, `age` the bars of trading it has seen; `decided` the target decided last, NaN for
none, `units` what it was worth; `best` the best price since entry; `close` the last close; `trade_result` of the open
trade so far, realised less fees, and `trade_traded` its notional; `passing` is 1 while decisions are passed over."""

TERMS = _record(
    "quantity share band volatility max_leverage lot fee_rate fee_per_unit fee_minimum slippage_rate offset_rate"
    " stop_loss take_profit trailing_stop",
    "at_open order expires touches sizing volatility_row exits best_case at_once plain",
)
"""What one member trades on: the fields of `Fills`, `Sizing` and `Exits` with rates as shares and NaN or 0 for None;
`order` and `sizing` count ORDERS and SIZINGS. `plain` is 1 where nothing can happen between changes of the target."""

FILL = _record(
    "quantity price fee slippage position_after cash_after",
    "member instrument ts side",
)
"""One fill: `side` 1 buy, 2 sell; `instrument` counts those the members trade."""


class Block(NamedTuple):
    """A block of bars as the ledger reads it; a step is all rows with one `bar_end`."""

    opens: Floats
    """float64 by row, as the other prices."""
    highs: Floats
    lows: Floats
    closes: Floats
    starts: Times
    """int64 ns by row."""
    ends: Times
    trades: np.ndarray[Any, np.dtype[np.bool_]]
    """Whether anything traded, by row."""
    owners: Times
    """Which instrument it is, by row."""
    steps: Times
    """The first row of each step, and at last the number of rows."""
    slots: Times
    """Where the equity of each step is kept, -1 for nowhere."""
    kept_steps: Times
    """The steps whose equity is kept."""
    kept_before: Times
    """How many of those come before each step, and at last all of them."""
    volatilities: Floats
    """(kinds, rows), of a year."""

    def sealed(self) -> Block:
        """Views nobody can write to, which is what the compiled ledger takes."""
        views: list[Any] = [values.view() for values in self]
        for view in views:
            view.flags.writeable = False
        return Block(*views)


def opening_state(start_equity: Sequence[float]) -> np.ndarray[Any, Any]:
    """State before the first bar, one per member: flat, with the starting equity in cash."""
    state = np.zeros(len(start_equity), STATE)
    for name in ("cash", "equity", "peak"):
        state[name] = start_equity
    return state


def opening_holdings(members: int, instruments: int) -> np.ndarray[Any, Any]:
    """Nothing held, nothing decided, by member and instrument."""
    holdings = np.zeros((members, instruments), HOLDING)
    holdings["pending"] = holdings["decided"] = np.nan
    return holdings


def terms_of(recipe: Portfolio, volatility_row: int = 0) -> tuple[float | int, ...]:
    """TERMS of one portfolio; `volatility_row` says which row of the ledger's volatilities is its own."""
    fills, sizing, exits = recipe.fills, recipe.sizing, recipe.exits
    levels = (exits.stop_loss, exits.take_profit, exits.trailing_stop)
    has_exits = any(level is not None for level in levels)
    plain = fills.order == "market" and sizing.by in ("quantity", "equity") and not has_exits
    return (
        recipe.strategy.quantity, sizing.share, sizing.band, sizing.volatility, sizing.max_leverage, sizing.lot,
        fills.fee_bps / 1e4, fills.fee_per_unit, fills.fee_minimum, fills.slippage_bps / 1e4, fills.offset_bps / 1e4,
        *(np.nan if level is None else level for level in levels),
        int(fills.at == "next_open"), ORDERS.index(fills.order), fills.expires_bars or 0, int(fills.touch == "fill"),
        SIZINGS.index(sizing.by), volatility_row, int(has_exits), int(exits.intrabar == "best"),
        int(exits.reenter == "at_once"), int(plain),
    )  # fmt: skip


def settle(state: np.ndarray[Any, Any]) -> None:
    """Bring the sums up to the last bar."""
    state["equity_sum"] += state["flat_bars"] * state["equity"]
    state["flat_bars"] = 0


@cache
def account_kernel() -> Callable[..., int]:
    """`ledger.account`, compiled: releases the GIL, cached on disk. The first call imports numba."""
    from .ledger import account

    compiled: Callable[..., int] = account
    return compiled

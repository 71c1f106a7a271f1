"""The ledger of many portfolios: targets in, fills, equity and running totals out, one compiled pass per block.

Every portfolio (member) trades one instrument with fractional units, cash may go below zero (no margin rules), and all
money is float64 in quote currency. One bar goes like this:

1. `next_open`: an order from the bar before fills at this bar's open.
2. A target that is not NaN and differs from the position makes an order for the difference. `close`: it fills at this
   bar's close at once.
3. Equity = cash + position * close; peak, drawdown and all other running totals see every bar. A dip below 1e-12 of the
   peak is rounding and no drawdown: time under water would otherwise hang on the last bit.

A target of the other sign closes the position and opens the new one: two orders, two fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

ROUNDING = 1e-12
"""Share of the peak below which a dip is the rounding of float64."""
_FLOATS = (
    "position",  # units, signed
    "entry",  # average price of the open position, slippage included
    "cash",
    "pending",  # position the waiting order leads to; NaN = none
    "equity",
    "peak",  # highest equity at any bar's end; begins at the starting equity
    "max_drawdown",  # share of the peak
    "equity_sum",
    "gross_sum",  # of |position value| / equity, per bar
    "net_sum",
    "max_leverage",
    "realised",  # before fees
    "fees",
    "slippage",  # quantity * distance between the price and the price paid
    "traded",  # notional of all fills
    "trade_result",  # of the open trade so far: realised less fees
    "won",  # sum of results of winning trades
    "lost",  # sum of results of losing trades, below 0
)
_INTEGERS = (
    "bars",
    "orders",
    "fills",
    "trades",
    "wins",
    "losses",
    "begun",  # ns, bar_start of the first bar
    "ended",  # ns, bar_end of the last bar
    "peak_at",  # ns
    "under_water",  # ns
    "longest_under_water",  # ns
    "exposed",  # ns with a position
    "ruined",  # 1 once equity has been 0 or below
)
STATE = np.dtype([(name, np.float64) for name in _FLOATS] + [(name, np.int64) for name in _INTEGERS], align=True)
"""What is carried from bar to bar for one member."""

TERMS = np.dtype(
    [("quantity", np.float64), ("fee_rate", np.float64), ("slippage_rate", np.float64), ("at_open", np.int64)],
    align=True,
)
"""What one member trades on: units per target of 1, shares of notional and of price, 1 for the next open."""

FILL = np.dtype(
    [("member", np.int64), ("ts", np.int64), ("side", np.int64)]
    + [(name, np.float64) for name in ("quantity", "price", "fee", "slippage", "position_after", "cash_after")],
    align=True,
)
"""One fill: `side` 1 buy, 2 sell; `ts` ns UTC; money in quote currency."""


def opening_state(start_equity: Sequence[float]) -> np.ndarray[Any, Any]:
    """State before the first bar, one per member: flat, with the starting equity in cash."""
    state = np.zeros(len(start_equity), STATE)
    for name in ("cash", "equity", "peak"):
        state[name] = start_equity
    state["pending"] = np.nan
    return state


@cache
def account_kernel() -> Callable[..., int]:
    """`account`, compiled: releases the GIL, cached on disk. The first call imports numba."""
    import numba

    def records(kind: np.dtype[Any]) -> Any:
        return numba.types.Array(numba.from_dtype(kind), 1, "C")

    def reads(kind: Any, dimensions: int = 1) -> Any:
        return numba.types.Array(kind, dimensions, "C", readonly=True)

    signature = numba.int64(
        records(STATE),
        records(TERMS),
        reads(numba.float64, 2),
        reads(numba.float64),
        reads(numba.float64),
        reads(numba.int64),
        reads(numba.int64),
        reads(numba.int64),
        numba.float64[:, ::1],
        records(FILL),
    )
    compiled: Callable[..., int] = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(account)
    return compiled


def account(
    state: np.ndarray[Any, Any],
    terms: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
    opens: np.ndarray[Any, Any],
    closes: np.ndarray[Any, Any],
    starts: np.ndarray[Any, Any],
    ends: np.ndarray[Any, Any],
    slots: np.ndarray[Any, Any],
    kept: np.ndarray[Any, Any],
    fills: np.ndarray[Any, Any],
) -> int:
    """Walk a block of members through a block of bars; gives the number of fills written.

    `state` (members,) STATE, `terms` (members,) TERMS, `targets` (members, bars), `opens` and `closes`
    (bars,), `starts` and `ends` (bars,) int64 ns, `slots` (bars,) column of `kept` for this bar's equity or -1,
    `kept` (members, points), `fills` with room for 2 * members * bars; `member` counts within the block. Members do not
    touch each other, bars are taken in order: any cut into blocks gives the same bits.
    """
    written = 0
    for m in range(targets.shape[0]):
        own = state[m]
        unit, at_open = terms[m]["quantity"], terms[m]["at_open"] == 1
        fee_rate, slippage_rate = terms[m]["fee_rate"], terms[m]["slippage_rate"]
        position, entry, cash, pending = own["position"], own["entry"], own["cash"], own["pending"]
        equity, peak, max_drawdown = own["equity"], own["peak"], own["max_drawdown"]
        equity_sum, gross_sum, net_sum = own["equity_sum"], own["gross_sum"], own["net_sum"]
        max_leverage, ended, peak_at = own["max_leverage"], own["ended"], own["peak_at"]
        under_water, longest, exposed = own["under_water"], own["longest_under_water"], own["exposed"]
        if own["bars"] == 0:
            ended = peak_at = starts[0]
            own["begun"] = ended

        for b in range(targets.shape[1]):
            close = closes[b]
            start, end = max(starts[b], ended), ends[b]
            target = targets[m, b]
            if at_open:
                wanted, price, ts = pending, opens[b], starts[b]
            else:
                wanted, price, ts = target * unit + 0.0, close, end
                if wanted != wanted:
                    wanted = position
                elif wanted != position:
                    own["orders"] += 2 if position * wanted < 0.0 else 1

            if position != 0.0:
                exposed += start - ended
                if not at_open:
                    exposed += end - start
            if wanted == wanted:
                while position != wanted:
                    after = 0.0 if position * wanted < 0.0 else wanted
                    change = after - position
                    direction = 1.0 if change > 0.0 else -1.0
                    size = abs(change)
                    worse = abs(price) * slippage_rate
                    paid = price + direction * worse
                    notional = size * paid
                    fee = abs(notional) * fee_rate
                    slippage = size * worse
                    cash = cash - direction * notional - fee
                    gain = 0.0
                    if position == 0.0:
                        entry = paid
                    elif position * change > 0.0:
                        entry = (abs(position) * entry + notional) / abs(after)
                    else:
                        gain = (paid - entry) * size * -direction
                    own["realised"] += gain
                    own["fees"] += fee
                    own["slippage"] += slippage
                    own["traded"] += abs(notional)
                    own["fills"] += 1
                    result = own["trade_result"] + (gain - fee)
                    position = after
                    if after == 0.0:
                        entry = 0.0
                        own["trades"] += 1
                        if result > 0.0:
                            own["wins"] += 1
                            own["won"] += result
                        elif result < 0.0:
                            own["losses"] += 1
                            own["lost"] += result
                        result = 0.0
                    own["trade_result"] = result
                    fill = fills[written]
                    fill["member"] = m
                    fill["ts"] = ts
                    fill["side"] = 1 if direction > 0.0 else 2
                    fill["quantity"] = size
                    fill["price"] = paid
                    fill["fee"] = fee
                    fill["slippage"] = slippage
                    fill["position_after"] = position
                    fill["cash_after"] = cash
                    written += 1
            if at_open:
                if position != 0.0:
                    exposed += end - start
                wanted = target * unit + 0.0
                pending = np.nan
                if wanted == wanted and wanted != position:
                    pending = wanted
                    own["orders"] += 2 if position * wanted < 0.0 else 1

            value = position * close
            equity = cash + value
            equity_sum += equity
            if equity > 0.0:
                if position != 0.0:
                    net = value / equity
                    net_sum += net
                    gross_sum += abs(net)
                    max_leverage = max(max_leverage, abs(net))
            else:
                own["ruined"] = 1
            if peak - equity <= ROUNDING * peak:
                peak, peak_at = max(peak, equity), end
            else:
                if peak - equity > max_drawdown * peak:  # dividing at every bar is slow
                    max_drawdown = (peak - equity) / peak
                under_water += end - ended
                longest = max(longest, end - peak_at)
            ended = end
            if slots[b] >= 0:
                kept[m, slots[b]] = equity

        own["bars"] += targets.shape[1]
        own["position"], own["entry"], own["cash"], own["pending"] = position, entry, cash, pending
        own["equity"], own["peak"], own["max_drawdown"] = equity, peak, max_drawdown
        own["equity_sum"], own["gross_sum"], own["net_sum"] = equity_sum, gross_sum, net_sum
        own["max_leverage"], own["ended"], own["peak_at"] = max_leverage, ended, peak_at
        own["under_water"], own["longest_under_water"], own["exposed"] = under_water, longest, exposed
    return written

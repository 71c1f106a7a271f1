"""What one order, one exit and one decision do to the books, as `fills.py`, `sizing.py` and `exits.py` say.

Every rule has one function here, used for one instrument and for several: `own` is a member's STATE, `held` its HOLDING
of one instrument, `term` its TERMS. Functions that may fill take `fills` and the place `at` of the next one, and give
the place after the last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .accounting import NEAR, ROUNDING

LIMIT, STOP = 1, 2
"""Values of `order`, besides 0 for market."""
QUANTITY, EQUITY, WEIGHT, VOLATILITY = range(4)
"""Values of `sizing`."""


def rule(function: Any) -> Any:
    """Compiled into the pass that uses it."""
    return njit(function, nogil=True, error_model="numpy")


def inlined(function: Any) -> Any:
    """Compiled into each place that uses it: an array handed to a function is seven numbers on the stack."""
    return njit(function, nogil=True, error_model="numpy", forceinline=True)


@inlined
def _are_same(one: float, other: float) -> bool:
    """Whether two numbers of units are one, up to rounding; never with NaN."""
    return abs(one - other) <= ROUNDING * max(abs(one), abs(other))


@rule
def _is_below(price: float, level: float) -> bool:
    """At the level or below it, as far as doubles can tell."""
    return price <= level + abs(level) * NEAR


@rule
def _is_above(price: float, level: float) -> bool:
    return price >= level - abs(level) * NEAR


@rule
def _fill(own: Any, held: Any, term: Any, fill: Any, after: float, price: float, slippage_rate: float, ts: int) -> None:
    """One order filled in full: from the present position to `after`, which is not across zero from it."""
    position = held["position"]
    change = after - position
    direction = 1.0 if change > 0.0 else -1.0
    size = abs(change)
    worse = abs(price) * slippage_rate
    paid = price + direction * worse
    notional = size * paid
    fee = abs(notional) * term["fee_rate"] + size * term["fee_per_unit"]
    if term["fee_minimum"] > 0.0:
        fee = max(fee, term["fee_minimum"])
    cash = own["cash"] - direction * notional - fee
    gain = 0.0
    if position == 0.0:
        held["entry"] = paid
        held["best"] = -np.inf if after > 0.0 else np.inf
        own["held"] += 1
    elif position * change > 0.0:
        held["entry"] = (abs(position) * held["entry"] + notional) / abs(after)
    else:
        gain = (paid - held["entry"]) * size * -direction
    own["cash"] = cash
    own["realised"] += gain
    own["fees"] += fee
    own["slippage"] += size * worse
    own["traded"] += abs(notional)
    own["fills"] += 1
    result = held["trade_result"] + (gain - fee)
    traded = held["trade_traded"] + abs(notional)
    if after == 0.0:
        nothing = ROUNDING * traded  # what comes out even in decimals may miss 0 by the last bit
        held["entry"] = 0.0
        own["held"] -= 1
        own["trades"] += 1
        if result > nothing:
            own["wins"] += 1
            own["won"] += result
        elif result < -nothing:
            own["losses"] += 1
            own["lost"] += result
        result = traded = 0.0
    held["trade_result"], held["trade_traded"] = result, traded
    held["position"] = after
    fill["quantity"] = size
    fill["price"] = paid
    fill["fee"] = fee
    fill["slippage"] = size * worse
    fill["position_after"] = after
    fill["cash_after"] = cash
    fill["ts"] = ts
    fill["side"] = 1 if direction > 0.0 else 2


@inlined
def fill_market(own: Any, held: Any, term: Any, fills: Any, at: int, wanted: float, price: float, ts: int) -> int:
    """To `wanted` at this price, in two fills where the side changes; gives the place after the last fill."""
    if held["position"] * wanted < 0.0:
        _fill(own, held, term, fills[at], 0.0, price, term["slippage_rate"], ts)
        at += 1
    if held["position"] != wanted:
        _fill(own, held, term, fills[at], wanted, price, term["slippage_rate"], ts)
        at += 1
    held["pending"] = np.nan
    return at


@rule
def fill_at_open(own: Any, held: Any, term: Any, fills: Any, at: int, price: float, ts: int) -> int:
    """The waiting order at a bar's open: all of it at market, or what closes and reduces, and the rest if it may."""
    wanted = held["pending"]
    if term["order"] == 0:
        return int(fill_market(own, held, term, fills, at, wanted, price, ts))
    position = held["position"]
    if position * wanted < 0.0 or abs(wanted) < abs(position):
        _fill(own, held, term, fills[at], 0.0 if position * wanted < 0.0 else wanted, price, term["slippage_rate"], ts)
        at += 1
    if held["position"] != wanted:
        buys, level = wanted > held["position"], held["level"]
        if _is_below(price, level) if buys == (term["order"] == LIMIT) else _is_above(price, level):
            rate = 0.0 if term["order"] == LIMIT else term["slippage_rate"]
            _fill(own, held, term, fills[at], wanted, price, rate, ts)
            at += 1
    if held["position"] == wanted:
        held["pending"] = np.nan
    return at


@rule
def fill_at_close(own: Any, held: Any, term: Any, fills: Any, at: int, price: float, ts: int) -> int:
    """The waiting order at a bar's close; the best price of what it opens is that close."""
    before = held["position"]
    at = fill_market(own, held, term, fills, at, held["pending"], price, ts)
    if before * held["position"] <= 0.0:
        held["best"] = price
    return at


@rule
def _fill_within(own: Any, held: Any, term: Any, fills: Any, at: int, high: float, low: float, ts: int) -> int:
    """A waiting limit or stop order within the bar; it ages where it does not fill."""
    wanted, level = held["pending"], held["level"]
    buys = wanted > held["position"]
    if term["order"] == STOP:
        reached = _is_above(high, level) if buys else _is_below(low, level)
    elif term["touches"] == 1:
        reached = _is_below(low, level) if buys else _is_above(high, level)
    else:
        reached = not (_is_above(low, level) if buys else _is_below(high, level))
    if reached:
        _fill(own, held, term, fills[at], wanted, level, 0.0 if term["order"] == LIMIT else term["slippage_rate"], ts)
        held["pending"] = np.nan
        return at + 1
    held["age"] += 1
    if held["age"] == term["expires"]:
        held["pending"] = np.nan
    return at


@rule
def _stop_level(held: Any, term: Any) -> float:
    """Where the position is stopped; infinite where nothing stops it, which no price is near."""
    entry, side = held["entry"], 1.0 if held["position"] > 0.0 else -1.0
    level = -np.inf * side
    if term["stop_loss"] == term["stop_loss"]:
        level = entry - side * abs(entry) * term["stop_loss"]
    if term["trailing_stop"] == term["trailing_stop"]:
        best = max(entry, held["best"]) if side > 0.0 else min(entry, held["best"])
        trailing = best - side * abs(best) * term["trailing_stop"]
        level = max(level, trailing) if side > 0.0 else min(level, trailing)
    return level


@rule
def _profit_level(held: Any, term: Any) -> float:
    entry, side = held["entry"], 1.0 if held["position"] > 0.0 else -1.0
    if term["take_profit"] == term["take_profit"]:
        return float(entry + side * abs(entry) * term["take_profit"])
    return side * np.inf


@rule
def _exit(own: Any, held: Any, term: Any, fill: Any, price: float, slippage_rate: float, ts: int) -> None:
    """Close the position and withdraw what waits."""
    own["orders"] += 1
    _fill(own, held, term, fill, 0.0, price, slippage_rate, ts)
    held["pending"] = np.nan
    if term["at_once"] == 1:
        held["decided"] = np.nan
    else:
        held["passing"] = 1


@rule
def exit_at_open(own: Any, held: Any, term: Any, fills: Any, at: int, price: float, ts: int) -> int:
    stop, profit = _stop_level(held, term), _profit_level(held, term)
    is_long = held["position"] > 0.0
    if _is_below(price, stop) if is_long else _is_above(price, stop):
        _exit(own, held, term, fills[at], price, term["slippage_rate"], ts)
        return at + 1
    if _is_above(price, profit) if is_long else _is_below(price, profit):
        _exit(own, held, term, fills[at], price, 0.0, ts)
        return at + 1
    return at


@rule
def _exit_within(own: Any, held: Any, term: Any, fills: Any, at: int, high: float, low: float, ts: int) -> int:
    """A position held since the open, at its stop or its profit."""
    stop, profit = _stop_level(held, term), _profit_level(held, term)
    if held["position"] > 0.0:
        stopped, taken = _is_below(low, stop), _is_above(high, profit)
    else:
        stopped, taken = _is_above(high, stop), _is_below(low, profit)
    if stopped and not (taken and term["best_case"] == 1):
        _exit(own, held, term, fills[at], stop, term["slippage_rate"], ts)
        return at + 1
    if taken:
        _exit(own, held, term, fills[at], profit, 0.0, ts)
        return at + 1
    return at


@rule
def trade_within(
    own: Any, held: Any, term: Any, fills: Any, at: int, high: float, low: float, close: float, ts: int
) -> int:
    """What happens in a bar after its open: exits, waiting orders, the stop of what has just been entered."""
    exits = term["exits"] == 1
    if exits and held["position"] != 0.0:
        at = _exit_within(own, held, term, fills, at, high, low, ts)
    before = held["position"]
    if held["pending"] == held["pending"] and term["order"] != 0:
        at = _fill_within(own, held, term, fills, at, high, low, ts)
    position = held["position"]
    if not exits or position == 0.0:
        return at
    if before == 0.0 and term["best_case"] == 0:
        stop = _stop_level(held, term)
        if _is_below(low, stop) if position > 0.0 else _is_above(high, stop):
            _exit(own, held, term, fills[at], stop, term["slippage_rate"], ts)
            return at + 1
    if position > 0.0:
        held["best"] = max(held["best"], close if before == 0.0 else high)
    else:
        held["best"] = min(held["best"], close if before == 0.0 else low)
    return at


@inlined
def decide(own: Any, held: Any, term: Any, target: float, price: float, equity: float, volatility: float) -> None:
    """Turn a target that is not NaN into units, and those into an order where it takes one."""
    sizing = term["sizing"]
    same = target == held["decided"]
    if held["passing"] == 1 and same:
        return
    if sizing == QUANTITY:
        wanted = target * term["quantity"]
    else:
        if price <= 0.0:
            return
        share = term["share"]
        if sizing == VOLATILITY:
            if volatility != volatility:
                return
            share = term["max_leverage"]
            if volatility > 0.0:
                share = min(share, term["volatility"] / volatility)
        wanted = target * share * equity / price if equity > 0.0 else 0.0
    apart = abs(wanted - held["position"]) * price
    if term["lot"] > 0.0:
        lots = np.floor(abs(wanted) / term["lot"] + 1e-9) * term["lot"]
        wanted = lots if wanted > 0.0 else -lots
    wanted += 0.0  # no negative zero
    if sizing == EQUITY:
        if same and equity > 0.0:
            wanted = held["units"]
        held["units"] = wanted
    elif sizing >= WEIGHT and same and apart <= term["band"] * equity:
        wanted = held["position"]
    held["decided"] = target
    held["passing"] = 0
    position, pending = held["position"], held["pending"]
    if _are_same(wanted, position):
        held["pending"] = np.nan
    elif not _are_same(wanted, pending):
        held["pending"] = wanted
        held["age"] = 0
        offset = abs(price) * term["offset_rate"]
        held["level"] = price - offset if (wanted > position) == (term["order"] == LIMIT) else price + offset
        own["orders"] += 2 if position * wanted < 0.0 else 1

"""The way of one member through a block where nothing but a change of its target can happen: from change to change.

For one instrument, orders at market filled at the next open, no exits, sized by quantity or by equity. What comes out
is what the general way in `ledger.py` gives, to the last bit: the same sums over the same bars in the same order.
Between changes a flat stretch is one step. A held one is the sums, bar by bar, and a look at the extremes of each
`CHUNK`, which say whether any of its bars can reach the peak or be the deepest yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .accounting import ROUNDING
from .marking import mark, surface
from .rules import EQUITY, decide, fill_market, inlined, rule

CHUNK = 16
"""Bars whose lowest and highest close are looked at first."""
WORD = 8
"""Flags looked at in one go, as one number whose lowest byte is the first of them."""
ONE, ALL = np.uint64(1), np.uint64(2**64 - 1)
ODD, SECOND, UPPER = np.uint64(0xFF00FF00FF00FF00), np.uint64(0xFFFF0000FFFF0000), np.uint64(0xFFFFFFFF00000000)
"""Bytes of a word whose number has a 1, a 2 and a 4 in it."""
SLACK = 1e-14
"""Far more than the rounding of a drawdown: what is within it of the deepest is worked out."""


@rule
def extremes(closes: Any, lows: Any, highs: Any) -> None:
    """The lowest and the highest close of each CHUNK of bars."""
    for chunk in range(len(lows)):
        low = high = closes[chunk * CHUNK]
        for bar in range(chunk * CHUNK + 1, min((chunk + 1) * CHUNK, len(closes))):
            low, high = min(low, closes[bar]), max(high, closes[bar])
        lows[chunk], highs[chunk] = low, high


@inlined
def _flag(targets: Any, count: int, flags: Any) -> None:
    """1 where a target is given and is not the one of the bar before; 0 for the first."""
    flags[0] = 0
    for bar in range(1, count):
        flags[bar] = (targets[bar] != targets[bar - 1]) & (targets[bar] == targets[bar])


@inlined
def _lowest(bit: Any) -> int:
    """The number of the byte a single bit is in."""
    return int((bit & ODD) != 0) + 2 * int((bit & SECOND) != 0) + 4 * int((bit & UPPER) != 0)


@inlined
def _next_change(targets: Any, words: Any, decided: float, first: int, count: int) -> int:
    """The first bar from `first` whose target is another one than `decided`, or `count`."""
    if targets[first] == targets[first] and targets[first] != decided:
        return first
    place = (first + 1) // WORD
    word = words[place] & (ALL << np.uint64((first + 1) % WORD * 8))
    while True:
        while word == 0:
            place += 1
            if place == len(words):
                return count
            word = words[place]
        bar = place * WORD + _lowest(word & (~word + ONE))
        if targets[bar] != decided:
            return int(bar)
        word &= word - ONE


@inlined
def _hold(
    own: Any, position: float, since: int, sized: bool, targets: Any, closes: Any, ends: Any, lows: Any, highs: Any,
    first: int, last: int,
) -> int:  # fmt: skip
    """Mark bars `first` to `last` with one position, held from `since`; gives the bar after the last one marked.

    `sized` by equity goes no further than a decision on equity of 0 or below, which wants another position.
    """
    cash, ended = own["cash"], own["ended"]
    equity_sum = own["equity_sum"] + own["flat_bars"] * own["equity"]
    own["flat_bars"] = 0
    gross_sum, net_sum, max_leverage = own["gross_sum"], own["net_sum"], own["max_leverage"]
    for bar in range(first, last):
        value = position * closes[bar]
        now = cash + value
        equity_sum += now
        if now > 0.0:
            net = value / now
            net_sum += net
            leverage = abs(net)
            gross_sum += leverage
            if leverage > max_leverage:
                max_leverage = leverage
        else:
            own["ruined"] = 1
            if sized and targets[bar] == targets[bar]:
                last = bar + 1
                break
    own["gross_sum"], own["net_sum"], own["max_leverage"] = gross_sum, net_sum, max_leverage
    own["equity_sum"] = equity_sum
    own["equity"] = cash + position * closes[last - 1]

    peak, peak_at, max_drawdown = own["peak"], own["peak_at"], own["max_drawdown"]
    rounding = ROUNDING * peak
    deep = peak * (1.0 - max_drawdown + SLACK)
    below_since, below = ended, False
    bar = first
    while bar < last:
        chunk = bar // CHUNK
        stop = min((chunk + 1) * CHUNK, last)
        least, most = (lows[chunk], highs[chunk]) if position > 0.0 else (highs[chunk], lows[chunk])
        if peak - (cash + position * most) > rounding and cash + position * least >= deep:
            if not below:
                below = True
                if bar > first:
                    below_since = peak_at = ends[bar - 1]
            bar = stop
            continue
        for b in range(bar, stop):
            equity = cash + position * closes[b]
            if peak - equity > rounding:
                if not below:
                    below = True
                    if b > first:
                        below_since = peak_at = ends[b - 1]
                if equity < deep:
                    max_drawdown = max(max_drawdown, (peak - equity) / peak)
                    deep = peak * (1.0 - max_drawdown + SLACK)
            else:
                if below:
                    surface(own, below_since, ends[b - 1], peak_at)
                    below = False
                peak = max(peak, equity)
                rounding = ROUNDING * peak
                deep = peak * (1.0 - max_drawdown + SLACK)
        bar = stop
    end = ends[last - 1]
    if below:
        surface(own, below_since, end, peak_at)
    else:
        peak_at = end
    own["exposed"] += end - since
    own["ended"] = end
    own["peak"], own["peak_at"], own["max_drawdown"] = peak, peak_at, max_drawdown
    return last


@inlined
def _idle(own: Any, ends: Any, first: int, last: int) -> None:
    """Mark bars `first` to `last` without a position."""
    cash = own["cash"]
    if cash != own["equity"]:
        mark(own, cash, 0.0, 0.0, ends[first])
        first += 1
    if first == last:
        return
    own["flat_bars"] += last - first
    if cash <= 0.0:
        own["ruined"] = 1
    end, peak = ends[last - 1], own["peak"]
    if peak - cash <= ROUNDING * peak:
        own["peak"] = max(peak, cash)
        own["peak_at"] = end
    else:
        own["max_drawdown"] = max(own["max_drawdown"], (peak - cash) / peak)
        surface(own, own["ended"], end, own["peak_at"])
    own["ended"] = end


@rule
def walk(
    m: int, own: Any, held: Any, term: Any, targets: Any,
    opens: Any, closes: Any, starts: Any, ends: Any, trades: Any, slots: Any, kept_steps: Any, kept_before: Any,
    lows: Any, highs: Any, flags: Any, words: Any, equity: Any, fills: Any, written: int,
) -> int:  # fmt: skip
    """Carry one member through the block; gives the place after the last fill.

    `flags` and their `words` are room, `equity` is where the member's is kept. Arrays are handed over one by one: to
    look one up in a `Block` counts a reference, which all threads do on the same line of memory.
    """
    count, sized = len(closes), term["sizing"] == EQUITY
    _flag(targets, count, flags)
    bar = 0
    while bar < count:
        since = own["ended"]
        if held["pending"] == held["pending"] and trades[bar]:
            start, began = max(starts[bar], since), written
            if own["held"] != 0:
                own["exposed"] += start - since
            written = fill_market(own, held, term, fills, written, held["pending"], opens[bar], starts[bar])
            for place in range(began, written):
                fills[place]["member"], fills[place]["instrument"] = m, 0
            since = start
        first, last = bar, bar + 1
        if held["pending"] != held["pending"]:
            last = min(_next_change(targets, words, held["decided"], bar, count) + 1, count)
        position = held["position"]
        if position == 0.0:
            _idle(own, ends, first, last)
        else:
            last = _hold(own, position, since, sized, targets, closes, ends, lows, highs, first, last)
        cash = own["cash"]
        for place in range(kept_before[first], kept_before[last]):
            step = kept_steps[place]
            equity[slots[step]] = cash + position * closes[step]
        bar = last
        if targets[bar - 1] == targets[bar - 1]:
            price = closes[bar - 1]
            decide(own, held, term, targets[bar - 1], price, cash + position * price, np.nan)
    held["close"] = closes[count - 1]
    return written

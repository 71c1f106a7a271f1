"""The books of many portfolios: targets in, fills, equity and running totals out, one compiled pass per block.

A step is all bars with one `bar_end`: one row, or one for each instrument that has a bar then. In a step come

1. at the open, for each instrument in order: orders that fill there, then exits;
2. within the bar, for each: exits, then limit and stop orders, then the stop of what has just been entered;
3. at the close: equity, the decision of each row on that equity, and what fills at the close;
4. equity = cash + sum of position * close; drawdown and all other running totals see every step.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import float64, from_dtype, int64, njit, types

from . import accounting, marking, plain, rules
from .accounting import FILL, HOLDING, STATE, TERMS, Block
from .marking import mark, mark_run
from .plain import CHUNK, WORD, extremes, walk
from .rules import EQUITY, VOLATILITY, decide, exit_at_open, fill_at_close, fill_at_open, rule, trade_within


def _in(kind: Any, dimensions: int = 1) -> Any:
    return types.Array(kind, dimensions, "C", readonly=True)


_BLOCK = types.NamedTuple(  # type: ignore[no-untyped-call]
    [*[_in(float64)] * 4, *[_in(int64)] * 2, _in(types.boolean), *[_in(int64)] * 5, _in(float64, 2)], Block
)
_SIGNATURE = int64(
    from_dtype(STATE)[::1], from_dtype(HOLDING)[:, ::1], _in(from_dtype(TERMS)), _in(float64, 2), _BLOCK,
    float64[:, ::1], from_dtype(FILL)[::1],
)  # fmt: skip


GLANCE = 16
"""Targets looked at in one go."""


@rule
def _same_until(targets: Any, decided: float, first: int, last: int) -> int:
    """The first place from `first` whose target is another one than `decided`, or `last`."""
    place = first
    while place + GLANCE <= last:
        others = 0
        for at in range(place, place + GLANCE):  # without a way out, so that it is one comparison of many
            others += (targets[at] == targets[at]) & (targets[at] != decided)
        if others > 0:
            break
        place += GLANCE
    while place < last and (targets[place] == decided or targets[place] != targets[place]):
        place += 1
    return place


@rule
def _belong(fills: Any, first: int, last: int, instrument: int) -> None:
    for place in range(first, last):
        fills[place]["instrument"] = instrument


def _compiled(sources: str) -> Any:
    """The pass. numba's cache looks at this file and at what a function closes over, but not at the files of what it
    calls: hence `sources`, a digest of those."""

    @njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
    def account(state: Any, holdings: Any, terms: Any, targets: Any, block: Block, kept: Any, fills: Any) -> int:
        """Walk a block of members through a block of bars; gives the number of fills written.

        `state` (members,) STATE, `holdings` (members, instruments) HOLDING, `terms` (members,) TERMS, `targets`
        (members, rows), `kept` (members, points), `fills` with room for MOST_FILLS_A_BAR * members * rows; `member`
        counts within the block. Members do not touch each other, steps are taken in order: any cut gives the same bits.
        """
        _ = sources
        closes, highs, lows, trades, owners = block.closes, block.highs, block.lows, block.trades, block.owners
        starts, ends, steps, slots = block.starts, block.ends, block.steps, block.slots
        opens, kept_steps, kept_before = block.opens, block.kept_steps, block.kept_before
        written = 0
        count, instruments = len(steps) - 1, holdings.shape[1]
        least, most = np.empty(-(-count // CHUNK)), np.empty(-(-count // CHUNK))
        flags = np.zeros((count // WORD + 1) * WORD, np.uint8)
        words = flags.view(np.uint64)
        one_by_one = instruments == 1 and len(closes) == count
        if one_by_one:
            extremes(closes, least, most)
        for m in range(targets.shape[0]):
            own, term, books, wants = state[m], terms[m], holdings[m], targets[m]
            only = books[0]
            is_plain = term["plain"] == 1 and one_by_one
            at_open = term["at_open"] == 1
            if own["bars"] == 0:
                own["begun"] = own["ended"] = own["peak_at"] = starts[steps[0] : steps[1]].min()
            own["bars"] += count
            if is_plain and at_open:
                written = walk(
                    m, own, only, term, wants, opens, closes, starts, ends, trades, slots, kept_steps, kept_before,
                    least, most, flags, words, kept[m], fills, written,
                )  # fmt: skip
                continue
            s = 0
            while s < count:
                if is_plain and only["pending"] != only["pending"]:
                    first, decided = s, only["decided"]
                    s = _same_until(wants, decided, s, count)
                    if s > first:
                        position = only["position"]
                        s = mark_run(own, position, term["sizing"] == EQUITY, wants, closes, ends, first, s)
                        for place in range(kept_before[first], kept_before[s]):
                            step = kept_steps[place]
                            kept[m, slots[step]] = own["cash"] + position * closes[step]
                        if s == count:
                            break
                row, stop = steps[s], steps[s + 1]
                end, start, began = ends[row], starts[row], written
                for r in range(row + 1, stop):
                    start = min(start, starts[r])
                start = max(start, own["ended"])
                if own["held"] != 0:
                    own["exposed"] += start - own["ended"]
                for r in range(row, stop):
                    held, before = books[owners[r]], written
                    held["close"] = closes[r]
                    if trades[r]:
                        if at_open and held["pending"] == held["pending"]:
                            written = fill_at_open(own, held, term, fills, written, opens[r], starts[r])
                        if term["exits"] == 1 and held["position"] != 0.0:
                            written = exit_at_open(own, held, term, fills, written, opens[r], starts[r])
                    _belong(fills, before, written, owners[r])
                if own["held"] != 0:
                    own["exposed"] += end - start
                if term["plain"] == 0:
                    for r in range(row, stop):
                        held, before = books[owners[r]], written
                        if trades[r]:
                            written = trade_within(own, held, term, fills, written, highs[r], lows[r], closes[r], end)
                        _belong(fills, before, written, owners[r])
                equity = own["cash"]
                for i in range(instruments):
                    equity += books[i]["position"] * books[i]["close"]
                for r in range(row, stop):
                    if wants[r] == wants[r]:
                        volatility = (
                            block.volatilities[term["volatility_row"], r] if term["sizing"] == VOLATILITY else np.nan
                        )
                        decide(own, books[owners[r]], term, wants[r], closes[r], equity, volatility)
                if not at_open:
                    for r in range(row, stop):
                        held, before = books[owners[r]], written
                        if trades[r] and held["pending"] == held["pending"]:
                            written = fill_at_close(own, held, term, fills, written, closes[r], end)
                        _belong(fills, before, written, owners[r])
                equity, gross, net = own["cash"], 0.0, 0.0
                for i in range(instruments):
                    value = books[i]["position"] * books[i]["close"]
                    equity += value
                    gross += abs(value)
                    net += value
                mark(own, equity, gross, net, end)
                if slots[s] >= 0:
                    kept[m, slots[s]] = equity
                for place in range(began, written):
                    fills[place]["member"] = m
                s += 1
        return written

    return account


_PARTS = (accounting, marking, plain, rules)
account = _compiled("".join(hashlib.sha256(Path(str(part.__file__)).read_bytes()).hexdigest() for part in _PARTS))

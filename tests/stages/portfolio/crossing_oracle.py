"""Crossings of averages on recorded bars, worked out in whole numbers: quick enough for every bar there is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

FEE_BPS, SLIPPAGE_BPS = 10, 1
SCALE = 10_000
"""Of a basis point."""


class Series(NamedTuple):
    """Prices as counts of one part of the quote currency, `parts` to the unit; times in ns."""

    open: list[int]
    high: list[int]
    low: list[int]
    close: list[int]
    start: list[int]
    end: list[int]
    parts: int


class Fills(NamedTuple):
    """What was bought (1) and sold (2), when, for which price paid, the cash it left; and the equity at the end."""

    ts: list[int]
    side: list[int]
    price: list[float]
    cash_after: list[float]
    end_equity: float = 0.0


Wants = list[int | None]


def sma_wants(series: Series, fast: int, slow: int, otherwise: int) -> Wants:
    """Long while the fast average is above the slow one; sums are whole, so nothing is rounded."""
    sums = [0, *accumulate(series.close)]
    wants: Wants = [None] * min(slow - 1, len(series.close))
    for now in range(slow, len(sums)):
        above = (sums[now] - sums[now - fast]) * slow > (sums[now] - sums[now - slow]) * fast
        wants.append(1 if above else otherwise)
    return wants


def ema_wants(series: Series, fast: int, slow: int) -> Wants:
    """NautilusTrader's EMACross: ready after `slow` bars, long on a tie, silent on single-price bars.

    In floats, in the order of its formula, alpha * close + (1 - alpha) * average: where a market stands still the last
    bit decides.
    """
    closes = [close / series.parts for close in series.close]
    averages = []
    for n in (fast, slow):
        alpha = 2.0 / (n + 1.0)
        rest, value = 1.0 - alpha, closes[0]
        found = [value]
        for close in closes[1:]:
            value = alpha * close + rest * value
            found.append(value)
        averages.append(found)
    wants: Wants = [1 if quick >= calm else -1 for quick, calm in zip(*averages, strict=True)]
    wants[: slow - 1] = [None] * min(slow - 1, len(wants))
    for place, prices in enumerate(zip(series.open, series.high, series.low, series.close, strict=True)):
        if min(prices) == max(prices):
            wants[place] = None
    return wants


def crossing_fills(series: Series, wants: Sequence[int | None], at: str, quantity: int, start_equity: int) -> Fills:
    """Every fill, with FEE_BPS and SLIPPAGE_BPS; money is counted in parts of SCALE squared, so all of it is whole."""
    unit = series.parts * SCALE * SCALE
    cash, position, goal = start_equity * unit, 0, 0
    fills = Fills([], [], [], [])

    def trade(sign: int, price: int, ts: int) -> None:
        nonlocal cash, position
        paid = price * (SCALE + sign * SLIPPAGE_BPS)
        cash -= quantity * paid * (sign * SCALE + FEE_BPS)
        position += sign
        fills.ts.append(ts)
        fills.side.append(1 if sign > 0 else 2)
        fills.price.append(paid / (series.parts * SCALE))
        fills.cash_after.append(cash / unit)

    for place, want in enumerate(wants):
        while at == "next_open" and position != goal:
            trade(1 if goal > position else -1, series.open[place], series.start[place])
        if want is not None:
            goal = want
        while at == "close" and position != goal:
            trade(1 if goal > position else -1, series.close[place], series.end[place])
    return fills._replace(end_equity=(cash + quantity * position * series.close[-1] * SCALE * SCALE) / unit)

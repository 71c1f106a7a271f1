"""An independent reading of the rules of the books: exact fractions, plain loops, nothing shared with the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple


class OracleBar(NamedTuple):
    """Prices as given, exact where they were; times in ns."""

    open: float | Fraction
    high: float | Fraction
    low: float | Fraction
    close: float | Fraction
    start: int
    end: int


class OracleFill(NamedTuple):
    """Side 1 buys, 2 sells; money exact."""

    ts: int
    side: int
    quantity: Fraction
    price: Fraction
    fee: Fraction
    slippage: Fraction
    position_after: Fraction
    cash_after: Fraction


@dataclass
class OracleBooks:
    """What the oracle found."""

    orders: int = 0
    fills: list[OracleFill] = field(default_factory=list)
    equity: list[Fraction] = field(default_factory=list)
    exposure: list[Fraction] = field(default_factory=list)


def keep_books(
    bars: list[OracleBar],
    targets: list[float | None],
    *,
    at: str,
    quantity: float = 1.0,
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
    start_equity: float = 100_000.0,
) -> OracleBooks:
    books = OracleBooks()
    position, cash = Fraction(0), Fraction(start_equity)
    order: Fraction | None = None

    def trade(amount: Fraction, price: Fraction, ts: int) -> None:
        nonlocal position, cash
        worse = price * Fraction(slippage_bps) / 10_000
        paid = price + worse if amount > 0 else price - worse
        fee = abs(amount) * paid * Fraction(fee_bps) / 10_000
        cash -= amount * paid + fee
        position += amount
        books.fills.append(
            OracleFill(ts, 1 if amount > 0 else 2, abs(amount), paid, fee, abs(amount) * worse, position, cash)
        )

    def fill(goal: Fraction, price: float | Fraction, ts: int) -> None:
        if position * goal < 0:
            trade(-position, Fraction(price), ts)
        if goal != position:
            trade(goal - position, Fraction(price), ts)

    for bar, target in zip(bars, targets, strict=True):
        if order is not None:
            fill(order, bar.open, bar.start)
            order = None
        if target is not None:
            goal = Fraction(target * quantity)
            if goal != position:
                books.orders += 2 if goal * position < 0 else 1
                if at == "close":
                    fill(goal, bar.close, bar.end)
                else:
                    order = goal
        books.equity.append(cash + position * Fraction(bar.close))
        books.exposure.append(position * Fraction(bar.close))
    return books


def round_trips(fills: list[OracleFill]) -> list[Fraction]:
    """Money each trade brought from flat to flat: what came in less what went out, after fees."""
    results, flow = [], Fraction(0)
    for fill in fills:
        flow += fill.quantity * fill.price * (1 if fill.side == 2 else -1) - fill.fee
        if fill.position_after == 0:
            results.append(flow)
            flow = Fraction(0)
    return results


def exposed_ns(fills: list[OracleFill], begun: int, ended: int) -> int:
    """Time with a position, from the fills alone."""
    total, since, held = 0, begun, False
    for fill in fills:
        total += (fill.ts - since) if held else 0
        since, held = fill.ts, fill.position_after != 0
    return total + ((ended - since) if held else 0)


def drawdown(bars: list[OracleBar], equity: list[Fraction], start_equity: float) -> tuple[Fraction, int, int]:
    """Largest drop below the highest equity so far as a share of it, longest time below it, and all time below it."""
    peak, since, before = Fraction(start_equity), bars[0].start, bars[0].start
    deepest, longest, below = Fraction(0), 0, 0
    for bar, value in zip(bars, equity, strict=True):
        if value >= peak * (1 - Fraction(1, 10**12)):  # less is the rounding of those who calculate in floats
            peak, since = max(peak, value), bar.end
        else:
            deepest = max(deepest, 1 - value / peak)
            longest = max(longest, bar.end - since)
            below += bar.end - before
        before = bar.end
    return deepest, longest, below


def sma_targets(bars: list[OracleBar], fast: int, slow: int, short: bool) -> list[float | None]:
    """Long above, else flat or short, from bar number `slow` on."""
    targets: list[float | None] = []
    totals = [Fraction(0)]
    for bar in bars:
        totals.append(totals[-1] + Fraction(bar.close))
    for now in range(1, len(bars) + 1):
        if now < slow:
            targets.append(None)
            continue
        above = (totals[now] - totals[now - fast]) / fast > (totals[now] - totals[now - slow]) / slow
        targets.append(1.0 if above else (-1.0 if short else 0.0))
    return targets


def ema_targets(bars: list[OracleBar], fast: int, slow: int) -> list[float | None]:
    """NautilusTrader's EMACross: ready after `slow` bars, long on a tie, silent on single-price bars."""
    targets: list[float | None] = []
    averages: dict[int, float] = {}
    for seen, bar in enumerate(bars, start=1):
        for n in (fast, slow):
            alpha = 2.0 / (n + 1.0)
            close = float(bar.close)
            averages[n] = alpha * close + (1.0 - alpha) * averages[n] if n in averages else close
        if seen < slow or bar.open == bar.high == bar.low == bar.close:
            targets.append(None)
        else:
            targets.append(1.0 if averages[fast] >= averages[slow] else -1.0)
    return targets

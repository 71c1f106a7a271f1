"""An independent reading of the rules of the books: exact fractions, plain loops, nothing shared with the stage.

Written from the docstrings of `Fills`, `Sizing` and `Exits` alone. Every price, quantity and share is taken as the
exact number its float stands for, and no division is ever rounded; so an order is due, a level reached or a band left
exactly where the text says so. Those who calculate in floats agree to the last fill where no rounding can move a
comparison: tests take prices and shares that floats hold exactly, or compare what a rounding cannot turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from math import floor, isnan, sqrt
from typing import Any, NamedTuple, TypeAlias

SAME = Fraction(1, 10**12)
"""Units that differ by no more than this share are one wish: less is the rounding of those who calculate in floats."""
BPS = 10_000
HOUR_NS = 3_600 * 10**9
YEARS = {"crypto": (365, 24 * HOUR_NS), "xnys": (252, 13 * HOUR_NS // 2)}
"""Days in a year, and nanoseconds of trading in a day."""


Number: TypeAlias = float | Fraction


class OracleBar(NamedTuple):
    """Prices as given, exact where they were; times in ns; `volatility` is the feature's value, None until formed."""

    open: Number
    high: Number
    low: Number
    close: Number
    start: int
    end: int
    volume: float | None = 1.0
    empty: bool = False
    volatility: float | None = None

    @property
    def trades(self) -> bool:
        return not self.empty and self.volume != 0


@dataclass(frozen=True)
class Rules:
    """What `fills`, `sizing`, `exits` and the portfolio say, by the same words; fractions where decimals are meant."""

    quantity: Number = 1.0
    start_equity: Number = 100_000.0
    active_from: int | None = None
    at: str = "next_open"
    order: str = "market"
    offset_bps: Number = 0.0
    expires_bars: int | None = None
    touch: str = "through"
    fee_bps: Number = 0.0
    fee_per_unit: Number = 0.0
    fee_minimum: Number = 0.0
    slippage_bps: Number = 0.0
    by: str = "quantity"
    share: Number = 1.0
    band: Number = 0.0
    volatility: Number = 0.2
    n: int = 20
    max_leverage: Number = 1.0
    calendar: str = "crypto"
    lot: Number = 0.0
    stop_loss: Number | None = None
    take_profit: Number | None = None
    trailing_stop: Number | None = None
    intrabar: str = "worst"
    reenter: str = "on_change"


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
    instrument: int = 0


class Mark(NamedTuple):
    """What was worth what at a step's closes."""

    start: int
    end: int
    equity: Fraction
    gross: Fraction
    net: Fraction


@dataclass
class OracleBooks:
    """What the oracle found."""

    orders: int = 0
    fills: list[OracleFill] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    exits: int = 0

    @property
    def equity(self) -> list[Fraction]:
        return [mark.equity for mark in self.marks]

    @property
    def exposure(self) -> list[Fraction]:
        return [mark.net for mark in self.marks]


class Row(NamedTuple):
    """One bar of one instrument and what the strategy wanted at its close."""

    bar: OracleBar
    target: float | None
    instrument: int = 0


@dataclass
class _Order:
    """Units wanted in the end, and the price named for what is opened or added."""

    goal: Fraction
    level: Fraction | None = None
    seen: int = 0


@dataclass
class _Holding:
    """One instrument's place in the books."""

    position: Fraction = Fraction(0)
    entry: Fraction = Fraction(0)
    highest: Fraction | None = None
    """The best price of the bars before this one since entry; of a short position the lowest."""
    entered: str = ""
    """How it was entered in this bar: open, within or close; empty: before it, or not at all."""
    order: _Order | None = None
    decided: float | None = None
    units: Fraction = Fraction(0)
    """What the target decided last stood for."""
    exited: bool = False
    """An exit closed the position, and no decision has been followed since."""
    close: Fraction = Fraction(0)


def settle(rows: Sequence[Row], rules: Rules, instruments: int = 1) -> OracleBooks:
    """The books of one portfolio; rows of one `end` are one step, in the order of their instruments."""
    ledger = _Ledger(rules, instruments)
    for _, step in groupby(rows, key=lambda row: row.bar.end):
        ledger.step(sorted(step, key=lambda row: row.instrument))
    return ledger.books


class _Ledger:
    def __init__(self, rules: Rules, instruments: int) -> None:
        self.rules = rules
        self.cash = Fraction(rules.start_equity)
        self.holdings = [_Holding() for _ in range(instruments)]
        self.books = OracleBooks()

    def step(self, rows: list[Row]) -> None:
        """All bars that end together."""
        if self.rules.active_from is not None and rows[0].bar.end <= self.rules.active_from:
            return
        for holding in self.holdings:
            holding.entered = ""
        trading = [(row.instrument, self.holdings[row.instrument], row.bar) for row in rows if row.bar.trades]
        for bar in trading:
            self._at_the_open(*bar)
        for bar in trading:
            self._within_the_bar(*bar)
        for row in rows:
            self.holdings[row.instrument].close = Fraction(row.bar.close)
        equity = self._equity()
        for row in rows:
            self._decide(self.holdings[row.instrument], row, equity)
        for row in rows:
            holding = self.holdings[row.instrument]
            if self.rules.at == "close" and row.bar.trades and holding.order is not None:
                self._fill_at_market(row.instrument, holding, holding.close, row.bar.end, "close", whole=True)
            if row.bar.trades:
                self._remember_the_best(holding, row.bar)
        values = [holding.position * holding.close for holding in self.holdings]
        start = min(row.bar.start for row in rows)
        gross, net = sum(map(abs, values), Fraction(0)), sum(values, Fraction(0))
        self.books.marks.append(Mark(start, rows[0].bar.end, self._equity(), gross, net))

    def _equity(self) -> Fraction:
        return self.cash + sum(holding.position * holding.close for holding in self.holdings)

    # Within a bar.

    def _at_the_open(self, place: int, holding: _Holding, bar: OracleBar) -> None:
        if holding.order is not None and self.rules.at == "next_open":
            self._fill_at_market(place, holding, bar.open, bar.start, "open", whole=self.rules.order == "market")
            self._fill_named(place, holding, bar, at_open=True)
        if holding.position != 0:
            self._exit_at_open(place, holding, bar)

    def _within_the_bar(self, place: int, holding: _Holding, bar: OracleBar) -> None:
        if holding.position != 0:
            self._exit_within(place, holding, bar)
        if holding.order is not None and self.rules.at == "next_open":
            was_flat = holding.position == 0
            self._fill_named(place, holding, bar, at_open=False)
            if was_flat and holding.position != 0 and self.rules.intrabar == "worst":
                stop, _ = self._levels(holding)
                if stop is not None and self._reached(holding, bar.low, bar.high, stop):
                    self._exit(place, holding, stop, bar.end, slips=True)
        if holding.order is not None and holding.order.level is not None:
            holding.order.seen += 1
            if holding.order.seen == self.rules.expires_bars:
                holding.order = None

    def _fill_at_market(self, place: int, holding: _Holding, price: Number, ts: int, how: str, *, whole: bool) -> None:
        """Close and reduce; where `whole`, open and add too."""
        assert holding.order is not None
        goal, price = holding.order.goal, Fraction(price)
        if holding.position * goal < 0 or goal == 0:
            self._trade(place, holding, -holding.position, price, ts, how, slips=True)
        elif abs(goal) < abs(holding.position):
            self._trade(place, holding, goal - holding.position, price, ts, how, slips=True)
        if whole and goal != holding.position:
            self._trade(place, holding, goal - holding.position, price, ts, how, slips=True)
        if goal == holding.position:
            holding.order = None

    def _fill_named(self, place: int, holding: _Holding, bar: OracleBar, *, at_open: bool) -> None:
        """Open or add at the price a limit or stop order names, or at an open that is beyond it."""
        order = holding.order
        if order is None or order.level is None:
            return
        amount = order.goal - holding.position
        first, low, high = (Fraction(price) for price in (bar.open, bar.low, bar.high))
        buys, limit = amount > 0, self.rules.order == "limit"
        falling = buys == limit  # a limit to buy and a stop to sell wait below the price
        if at_open:
            if not (first <= order.level if falling else first >= order.level):
                return
            price, ts = first, bar.start
        else:
            extreme = low if falling else high
            beyond = extreme < order.level if falling else extreme > order.level
            if not (beyond or (extreme == order.level and (not limit or self.rules.touch == "fill"))):
                return
            price, ts = order.level, bar.end
        self._trade(place, holding, amount, price, ts, "open" if at_open else "within", slips=not limit)
        holding.order = None

    def _levels(self, holding: _Holding) -> tuple[Fraction | None, Fraction | None]:
        """Where a position is stopped, and where its profit is taken."""
        rules, entry = self.rules, holding.entry
        sign = 1 if holding.position > 0 else -1
        stops = []
        if rules.stop_loss is not None:
            stops.append(entry - sign * abs(entry) * Fraction(rules.stop_loss))
        if rules.trailing_stop is not None:
            nearest = max if sign > 0 else min
            best = entry if holding.highest is None else nearest(entry, holding.highest)
            stops.append(best - sign * abs(best) * Fraction(rules.trailing_stop))
        stop = (max(stops) if sign > 0 else min(stops)) if stops else None
        profit = None if rules.take_profit is None else entry + sign * abs(entry) * Fraction(rules.take_profit)
        return stop, profit

    @staticmethod
    def _reached(holding: _Holding, low: Number, high: Number, stop: Fraction) -> bool:
        return low <= stop if holding.position > 0 else high >= stop

    def _exit_at_open(self, place: int, holding: _Holding, bar: OracleBar) -> None:
        stop, profit = self._levels(holding)
        if stop is not None and self._reached(holding, bar.open, bar.open, stop):
            self._exit(place, holding, Fraction(bar.open), bar.start, slips=True)
        elif profit is not None and (bar.open >= profit if holding.position > 0 else bar.open <= profit):
            self._exit(place, holding, Fraction(bar.open), bar.start, slips=False)

    def _exit_within(self, place: int, holding: _Holding, bar: OracleBar) -> None:
        stop, profit = self._levels(holding)
        stopped = stop is not None and self._reached(holding, bar.low, bar.high, stop)
        taken = profit is not None and (bar.high >= profit if holding.position > 0 else bar.low <= profit)
        if stopped and taken:
            stopped, taken = self.rules.intrabar == "worst", self.rules.intrabar == "best"
        if stopped:
            assert stop is not None
            self._exit(place, holding, stop, bar.end, slips=True)
        elif taken:
            assert profit is not None
            self._exit(place, holding, profit, bar.end, slips=False)

    def _exit(self, place: int, holding: _Holding, price: Fraction, ts: int, *, slips: bool) -> None:
        self.books.orders += 1
        self.books.exits += 1
        self._trade(place, holding, -holding.position, price, ts, "", slips=slips)
        holding.order = None
        holding.exited = True

    def _trade(
        self, place: int, holding: _Holding, amount: Fraction, price: Fraction, ts: int, how: str, *, slips: bool
    ) -> None:
        rules, units = self.rules, abs(amount)
        worse = abs(price) * Fraction(rules.slippage_bps) / BPS if slips else Fraction(0)
        paid = price + worse if amount > 0 else price - worse
        fee = units * abs(paid) * Fraction(rules.fee_bps) / BPS + units * Fraction(rules.fee_per_unit)
        if rules.fee_minimum > 0:
            fee = max(fee, Fraction(rules.fee_minimum))
        self.cash -= amount * paid + fee
        if holding.position == 0:
            holding.entry, holding.highest, holding.entered = paid, None, how
        elif holding.position * amount > 0:
            held = abs(holding.position)
            holding.entry = (holding.entry * held + paid * units) / (held + units)
        holding.position += amount
        after, side = holding.position, 1 if amount > 0 else 2
        self.books.fills.append(OracleFill(ts, side, units, paid, fee, units * worse, after, self.cash, place))

    def _remember_the_best(self, holding: _Holding, bar: OracleBar) -> None:
        if holding.position == 0:
            return
        if holding.entered in ("within", "close"):
            reached = Fraction(bar.close)
        else:
            reached = Fraction(bar.high if holding.position > 0 else bar.low)
        nearest = max if holding.position > 0 else min
        holding.highest = reached if holding.highest is None else nearest(holding.highest, reached)

    # At its close.

    def _decide(self, holding: _Holding, row: Row, equity: Fraction) -> None:
        target, price = row.target, holding.close
        if target is None or isnan(target) or (self.rules.by != "quantity" and price <= 0):
            return
        share, again = self._share(row.bar), target == holding.decided
        if share is None or (holding.exited and again and self.rules.reenter == "on_change"):
            return
        goal = self._wanted(holding, Fraction(target), again, share, equity)
        holding.exited, holding.decided, holding.units = False, target, goal
        if holding.order is not None and _same(goal, holding.order.goal):
            return
        if _same(goal, holding.position):
            holding.order = None
            return
        self.books.orders += 2 if goal * holding.position < 0 else 1
        holding.order = _Order(goal)
        adds = goal * holding.position < 0 or abs(goal) > abs(holding.position)
        if self.rules.order != "market" and adds:
            away = abs(price) * Fraction(self.rules.offset_bps) / BPS
            lower = (goal > holding.position) == (self.rules.order == "limit")
            holding.order.level = price - away if lower else price + away

    def _share(self, bar: OracleBar) -> Fraction | None:
        """Share of equity a target of 1 stands for; None where it is not known yet."""
        if self.rules.by != "volatility":
            return Fraction(self.rules.share)
        if bar.volatility is None:
            return None
        days, session = YEARS[self.rules.calendar]
        length = bar.end - bar.start
        present = bar.volatility * sqrt(days * max(session / length, min(1.0, 24 * HOUR_NS / length)))
        most = Fraction(self.rules.max_leverage)
        return most if present == 0 else min(most, Fraction(self.rules.volatility) / Fraction(present))

    def _wanted(self, holding: _Holding, target: Fraction, again: bool, share: Fraction, equity: Fraction) -> Fraction:
        rules = self.rules
        if rules.by == "quantity":
            return self._lots(target * Fraction(rules.quantity))
        if equity <= 0:
            return Fraction(0)
        again = again and not holding.exited  # the first decision after an exit is one of a new position
        if rules.by == "equity" and again:
            return holding.units
        units = target * share * equity / holding.close
        apart = abs(units - holding.position) * holding.close
        if rules.by != "equity" and again and apart <= Fraction(rules.band) * equity:
            return holding.position
        return self._lots(units)

    def _lots(self, units: Fraction) -> Fraction:
        lot = Fraction(self.rules.lot)
        if lot == 0:
            return units
        whole = floor(abs(units) / lot + Fraction(1, 10**9)) * lot
        return whole if units > 0 else -whole


def _same(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= SAME * max(abs(one), abs(other))


def keep_books(
    bars: Sequence[OracleBar], targets: Sequence[float | None], rules: Rules | None = None, **words: Any
) -> OracleBooks:
    """The books of one instrument; `words` are those of `Rules`."""
    return settle([Row(*pair) for pair in zip(bars, targets, strict=True)], rules or Rules(**words))


def round_trips(fills: Sequence[OracleFill]) -> list[Fraction]:
    """Money each trade brought from flat to flat: what came in less what went out, after fees."""
    results: list[Fraction] = []
    flows: dict[int, Fraction] = {}
    for fill in fills:
        flow = fill.quantity * fill.price * (1 if fill.side == 2 else -1) - fill.fee
        flows[fill.instrument] = flows.get(fill.instrument, Fraction(0)) + flow
        if fill.position_after == 0:
            results.append(flows.pop(fill.instrument))
    return results


def exposed_ns(fills: Sequence[OracleFill], begun: int, ended: int) -> int:
    """Time with a position in any instrument, from the fills alone."""
    total, since, held = 0, begun, set[int]()
    for fill in sorted(fills, key=lambda fill: fill.ts):
        total += (fill.ts - since) if held else 0
        since = fill.ts
        (held.add if fill.position_after else held.discard)(fill.instrument)
    return total + ((ended - since) if held else 0)


def drawdown(
    bars: Sequence[OracleBar | Mark], equity: Sequence[Fraction], start_equity: float
) -> tuple[Fraction, int, int]:
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

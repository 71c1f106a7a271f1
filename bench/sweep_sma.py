"""1,000 SMA crossings over 100 k bars through a pipeline, fills and statistics kept, over one bare compiled loop each.

The bare loop computes both averages by running sums, the position, equity and drawdown of one pair, in one thread, over
the same arrays, and keeps nothing. The pipeline reads batches that are in memory, computes each distinct average once,
decides and accounts all pairs, and keeps their fills, equity and statistics. Beside it: a user's vectorised strategy in
a thousand ungrouped members over the same numpy and accounting by hand, fills and totals kept (`bare_accounts` says
exactly which), how time grows with members, and what memory they take.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from bench.harness import arguments, race, ratio, row, run_topology, show
from bench.sweep_peers import market
from pipeline import NS_UTC, Batch, Context, DataFlow, Feed, Stage, TopologyBuilder
from stages import Execution, Feature, Features, Portfolio, SmaCross, Strategy
from stages.portfolio.fills import Fills

BARS = 100_000
CUT = 65_536
PAIRS = [(fast, slow) for fast in range(4, 44) for slow in range(50, 175, 5)]
"""1,000 pairs out of 65 windows."""
FEE_BPS, SLIPPAGE_BPS = 1.0, 0.5
FILLS = Fills(fee_bps=FEE_BPS, slippage_bps=SLIPPAGE_BPS)


@njit("f8[::1](f8[::1], f8[::1], i8, i8, f8, f8)", nogil=True, cache=True)
def bare_loop(opens: Any, closes: Any, fast: int, slow: int, fee: float, slippage: float) -> Any:
    """End equity, worst drawdown and fills of one pair: decided on the close, filled at the next open."""
    fast_sum = slow_sum = 0.0
    position = wanted = 0.0
    cash = peak = equity = 100_000.0
    worst, fills = 0.0, 0.0
    for i in range(len(closes)):
        if wanted != position:
            change = wanted - position
            paid = opens[i] * (1.0 + slippage if change > 0.0 else 1.0 - slippage)
            cash -= change * paid + abs(change) * paid * fee
            position = wanted
            fills += 1.0
        close = closes[i]
        fast_sum += close
        slow_sum += close
        if i >= fast:
            fast_sum -= closes[i - fast]
        if i >= slow:
            slow_sum -= closes[i - slow]
        equity = cash + position * close
        peak = max(peak, equity)
        worst = max(worst, (peak - equity) / peak)
        if i >= slow - 1:
            wanted = 1.0 if fast_sum / fast > slow_sum / slow else 0.0
    return np.array([equity, worst, fills])


def bare(columns: dict[str, Any], pairs: list[tuple[int, int]]) -> list[Any]:
    rates = FEE_BPS / 1e4, SLIPPAGE_BPS / 1e4
    return [bare_loop(columns["open"], columns["close"], fast, slow, *rates) for fast, slow in pairs]


class Momentum(Strategy, frozen=True):
    """A user's strategy in numpy, without a compiled decider for many: long while above the close `n` bars ago."""

    n: int = 20

    def build(self) -> Any:
        return MomentumDecider(self.n)


class MomentumDecider:
    def __init__(self, n: int) -> None:
        self.n = n
        self.last = np.empty(0)

    def on_bars(self, bars: Any) -> Any:
        closes = np.concatenate([self.last, bars.close])
        before = len(self.last)
        self.last = closes[-self.n :]
        past = np.full(len(bars.close), np.nan)
        known = max(0, self.n - before)
        past[known:] = closes[: len(closes) - self.n]
        return np.where(np.isnan(past), np.nan, np.where(bars.close > past, 1.0, 0.0))


@njit("i8(f8[::1], f8[::1], i8[::1], i8[::1], f8[::1], f8, f8, f8[::1], f8[:,::1])", nogil=True, cache=True)
def bare_accounts(
    opens: Any, closes: Any, starts: Any, ends: Any, targets: Any, fee: float, slippage: float, state: Any, fills: Any
) -> int:
    """The accounting of one member and batch by hand, as little as gives what a portfolio gives; how many fills.

    Fills go into the columns of `fills` (8, fills): time, side, quantity, price, fee, slippage, position and cash
    after. `state` carries position, wanted, cash, peak, entry and the last end, and the totals: worst drawdown, sums of
    equity and exposure, largest leverage, fees, slippage, notional, gains, wins, and time with a position and under
    water. No lots, limits, stops, volatility or instruments.
    """
    position, wanted, cash, peak, entry, last = state[0], state[1], state[2], state[3], state[4], state[5]
    worst, equities, exposure, top, under, held = state[6], state[7], state[8], state[9], state[10], state[11]
    count = 0
    for i in range(len(closes)):
        if wanted != position:
            change = wanted - position
            side = 1.0 if change > 0.0 else -1.0
            size, worse = abs(change), opens[i] * slippage
            paid = opens[i] + side * worse
            charged = size * paid * fee
            cash -= change * paid + charged
            if position == 0.0:
                entry = paid
            else:
                gain = (paid - entry) * size * -side
                state[12] += gain
                state[13] += gain - charged > 0.0
            position = wanted
            state[14] += charged
            state[15] += size * worse
            state[16] += size * paid
            fills[0, count], fills[1, count], fills[2, count], fills[3, count] = starts[i], side, size, paid
            fills[4, count], fills[5, count], fills[6, count] = charged, size * worse, position
            fills[7, count] = cash
            count += 1
        value = position * closes[i]
        equity = cash + value
        equities += equity
        if position != 0.0:
            leverage = value / equity
            exposure += leverage
            top = max(top, leverage)
            held += ends[i] - starts[i]
        if equity < peak:
            worst = max(worst, (peak - equity) / peak)
            under += ends[i] - last
        else:
            peak = equity
        last = ends[i]
        if targets[i] == targets[i]:
            wanted = targets[i]
    state[0], state[1], state[2], state[3], state[4], state[5] = position, wanted, cash, peak, entry, last
    state[6], state[7], state[8], state[9], state[10], state[11] = worst, equities, exposure, top, under, held
    return count


class _Closes:
    """What the bare loop shows a strategy of bars."""

    def __init__(self, close: Any) -> None:
        self.close = close


def bare_strategies(columns: dict[str, Any], members: int, cut: int) -> list[list[Any]]:
    """Each member's fills, a copy of each batch's; nothing is hashed, named, checked or written."""
    kept, room, ends = [], np.empty((8, cut)), columns["start"] + 60_000_000_000
    for n in range(members):
        decider, state, own = MomentumDecider(5 + n % 200), np.zeros(17), []
        state[2] = state[3] = 100_000.0
        for begin in range(0, len(columns["close"]), cut):
            part = slice(begin, begin + cut)
            closes = columns["close"][part]
            targets = decider.on_bars(_Closes(closes))
            count = bare_accounts(
                columns["open"][part], closes, columns["start"][part], ends[part],
                targets, FEE_BPS / 1e4, SLIPPAGE_BPS / 1e4, state, room,
            )  # fmt: skip
            own.append(room[:, :count].copy())
        kept.append(own)
    return kept


class Walk(Stage, frozen=True):
    """Bars that are in memory already."""

    is_feed = True
    given: Any
    cut: int = CUT

    def build(self, context: Context) -> Feed:
        return WalkFeed(self.given, self.cut)


class WalkFeed(Feed):
    def __init__(self, bars: pa.RecordBatch, cut: int) -> None:
        self.bars, self.cut = bars, cut

    def batches(self) -> Any:
        for begin in range(0, self.bars.num_rows, self.cut):
            yield Batch(self.bars.slice(begin, self.cut))


def bars_of(columns: dict[str, Any]) -> pa.RecordBatch:
    start = pa.array(columns["start"]).cast(NS_UTC)
    end = pa.array(columns["start"] + 60_000_000_000).cast(NS_UTC)
    prices = {name: pa.array(columns[name]) for name in ("open", "high", "low", "close", "volume")}
    return pa.record_batch({"ts_event": end, "bar_start": start, "bar_end": end, **prices})


def topology(bars: pa.RecordBatch, members: dict[str, Portfolio], cut: int = CUT, kept_mb: float = 5) -> Any:
    """data -> features -> portfolios -> ranking, with all results kept and left as parquet, as a sweep from YAML."""
    builder = TopologyBuilder().add("data", Walk(given=bars, cut=cut)).add("features", Features(), ["data"])
    flow = DataFlow(mode="hybrid", memory_limit_mb=kept_mb)
    builder.add(
        "portfolio", next(iter(members.values())), ["features"], members=members, pattern="portfolio_*", data_flow=flow
    )
    return builder.add("execution", Execution(), ["portfolio_*"]).build()


def sweep(pairs: list[tuple[int, int]], **settings: Any) -> dict[str, Portfolio]:
    return {
        f"portfolio_{place:05d}": Portfolio(strategy=SmaCross(fast=fast, slow=slow), fills=FILLS, **settings)
        for place, (fast, slow) in enumerate(pairs)
    }


def logic(bars: pa.RecordBatch, members: dict[str, Portfolio], cut: int = CUT) -> float:
    """Seconds the portfolios' own work takes, called as a container calls it, features computed before."""
    group = next(iter(members.values())).build_group(members, Context(name="portfolio"))
    group.warm()
    began = time.perf_counter()
    for begin in range(0, bars.num_rows, cut):
        for _ in group.on_batch(Batch(bars.slice(begin, cut))):  # type: ignore[attr-defined]
            pass
    for _ in group.on_end():  # type: ignore[attr-defined]
        pass
    spent = time.perf_counter() - began
    group.close()
    return spent


def with_averages(bars: pa.RecordBatch) -> pa.RecordBatch:
    """The bars with every average the pairs need."""
    windows = sorted({window for pair in PAIRS for window in pair})
    features = Features(indicators=tuple(Feature.sma(window) for window in windows)).build(Context())
    features.warm()
    given = features.on_batch(Batch(bars))
    assert isinstance(given, Batch)
    return given.columns


def per_member(bars: pa.RecordBatch, counts: list[int], rounds: int) -> dict[int, list[float]]:
    """Nanoseconds per member and bar."""
    found: dict[int, list[float]] = {count: [] for count in counts}
    members = {count: sweep([PAIRS[place % len(PAIRS)] for place in range(count)]) for count in counts}
    for turn in range(1 + rounds):
        for count in counts:
            spent = logic(bars, members[count])
            if turn:
                found[count].append(spent / count / bars.num_rows * 1e9)
    return found


def peak_mb(code: str) -> float:
    """Peak resident memory of a process of its own that runs this."""
    # Not ru_maxrss, which a child takes over from the process that made it.
    told = "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line[:5] == 'VmHWM'))"
    process = subprocess.run([sys.executable, "-c", f"{code}\n{told}"], stdout=subprocess.PIPE, text=True, check=True)
    return float(process.stdout.split()[-1])


def idle_kb(members: int = 10_000) -> float:
    """Resident memory of an idle member, between a small group and one of so many, recipes and names included."""
    code = (
        "from bench.sweep_sma import PAIRS, sweep\nfrom pipeline import Context\n"
        "def group(count):\n"
        "    members = sweep([PAIRS[place % 1000] for place in range(count)])\n"
        "    logic = members['portfolio_00000'].build_group(members, Context())\n"
        "    logic.warm()\n    return logic\n"
        "kept = group({})"
    )
    return (peak_mb(code.format(members)) - peak_mb(code.format(10))) * 1024 / members


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    count = 10_000 if options.quick else BARS
    rounds = options.rounds or (2 if options.quick else 7)
    columns = market(count)
    bars = bars_of(columns)
    members = sweep(PAIRS)
    built = topology(bars, members)
    own = {
        f"portfolio_{n:05d}": Portfolio(strategy=Momentum(n=5 + n % 200), fills=FILLS, grouped=False)
        for n in range(len(PAIRS))
    }
    alone = topology(bars, own, cut=10_000)
    averages = with_averages(bars)
    spent: list[float] = []
    contenders: dict[str, Callable[[], Any]] = {
        "pipeline": lambda: run_topology(built),
        "bare": lambda: bare(columns, PAIRS),
        "logic": lambda: spent.append(logic(averages, members)),
        "ungrouped": lambda: run_topology(alone),
        "ungrouped logic": lambda: spent.append(logic(bars, own, 10_000)),
        "bare ungrouped": lambda: bare_strategies(columns, len(own), 10_000),
    }
    times = race(contenders, rounds)
    grown = per_member(averages.slice(0, min(count, 20_000)), [100, 1_000, 10_000], rounds)
    runs = len(PAIRS)
    peak = peak_mb(f"from bench.sweep_sma import once; once({count})")
    return show(
        f"{runs:,} SMA crossings over {count:,} bars",
        [
            row("pipeline, from start to published summary", [runs / s for s in times["pipeline"]], "runs/s"),
            row("portfolios alone, averages given", [runs / s for s in times["logic"]], "runs/s"),
            row("one bare compiled loop per pair, one thread", [runs / s for s in times["bare"]], "runs/s"),
            ratio("pipeline over the bare loop", times["pipeline"], times["bare"], ">= 2x"),
            ratio("portfolios alone over the bare loop", times["logic"], times["bare"]),
            row(
                "peak RSS of that run, Python and all",
                [peak],
                "MB",
            ),
            ratio("ungrouped, over bare numpy and accounting", times["ungrouped"], times["bare ungrouped"], ">= 0.8x"),
            ratio("the portfolios alone, ungrouped, over the same", times["ungrouped logic"], times["bare ungrouped"]),
            *(row(f"{n:,} members: time per member and bar", grown[n], "ns") for n in grown),
            ratio("1,000 over 100 members, per member", grown[1_000], grown[100], ">= 0.83x (grows <= 1.2x)"),
            ratio("10,000 over 1,000 members, per member", grown[10_000], grown[1_000], ">= 0.83x (grows <= 1.2x)"),
            row("memory of an idle member", [idle_kb()], "KB"),
        ],
    )


def once(count: int = BARS) -> None:
    """The pipeline's run, for a process of its own."""
    run_topology(topology(bars_of(market(count)), sweep(PAIRS)))


if __name__ == "__main__":
    main()

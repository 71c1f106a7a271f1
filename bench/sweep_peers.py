"""Moving-average crossings against vectorbt, NautilusTrader and backtrader: runs per second over the same bars.

Needs the peers, which live in an environment of their own: `make bench-peers`. Each contender has a process of its own,
compiles and imports before its time is taken, and does the work once per round, in turn with the others. What is timed
is each engine's own run, with prices in the form it likes best already in memory: Arrow here, a data frame for vectorbt
and backtrader, its own bar objects for NautilusTrader.

    python -m bench sweep_peers [--quick] [--rounds N]
"""

from __future__ import annotations

import asyncio
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.harness import arguments, ratio, row, show
from pipeline import NS_UTC, Batch, Context, DataFlow, Feed, Pipeline, Stage, TopologyBuilder
from stages import Execution, Feature, Features, Portfolio, SmaCross, Strategy
from stages.portfolio.fills import Fills

PAIRS = [(fast, slow) for fast in range(4, 44) for slow in range(50, 175, 5)]
"""1,000 pairs out of 65 windows."""
VECTORBT_PAIRS = PAIRS[::10]
CONTENDERS = ("penstock", "vectorbt", "nautilus", "backtrader", "penstock per bar")


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    bars = 10_000 if options.quick else 100_000
    rounds = options.rounds or (1 if options.quick else 5)
    missing = [name for name in ("vectorbt", "nautilus_trader", "backtrader") if not _is_there(name)]
    if missing:
        print(f"sweep_peers: {', '.join(missing)} are not installed; run `make bench-peers`")
        return {"title": "sweep against peers", "rows": [], "skipped": missing}
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    peaks: dict[str, float] = {}
    fills: dict[str, int] = {}
    pools = {name: ProcessPoolExecutor(1, get_context("spawn")) for name in CONTENDERS}
    try:
        for turn in range(1 + rounds):
            for name, pool in pools.items():
                found = pool.submit(contend, name, bars).result()
                fills[name], peaks[name] = found["fills"], found["peak_mb"]
                if turn:
                    rates[name].append(found["rate"])
    finally:
        for pool in pools.values():
            pool.shutdown()
    seconds = {name: [1 / rate for rate in found] for name, found in rates.items()}
    rows = [
        *(row(f"{name}: runs", rates[name], "runs/s") for name in CONTENDERS[:4]),
        ratio("1000 pairs in one pass, over vectorbt", seconds["penstock"], seconds["vectorbt"], ">= 100"),
        ratio("over NautilusTrader", seconds["penstock"], seconds["nautilus"], ">= 10,000"),
        ratio("over backtrader", seconds["penstock"], seconds["backtrader"], ">= 10,000"),
        row("penstock, a strategy's on_bar in Python", [r * bars for r in rates["penstock per bar"]], "bars/s"),
        ratio("on_bar over backtrader's next()", seconds["penstock per bar"], seconds["backtrader"], ">= 10"),
        ratio("on_bar over NautilusTrader's on_bar", seconds["penstock per bar"], seconds["nautilus"], ">= 5"),
        *(row(f"{name}: peak RSS", [peaks[name]], "MB") for name in ("penstock", "vectorbt")),
    ]
    print(f"fills of the pair (20, 100): {', '.join(f'{name} {fills[name]:,}' for name in CONTENDERS)}")
    return show(f"SMA crossings over {bars:,} bars against peers", rows)


def contend(name: str, bars: int) -> dict[str, Any]:
    """One round of one contender, in its process: runs per second, and one pair's fills, to see they do the same."""
    if name not in _ready:
        _ready[name] = _PREPARE[name](market(bars))
    began = time.perf_counter()
    runs, fills = _ready[name]()
    spent = time.perf_counter() - began
    return {"rate": runs / spent, "fills": fills, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def market(bars: int) -> dict[str, np.ndarray[Any, Any]]:
    """A seeded walk of one-minute bars with prices of two decimals, as columns."""
    random = np.random.default_rng(7)
    close = np.round(100.0 * np.exp(np.cumsum(random.normal(0.0, 0.0005, bars))), 2)
    opens = np.concatenate([close[:1], close[:-1]])
    high = np.round(np.maximum(opens, close) + np.abs(random.normal(0.0, 0.02, bars)), 2)
    low = np.round(np.minimum(opens, close) - np.abs(random.normal(0.0, 0.02, bars)), 2)
    start = np.int64(1_700_000_040_000_000_000) + np.arange(bars, dtype=np.int64) * 60_000_000_000
    volume = np.round(random.uniform(1e6, 2e6, bars))
    return {"open": opens, "high": high, "low": low, "close": close, "volume": volume, "start": start}


class Recorded(Stage, frozen=True):
    """Bars that are in memory already, as batches of 64 K rows."""

    is_feed = True
    columns: Any

    def build(self, context: Context) -> Feed:
        return RecordedFeed(self.columns)


class RecordedFeed(Feed):
    def __init__(self, columns: dict[str, np.ndarray[Any, Any]]) -> None:
        start = pa.array(columns["start"]).cast(NS_UTC)
        end = pa.array(columns["start"] + 60_000_000_000).cast(NS_UTC)
        prices = {name: pa.array(columns[name]) for name in ("open", "high", "low", "close", "volume")}
        self.table = pa.record_batch({"ts_event": end, "bar_start": start, "bar_end": end, **prices})

    def batches(self) -> Any:
        for begin in range(0, self.table.num_rows, 65_536):
            yield Batch(self.table.slice(begin, 65_536))


class CrossPerBar(Strategy, frozen=True):
    """The crossing as a person would write it first."""

    fast: int = 20
    slow: int = 100

    def features(self) -> list[Feature]:
        return [Feature.sma(self.fast), Feature.sma(self.slow)]

    def on_bar(self, bar: Any) -> float | None:
        fast, slow = bar[Feature.sma(self.fast)], bar[Feature.sma(self.slow)]
        if slow is None:
            return None
        return 1.0 if fast > slow else 0.0


def penstock(columns: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """1,000 portfolios through a whole pipeline: feed, features, portfolios, ranking; fills, equity, statistics."""
    members = {
        f"portfolio_{i:04d}": Portfolio(strategy=SmaCross(fast=fast, slow=slow), fills=Fills(fee_bps=1))
        for i, (fast, slow) in enumerate(PAIRS)
    }
    builder = TopologyBuilder().add("data", Recorded(columns=columns)).add("features", Features(), ["data"])
    builder.add(
        "portfolio", members["portfolio_0000"], ["features"], members=members, pattern="portfolio_*",
        data_flow=DataFlow(mode="hybrid", memory_limit_mb=5),
    )  # fmt: skip
    builder.add("execution", Execution(), ["portfolio_*"])
    topology = builder.build()
    wanted = f"portfolio_{PAIRS.index((20, 100)):04d}"
    return lambda: (len(members), _fills_of(topology)[wanted])


def penstock_per_bar(columns: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """One portfolio whose strategy is asked bar by bar in Python."""
    builder = TopologyBuilder().add("data", Recorded(columns=columns)).add("features", Features(), ["data"])
    builder.add("mine", Portfolio(strategy=CrossPerBar(), fills=Fills(fee_bps=1)), ["features"])
    builder.add("execution", Execution(), ["mine"])
    topology = builder.build()
    return lambda: (1, _fills_of(topology)["mine"])


def _fills_of(topology: Any) -> dict[str, int]:
    """Run it; fills by portfolio."""

    async def run() -> dict[str, int]:
        with tempfile.TemporaryDirectory() as folder:
            async with Pipeline.from_topology(topology, output=Path(folder)).start() as run:
                await run.finished()
                ranking = await run.retrieve("execution", "ranking")
        return dict(zip(ranking.column("container").to_pylist(), ranking.column("n_fills").to_pylist(), strict=True))

    return asyncio.run(run())


def vectorbt(columns: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """100 pairs as columns of one `Portfolio.from_signals`, filled at the next open, and the usual statistics."""
    import pandas as pd
    import vectorbt as vbt

    index = pd.to_datetime(columns["start"] + 60_000_000_000)
    close, opens = pd.Series(columns["close"], index), pd.Series(columns["open"], index)
    windows = sorted({n for pair in VECTORBT_PAIRS for n in pair})

    def run() -> tuple[int, int]:
        means = vbt.MA.run(close, windows, short_name="ma").ma
        means.columns = windows
        fast = means[[fast for fast, _ in VECTORBT_PAIRS]].to_numpy()
        slow = means[[slow for _, slow in VECTORBT_PAIRS]].to_numpy()
        above = pd.DataFrame(fast > slow, index).shift(1, fill_value=False)
        held = vbt.Portfolio.from_signals(
            close, above, ~above, price=opens, size=1.0, fees=1e-4, init_cash=100_000.0, freq="1min"
        )
        held.total_return(), held.sharpe_ratio(), held.max_drawdown(), held.trades.win_rate()
        pair = VECTORBT_PAIRS.index((20, 100)) if (20, 100) in VECTORBT_PAIRS else 0
        return len(VECTORBT_PAIRS), int(held.orders.count().iloc[pair])

    return run


def nautilus(columns: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """One run of its backtest engine, with a strategy in Python on its own compiled averages; fills at the close."""
    import pandas as pd
    from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.config import LoggingConfig
    from nautilus_trader.indicators import SimpleMovingAverage
    from nautilus_trader.model import BarType, Money, TraderId, Venue
    from nautilus_trader.model.currencies import USD
    from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
    from nautilus_trader.persistence.wranglers import BarDataWrangler
    from nautilus_trader.test_kit.providers import TestInstrumentProvider
    from nautilus_trader.trading.strategy import Strategy as TheirStrategy

    instrument = TestInstrumentProvider.equity(symbol="AAA", venue="SIM")
    bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
    frame = pd.DataFrame({name: columns[name] for name in ("open", "high", "low", "close", "volume")})
    frame.index = pd.to_datetime(columns["start"] + 60_000_000_000, utc=True)
    bars = BarDataWrangler(bar_type, instrument).process(frame)

    class Cross(TheirStrategy):  # type: ignore[misc]
        def on_start(self) -> None:
            self.fast, self.slow = SimpleMovingAverage(20), SimpleMovingAverage(100)
            self.register_indicator_for_bars(bar_type, self.fast)
            self.register_indicator_for_bars(bar_type, self.slow)
            self.subscribe_bars(bar_type)
            self.filled = 0

        def on_order_filled(self, event: Any) -> None:
            self.filled += 1

        def on_bar(self, bar: Any) -> None:
            if not self.slow.initialized:
                return
            if self.fast.value > self.slow.value:
                if self.portfolio.is_flat(instrument.id):
                    self.submit_order(self.order_factory.market(instrument.id, OrderSide.BUY, instrument.make_qty(1)))
            elif self.portfolio.is_net_long(instrument.id):
                self.close_all_positions(instrument.id)

    def run() -> tuple[int, int]:
        logging = LoggingConfig(bypass_logging=True)
        engine = BacktestEngine(BacktestEngineConfig(trader_id=TraderId("BENCH-001"), logging=logging))
        engine.add_venue(
            Venue("SIM"), OmsType.NETTING, AccountType.MARGIN, base_currency=USD,
            starting_balances=[Money(100_000, USD)],
        )  # fmt: skip
        engine.add_instrument(instrument)
        engine.add_data(bars)
        strategy = Cross()
        engine.add_strategy(strategy)
        engine.run()
        filled = strategy.filled
        engine.dispose()
        return 1, filled

    return run


def backtrader(columns: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """One run of its engine with its own averages; orders fill at the next open."""
    import backtrader as bt
    import pandas as pd

    frame = pd.DataFrame({name: columns[name] for name in ("open", "high", "low", "close", "volume")})
    frame.index = pd.to_datetime(columns["start"])

    class Cross(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            self.fast = bt.ind.SMA(self.data.close, period=20)
            self.slow = bt.ind.SMA(self.data.close, period=100)
            self.filled = 0

        def notify_order(self, order: Any) -> None:
            self.filled += order.status == order.Completed

        def next(self) -> None:
            if self.fast[0] > self.slow[0]:
                if not self.position:
                    self.buy(size=1)
            elif self.position:
                self.close()

    def run() -> tuple[int, int]:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
        cerebro.addstrategy(Cross)
        cerebro.broker.setcash(100_000.0)
        cerebro.broker.setcommission(1e-4)
        cerebro.addanalyzer(bt.analyzers.DrawDown)
        return 1, cerebro.run()[0].filled

    return run


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


_PREPARE: dict[str, Callable[[dict[str, Any]], Callable[[], tuple[int, int]]]] = {
    "penstock": penstock,
    "penstock per bar": penstock_per_bar,
    "vectorbt": vectorbt,
    "nautilus": nautilus,
    "backtrader": backtrader,
}
_ready: dict[str, Callable[[], tuple[int, int]]] = {}

if __name__ == "__main__":
    main()

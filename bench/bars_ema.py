"""10 M trades of 20 symbols, columns in memory -> 1-minute bars and EMA(20): one bare compiled pass, polars, duckdb."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit

from bench.harness import Lag, arguments, race, ratio, row, run_topology, show
from pipeline import Batch, Context, Feed, Sink, Stage, TopologyBuilder
from pipeline.frames import Watermark
from stages.features.features import Features

ROWS = 10_000_000
SYMBOLS = 20
CUT = 65_536
DAY_NS = 86_400_000_000_000
MINUTE_NS = 60_000_000_000
SPAN = 20
SCALE = 100


class Trades:
    """One day of generated trades in time order: random walks, sizes of 1 to 99, sides, float64 and exact."""

    def __init__(self, rows: int) -> None:
        random = np.random.default_rng(1)
        self.ts = np.sort(random.integers(0, DAY_NS, rows))
        self.symbol = random.integers(0, SYMBOLS, rows).astype(np.int32)
        cents = 10_000 + np.cumsum(random.integers(-1, 2, rows))
        self.cents = cents - min(0, int(cents.min()) - 100)
        self.price = self.cents / SCALE
        self.units = random.integers(1, 100, rows)
        self.size = self.units.astype(np.float64)
        self.names = [f"S{place:02}" for place in range(SYMBOLS)]
        self.rows = rows

    def batches(self, exact: bool = False) -> list[pa.RecordBatch]:
        price, size = (self.cents, self.units) if exact else (self.price, self.size)
        kind = pa.decimal64(18, 2) if exact else pa.float64()
        codes = pa.DictionaryArray.from_arrays(pa.array(self.symbol), pa.array(self.names, pa.utf8()))
        table = pa.table(
            {
                "ts_event": pa.array(self.ts).cast(pa.timestamp("ns", "UTC")),
                "instrument_id": codes,
                "price": pa.Array.from_buffers(kind, self.rows, [None, pa.py_buffer(price)]),
                "size": pa.Array.from_buffers(kind, self.rows, [None, pa.py_buffer(size)]),
            }
        )
        return table.to_batches(max_chunksize=CUT)


@njit(
    "int64(int64[::1], int32[::1], float64[::1], float64[::1], int64, int64, float64[:, ::1])", nogil=True, cache=True
)
def bare_pass(ts: Any, symbol: Any, price: Any, size: Any, every: int, span: int, bars: Any) -> int:
    """The least that must be done, with nothing around it: minute, symbol, open, high, low, close, volume, ema."""
    alpha = 2.0 / (span + 1.0)
    state = np.zeros((SYMBOLS, 6))
    ends = np.zeros(SYMBOLS, np.int64)
    ema = np.zeros(SYMBOLS)
    count = 0
    for i in range(len(ts) + SYMBOLS):
        flush = i >= len(ts)
        s = i - len(ts) if flush else symbol[i]
        if flush or ts[i] >= ends[s]:
            if ends[s]:
                close = state[s, 3]
                before = close if state[s, 5] == 0.0 else ema[s]
                ema[s] = alpha * close + (1.0 - alpha) * before
                state[s, 5] += 1.0
                bars[count, 0], bars[count, 1] = ends[s], s
                bars[count, 2:7] = state[s, :5]
                bars[count, 7] = ema[s] if state[s, 5] >= span else np.nan
                count += 1
            if flush:
                continue
            ends[s] = ts[i] - ts[i] % every + every
            state[s, 0] = state[s, 1] = state[s, 2] = price[i]
            state[s, 4] = 0.0
        p = price[i]
        if p > state[s, 1]:
            state[s, 1] = p
        if p < state[s, 2]:
            state[s, 2] = p
        state[s, 3] = p
        state[s, 4] += size[i]
    return count


def bare(trades: Trades) -> pl.DataFrame:
    bars = np.empty((2 * SYMBOLS * DAY_NS // MINUTE_NS, 8))
    count = bare_pass(trades.ts, trades.symbol, trades.price, trades.size, MINUTE_NS, SPAN, bars)
    names = ("end", "symbol", "open", "high", "low", "close", "volume", "ema")
    return pl.DataFrame(dict(zip(names, bars[:count].T, strict=True)))


def polars_frame(trades: Trades) -> pl.DataFrame:
    return pl.DataFrame({"ts": trades.ts, "symbol": trades.symbol, "price": trades.price, "size": trades.size})


def polars_streaming(frame: pl.DataFrame) -> pl.DataFrame:
    price, size = pl.col("price"), pl.col("size")
    bars = (
        frame.lazy()
        .group_by("symbol", (pl.col("ts") // MINUTE_NS).alias("minute"))
        .agg(
            price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.last().alias("close"), size.sum().alias("volume"),
        )
        .sort("minute", "symbol")
    )  # fmt: skip
    ema = pl.col("close").ewm_mean(span=SPAN, adjust=False, min_samples=SPAN).over("symbol").alias("ema")
    return bars.with_columns(ema).collect(engine="streaming")


def duckdb_query(connection: Any) -> Any:
    """Bars only: a recursive mean is not SQL's trade, so duckdb is let off it."""
    return connection.sql(
        f"""select symbol, ts // {MINUTE_NS} as minute, arg_min(price, ts) as open, max(price) as high,
                   min(price) as low, arg_max(price, ts) as close, sum(size) as volume
            from trades group by all order by minute, symbol"""
    ).to_arrow_table()


def stage() -> Features:
    return Features(bars="1m", indicators=(f"ema_{SPAN}",))


def logic(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The stage's logic called as a container calls it: every batch, then the watermark its feed would send."""
    features = stage().build(Context())
    features.warm()
    sent: list[Batch] = []
    for columns in batches:
        assert features.on_batch(Batch(columns)) is None
        sent.extend(features.on_watermark(Watermark(columns.column(0)[-1].value)))
    sent.extend(features.on_end())
    return [batch.columns for batch in sent]


class Recorded(Stage, frozen=True):
    """Batches that are in memory already."""

    given: list[Any]
    span: Any

    def build(self, context: Context) -> Feed:
        return RecordedFeed(self.given, self.span)


class RecordedFeed(Feed):
    def __init__(self, given: list[pa.RecordBatch], span: Span) -> None:
        self.given, self.span = given, span

    async def batches(self) -> Any:
        self.span.begin()
        for columns in self.given:
            yield Batch(columns)


class Count(Stage, frozen=True):
    span: Any

    def build(self, context: Context) -> Sink:
        return CountLogic(self.span)


class CountLogic(Sink):
    def __init__(self, span: Span) -> None:
        self.span = span

    def on_batch(self, batch: Batch) -> None:
        self.committed_rows += batch.num_rows

    def on_end(self) -> None:
        self.span.end(self.committed_rows)


class Span:
    """From the first batch asked for to the last bar counted: the wall clock, this process's work, and loop lag.

    Kernels are loaded before and the summary is published after it; the ticker runs all the time, but only what it
    saw in between counts.
    """

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.late_ms: list[float] = []
        self.bars = 0

    def run(self, topology: Any) -> None:
        self.lag = Lag()
        run_topology(topology, self.lag)

    def begin(self) -> None:
        self._ticks = len(self.lag.late_ms)
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def end(self, bars: int) -> None:
        self.wall.append(time.perf_counter() - self._wall)
        self.cpu.append(time.process_time() - self._cpu)
        self.late_ms.extend(self.lag.late_ms[self._ticks :])
        self.bars = bars


def pipeline(batches: list[pa.RecordBatch], span: Span) -> None:
    """feed -> features -> a sink that counts."""
    builder = TopologyBuilder()
    builder.add("data", Recorded(given=batches, span=span))
    builder.add("features", stage(), ["data"])
    builder.add("count", Count(span=span), ["features"])
    span.run(builder.build())


def counted(run: Callable[[], Any], spent: list[float]) -> Callable[[], None]:
    """`run`, noting the processor time it took: on a busy machine the steadier measure of work."""

    def timed() -> None:
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)

    return timed


def check(trades: Trades, batches: list[pa.RecordBatch], frame: pl.DataFrame, connection: Any) -> None:
    """All contenders make the same bars and the same means."""
    ours = pl.from_arrow(pa.Table.from_batches(logic(batches)))
    assert isinstance(ours, pl.DataFrame)
    ours = ours.select(
        pl.col("bar_end").cast(pl.Int64).alias("end"), pl.col("instrument_id").cast(pl.String).alias("name"),
        "open", "high", "low", "close", "volume", pl.col(f"ema_{SPAN}").fill_null(float("nan")).alias("ema"),
    ).sort("end", "name")  # fmt: skip
    floor = bare(trades).sort("end", "symbol")
    other = polars_streaming(frame)
    third = pl.from_arrow(duckdb_query(connection))
    assert isinstance(third, pl.DataFrame)
    for name in ("open", "high", "low", "close", "volume"):
        assert ours[name].equals(floor[name]), name
        assert ours[name].equals(other[name]), name
        if name not in ("open", "close"):
            assert ours[name].equals(third[name]), name
    assert np.array_equal(ours["ema"].to_numpy(), floor["ema"].to_numpy(), equal_nan=True)
    np.testing.assert_allclose(ours["ema"].to_numpy(), other["ema"].fill_null(float("nan")).to_numpy(), rtol=1e-12)


def main() -> dict[str, Any]:
    import duckdb

    options = arguments(__doc__ or "")
    trades = Trades(500_000 if options.quick else ROWS)
    frame = polars_frame(trades)
    connection = duckdb.connect()
    connection.register("trades", frame.to_arrow())
    batches, exact = trades.batches(), trades.batches(exact=True)
    check(trades, batches, frame, connection)
    rounds = options.rounds or (2 if options.quick else 7)
    span = Span()
    contenders = {
        "pipeline": lambda: pipeline(batches, span),
        "bare": lambda: bare(trades),
        "logic": lambda: logic(batches),
        "exact": lambda: logic(exact),
        "polars": lambda: polars_streaming(frame),
        "duckdb": lambda: duckdb_query(connection),
    }
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    times = race({name: counted(run, cpu[name]) for name, run in contenders.items()}, rounds)
    cpu = {name: spent[-rounds:] for name, spent in {**cpu, "pipeline": span.cpu}.items()}
    times["run"] = times.pop("pipeline")
    times["pipeline"] = span.wall[-rounds:]
    assert span.bars == sum(columns.num_rows for columns in logic(batches))
    told = {
        "pipeline": "pipeline, first batch to last bar",
        "run": "pipeline, from start to published summary",
        "bare": "one bare compiled pass",
        "logic": "stage logic, float64",
        "exact": "stage logic, decimal64",
        "polars": "polars, streaming engine",
        "duckdb": "duckdb, bars only",
    }
    return show(
        "1-minute bars and EMA(20) of 20 symbols",
        [
            *(row(text, [trades.rows / s / 1e6 for s in times[name]], "M rows/s") for name, text in told.items()),
            ratio("pipeline over the bare pass", times["pipeline"], times["bare"], ">= 0.6x"),
            ratio("pipeline over polars", times["pipeline"], times["polars"], ">= 1.5x"),
            ratio("pipeline over duckdb", times["pipeline"], times["duckdb"], ">= 2x"),
            row("loop lag p99 while data flows", [float(np.percentile(span.late_ms, 99))], "ms"),
            *(
                row(f"processor time: {text}", [1e3 * spent for spent in cpu[name]], "ms")
                for name, text in told.items()
                if name in cpu
            ),
            ratio("by processor time: pipeline over the bare pass", cpu["pipeline"], cpu["bare"]),
            ratio("by processor time: logic over the bare pass", cpu["logic"], cpu["bare"]),
            ratio("by processor time: pipeline over polars", cpu["pipeline"], cpu["polars"]),
            ratio("whole run over polars", times["run"], times["polars"]),
            ratio("logic alone over the bare pass", times["logic"], times["bare"]),
            ratio("exact prices over float64", times["exact"], times["logic"]),
        ],
    )


if __name__ == "__main__":
    main()

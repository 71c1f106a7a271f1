"""Bars for the tests of portfolios, and a way to run one and look at everything it gave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from portfolio_oracle import OracleBar

from pipeline.frames import Batch, MemberRows, Result
from pipeline.stage import Context, Logic
from stages.features.feature import Feature
from stages.features.features import Features
from stages.portfolio.bars import Bars
from stages.portfolio.portfolio import Portfolio
from stages.portfolio.strategy import Strategy

NS_UTC = pa.timestamp("ns", tz="UTC")
MINUTE = 60_000_000_000
MIDNIGHT = 1_704_067_200_000_000_000  # 2024-01-01


class Scripted(Strategy, frozen=True):
    """Wants what it was told to want, bar by bar."""

    targets: tuple[float | None, ...] = ()

    def build(self) -> Any:
        return _Reader(self.targets)


class ScriptedArrays(Scripted, frozen=True):
    """The same in numpy."""

    def build(self) -> Any:
        return _ArrayReader(self.targets)


class _Reader:
    def __init__(self, targets: Sequence[float | None]) -> None:
        self._left = iter(targets)

    def on_bar(self, bar: Any) -> float | None:
        return next(self._left)


class _ArrayReader:
    def __init__(self, targets: Sequence[float | None]) -> None:
        self._targets = np.array([np.nan if target is None else target for target in targets])
        self._at = 0

    def on_bars(self, bars: Any) -> Any:
        self._at += len(bars)
        return self._targets[self._at - len(bars) : self._at]


def random_bars(count: int, seed: int = 1, *, interval: int = MINUTE, single: float = 0.1) -> list[OracleBar]:
    """A random walk, one bar after the other, some of them with one price only."""
    random = np.random.default_rng(seed)
    bars, last = [], 100.0
    for number in range(count):
        start = MIDNIGHT + number * interval
        if random.random() < single:
            prices = (last, last, last, last)
        else:
            steps = last * np.exp(np.cumsum(random.normal(0, 0.002, 4)))
            prices = (last, float(max(last, *steps)), float(min(last, *steps)), float(steps[-1]))
        bars.append(OracleBar(*prices, start, start + interval))
        last = prices[3]
    return bars


def columns(bars: Sequence[OracleBar], features: Iterable[Feature] = (), instrument: str = "BTCUSD.TEST") -> Batch:
    """Bars as a features stage sends them."""
    ends = pa.array([bar.end for bar in bars], pa.int64()).cast(NS_UTC)
    found: dict[str, Any] = {
        "ts_event": ends,
        "instrument_id": pa.array([instrument] * len(bars), pa.utf8()).cast(pa.dictionary(pa.int32(), pa.utf8())),
        "bar_start": pa.array([bar.start for bar in bars], pa.int64()).cast(NS_UTC),
        "bar_end": ends,
    }
    for name in ("open", "high", "low", "close"):
        found[name] = pa.array([float(getattr(bar, name)) for bar in bars], pa.float64())
    found["volume"] = pa.array([1.0] * len(bars), pa.float64())
    closes = [Fraction(bar.close) for bar in bars]
    for feature in features:
        found[feature.name] = pa.array(average(closes, feature), pa.float64(), from_pandas=True)
    return Batch.from_pydict(found)


def average(closes: Sequence[Fraction], feature: Feature) -> np.ndarray[Any, Any]:
    """The averages the tests need, NaN until `n` values have been seen."""
    values = np.full(len(closes), np.nan)
    if feature.kind == "sma":
        total = Fraction(0)
        for place, close in enumerate(closes):
            total += close - (closes[place - feature.n] if place >= feature.n else 0)
            if place >= feature.n - 1:
                values[place] = float(total / feature.n)
        return values
    alpha, value = 2.0 / (feature.n + 1.0), 0.0
    for place, close in enumerate(map(float, closes)):
        value = alpha * close + (1.0 - alpha) * value if place else close
        if place >= feature.n - 1:
            values[place] = value
    return values


@dataclass
class Given:
    """Everything a run gave, by member."""

    fills: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    batches: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, outputs: Any) -> None:
        for output in outputs or ():
            if isinstance(output, Batch):
                self.batches.append(output.columns)
            elif isinstance(output, MemberRows):
                for place, member in enumerate(output.members):
                    begin, end = (int(output.offsets[place + more]) for more in (0, 1))
                    self.keep(output.key, member, output.columns.slice(begin, end - begin))
            elif output.append:
                self.fills.setdefault(output.member, []).append(output.value)
            else:
                assert isinstance(output, Result)
                self.values[output.member, output.key] = output.value

    def keep(self, key: str, member: str, rows: pa.RecordBatch) -> None:
        """Rows of one member, as a portfolio alone would have given them."""
        if key == "fills":
            self.fills.setdefault(member, []).append(rows)
        elif key == "statistics":
            (told,) = rows.to_pylist()
            self.values[member, key] = told | {"parameters": json.loads(told["parameters"])}
        else:
            self.values[member, key] = rows

    def rows(self, member: str = "") -> list[dict[str, Any]]:
        return [row for batch in self.fills.get(member, []) for row in batch.to_pylist()]

    def statistics(self, member: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.values[member, "statistics"]
        return found

    def bytes_of(self, member: str = "") -> dict[str, Any]:
        """Fills, equity and statistics of a member, as bytes where they are columns."""
        parts = self.fills.get(member, [])
        fills = pa.Table.from_batches(parts, parts[0].schema if parts else _fills_schema()).combine_chunks()
        return {
            "fills": [column.to_pylist() for column in fills.columns],
            "equity": pa.RecordBatch.from_pydict(
                self.values[member, "equity"].to_pydict(), schema=self.values[member, "equity"].schema
            )
            .serialize()
            .to_pybytes(),
            "statistics": repr(self.statistics(member)),
        }


def run(logic: Logic, batches: Iterable[Batch]) -> Given:
    """Everything a logic gives for these batches."""
    given = Given()
    try:
        for batch in batches:
            given.add(logic.on_batch(batch))  # type: ignore[attr-defined]
        given.add(logic.on_end())  # type: ignore[attr-defined]
    finally:
        logic.close()
    return given


def run_alone(recipe: Portfolio, batches: Iterable[Batch]) -> Given:
    return run(recipe.build(Context(name="portfolio")), batches)


def run_group(members: Mapping[str, Portfolio], batches: Iterable[Batch]) -> Given:
    first = next(iter(members.values()))
    return run(first.build_group(members, Context(name="portfolio_*")), batches)


def _fills_schema() -> pa.Schema:
    from stages.portfolio.records import FILLS

    return FILLS


def looked_at(strategies: Sequence[Strategy], batches: Sequence[Batch]) -> Bars:
    """Bars with all features these strategies want, as the features stage makes them."""
    needs = frozenset(feature for strategy in strategies for feature in strategy.features())
    logic = Features().providing(needs).build(Context())
    sent: list[Any] = []
    for batch in batches:
        found = logic.on_batch(batch)
        sent += [found] if isinstance(found, Batch) else found or ()
    sent += logic.on_end()
    return Bars(pa.Table.from_batches([batch.columns for batch in sent]).combine_chunks().to_batches()[0])


def carried(targets: Any) -> list[float]:
    """Positions that follow from targets, NaN keeping the one before."""
    held, found = 0.0, []
    for target in targets.tolist():
        held = held if target != target else target
        found.append(held)
    return found

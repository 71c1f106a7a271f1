"""A portfolio: one strategy trading on bars from one cash account, or thousands of them at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import msgspec
import pyarrow as pa

from pipeline import Context, Footprint, Logic, SchemaMismatch, Stage
from stages.features.feature import Feature, union

from .exits import Exits
from .fills import Fills
from .records import PORTFOLIOS
from .sizing import Sizing
from .statistics import StatisticsSettings
from .strategy import Strategy

BARS_PER_FILL = 50
POINT_BYTES, FILL_BYTES, STATISTICS_BYTES = 40, 80, 1_000
"""What `footprint` supposes of results: see there."""
NEEDED = ("open", "high", "low", "close", "bar_start", "bar_end")


class Portfolio(Stage, frozen=True):
    """Trades a strategy's targets on bars and says how it did.

        portfolio_*:
          type: portfolio
          strategy: {type: sma_cross, fast: 10, slow: 50, quantity: 1}
          sizing: {by: equity, share: 0.5}
          fills: {at: next_open, fee_bps: 10, slippage_bps: 1}
          exits: {stop_loss: 0.02}
          start_equity: 100000
          statistics: {every: auto, calendar: crypto}

    Input: bars in the order of `bar_end`, of one instrument (or `instrument` says of which), with the strategy's
    features as columns. Results per portfolio: `fills` (a series), `equity` (kept on a grid of at most 2,000 points),
    `statistics` (a dict). Output: one batch at the end, one row per portfolio, the columns of `records.PORTFOLIOS`.
    Open positions are valued at the last close, not closed. Bars that end before the phase's window begins form the
    strategies' memory and nothing else: no order, no equity, no statistics.

    With `instruments`, bars with the same `bar_end` are one step. All orders and exits at its opens come first,
    instrument by instrument, then what happens within the bars, then decisions, which all see the equity at the step's
    closes, and what fills at these. Each instrument is decided by a strategy of its own that sees its bars alone, and
    fills say of which instrument they are.

    The baseline buys for all its equity (in equal parts of several instruments) on the first bar of the window and
    holds, at the first portfolio's `start_equity` and `fills`, orders at market. It is called like its container, with
    `_baseline`, and keeps what a portfolio keeps; beside a portfolio that is a container by itself, it is only a row.
    """

    is_feed: ClassVar[bool | None] = False
    tuning: ClassVar[frozenset[str]] = frozenset({"threads", "grouped"})

    strategy: Strategy
    """What to trade: `type:` names a strategy, the rest are its fields."""
    sizing: Sizing = Sizing()
    fills: Fills = Fills()
    exits: Exits = Exits()
    start_equity: float = 100_000.0
    """Cash at the start, quote currency; above 0. Returns, drawdown and leverage are shares of equity: it matters."""
    instrument: str | None = None
    """`SYMBOL.VENUE` to trade where bars of several arrive; None takes the only one there is."""
    instruments: tuple[str, ...] | Literal["all"] | None = None
    """Several to trade from one cash account, in this order, or `all` that arrive, in the order of their first bars."""
    statistics: StatisticsSettings = StatisticsSettings()
    baseline: bool = True
    """Whether a portfolio that buys and holds is kept beside these."""
    max_failed_share: float = 0.5
    """Share of portfolios whose strategies may fail before the phase does, 0 to 1; failed ones are recorded.

    Where all of a group fail the phase fails, whatever this says.
    """
    threads: int | None = None
    """Threads that decide and keep the books; None: as many as there are processors for this process."""
    grouped: bool = True
    """False asks every portfolio's own decider, one by one, where its strategy has a compiled one for many."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_equity) and self.start_equity > 0):
            raise ValueError(f"expected a start_equity above 0, found {self.start_equity}")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"expected a max_failed_share from 0 to 1, found {self.max_failed_share}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"expected threads of 1 or more, found {self.threads}")
        if self.instruments is not None:
            if self.instrument is not None:
                raise ValueError("`instrument` is for one and `instruments` for several; leave one of them out")
            if self.instruments != "all" and not 0 < len(set(self.instruments)) == len(self.instruments):
                raise ValueError(f"expected instruments, each once, or `all`, found {self.instruments!r}")

    def build(self, context: Context) -> Logic:
        from .group import PortfolioGroup

        return PortfolioGroup({context.name: self}, context, alone=True)

    @property
    def groups(self) -> bool:
        return True

    def build_group(self, members: Mapping[str, Self], context: Context) -> Logic:
        from .group import PortfolioGroup

        return PortfolioGroup(members, context)

    def vary(self, parameters: Mapping[str, Any]) -> Self:
        """This portfolio with other fields of its strategy, or of its settings under dotted names: `exits.stop_loss`.

        `start_equity` is the portfolio's where its strategy has no such field. Raises `ValueError` for unknown or unfit
        ones.
        """
        mine = self._own_parameters
        own = {
            name: value
            for name, value in parameters.items()
            if ("." in name and not name.startswith("strategy.")) or name in mine
        }
        others = {name.removeprefix("strategy."): value for name, value in parameters.items() if name not in own}
        made = msgspec.structs.replace(self, strategy=self.strategy.vary(others)) if others else self
        return super(Portfolio, made).vary(own) if own else made

    def parameters(self) -> dict[str, Any]:
        """What tells this portfolio from others, plain data: all fields of its strategy under their names.

        Beside them, under dotted names such as `fills.fee_bps`, those of its other settings that are not what they are
        by default, and so `start_equity`.
        """
        told: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(self.strategy))
        for field in _fields(type(self)):
            settings = getattr(self, field.name)
            if field.name in self._own_parameters and settings != field.default:
                told[field.name] = settings
            if field.name != "strategy" and isinstance(settings, msgspec.Struct):
                told |= _changed(settings, field.name)
        return told

    @property
    def grouped_by(self) -> Strategy:
        return self.strategy

    def parameter_fields(self) -> Sequence[str]:
        return (*self.strategy.__struct_fields__, *self._own_parameters)

    @property
    def _own_parameters(self) -> Sequence[str]:
        """Fields of its own that may differ within a group, but for those that the strategy calls the same."""
        return [name for name in ("start_equity",) if name not in self.strategy.__struct_fields__]

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """State and kept equity of all and of the baseline, and what they leave.

        Equity is kept on at most `equity.MAX_POINTS` points of 8 bytes; a point on disk has a time, a value and a name
        (40 bytes), a fill 80, and a row of statistics 1,000. Nobody knows how often strategies trade: one fill in
        `BARS_PER_FILL` bars is supposed.
        """
        from .accounting import HOLDING, STATE, TERMS
        from .equity import MAX_POINTS

        members += self.baseline
        points = MAX_POINTS if rows is None else min(rows, MAX_POINTS)
        instruments = len(self.instruments) if isinstance(self.instruments, tuple) else 1
        state = members * (STATE.itemsize + TERMS.itemsize + instruments * HOLDING.itemsize)
        fills = None if rows is None else members * (rows // BARS_PER_FILL) * FILL_BYTES
        return Footprint(
            rows=members,
            memory_bytes=state + members * points * 8,
            least_bytes=state,
            results={
                "equity": members * points * POINT_BYTES,
                "fills": fills,
                "statistics": members * STATISTICS_BYTES,
            },
            notes=[f"equity on at most {points:,} points each; one fill in {BARS_PER_FILL} bars is supposed"],
        )

    def needs(self) -> frozenset[Hashable]:
        return frozenset(self._features())

    def warmup_rows(self) -> int:
        """Bars the strategy itself wants to have seen, beside those its features need."""
        return self.strategy.warmup_bars()

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        wanted = [*NEEDED, *(feature.name for feature in self._features())]
        for name, schema in inputs.items():
            sent = () if schema is None else set(schema.names)
            missing = [column for column in wanted if schema is not None and column not in sent]
            if missing and schema is not None:
                raise SchemaMismatch(
                    f"a portfolio needs columns {', '.join(missing)}, which '{name}' does not send; "
                    f"it sends {', '.join(schema.names)}"
                )
        return PORTFOLIOS

    def _features(self) -> Sequence[Feature]:
        """What the strategy asks for, and what sizes its positions."""
        try:
            wanted = list(union(self.strategy.features()))
        except Exception as error:
            raise ValueError(f"features() of strategy {self.strategy!r} failed: {error}") from error
        return union([*wanted, *([Feature.volatility(self.sizing.n)] if self.sizing.by == "volatility" else [])])


@lru_cache(maxsize=256)
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Kept, since msgspec evaluates all annotations each time it is asked: a tenth of a millisecond for a member."""
    return msgspec.structs.fields(kind)


def _changed(settings: msgspec.Struct, prefix: str) -> dict[str, Any]:
    """Fields that are not the default, under dotted names."""
    told: dict[str, Any] = {}
    for field in _fields(type(settings)):
        value = getattr(settings, field.name)
        if isinstance(value, msgspec.Struct):
            told |= _changed(value, f"{prefix}.{field.name}")
        elif field.required or value != field.default:
            told[f"{prefix}.{field.name}"] = msgspec.to_builtins(value)
    return told

"""A portfolio: one strategy trading one instrument on bars, or thousands of them at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import msgspec
import pyarrow as pa

from pipeline import Context, Logic, SchemaMismatch, Stage
from stages.features.feature import union

from .fills import Fills
from .records import PORTFOLIOS
from .statistics import StatisticsSettings
from .strategy import Strategy

NEEDED = ("open", "high", "low", "close", "bar_start", "bar_end")


class Portfolio(Stage, frozen=True):
    """Trades a strategy's targets on bars and says how it did.

        portfolio_*:
          type: portfolio
          strategy: {type: sma_cross, fast: 10, slow: 50, quantity: 1}
          fills: {at: next_open, fee_bps: 10, slippage_bps: 1}
          start_equity: 100000
          statistics: {every: auto, calendar: crypto}

    Input: bars in the order of `bar_end`, of one instrument (or `instrument` says of which), with the strategy's
    features as columns. Results per portfolio: `fills` (a series), `equity` (kept on a grid of at most 2,000 points),
    `statistics` (a dict). Output: one batch at the end, one row per portfolio, the columns of `records.PORTFOLIOS`.
    The books are kept as `accounting.py` says; open positions are valued at the last close, not closed.
    """

    is_feed: ClassVar[bool | None] = False

    strategy: Strategy
    """What to trade: `type:` names a strategy, the rest are its fields."""
    fills: Fills = Fills()
    start_equity: float = 100_000.0
    """Cash at the start, quote currency; above 0. Returns, drawdown and leverage are shares of equity: it matters."""
    instrument: str | None = None
    """`SYMBOL.VENUE` to trade where bars of several arrive; None takes the only one there is."""
    statistics: StatisticsSettings = StatisticsSettings()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_equity) and self.start_equity > 0):
            raise ValueError(f"expected a start_equity above 0, found {self.start_equity}")

    def build(self, context: Context) -> Logic:
        from .group import PortfolioGroup

        return PortfolioGroup({context.name: self}, alone=True, log=context.log)

    @property
    def groups(self) -> bool:
        return True

    def build_group(self, members: Mapping[str, Self], context: Context) -> Logic:
        from .group import PortfolioGroup

        return PortfolioGroup(members, log=context.log)

    def vary(self, parameters: Mapping[str, Any]) -> Self:
        """This portfolio with other fields of its strategy. Raises `ValueError` for unknown or unfit ones."""
        return msgspec.structs.replace(self, strategy=self.strategy.vary(parameters))

    def parameter_fields(self) -> Sequence[str]:
        return self.strategy.__struct_fields__

    def needs(self) -> frozenset[Hashable]:
        try:
            return frozenset(union(self.strategy.features()))
        except Exception as error:
            raise ValueError(f"features() of strategy {self.strategy!r} failed: {error}") from error

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema:
        wanted = [*NEEDED, *(feature.name for feature in union(self.strategy.features()))]
        for name, schema in inputs.items():
            missing = [column for column in wanted if schema is not None and column not in schema.names]
            if missing and schema is not None:
                raise SchemaMismatch(
                    f"a portfolio needs columns {', '.join(missing)}, which '{name}' does not send; "
                    f"it sends {', '.join(schema.names)}"
                )
        return PORTFOLIOS

"""The stage that adds indicators to bars, and makes the bars first where that is asked."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import msgspec
import pyarrow as pa

from pipeline import Context, Duration, Footprint, Stage, parse_duration

from .columns import with_features
from .feature import Feature, union
from .warmup import bars_to_form

if TYPE_CHECKING:
    from .feature_bars import FeatureBars

LEAST_HISTORY = 64
"""Values a window's history holds at least."""
MAX_NAMED = 12
"""Features a plan names."""


class Features(Stage, frozen=True):
    """Bars and, beside them, one float64 column per feature: those declared here and those strategies ask for.

        features:
          type: features
          inputs: [data]
          bars: 1m                # leave out where the input has the rows features are wanted for
          price: mid              # as in `bars`: last, bid, ask or mid
          indicators:
            - sma_20
            - {type: bollinger_upper, n: 20, k: 2.5}
            - max_20_lag1_high
            - beta_60_vs_ETHUSD.COINBASE

    `bars` makes bars of trades, quotes or finer bars, and passes bars of that very interval on as they are. A feature
    is null until it has seen enough bars of its instrument. Columns are in the order of `Feature.sort_key`, whoever
    asked first.

    Where a feature looks at other instruments, bars must come in the order of time, and those of the newest moment wait
    until a later one, a watermark past it or the end has come; memory for them is one moment's bars.
    """

    is_feed: ClassVar[bool | None] = False

    bars: Duration | None = None
    price: Literal["last", "bid", "ask", "mid"] | None = None
    indicators: tuple[str | Feature, ...] = ()

    def __post_init__(self) -> None:
        union(self.indicators)

    @property
    def features(self) -> tuple[Feature, ...]:
        """What is computed, each once, in the order of the columns."""
        return tuple(union(self.indicators))

    def providing(self, needs: frozenset[Hashable]) -> Self:
        """This recipe with every `Feature` among `needs`; other needs are left to other stages."""
        wanted = [need for need in needs if isinstance(need, Feature)]
        return msgspec.structs.replace(self, indicators=tuple(union([*self.indicators, *wanted])))

    def footprint(self, members: int, rows: int | None) -> Footprint:
        """The history of one instrument; bars made here are fewer than the rows that come.

        48 bytes times the bars until the slowest feature of a column has formed, at least 64, for each column, and 24
        for each feature.
        """
        longest: dict[str, int] = {}
        for feature in self.features:
            for column in feature.inputs:
                longest[column] = max(longest.get(column, LEAST_HISTORY), bars_to_form(feature))
        names = [feature.name for feature in self.features]
        shown = names if len(names) <= MAX_NAMED else [*names[: MAX_NAMED - 1], f"... {names[-1]}"]
        return Footprint(
            rows=rows,
            memory_bytes=48 * sum(longest.values()) + 24 * len(names),
            facts={"features": f"{len(names):,} ({', '.join(shown)})" if names else "none"},
            notes=["its state is that of one instrument"],
        )

    def build(self, context: Context) -> FeatureBars:
        from .feature_bars import FeatureBars

        return FeatureBars(self.features, None if self.bars is None else parse_duration(self.bars), self.price)

    def takes_record(self) -> str:
        if self.bars is None:
            return "bar"
        return "trade" if self.price in (None, "last") else "quote"

    def columns_read(self, schema: pa.Schema) -> frozenset[str] | None:
        """Of trades and quotes what bars are made of."""
        if self.bars is None:
            return None
        from .bar_input import columns_of_ticks

        return columns_of_ticks(schema, self.price)

    def cadence_ns(self, inputs: Mapping[str, int | None]) -> int | None:
        return super().cadence_ns(inputs) if self.bars is None else parse_duration(self.bars)

    def warmup_rows(self) -> int:
        """Bars until the slowest of the features has formed."""
        return max(map(bars_to_form, self.features), default=0)

    def output_schema(self, inputs: Mapping[str, pa.Schema | None]) -> pa.Schema | None:
        """The bars' columns and the features'. Raises `SchemaMismatch` where a column that is needed is missing."""
        if self.bars is not None:
            from .bar_input import schema_of_bars

            schema = schema_of_bars(inputs, self.price)
        else:
            schemas = list(inputs.values())
            schema = schemas[0] if schemas else None
        return None if schema is None else with_features(schema, self.features, self.bars)

"""Buy what has fallen, sell what has risen, by Wilder's index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._levels import NEAR
from ._sides import Side, bought_and_sold


class Rsi(Strategy, frozen=True):
    """Long once the relative strength index of `n` bars is below `low`, out once it is above `high`.

        strategy: {type: rsi, n: 14, low: 30, high: 70}

    Between the two, and while the index is null, the position is kept; an index within 100 * 2^-24 of `low` or `high`
    is at it, not beyond. `side: both` goes short above `high` instead of out; `side: short` does that and is out below
    `low`. Raises `ValueError` unless 0 <= low < high <= 100 and n >= 1.
    """

    n: int = 14
    low: float = 30.0
    high: float = 70.0
    side: Side = "long"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"expected n of 1 or more, found {self.n}")
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"expected low below high, both from 0 to 100, found low={self.low} and high={self.high}")

    def features(self) -> Sequence[Feature]:
        return (Feature.rsi(self.n),)

    def parameters(self) -> Sequence[float]:
        return (self.low - 100.0 * NEAR, self.high + 100.0 * NEAR, *bought_and_sold(self.side))

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        index = inputs[0]
        low, high, bought, sold = parameters
        for bar in range(len(targets)):
            if index[bar] < low:
                targets[bar] = bought
            elif index[bar] > high:
                targets[bar] = sold

"""Bet on the return of the price into its Bollinger bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._levels import near_price
from ._sides import Side, bought_and_sold


class BollingerReversion(Strategy, frozen=True):
    """Long when the close is below the lower band, short when above the upper one, out at the middle.

        strategy: {type: bollinger_reversion, n: 20, k: 2, exit: middle}

    The bands are `k` population standard deviations around the mean of the last `n` closes. With `exit: middle` a
    position is left when the close comes to the middle band or past it; with `exit: opposite` not before it is beyond
    the other outer band. A close that is exactly on a band in decimals is on it, neither above nor below. With `exit:
    middle` this is `zscore_reversion` with `entry: k` and `exit: 0`, but for windows of `n` equal closes: these are at
    the middle, and have no score. `side: long` and `side: short` leave the other side out.

    Raises `ValueError` for an n below 2 or a k not above 0.
    """

    columns: ClassVar[tuple[str, ...]] = ("close",)

    n: int = 20
    k: float = 2.0
    exit: Literal["middle", "opposite"] = "middle"
    side: Side = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 2:
            raise ValueError(f"expected n of 2 or more, found {self.n}")
        self.features()

    def features(self) -> Sequence[Feature]:
        upper, middle, lower = Feature.bollinger(self.n, self.k)
        return (upper, middle, lower, Feature.sma(1).before(), middle.before())

    def parameters(self) -> Sequence[float]:
        return (float(self.exit == "middle"), near_price(self.k), *bought_and_sold(self.side))

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close, upper, middle, lower, close_before, middle_before = inputs
        at_middle, share, bought, sold = parameters
        for bar in range(len(targets)):
            was, now = close_before[bar] - middle_before[bar], close[bar] - middle[bar]
            near = share * (abs(close[bar]) + abs(now))
            if close[bar] < lower[bar] - near:
                targets[bar] = bought
            elif close[bar] > upper[bar] + near:
                targets[bar] = sold
            elif at_middle and ((was < 0.0 and now >= -near) or (was > 0.0 and now <= near)):
                targets[bar] = 0.0

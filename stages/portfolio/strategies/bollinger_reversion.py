"""Bet on the return of the price into its Bollinger bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._sides import Side, bought_and_sold


class BollingerReversion(Strategy, frozen=True):
    """Long when the close is below the lower band, short when above the upper one, out at the middle.

        strategy: {type: bollinger_reversion, n: 20, k: 2, exit: middle}

    The bands are `k` population standard deviations around the mean of the last `n` closes. With `exit: middle` a
    position is left when the close comes to the middle band or past it; with `exit: opposite` not before it is beyond
    the other outer band. `side: long` and `side: short` leave the other side out.

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
        return (float(self.exit == "middle"), *bought_and_sold(self.side))

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close, upper, middle, lower, close_before, middle_before = inputs
        at_middle, bought, sold = parameters
        for bar in range(len(targets)):
            was, now = close_before[bar] - middle_before[bar], close[bar] - middle[bar]
            if close[bar] < lower[bar]:
                targets[bar] = bought
            elif close[bar] > upper[bar]:
                targets[bar] = sold
            elif at_middle and ((was < 0.0 and now >= 0.0) or (was > 0.0 and now <= 0.0)):
                targets[bar] = 0.0

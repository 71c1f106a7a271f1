"""Stand on the side of the last return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._levels import near_price
from ._sides import Side, bought_and_sold


class Momentum(Strategy, frozen=True):
    """Long while the return over `n` bars is above `threshold`, short while below -`threshold`, else flat.

        strategy: {type: momentum, n: 20, threshold: 0.01, side: both}

    `side: long` (the default) and `side: short` leave the other side out. Returns are simple ones of the close; while
    there is none, the position is kept. A return that is exactly `threshold` in decimals is not above it, whatever its
    last bit says. Raises `ValueError` for an n below 1 or a threshold below 0.
    """

    n: int = 20
    threshold: float = 0.0
    side: Side = "long"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise ValueError(f"expected n of 1 or more, found {self.n}")
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"expected a threshold of 0 or more, such as 0.01 for 1 %, found {self.threshold}")

    def features(self) -> Sequence[Feature]:
        return (Feature.returns(self.n),)

    def parameters(self) -> Sequence[float]:
        return (self.threshold, near_price(), *bought_and_sold(self.side))

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        returns = inputs[0]
        threshold, share, bought, sold = parameters
        for bar in range(len(targets)):
            least = threshold + share * (1.0 + abs(returns[bar]))
            if returns[bar] > least:
                targets[bar] = bought
            elif returns[bar] < -least:
                targets[bar] = sold
            elif returns[bar] == returns[bar]:
                targets[bar] = 0.0

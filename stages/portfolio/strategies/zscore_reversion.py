"""Bet on the return of the price to its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._levels import near_price
from ._reversion import check_deviations, revert
from ._sides import Side, bought_and_sold


class ZscoreReversion(Strategy, frozen=True):
    """Long when the close is more than `entry` deviations below its mean, short when above, out at `exit` deviations.

        strategy: {type: zscore_reversion, n: 50, entry: 2, exit: 0.5}

    Mean and population standard deviation are those of the last `n` closes. A long position is left when the score
    rises to -`exit` or past it (0, the default, is the mean itself), a short one when it falls to `exit` or past it; on
    a bar whose score is null, which is where all `n` closes are the same, the position is kept. A close that is exactly
    at a level in decimals is at it, not beyond, whatever a last bit says. `side: long` and `side: short` leave the
    other side out.

    Raises `ValueError` unless 0 <= exit < entry and n >= 2.
    """

    columns: ClassVar[tuple[str, ...]] = ("close",)

    n: int = 50
    entry: float = 2.0
    exit: float = 0.0
    side: Side = "both"

    kernel = staticmethod(revert)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 2:
            raise ValueError(f"expected n of 2 or more, found {self.n}")
        check_deviations(self)

    def features(self) -> Sequence[Feature]:
        score = Feature.zscore(self.n)
        return (score, score.before(), Feature.stddev(self.n))

    def parameters(self) -> Sequence[float]:
        return (self.entry, self.exit, near_price(self.entry), *bought_and_sold(self.side))

"""Bet on the return of the price to its mean."""

from __future__ import annotations

from collections.abc import Sequence

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._reversion import check_deviations, revert
from ._sides import Side, bought_and_sold


class ZscoreReversion(Strategy, frozen=True):
    """Long when the close is more than `entry` deviations below its mean, short when above, out at `exit` deviations.

        strategy: {type: zscore_reversion, n: 50, entry: 2, exit: 0.5}

    Mean and population standard deviation are those of the last `n` closes. A long position is left when the score
    rises past -`exit` (0, the default, is the mean itself), a short one when it falls past `exit`; on a bar whose score
    is null the position is kept. `side: long` and `side: short` leave the other side out.

    Raises `ValueError` unless 0 <= exit < entry and n >= 2.
    """

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
        return (score, score.before())

    def parameters(self) -> Sequence[float]:
        return (self.entry, self.exit, *bought_and_sold(self.side))

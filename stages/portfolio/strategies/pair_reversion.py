"""Bet on two instruments finding back to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._levels import NEAR
from ._reversion import check_deviations


class PairReversion(Strategy, frozen=True, kw_only=True):
    """Long the cheaper and short the dearer of two instruments while their ratio is far from its mean.

        strategy: {type: pair_reversion, first: BTCUSD.COINBASE, second: ETHUSD.COINBASE, n: 100, entry: 2, exit: 0.5}

    The score is that of ln(first / second) over the last `n` bars of the instrument that has the bar, in population
    standard deviations. More than `entry` above the mean, the first is sold and the second bought; more than `entry`
    below, the other way round; a position is left when the score comes to `exit` on its side of the mean, or past it.
    A score within 2^-24 of a level is at it, not beyond.

    A target is for the instrument of its bar; on bars of a third one the position is kept. Where an instrument has no
    bar of a moment, the other is held against its last one.

    Raises `ValueError` unless 0 <= exit < entry, n >= 2 and there are two names.
    """

    first: str
    second: str
    n: int = 100
    entry: float = 2.0
    exit: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first or not self.second or self.first == self.second:
            raise ValueError(f"expected two instruments, found first='{self.first}' and second='{self.second}'")
        if self.n < 2:
            raise ValueError(f"expected n of 2 or more, found {self.n}")
        check_deviations(self)

    def features(self) -> Sequence[Feature]:
        scores = (Feature.spread_zscore(self.n, self.second), Feature.spread_zscore(self.n, self.first))
        return (*scores, *(score.before() for score in scores))

    def parameters(self) -> Sequence[float]:
        return (self.entry + NEAR, self.exit + NEAR)

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        against_second, against_first, second_before, first_before = inputs
        enter, leave = parameters
        for bar in range(len(targets)):
            # An instrument has no score against itself: where both are there, the bar is of a third one.
            score, before = against_second[bar], second_before[bar]
            if score != score:
                score, before = against_first[bar], first_before[bar]
            elif against_first[bar] == against_first[bar]:
                continue
            if score < -enter:
                targets[bar] = 1.0
            elif score > enter:
                targets[bar] = -1.0
            elif (before < -leave and score >= -leave) or (before > leave and score <= leave):
                targets[bar] = 0.0

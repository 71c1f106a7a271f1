"""Hold while the fast simple average is above the slow one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from stages.features.feature import Feature
from stages.portfolio.cross import ROUNDING, Cross, CrossGroup, OneCross
from stages.portfolio.strategy import GroupDecider, Strategy, Vectorised

from ._periods import check_periods


class SmaCross(Strategy, frozen=True):
    """Long while `sma(fast) > sma(slow)`, else flat, or short with `short: true`.

        strategy: {type: sma_cross, fast: 10, slow: 50}

    Averages are of the close. No target before both are formed, which is on bar number `slow`. Equal averages count as
    not above, and they are equal where those of the decimal prices are: a last bit that doubles get wrong is no
    crossing. Raises `ValueError` unless 1 <= fast < slow.
    """

    fast: int = 10
    slow: int = 50
    short: bool = False
    """Hold the opposite position instead of none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_periods(self)

    def features(self) -> Sequence[Feature]:
        return (Feature.sma(self.fast), Feature.sma(self.slow))

    def build(self) -> Vectorised:
        return OneCross(self._cross())

    @classmethod
    def build_group(cls, members: Sequence[Self]) -> GroupDecider:
        return CrossGroup([member._cross() for member in members])

    def _cross(self) -> Cross:
        return Cross(Feature.sma(self.fast), Feature.sma(self.slow), -1.0 if self.short else 0.0, same=ROUNDING)

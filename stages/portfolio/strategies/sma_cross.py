"""Hold while the fast simple average is above the slow one."""

from __future__ import annotations

from stages.features.feature import Feature
from stages.portfolio.cross import ROUNDING, Cross

from ._crossing import Crossing


class SmaCross(Crossing, frozen=True):
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

    def _cross(self) -> Cross:
        return Cross(Feature.sma(self.fast), Feature.sma(self.slow), -1.0 if self.short else 0.0, same=ROUNDING)

"""What strategies on a fast and a slow average have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from stages.features.feature import Feature
from stages.portfolio.cross import Cross, CrossGroup, OneCross
from stages.portfolio.strategy import GroupDecider, Strategy, Vectorised


class Crossing(Strategy, frozen=True, kw_only=True):
    """Targets by the side of the slow average the fast one is on; a subclass says which averages, and what then."""

    fast: int
    slow: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fast < 1:
            raise ValueError(f"expected fast of 1 or more, found {self.fast}")
        if self.fast >= self.slow:
            raise ValueError(f"expected fast below slow, found fast={self.fast} and slow={self.slow}")

    def _cross(self) -> Cross:
        """The two averages and the targets."""
        raise NotImplementedError

    def features(self) -> Sequence[Feature]:
        cross = self._cross()
        return (cross.fast, cross.slow)

    def build(self) -> Vectorised:
        return OneCross(self._cross())

    @classmethod
    def build_group(cls, members: Sequence[Self]) -> GroupDecider:
        return CrossGroup([member._cross() for member in members])

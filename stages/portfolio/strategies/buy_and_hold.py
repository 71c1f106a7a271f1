"""Buy at once and keep it: what every other strategy is held against."""

from __future__ import annotations

from typing import Any

from stages.portfolio.strategy import Strategy


class BuyAndHold(Strategy, frozen=True):
    """Long from the first bar to the last.

    strategy: {type: buy_and_hold}
    """

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        targets[:] = 1.0

"""What is raised where a strategy goes wrong."""

from __future__ import annotations

import numpy as np

from pipeline import PenstockError

from .bars import Floats


class StrategyFailed(PenstockError):
    """A strategy's own code failed, or returned what is no target; names the strategy and the bar's time.

    `targets` are those it gave in this batch before it failed.
    """

    def __init__(self, message: str, targets: Floats | None = None) -> None:
        super().__init__(message)
        self.targets: Floats = np.empty(0) if targets is None else targets

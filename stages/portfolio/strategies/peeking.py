"""A strategy that cheats, on purpose: what `penstock check --lookahead` must find."""

from __future__ import annotations

import numpy as np

from stages.portfolio.bars import Bars, Floats
from stages.portfolio.strategy import Strategy


class Peeking(Strategy, frozen=True):
    """Long where the close will be higher in `ahead` bars, else flat. Nobody can trade this; do not believe it.

        strategy: {type: peeking, ahead: 1}

    It looks at later bars of the batch it is handed, as a `shift(-1)` does, and keeps its position on the last ones.
    Its returns are what a mistake of this kind looks like. Raises `ValueError` unless `ahead` is 1 or more.
    """

    ahead: int = 1
    """Bars into the future."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ahead < 1:
            raise ValueError(f"expected ahead of 1 or more, found {self.ahead}")

    def on_bars(self, bars: Bars) -> Floats:
        close = bars.close
        targets = np.full(len(bars), np.nan)
        targets[: -self.ahead] = close[self.ahead :] > close[: -self.ahead]
        return targets

"""Follow the price out of its channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from stages.features.feature import Feature
from stages.portfolio.strategy import Strategy

from ._sides import Side, bought_and_sold


class Breakout(Strategy, frozen=True):
    """Long when the close is above the highest high of the `n` bars before, out when below the lowest low of `exit_n`.

        strategy: {type: breakout, n: 20, exit_n: 10}

    Donchian's channels; the bar that breaks out is not part of them. `side: short` is the mirror image; `side: both`
    turns from long to short and back at the channel of `n` and has no `exit_n`, which is `n` where it is not given.
    Nothing is decided before both channels are formed. Raises `ValueError` for lengths below 1.
    """

    columns: ClassVar[tuple[str, ...]] = ("close",)

    n: int = 20
    exit_n: int | None = None
    side: Side = "long"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n", "exit_n"):
            length = getattr(self, name)
            if length is not None and length < 1:
                raise ValueError(f"expected {name} of 1 or more, found {length}")
        if self.side == "both" and self.exit_n is not None:
            raise ValueError(f"`side: both` turns at the channel of n and has no exit_n, found {self.exit_n}")

    def features(self) -> Sequence[Feature]:
        exit_n = self.n if self.exit_n is None else self.exit_n
        upper, lower = (exit_n, self.n) if self.side == "short" else (self.n, exit_n)
        return (Feature.max(upper, "high").before(), Feature.min(lower, "low").before())

    def parameters(self) -> Sequence[float]:
        return bought_and_sold(self.side)

    @staticmethod
    def kernel(inputs: Any, parameters: Any, targets: Any) -> None:
        close, upper, lower = inputs
        bought, sold = parameters
        for bar in range(len(targets)):
            if upper[bar] != upper[bar] or lower[bar] != lower[bar]:
                continue
            if close[bar] > upper[bar]:
                targets[bar] = bought
            elif close[bar] < lower[bar]:
                targets[bar] = sold

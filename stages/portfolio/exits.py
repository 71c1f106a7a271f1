"""What closes a position before its strategy does."""

from __future__ import annotations

import math
from typing import Literal

import msgspec


class Exits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Levels that close a position within a bar; shares of the average price paid.

        exits: {stop_loss: 0.02, take_profit: 0.05}
        exits: {trailing_stop: 0.03, intrabar: worst}

    For a long position (a short one is mirrored), with `entry` the average price paid, slippage included:

    - the stop is the higher of `entry * (1 - stop_loss)` and `best * (1 - trailing_stop)`, where `best` is the highest
      of `entry` and of the highs of the bars that traded with the position in them *before* this one (of the bar it was
      entered in: the high where it entered at the open, the close where it entered within the bar or at the close);
      `entry` is the present average, so that adding to a position moves both, and a trailing stop may go back;
    - the profit is taken at `entry * (1 + take_profit)`; of prices below zero the size is the base, as in
      `entry + |entry| * take_profit`.

    In each bar that trades, after orders that fill at its open:

    1. a position held at the open (also one opened at it) is closed at the open where that is at or beyond the stop,
       else where it is at or beyond the profit;
    2. then within the bar: at the stop where the low is at or below it, at the profit where the high is at or above it.
       Nobody knows which came first where both are: `intrabar: worst` takes the stop, `best` the profit.
    3. then limit and stop orders fill. A position entered by them from flat can be stopped in this bar at its stop
       (`worst`), not with `best`; its profit is not taken before the next bar. Nor is anything of one entered at the
       close, before the next bar.

    Exits at the open are stamped `bar_start`, those within the bar `bar_end`. Stops pay slippage, profits do not. It
    withdraws whatever order waits for that instrument. After it the strategy's decisions are passed over for as long as
    they give the very target that was decided last; another target is followed again (`reenter: on_change`), or
    decisions are followed from the next one on, that of this bar's close, as if none had been before it (`reenter:
    at_once`). An exit is an order and counts as one.
    """

    stop_loss: float | None = None
    """Loss at which a position is closed, a share of the price paid; above 0, below 1 for long positions to matter."""
    take_profit: float | None = None
    """Gain at which it is closed, a share of the price paid; above 0."""
    trailing_stop: float | None = None
    """Fall from the best price since entry at which it is closed, a share of that; above 0, below 1."""
    intrabar: Literal["worst", "best"] = "worst"
    reenter: Literal["on_change", "at_once"] = "on_change"

    def __post_init__(self) -> None:
        for name in ("stop_loss", "take_profit", "trailing_stop"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"expected a {name} above 0, such as 0.02 for two percent, found {value}")
        if self.trailing_stop is not None and self.trailing_stop >= 1:
            raise ValueError(f"expected a trailing_stop below 1, found {self.trailing_stop}")

"""How many units a target of 1 stands for."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from .statistics import CALENDARS


class Sizing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turns a strategy's target `t` (1 long, 0 flat, -1 short, fractions between and beyond) into units.

        sizing: {by: quantity}                                    # t * the strategy's quantity
        sizing: {by: equity, share: 0.5}                          # half the equity, when the target changes
        sizing: {by: weight, share: 0.25, band: 0.02}             # kept at a quarter of the equity
        sizing: {by: volatility, volatility: 0.2, n: 20, max_leverage: 2}

    All figures are those of the deciding close: `price` is that close and `equity` the portfolio's at it, before any
    fill at that close. A decision is a target that is not NaN (None).

    - `quantity`: `t * quantity`. Nothing else is looked at.
    - `equity`: `t * share * equity / price`, computed when `t` differs from the target decided before, or for the first
      decision followed after an exit; while it stays the same, so do the units, whatever equity and price do.
    - `weight`: `t * share * equity / price` at every decision. While `t` stays the same, units within `band * equity`
      of those held, in value at `price`, are those held (`band: 0` follows every change).
    - `volatility`: as `weight`, with a share of `volatility / v`, at most `max_leverage`. `v` is the standard deviation
      of the last `n` simple returns (feature `volatility_n`) times the square root of the periods in a year for this
      bar's length by `calendar`. While `v` is not formed no decision is taken; a `v` of 0 gives `max_leverage`.

    Then units not held already are cut to whole multiples of `lot`, towards zero:
    `floor(|units| / lot + 1e-9) * lot`. Where `equity` is 0 or below, all but `quantity` want 0 units at once,
    whatever they hold, and `equity` goes on wanting 0 until `t` changes, though there be money again; where `price` is
    0 or below, they decide nothing.
    """

    by: Literal["quantity", "equity", "weight", "volatility"] = "quantity"
    share: float = 1.0
    """Share of equity a target of 1 stands for, above 0 (`equity`, `weight`); above 1 is leverage."""
    band: float = 0.0
    """How far a weight may drift before it is traded back, as a share of equity; 0 or more (`weight`, `volatility`)."""
    volatility: float = 0.2
    """Volatility wanted, a share of equity per year; above 0."""
    n: int = 20
    """Returns the present volatility is measured over; 2 or more."""
    max_leverage: float = 1.0
    """Largest share of equity `volatility` asks for; above 0."""
    calendar: Literal["crypto", "xnys"] = "crypto"
    """What a year is, for `volatility`; as in `statistics`."""
    lot: float = 0.0
    """Smallest tradable number of units; 0: any fraction."""

    def __post_init__(self) -> None:
        for name in ("share", "volatility", "max_leverage"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"expected a {name} above 0, found {getattr(self, name)}")
        for name in ("band", "lot"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"expected a {name} of 0 or more, found {getattr(self, name)}")
        if self.n < 2:
            raise ValueError(f"expected n of 2 or more returns, found {self.n}")
        if self.calendar not in CALENDARS:
            raise ValueError(f"expected a calendar among {', '.join(CALENDARS)}, found '{self.calendar}'")

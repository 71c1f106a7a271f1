"""When an order fills, and what it costs."""

from __future__ import annotations

import math
from typing import Literal

import msgspec


class Fills(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How orders become fills; every order is a market order and fills in full.

        fills: {at: next_open, fee_bps: 10, slippage_bps: 1}

    A decision taken on a bar's close fills

    - `at: next_open` (default): at the open of the next bar, stamped with that bar's `bar_start`. A decision on the
      last bar has no next open: its order is counted and never filled.
    - `at: close`: at the close it was taken on, stamped with that bar's `bar_end`. It knows the price it trades at; use
      it to compare with engines that do the same (NautilusTrader's bar execution does).

    Slippage is `price * slippage_bps / 10,000`, where `price` is that open or close; the price paid is
    `price + slippage` for a buy and `price - slippage` for a sell. The fee is `quantity * price paid * fee_bps /
    10,000`, in quote currency, taken from cash. (Of prices below zero the size counts.) Prices are not rounded to the
    instrument's increment.
    """

    at: Literal["next_open", "close"] = "next_open"
    fee_bps: float = 0.0
    """Fee on notional in hundredths of a percent; below 0 is a rebate."""
    slippage_bps: float = 0.0
    """How far the price moves against the trade, in hundredths of a percent; 0 to below 10,000."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fee_bps) and abs(self.fee_bps) < 10_000):
            raise ValueError(f"expected fee_bps between -10,000 and 10,000, found {self.fee_bps}")
        if not 0 <= self.slippage_bps < 10_000:
            raise ValueError(f"expected slippage_bps from 0 to below 10,000, found {self.slippage_bps}")

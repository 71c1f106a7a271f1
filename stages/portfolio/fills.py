"""When an order fills, and what it costs."""

from __future__ import annotations

import math
from typing import Literal

import msgspec


class Fills(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How orders become fills; every order fills in full or not at all.

        fills: {at: next_open, fee_bps: 10, slippage_bps: 1}
        fills: {order: limit, offset_bps: 20, expires_bars: 5}

    **Orders.** A decision is taken on a bar's close. Where the units it wants differ from those held it makes an order,
    two where it changes sides: one that closes, one that opens. An order that is waiting stays as it is while decisions
    want the same units; one for other units replaces it, one for the units held withdraws it. Units that differ by no
    more than 1e-12 of the larger are the same. Closing and reducing is always done at market, opening and adding as
    `order` says:

    - `market`: at the next bar's open, stamped `bar_start` (`at: next_open`, default), or at the very close it was
      decided on, stamped `bar_end` (`at: close`; knows the price it trades at; NautilusTrader's bar execution does so).
      A decision on the last bar has no next open: its order is counted and never filled.
    - `limit`: rests `offset_bps` of the size of the deciding close below it (a buy; a sale: above) from the next bar
      on. A buy fills at the open where that is at or below the limit, else at the limit where the low is below it
      (`touch: through`) or at or below it (`touch: fill`). Sales likewise, mirrored.
    - `stop`: rests as far above the deciding close (a buy; a sale: below). A buy fills at the open where that is at or
      above the stop, else at the stop where the high is at or above it. Sales likewise, mirrored.

    A price within 2^-50 of a level is at it: what decimals make equal, doubles may miss by their last bit.
    Fills at the open are stamped `bar_start`, those within the bar `bar_end`. A limit or stop order that has seen
    `expires_bars` bars of trading without a fill is withdrawn, before the decision on the last one's close; the next
    decision that still wants it, that one too, makes a new one. In one bar come: orders that fill at the open, exits at
    the open, exits within the bar (which withdraw what waits), limit and stop orders at their prices, the decision, and
    what fills at the close. What is added within a bar moves the levels of `exits` from the next bar on.

    **Bars without trades** (`is_empty`, or a volume of 0; a null volume is unknown and counts as trading) fill nothing
    and trigger nothing: orders wait for the next bar that trades. Decisions are still taken on them. An order of
    `at: close` taken on one fills at the close of the next bar that trades, unless a decision until then replaces it.

    **Costs.** Slippage is `price * slippage_bps / 10,000`, against the trade: paid is `price + slippage` for a
    buy and `price - slippage` for a sale. Limit orders and taken profits pay none, since they name their price. The fee
    of a fill is the larger of `fee_minimum` and `quantity * price paid * fee_bps / 10,000 + quantity * fee_per_unit`,
    in quote currency, taken from cash. (Of prices below zero the size counts.) Prices are not rounded to the
    instrument's increment.
    """

    at: Literal["next_open", "close"] = "next_open"
    order: Literal["market", "limit", "stop"] = "market"
    """How positions are opened and added to. `limit` and `stop` need `at: next_open`."""
    offset_bps: float = 0.0
    """Distance of a limit or stop price from the deciding close, hundredths of a percent, 0 to below 10,000."""
    expires_bars: int | None = None
    """Bars of trading a limit or stop order may wait, 1 or more; None: until it is replaced."""
    touch: Literal["through", "fill"] = "through"
    """Whether a limit fills where the price only touches it (`fill`), or must trade through it."""
    fee_bps: float = 0.0
    """Fee on notional in hundredths of a percent; below 0 is a rebate."""
    fee_per_unit: float = 0.0
    """Fee per unit traded, quote currency, 0 or more."""
    fee_minimum: float = 0.0
    """Least fee of a fill, quote currency, 0 or more; 0: none (a rebate stays one)."""
    slippage_bps: float = 0.0
    """How far the price moves against the trade, in hundredths of a percent; 0 to below 10,000."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fee_bps) and abs(self.fee_bps) < 10_000):
            raise ValueError(f"expected fee_bps between -10,000 and 10,000, found {self.fee_bps}")
        if not 0 <= self.slippage_bps < 10_000:
            raise ValueError(f"expected slippage_bps from 0 to below 10,000, found {self.slippage_bps}")
        if not 0 <= self.offset_bps < 10_000:
            raise ValueError(f"expected offset_bps from 0 to below 10,000, found {self.offset_bps}")
        for name in ("fee_per_unit", "fee_minimum"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"expected a {name} of 0 or more, found {getattr(self, name)}")
        if self.expires_bars is not None and self.expires_bars < 1:
            raise ValueError(f"expected expires_bars of 1 or more, found {self.expires_bars}")
        if self.order == "market" and (self.offset_bps or self.expires_bars is not None):
            raise ValueError("offset_bps and expires_bars belong to `order: limit` and `order: stop`")
        if self.order != "market" and self.at == "close":
            raise ValueError(f"a {self.order} order waits for the bars after the decision; leave `at: close` out")

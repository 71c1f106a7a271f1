"""Always in the market, on the side of the fast exponential average."""

from __future__ import annotations

from stages.features.feature import Feature
from stages.portfolio.cross import Cross

from ._crossing import Crossing


class EmaCross(Crossing, frozen=True):
    """Long while `ema(fast) >= ema(slow)`, else short; what NautilusTrader's example `EMACross` does.

        strategy: {type: ema_cross, fast: 10, slow: 20}
        fills: {at: close}              # NautilusTrader's bar execution

    As there (examples/strategies/ema_cross.py):

    - an average begins with the first close and goes on with alpha = 2 / (n + 1);
    - nothing is decided before `slow` bars have been seen, that bar included; on the first decision it enters at once,
      without waiting for a crossing;
    - a bar with one price only (open = high = low = close) moves the averages but decides nothing
      (`skip_single_price`);
    - a change of side closes the position and opens the other one: two orders, two fills.

    There a market order sent from `on_bar` fills after `on_bar` returns, without latency, against a book whose two
    sides stand at this bar's close: hence `at: close`, and the fill carries the bar's end as its time. Three
    differences are left: NautilusTrader fills what exceeds the size at the top of its book (a quarter of a bar's
    volume) one price increment worse, it rounds prices and sizes to the instrument's increments, and with
    `close_positions_on_stop` it closes the last position after the last bar.

    Raises `ValueError` unless 1 <= fast < slow.
    """

    fast: int = 10
    slow: int = 20
    skip_single_price: bool = True

    def _cross(self) -> Cross:
        return Cross(Feature.ema(self.fast), Feature.ema(self.slow), -1.0, True, self.skip_single_price)

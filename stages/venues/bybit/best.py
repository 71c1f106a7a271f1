"""The topic of best prices: a book of one level, of which only changes are told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from stages.venues.facts import Late, Level, Missed, Quote, Repeated, is_zero

NONE: Level = ("0", "0")
SAME = "best prices again"
NOT_KNOWN = "best prices not known yet"


class BestPrices:
    """The best prices of each instrument, by messages that are counted without a hole.

    Where one is missing, that is told once, and best prices are told again when both sides have been: each is known
    from its first level on. A snapshot with the number of the last message says that nothing has changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Sides] = {}

    def change(self, symbol: str, channel: str, number: int, bids: list[Level], asks: list[Level]) -> _Sides:
        """Changed levels. Raises `Missed`, `Late` or `Repeated`."""
        known = self._known.get(symbol)
        if known is None or known.number is None:
            known = self._known[symbol] = known or _Sides()
        elif number == known.number:
            raise Repeated("best prices that came before", channel, symbol, seq_got=number)
        elif number < known.number:
            raise Late(
                "best prices older than the last", channel, symbol, seq_expected=known.number + 1, seq_got=number
            )
        elif number > known.number + 1:
            expected = known.number + 1
            known = self._known[symbol] = _Sides()
            known.put(number, bids, asks)
            missing = number - expected
            raise Missed(
                "changes of the best prices are missing", channel, symbol,
                seq_expected=expected, seq_got=number, missing=missing,
            )  # fmt: skip
        known.put(number, bids, asks)
        return known

    def begin(self, symbol: str, number: int, bids: list[Level], asks: list[Level]) -> _Sides | None:
        """All there is; None where it is as it was."""
        known = self._known.get(symbol)
        if known is not None and known.number == number and number != 1:
            return None
        known = self._known[symbol] = _Sides()
        known.put(number, bids, asks)
        known.is_told = (True, True)
        return known

    def forget(self, symbol: str) -> None:
        """A message could not be read: what it changed is not known."""
        self._known.pop(symbol, None)

    def snapshot(self) -> dict[str, Any]:
        return {symbol: known.plain() for symbol, known in self._known.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._known = {symbol: _Sides.of(plain) for symbol, plain in state.items()}


class _Sides:
    """Sizes by price of both sides, and which of the sides is known."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.sizes: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.is_told = (False, False)

    def put(self, number: int, *sides: list[Level]) -> None:
        self.number = number
        for sizes, levels in zip(self.sizes, sides, strict=True):
            for price, size in levels:
                if is_zero(size):
                    sizes.pop(price, None)
                else:
                    sizes[price] = size
        bids, asks = self.is_told
        self.is_told = (bids or bool(self.sizes[0]), asks or bool(self.sizes[1]))

    def quote(self, symbol: str, time: int) -> Quote | None:
        """The best of both; None while one is not known."""
        if self.is_told != (True, True):
            return None
        bids, asks = self.sizes
        bid = max(bids.items(), key=_price, default=NONE)
        ask = min(asks.items(), key=_price, default=NONE)
        return Quote(symbol=symbol, time=time, bid=bid, ask=ask)

    def plain(self) -> dict[str, Any]:
        bids, asks = self.sizes
        return {"number": self.number, "bids": dict(bids), "asks": dict(asks), "is_told": list(self.is_told)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> _Sides:
        made = cls()
        made.number, made.sizes = plain["number"], (dict(plain["bids"]), dict(plain["asks"]))
        bids, asks = plain["is_told"]
        made.is_told = (bids, asks)
        return made


def _price(level: Level) -> Decimal:
    return Decimal(level[0])

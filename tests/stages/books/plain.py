"""An independent reading of what a book is: a dict for each side, nothing shared with the stage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

Quote = tuple[Decimal | None, Decimal | None, Decimal | None, Decimal | None]


class PlainBook:
    """Prices and sizes, by side."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}

    def set(self, side: int, price: Decimal, size: Decimal) -> None:
        levels = self.bids if side == 1 else self.asks
        if size:
            levels[price] = size
        else:
            levels.pop(price, None)

    def change(self, bids: Any, asks: Any) -> None:
        for side, levels in ((1, bids), (2, asks)):
            for price, size in levels:
                self.set(side, Decimal(price), Decimal(size))

    def row(self, row: dict[str, Any]) -> None:
        """A published row of book deltas."""
        if row["action"] == 4:
            self.bids.clear()
            self.asks.clear()
        else:
            self.set(row["side"], row["price"], Decimal(0) if row["action"] == 3 else row["size"])

    def cut(self, depth: int) -> None:
        self.bids = dict(sorted(self.bids.items(), reverse=True)[:depth])
        self.asks = dict(sorted(self.asks.items())[:depth])

    def best(self) -> Quote:
        bid = max(self.bids, default=None)
        ask = min(self.asks, default=None)
        return bid, self.bids.get(bid) if bid else None, ask, self.asks.get(ask) if ask else None

    def levels(self, depth: int | None = None) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True)[:depth], sorted(self.asks.items())[:depth]


def rebuilt(deltas: pa.RecordBatch | pa.Table) -> PlainBook:
    """The book of one instrument's published rows."""
    book = PlainBook()
    for row in deltas.to_pylist():
        book.row(row)
    return book

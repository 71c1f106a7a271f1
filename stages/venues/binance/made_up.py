"""Messages as Binance's spot market would send them, of a made-up market: seeded, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stages.messages import MessageKind, RawMessage

STEP_MS = 100
"""From one update of the book to the next."""
LEVELS = 40
"""Ticks from the middle within which there are orders."""
SNAPSHOT_STEP = 3
"""Updates that come before the snapshot, and have to be kept until then."""
_MS = 1_000_000


def made_up(symbol: str, snapshot_url: str, start_ns: int, seconds: int, seed: int) -> Iterator[RawMessage]:
    """Trades, best quotes and book updates of one symbol in the order received, numbered from 0.

    All randomness is the raw output of PCG64; each best quote is that of the book at the same number.
    """
    market = _Market(symbol, np.random.PCG64([seed, *symbol.encode()]))
    number = 0
    for step in range(seconds * 1000 // STEP_MS):
        for offset_ns, kind, payload in market.step(start_ns // _MS + step * STEP_MS, step == SNAPSHOT_STEP):
            url = snapshot_url if kind == MessageKind.RESPONSE else ""
            yield RawMessage(start_ns + step * STEP_MS * _MS + offset_ns, number, kind, symbol.lower(), url, payload)
            number += 1


class _Market:
    """One symbol: its book in ticks of 0.01 and lots of 0.00001, and the numbers of what happened."""

    def __init__(self, symbol: str, bits: np.random.PCG64) -> None:
        self.symbol, self._bits = symbol, bits
        self._drawn: list[int] = []
        self.middle = 1_000_000 + self.below(5_000_000)
        self.book: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for distance in range(1, LEVELS + 1):
            self.book[0][self.middle - distance] = self._size()
            self.book[1][self.middle + distance] = self._size()
        self.update_id, self.trade_id = 1_000 + self.below(1_000_000), 1_000 + self.below(1_000_000)

    def below(self, bound: int) -> int:
        if not self._drawn:
            self._drawn = self._bits.random_raw(1024).tolist()
        return self._drawn.pop() % bound

    def step(self, time_ms: int, asked: bool) -> Iterator[tuple[int, MessageKind, bytes]]:
        """What is received within one step: ns after its beginning, what it is, and its bytes."""
        at = (5 + self.below(20)) * _MS
        for _ in range(self.below(4)):
            yield at, MessageKind.RECEIVED, self._trade(time_ms)
            at += 1 + self.below(10 * _MS)
        before = self._best(0), self._best(1)
        changes = self._changes()
        first, self.update_id = self.update_id + 1, self.update_id + len(changes)
        at = (80 + self.below(15)) * _MS
        sides = [{price: size for (side, price), size in changes.items() if side == one} for one in (0, 1)]
        told = f'"U":{first},"u":{self.update_id},"b":{_levels(sides[0])},"a":{_levels(sides[1])}'
        yield at, MessageKind.RECEIVED, self._event("depth@100ms", "depthUpdate", time_ms + 75, told)
        after = self._best(0), self._best(1)
        if after != before:
            yield at + 50_000, MessageKind.RECEIVED, self._ticker(*after)
        if asked:
            bids, asks = dict(sorted(self.book[0].items(), reverse=True)), dict(sorted(self.book[1].items()))
            book = f'{{"lastUpdateId":{self.update_id},"bids":{_levels(bids)},"asks":{_levels(asks)}}}'
            yield at + 900_000, MessageKind.RESPONSE, book.encode()

    def _trade(self, time_ms: int) -> bytes:
        side = self.below(2)
        self.trade_id += 1
        price, size, maker = self._best(side)[0], 1 + self.below(5_000), "false" if side else "true"
        told = f'"t":{self.trade_id},"p":"{_price(price)}","q":"{_size(size)}","T":{time_ms + 3},"m":{maker},"M":true'
        return self._event("trade", "trade", time_ms + 4, told)

    def _ticker(self, bid: tuple[int, int], ask: tuple[int, int]) -> bytes:
        sides = [f'"{_price(price)}","{letter}":"{_size(size)}"' for letter, (price, size) in (("B", bid), ("A", ask))]
        told = f'{{"u":{self.update_id},"s":"{self.symbol}","b":{sides[0]},"a":{sides[1]}}}'
        return f'{{"stream":"{self.symbol.lower()}@bookTicker","data":{told}}}'.encode()

    def _event(self, stream: str, event: str, time_ms: int, told: str) -> bytes:
        data = f'{{"e":"{event}","E":{time_ms},"s":"{self.symbol}",{told}}}'
        return f'{{"stream":"{self.symbol.lower()}@{stream}","data":{data}}}'.encode()

    def _changes(self) -> dict[tuple[int, int], int]:
        """Move the middle, put orders in and take others out: what changed, as (side, price) -> size."""
        self.middle += self.below(5) - 2
        changes: dict[tuple[int, int], int] = {}
        for side, away in ((0, -1), (1, 1)):
            for price in list(self.book[side]):
                if not 0 < (price - self.middle) * away <= LEVELS:
                    changes[side, price] = 0
            for distance in (1, *(2 + self.below(LEVELS - 1) for _ in range(1 + self.below(3)))):
                price = self.middle + away * distance
                if distance > 1 and price in self.book[side] and not self.below(4):
                    changes[side, price] = 0
                elif distance > 1 or price not in self.book[side] or not self.below(3):
                    changes[side, price] = self._size()
        for (side, price), size in changes.items():
            if size:
                self.book[side][price] = size
            else:
                self.book[side].pop(price, None)
        return changes

    def _best(self, side: int) -> tuple[int, int]:
        price = min(self.book[1]) if side else max(self.book[0])
        return price, self.book[side][price]

    def _size(self) -> int:
        return 1 + self.below(300_000)


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}000000"


def _size(lots: int) -> str:
    return f"{lots // 100_000}.{lots % 100_000:05d}000"


def _levels(levels: dict[int, int]) -> str:
    return "[" + ",".join(f'["{_price(price)}","{_size(size)}"]' for price, size in levels.items()) + "]"

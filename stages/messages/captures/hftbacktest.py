"""The lines of hftbacktest's collector: receive time, a blank, the message; books of HTTP are bare.

1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{...}}
1723161255630214567 {"lastUpdateId":5123107861943,"E":...,"bids":[...],"asks":[...]}
1660228023037049 {"stream":"btcusdt@depth@0ms","data":{...}}

Times are in ns; those of collectors of before 2024, in us.
"""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np

from ..message import MessageKind
from .format import UNREADABLE, CodeOf, Format, Headers, Reader, numbers, window
from .lines import Block

DIGITS = 19
"""Of a time in ns, from 2001 to 2286; such a number of ns fits int64 up to 2262."""
OLD_DIGITS = 16
"""The same in us."""
_LINE = re.compile(rb"[1-9]\d{15}(\d{3})? ")
_DAY = re.compile(r"[._-]?(?<!\d)(19|20)\d\d[-_]?\d\d[-_]?\d\d(?!\d)")
_BOOK = np.frombuffer(b'{"lastUpdateId"', np.uint8)
"""How an order book begins that came over HTTP: streams wrap theirs in the name of the stream."""


class Hftbacktest(Format):
    """Knows no URLs: they are empty."""

    name: ClassVar[str] = "hftbacktest"
    looks_like: ClassVar[str] = "`1723161255030314667 {...}` (receive time in ns, a blank, the message)"

    def recognises(self, line: bytes) -> bool:
        return _LINE.match(line) is not None

    def source_of(self, name: str) -> str:
        """`btcusdt_20240808` and `btcusdt_20240809`, on either side of midnight, are `btcusdt`."""
        days = list(_DAY.finditer(name))
        return (name[: days[-1].start()] + name[days[-1].end() :]).strip("._-") or name if days else name

    def reader(self, name: str, code_of: CodeOf) -> Reader:
        return _Reader(code_of(""))


class _Reader(Reader):
    def __init__(self, no_url: int) -> None:
        self._no_url = no_url

    def headers(self, block: Block) -> Headers:
        cells = window(block, block.starts, DIGITS + 1)
        digits = cells[:DIGITS] - ord("0")  # wraps around below "0"
        readable = (digits <= 9).all(axis=0) & (digits[0] <= 8) & (cells[DIGITS] == ord(" "))
        old = (digits[:OLD_DIGITS] <= 9).all(axis=0) & (cells[OLD_DIGITS] == ord(" "))
        payload_at = block.starts + np.where(old, OLD_DIGITS, DIGITS) + 1
        booked = (window(block, payload_at, len(_BOOK)) == _BOOK[:, None]).all(axis=0)
        kind = np.where(booked, MessageKind.RESPONSE, MessageKind.RECEIVED)
        return Headers(
            ts_recv=np.where(old, numbers(digits[:OLD_DIGITS]) * 1000, numbers(digits)),
            kind=np.where(readable | old, kind, UNREADABLE).astype(np.int8),
            url_code=np.full(len(block), self._no_url, np.int32),
            payload_at=payload_at,
        )

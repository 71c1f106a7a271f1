"""The lines of cryptofeed's raw data collection: of a WebSocket, of HTTP requests, and what it writes at its start.

    wss://ws.kraken.com <-> 1618678132.368463                       a connection is opened
    wss://ws.kraken.com <- 1618678132.83097: {"event":...}          sent
    1618678132.831468: {"event":"systemStatus",...}                 received
    https://api.kraken.com/0/public/AssetPairs -> 1618678132.358447: {...}     answered
    configuration: {"trades":["KSM-BTC",...],...}                   no message

Times are floats of seconds as Python prints them, read as the decimal text that they are. In a file of HTTP requests
(`*.http.*`) a message without a URL is the answer to a poll.
"""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np

from ..message import MessageKind
from .format import ASIDE, UNREADABLE, CodeOf, Codes, Format, Headers, Reader, numbers, window
from .lines import Block

_SECONDS = 10
_PLACES = 9
"""Digits before and after the point that are read in bulk; lines with others are read one by one."""
_TIME = rb"(?P<seconds>\d{9,10})(?:\.(?P<fraction>\d+))?"
_SHAPES = (
    (MessageKind.RECEIVED, re.compile(_TIME + rb": ?")),
    (MessageKind.OPENED, re.compile(rb"(?P<url>\S+://\S*) <-> " + _TIME + rb"\s*$")),
    (MessageKind.SENT, re.compile(rb"(?P<url>\S+://\S*) <- " + _TIME + rb": ?")),
    (MessageKind.RESPONSE, re.compile(rb"(?P<url>\S+://\S*) -> " + _TIME + rb": ?")),
)
_TURN = re.compile(r"(?<=.)\.\d+$")
_CONFIGURATION = re.compile(rb"configuration: ")
_BEGINNING = re.compile(rb"\d{9,10}(\.\d+)?: |\S+://\S* (<->|<-|->) \d{9,10}(\.\d+)?(: |\s*$)|configuration: ")


class Cryptofeed(Format):
    """Of messages received, the URL is that of the connection opened last in their source."""

    name: ClassVar[str] = "cryptofeed"
    looks_like: ClassVar[str] = "`1618678132.831468: {...}` (receive time in s, a colon, the message) or `URL <-> time`"

    def recognises(self, line: bytes) -> bool:
        return _BEGINNING.match(line) is not None

    def source_of(self, name: str) -> str:
        """`KRAKEN.ws.50.0` and `KRAKEN.ws.50.1` are `KRAKEN.ws.50`: each is begun when the one before is large."""
        return _TURN.sub("", name)

    def reader(self, name: str, code_of: CodeOf) -> Reader:
        return _Reader(code_of, MessageKind.RESPONSE if ".http." in name else MessageKind.RECEIVED)


class _Reader(Reader):
    def __init__(self, code_of: CodeOf, plain: MessageKind) -> None:
        self._code_of = code_of
        self._plain = plain
        """What a line without a URL is."""
        self._connected = code_of("")

    def headers(self, block: Block) -> Headers:
        headers, readable = self._bulk(block)
        for at in np.flatnonzero(~readable).tolist():
            self._one(block, at, headers)
        return headers

    def _bulk(self, block: Block) -> tuple[Headers, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Messages received, of the usual number of digits; the others are told by the second value."""
        cells = window(block, block.starts, _SECONDS + _PLACES + 3)
        digits = cells - ord("0")  # wraps around below "0"
        fraction = digits[_SECONDS + 1 : -1]
        places = np.argmin(fraction <= 9, axis=0)  # how many digits are in front of the first byte that is none
        lines = np.arange(len(block))
        colon = _SECONDS + 1 + places
        readable = (
            (digits[:_SECONDS] <= 9).all(axis=0)
            & (cells[_SECONDS] == ord("."))
            & (places > 0)
            & (cells[colon, lines] == ord(":"))
            & (cells[colon + 1, lines] == ord(" "))
        )
        kept = np.where(np.arange(_PLACES)[:, None] < places, fraction[:_PLACES], np.uint8(0))
        ts_recv = numbers(digits[:_SECONDS]) * 10**_PLACES + numbers(kept)
        kind = np.full(len(block), self._plain, np.int8)
        url_code: Codes = np.full(len(block), self._connected, np.int32)
        return Headers(ts_recv, kind, url_code, block.starts + colon + 2), readable

    def _one(self, block: Block, at: int, headers: Headers) -> None:
        line = block.line(at)
        kind, found = next(((kind, found) for kind, shape in _SHAPES if (found := shape.match(line))), (None, None))
        if kind is None or found is None:
            headers.kind[at] = ASIDE if _CONFIGURATION.match(line) else UNREADABLE
            return
        digits = (found["fraction"] or b"").ljust(_PLACES, b"0")[:_PLACES]  # what is finer than a ns is cut
        headers.ts_recv[at] = int(found["seconds"]) * 10**_PLACES + int(digits)
        headers.payload_at[at] = block.starts[at] + found.end()
        if kind == MessageKind.RECEIVED:
            return
        headers.kind[at] = kind
        headers.url_code[at] = self._code_of(found["url"].decode("utf-8", "replace"))
        if kind == MessageKind.OPENED:
            headers.payload_at[at] = block.ends[at]
            self._connected = int(headers.url_code[at])
            headers.url_code[at:] = self._connected

"""Names of topics, such as `orderbook.50.BTCUSDT`, and which of Bybit's categories an instrument is in."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

HOSTS = ("bybit.com", "bytick.com", "bybit-tr.com", "bybit.kz")
_OPTION = re.compile(r"[A-Z0-9]+-\d{1,2}[A-Z]{3}\d{2}-[\d.]+-[CP](-[A-Z]+)?")
_INVERSE = re.compile(r"[A-Z0-9]+USD([FGHJKMNQUVXZ]\d{2})?")
_TOPIC = re.compile(r"(orderbook\.\w+|kline\.\w+|[A-Za-z]+)\.(.+)")
_BEGINS = re.compile(rb'\s*\{.{0,200}?"topic"\s*:\s*"([^"\\]{1,100})"', re.DOTALL)


class Topic(NamedTuple):
    """What a topic brings, and of which symbol."""

    channel: str
    symbol: str


@lru_cache(maxsize=4096)
def topic_named(name: str) -> Topic:
    """A topic's name taken apart; one without a symbol has an empty one."""
    found = _TOPIC.fullmatch(name)
    return Topic(name, "") if found is None else Topic(found[1], found[2])


def topic_begun(payload: bytes) -> str | None:
    """The topic that a message names near its beginning, though the rest of it cannot be read."""
    found = _BEGINS.match(payload)
    return None if found is None else found[1].decode(errors="replace")


def category_of(symbol: str) -> str:
    """Whether a derivative is an option, or is settled in its base currency (inverse), or neither (linear)."""
    if _OPTION.fullmatch(symbol):
        return "option"
    return "inverse" if _INVERSE.fullmatch(symbol) else "linear"

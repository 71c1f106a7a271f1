"""Events of one type, on their way to become rows, and what all of them need."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .wire import MICROSECONDS_FROM

_MS = 1_000_000


class Market(NamedTuple):
    """What differs between Binance's markets in the meaning of the same fields."""

    size_unit: str
    """What sizes count: `base` units or `contract`s."""

    @property
    def counts_contracts(self) -> bool:
        return self.size_unit == "contract"


class Group(NamedTuple):
    """Events of one type: the message of each, the code of its instrument, and the event."""

    at: list[int]
    codes: list[int]
    events: list[Any]

    @property
    def instruments(self) -> Any:
        return np.array(self.codes, np.int32)


def nanoseconds(time: int) -> int:
    """Since 1970, of a time as Binance sends it."""
    return time * (1000 if time >= MICROSECONDS_FROM else _MS)

"""Numbers and times as JSON has them, taken from their text: never through a float."""

from __future__ import annotations

import calendar
import re
from functools import lru_cache

from msgspec import UNSET, Raw, UnsetType

from .facts import Unreadable

_NUMBER = re.compile(rb'("?)(-?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,2})?)\1')
_WHOLE = re.compile(rb'("?)(\d{1,18})\1')
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z")
_NOTHING = (b"null", b'""')
_SHOWN = 60


def number(raw: Raw | bytes) -> str:
    """A decimal number or a text of one, as it was written. Raises `Unreadable`."""
    text = bytes(raw)
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise Unreadable(f"expected a decimal number, found {_shown(text)}")
    return found[2].decode()


def number_or_none(raw: Raw | UnsetType) -> str | None:
    """The same; None where there is none: left out, null, or an empty text."""
    return None if raw is UNSET or bytes(raw) in _NOTHING else number(raw)


def whole(raw: Raw | bytes) -> int:
    """A whole number from 0 on, or a text of one. Raises `Unreadable`."""
    text = bytes(raw)
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise Unreadable(f"expected a whole number of at most 18 digits, found {_shown(text)}")
    return int(found[2])


def whole_or_none(raw: Raw | UnsetType) -> int | None:
    """The same; None where there is none: left out, null, or an empty text."""
    return None if raw is UNSET or bytes(raw) in _NOTHING else whole(raw)


@lru_cache(maxsize=4096)
def iso_ns(text: str) -> int:
    """Nanoseconds since 1970 of `2021-07-22T22:36:07.865Z`. Raises `Unreadable`."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Unreadable(f"expected a time such as 2021-07-22T22:36:07.865Z, found {text!r:.{_SHOWN}}")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    in_range = 1678 <= year < 2262 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60
    if not in_range or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise Unreadable(f"expected a time that there is, found {text!r:.{_SHOWN}}")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds * 10**9 + int((found[7] or "0").ljust(9, "0"))


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN].decode(errors="replace"))

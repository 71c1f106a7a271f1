"""Durations and moments as people write them: `1m`, `1.5h`, `2024-05-01T12:00:00Z`; inside they are nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import msgspec

UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
MAX_NS = 2**63 - 1
WRITTEN = r"^ *[0-9]+([.][0-9]+)? *(ns|us|ms|s|m|h|d|w) *$|[$][{]"
"""A duration's form in JSON Schema; `${NAME}` may stand for one."""
_BEYOND_MICROSECONDS = re.compile(r"[.,][0-9]{6}([0-9]+)", re.ASCII)
"""Places of a second that `datetime` passes over."""
_PATTERN = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,18})?)\s*(ns|us|ms|s|m|h|d|w)", re.ASCII)


def parse_duration(text: str) -> int:
    """Nanoseconds of `text`: a number and one of ns, us, ms, s, m, h, d, w. Raises ValueError.

    A fraction is exact or refused: `0.5ns` is no whole number of nanoseconds.
    """
    match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as '1m', found {text!r}")
    nanoseconds = Decimal(match[1]) * UNITS_NS[match[2]]
    if nanoseconds != int(nanoseconds) or nanoseconds > MAX_NS:
        raise ValueError(f"expected a duration of whole nanoseconds, at most {MAX_NS}, found {text!r}")
    return int(nanoseconds)


def parse_instant(text: str) -> int:
    """Nanoseconds since 1970 of one ISO 8601 text, UTC unless it says otherwise. Raises ValueError.

    All nine places of a second count; more are refused unless they are zeros.
    """
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    beyond = _BEYOND_MICROSECONDS.search(text)
    places = "" if beyond is None else beyond[1]
    if places[3:].strip("0"):
        raise ValueError(f"expected a moment of whole nanoseconds, found {text!r}")
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000 + int(
        places[:3].ljust(3, "0")
    )


def _positive(text: str) -> None:
    if parse_duration(text) == 0:
        raise ValueError("a duration of zero")


def _with_unit(found: object) -> str:
    """A number without its unit most often means seconds."""
    number = isinstance(found, int | float) and not isinstance(found, bool) and found >= 0
    return f"write '{found}s'?" if number else "units are ns, us, ms, s, m, h, d, w"


Duration = Annotated[
    str,
    msgspec.Meta(
        extra={"expected": "a duration such as '1m'", "check": _positive, "suggest": _with_unit},
        extra_json_schema={"pattern": WRITTEN},
        examples=["1m", "250ms"],
    ),
]
"""Field type of a duration longer than zero. The recipe keeps the text; what it builds calls `parse_duration`."""

DurationOrZero = Annotated[
    str,
    msgspec.Meta(
        extra={"expected": "a duration such as '1m' or '0s'", "check": parse_duration, "suggest": _with_unit},
        extra_json_schema={"pattern": WRITTEN},
        examples=["0s", "250ms"],
    ),
]
"""Field type of a duration that may be `0s`."""


def said_duration(ns: int) -> str:
    """Nanoseconds as people write them: `1m`, `1h30m`, `250ms`."""
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count, ns = divmod(ns, UNITS_NS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"

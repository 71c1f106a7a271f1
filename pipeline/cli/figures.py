"""Numbers as people read them: rows, bytes, durations, and columns of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from unicodedata import category

MISSING = "-"
SHARES = ("_return", "_rate", "_share", "_drawdown")
"""Ends of the names of columns that hold shares of one, shown as percents."""
OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that steer rather than show: controls, marks of direction, ends of lines."""
LINES = "\n\t"
"""What of them a text of several lines has."""
LARGE = 1000
"""From here on a column shows two decimals and groups its thousands."""


def quality_said(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """What containers count under `quality` by kind, as `market: 2 gap, 3 duplicate`; empty where nothing is wrong."""
    told = []
    for name, measured in metrics.items():
        counted = measured.get("quality")
        if isinstance(counted, Mapping) and any(counted.values()):
            told.append(f"{name}: " + ", ".join(f"{rows_said(rows)} {kind}" for kind, rows in counted.items() if rows))
    return "; ".join(told)


def rows_said(rows: float) -> str:
    return f"{rows:,.0f}"


def bytes_said(size: int) -> str:
    """`0 B`, `512 B`, `1.5 KB`, `2.0 GB`; K is 2^10 as everywhere."""
    amount = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024 or unit == "GB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def seconds_said(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 03 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def column_said(name: str, values: Sequence[Any]) -> list[str]:
    """A column's values as text: shares as percents, floats with the decimals the largest of them deserves."""
    scale, sign = (100.0, "%") if name.endswith(SHARES) else (1.0, "")
    floats = [value * scale for value in values if _is_finite(value)]
    decimals = _decimals(max(map(abs, floats), default=0.0))
    if sign:
        decimals = max(2, decimals - 2)
    return [f"{value * scale:z,.{decimals}f}{sign}" if _is_finite(value) else plain(value) for value in values]


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _decimals(largest: float) -> int:
    """Enough for four significant digits of the largest value, between two and eight."""
    if largest >= LARGE or largest == 0:
        return 2
    return min(8, max(2, 3 - math.floor(math.log10(largest))))


def plain(value: Any) -> str:
    """One value that is no finite float."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return printable(str(value))


def printable(text: str, keep: str = "") -> str:
    """Text that moves no cursor and colours nothing: what a terminal would obey is escaped, but `keep`."""
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if category(letter) in OBEYED and letter not in keep else letter
        for letter in text
    )

"""Texts of many time formats as exact nanoseconds since 1970, UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import parse_instant
from stages.schemas import NS_UTC

from .instants import Int64s, utc_array
from .text import Where, converted

EPOCH_DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}
"""Decimal places of one unit of epoch time that are nanoseconds."""

_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}( \d{1,2}:\d{2}(?::\d{2})?)?")

NAIVE = pa.timestamp("ns")


def epoch_ns(texts: pa.Array, unit: str, where: Where) -> Int64s:
    """int64 nanoseconds of texts counting `unit` (s, ms, us, ns), fractions included, without a float.

    The unscaled value of a decimal with as many places as a unit has digits of nanoseconds is the count itself.
    """
    kind = pa.decimal128(38, EPOCH_DIGITS[unit])
    exact = converted(texts, lambda part: part.cast(kind), f"a time in {unit}", where)
    words: Int64s = np.frombuffer(exact.buffers()[1], np.int64)
    return words[0::2][exact.offset : exact.offset + len(exact)].copy()


def instants(texts: pa.Array, time_format: str, zone: str, where: Where) -> pa.Array:
    """timestamp[ns, UTC] of texts in an epoch unit, `iso`, or a `strptime` format read in `zone`."""
    if time_format in EPOCH_DIGITS:
        return utc_array(epoch_ns(texts, time_format, where))
    if time_format == "iso":
        return converted(texts, lambda part: _iso(part, zone), "an ISO 8601 time", where)
    return converted(texts, lambda part: _strptime(part, time_format, zone), f"a time as {time_format}", where)


def guess_format(text: str) -> str | None:
    """The format of one time text: an epoch unit by its magnitude, `iso`, a compact date, or None."""
    text = text.strip()
    if re.fullmatch(r"(19|20)\d{6}", text):
        return "%Y%m%d"
    if re.fullmatch(r"(19|20)\d{6} \d\d:\d\d", text):
        return "%Y%m%d %H:%M"
    if re.fullmatch(r"(19|20)\d{6} \d\d:\d\d:\d\d", text):
        return "%Y%m%d %H:%M:%S"
    if re.fullmatch(r"\d{1,19}(\.\d*)?", text):
        digits = len(text.partition(".")[0])
        return "s" if digits <= 10 else "ms" if digits <= 13 else "us" if digits <= 16 else "ns"
    if re.match(r"\d{4}-\d\d-\d\d", text):
        return "iso"
    return None


def format_to_try(texts: Sequence[str]) -> str:
    """How to declare the format of texts that `guess_format` does not know, fit to what they look like."""
    shape = _DATE.fullmatch(texts[0].strip())
    if shape is None:
        return "declare `time_format` (s, ms, us, ns, iso or a strptime format), such as '%d.%m.%Y %H:%M:%S'"
    dot, clock = shape[1], {0: "", 1: " %H:%M", 2: " %H:%M:%S"}[(shape[2] or "").count(":")]
    day_first, month_first = f"%d{dot}%m{dot}%Y{clock}", f"%m{dot}%d{dot}%Y{clock}"
    parts = [text.strip().split(dot) for text in texts]
    months = any(len(part) > 1 and part[1].isdigit() and int(part[1]) > 12 for part in parts)
    days = any(part[0].isdigit() and int(part[0]) > 12 for part in parts)
    chosen = month_first if months else day_first
    other = "" if months or days else f", or {month_first} where the month comes first"
    return f"declare `time_format`: `--set 'containers.data.time_format={chosen}'`{other}"


def localize(naive: pa.Array, zone: str, *, folded: bool = False) -> pa.Array:
    """UTC instants of wall-clock times in a zone.

    A time that occurs twice is the first of the two (the second if `folded`); one that does not occur, because
    clocks were set forward, is the moment they were.
    """
    if zone == "UTC":
        return naive.cast(NS_UTC)
    aware = pc.assume_timezone(naive, zone, ambiguous="latest" if folded else "earliest", nonexistent="latest")
    return aware.cast(NS_UTC)


def _iso(texts: pa.Array, zone: str) -> pa.Array:
    try:
        return texts.cast(NS_UTC)
    except pa.ArrowInvalid:
        return localize(texts.cast(NAIVE), zone)


def _strptime(texts: pa.Array, time_format: str, zone: str) -> pa.Array:
    if "%f" not in time_format and "%z" not in time_format:
        return localize(pc.strptime(texts, format=time_format, unit="ns"), zone)
    return pa.array([_strptime_one(text, time_format, zone) for text in texts.to_pylist()], NS_UTC)


def _strptime_one(text: str | None, time_format: str, zone: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.strptime(text, time_format)
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return parse_instant(moment.isoformat())

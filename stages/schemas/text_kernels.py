"""Compiled readers of numbers and times in joined bytes: digits become integers, never floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import boolean, int64, njit, types, uint8

BYTES = types.Array(uint8, 1, "C", readonly=True)
"""Texts one after another; a scanner of messages passes the payloads themselves."""
SPANS = types.Array(int64, 1, "C", readonly=True)
_FAULTS, _UNITS = uint8[::1], int64[::1]
_COUNT_AND_FAULT: Any = types.UniTuple(int64, 2)  # type: ignore[no-untyped-call]

FITS, MALFORMED, TOO_WIDE = 0, 1, 2
"""Faults. TOO_WIDE is a number that has too many digits on either side of the point."""

_NINE, _ZERO, _POINT, _PLUS, _MINUS, _COLON = 57, 48, 46, 43, 45, 58
_LARGEST = 9_223_372_036_854_775_807
_POWERS = np.array([10**n for n in range(19)], np.int64)
_LARGEST_EXPONENT = 10**17
_NO_EXPONENT = 10**18
_DAY_NS = 86_400_000_000_000


@njit([int64(BYTES, int64, int64)], nogil=True, cache=True)
def _exponent_at(text: Any, at: int, end: int) -> int:
    """What `e-7` says, at most 10^17 either way; _NO_EXPONENT where it is something else."""
    if text[at] != 101 and text[at] != 69:  # e, E
        return _NO_EXPONENT
    at += 1
    lowered = False
    if at < end and (text[at] == _MINUS or text[at] == _PLUS):
        lowered = text[at] == _MINUS
        at += 1
    if at == end:
        return _NO_EXPONENT
    exponent = 0
    while at < end:
        digit = int64(text[at]) - _ZERO
        if not 0 <= digit <= 9:
            return _NO_EXPONENT
        exponent = min(exponent * 10 + digit, _LARGEST_EXPONENT)
        at += 1
    return -exponent if lowered else exponent


@njit([_COUNT_AND_FAULT(BYTES, int64, int64, int64, int64, boolean)], nogil=True, cache=True)
def _long_decimal_at(text: Any, start: int, end: int, scale: int, limit: int, negative: bool) -> tuple[int, int]:
    """A number of any length, without its sign, with an exponent or without."""
    at = start
    count, zeros, places = 0, 0, 0  # the digits up to the last that is not 0, the zeros since, the places of both
    digits, pointed, wide = 0, 0, False
    while at < end:
        digit = int64(text[at]) - _ZERO
        if 0 <= digit <= 9:
            digits += 1
            places += pointed
            if digit == 0:
                zeros += count != 0
            else:
                for _ in range(zeros + 1):
                    if count > _LARGEST // 10:
                        wide, count = True, 1
                    count *= 10
                if count > _LARGEST - digit:
                    wide, count = True, 1
                count += digit
                zeros = 0
        elif digit == _POINT - _ZERO and not pointed:
            pointed = 1
        else:
            break
        at += 1
    if digits == 0:
        return 0, MALFORMED
    exponent = 0
    if at < end:
        exponent = _exponent_at(text, at, end)
        if exponent == _NO_EXPONENT:
            return 0, MALFORMED
    if count == 0:
        return 0, FITS
    shift = zeros - places + exponent + scale
    if wide or shift < 0:
        return 0, TOO_WIDE
    for _ in range(shift):
        if count > limit // 10:
            return 0, TOO_WIDE
        count *= 10
    if count > limit:
        return 0, TOO_WIDE
    return (-count if negative else count), FITS


@njit([_COUNT_AND_FAULT(BYTES, int64, int64, int64, int64)], nogil=True, cache=True)
def decimal_at(text: Any, start: int, end: int, scale: int, limit: int) -> tuple[int, int]:
    """The number in text[start:end] in units of 10^-scale, -limit to limit, and its fault.

    A sign, digits with or without a point, and an exponent. Zeros at either end do not count.
    """
    at, negative = start, False
    if at < end and (text[at] == _MINUS or text[at] == _PLUS):
        negative = text[at] == _MINUS
        at += 1
    if end - at > 18:  # may have more digits than int64 holds
        return _long_decimal_at(text, at, end, scale, limit, negative)
    first, count, places, pointed = at, 0, 0, 0
    while at < end:
        digit = int64(text[at]) - _ZERO
        if 0 <= digit <= 9:
            count = count * 10 + digit
            places += pointed
        elif digit == _POINT - _ZERO and not pointed:
            pointed = 1
        else:
            return _long_decimal_at(text, first, end, scale, limit, negative)
        at += 1
    if end - first == pointed:
        return 0, MALFORMED
    if count == 0:
        return 0, FITS
    shift = scale - places
    if shift < 0:
        for _ in range(-shift):
            if count % 10:
                return 0, TOO_WIDE
            count //= 10
    elif end - first - pointed + shift <= 18:
        count *= _POWERS[shift]
    else:
        for _ in range(shift):
            if count > limit // 10:
                return 0, TOO_WIDE
            count *= 10
    if count > limit:
        return 0, TOO_WIDE
    return (-count if negative else count), FITS


@njit([int64(BYTES, SPANS, SPANS, int64, int64, _UNITS, _FAULTS)], nogil=True, cache=True)
def read_decimals(text: Any, starts: Any, ends: Any, scale: int, limit: int, units: Any, faults: Any) -> int:
    """units[i] = the number in text[starts[i]:ends[i]], in units of 10^-scale up to `limit`; how many are at fault."""
    wrong = 0
    for i in range(len(starts)):
        units[i], fault = decimal_at(text, starts[i], ends[i], scale, limit)
        faults[i] = fault
        wrong += fault != FITS
    return wrong


@njit([int64(BYTES, int64)], nogil=True, cache=True, inline="always")
def _two_at(text: Any, at: int) -> int:
    """The count that two digits there write; less than 0 where one is none."""
    tens, ones = int64(text[at]) - _ZERO, int64(text[at + 1]) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -10_000


@njit([int64(int64, int64, int64)], nogil=True, cache=True)
def days_since_1970(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar, years of 400-year eras begun in March (Hinnant, 2013)."""
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@njit([_COUNT_AND_FAULT(BYTES, int64, int64)], nogil=True, cache=True)
def _offset_at(text: Any, at: int, end: int) -> tuple[int, int]:
    """Minutes east of UTC: none, `Z`, `+hh`, `+hhmm` or `+hh:mm`; and a fault."""
    if at == end:
        return 0, FITS
    if text[at] == 90 or text[at] == 122:  # Z, z
        return 0, FITS if at + 1 == end else MALFORMED
    if text[at] != _PLUS and text[at] != _MINUS:
        return 0, MALFORMED
    length = end - at
    hours = _two_at(text, at + 1) if length >= 3 else -1
    minutes = 0
    if length == 5:
        minutes = _two_at(text, at + 3)
    elif length == 6 and text[at + 3] == _COLON:
        minutes = _two_at(text, at + 4)
    elif length != 3:
        minutes = -1
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return 0, MALFORMED
    east = hours * 60 + minutes
    return (-east if text[at] == _MINUS else east), FITS


@njit([_COUNT_AND_FAULT(BYTES, int64, int64)], nogil=True, cache=True)
def instant_at(text: Any, start: int, end: int) -> tuple[int, int]:
    """Nanoseconds since 1970 of `2021-07-22T22:36:07.123456789Z` (a blank for T, no seconds or no time of day will
    do), and its fault; UTC where no offset is written."""
    if end - start < 10 or text[start + 4] != _MINUS or text[start + 7] != _MINUS:
        return 0, MALFORMED
    year, month, day = (
        _two_at(text, start) * 100 + _two_at(text, start + 2),
        _two_at(text, start + 5),
        _two_at(text, start + 8),
    )
    if year < 0 or not 1 <= month <= 12 or day < 1:
        return 0, MALFORMED
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > (29 if leap else 28) if month == 2 else day > 30 + (month + month // 8) % 2:
        return 0, MALFORMED
    seconds, fraction, at = 0, 0, start + 10
    if at < end:
        if (text[at] != 84 and text[at] != 32) or end - at < 6 or text[at + 3] != _COLON:  # T, blank
            return 0, MALFORMED
        hour, minute = _two_at(text, at + 1), _two_at(text, at + 4)
        second = 0
        at += 6
        if at < end and text[at] == _COLON:
            second = _two_at(text, at + 1) if end - at >= 3 else -1
            at += 3
            if at < end and text[at] == _POINT:
                place, unit = at + 1, 100_000_000
                while place < end and _ZERO <= text[place] <= _NINE:
                    digit = int64(text[place]) - _ZERO
                    if unit == 0 and digit != 0:
                        return 0, TOO_WIDE
                    fraction += digit * unit
                    unit //= 10
                    place += 1
                if place == at + 1:
                    return 0, MALFORMED
                at = place
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
            return 0, MALFORMED
        seconds = (hour * 60 + minute) * 60 + second
    east, fault = _offset_at(text, at, end)
    if fault != FITS:
        return 0, fault
    if not 1678 <= year <= 2261:  # what int64 nanoseconds reach, in whole years
        return 0, TOO_WIDE
    return days_since_1970(year, month, day) * _DAY_NS + (seconds - east * 60) * 1_000_000_000 + fraction, FITS


@njit([int64(BYTES, SPANS, SPANS, _UNITS, _FAULTS)], nogil=True, cache=True)
def read_times(text: Any, starts: Any, ends: Any, ns: Any, faults: Any) -> int:
    """ns[i] = nanoseconds since 1970 of ISO 8601 or of seconds written as a number; how many are at fault."""
    wrong = 0
    for i in range(len(starts)):
        start, end = starts[i], ends[i]
        if end - start >= 10 and text[start + 4] == _MINUS:
            ns[i], fault = instant_at(text, start, end)
        else:
            ns[i], fault = decimal_at(text, start, end, 9, _LARGEST)
        faults[i] = fault
        wrong += fault != FITS
    return wrong

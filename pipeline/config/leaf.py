"""Converts one scalar: strict about types, forgiving where the meaning cannot be mistaken."""

from __future__ import annotations

import datetime
import decimal
import difflib
import math
import re
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import msgspec
from msgspec import inspect as types

from .describe import FAR

_BOOLEAN_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_NATIVE: dict[type[types.Type], type] = {
    types.DateTimeType: datetime.datetime,
    types.DateType: datetime.date,
    types.TimeType: datetime.time,
    types.TimeDeltaType: datetime.timedelta,
    types.DecimalType: decimal.Decimal,
    types.UUIDType: uuid.UUID,
    types.BytesType: bytes,
}


class Mismatch(Exception):
    """The value is not what the type expects; the text, where there is one, is a suggestion."""


def convert_leaf(value: Any, kind: types.Type) -> Any:
    """`value` as `kind`. Raises `Mismatch`.

    A boolean may be written yes or no, a whole number 1e6, and a number where a fraction is expected may be whole.
    """
    match kind:
        case types.BoolType():
            word = value.lower() if isinstance(value, str) else None
            if isinstance(value, bool) or word in _BOOLEAN_WORDS:
                return value if isinstance(value, bool) else _BOOLEAN_WORDS[str(word)]
        case types.IntType() if _is_number(value):
            if value == int(value):
                return _bounded(int(value), kind)
        case types.FloatType() if _is_number(value):
            return _bounded(float(value), kind)
        case types.StrType():
            return _text(value, kind)
        case types.LiteralType(values=values):
            return _choice(value, values)
        case types.EnumType(cls=cls):
            return cls(_choice(value, [member.value for member in cls]))
        case types.NoneType() if value is None:
            return None
        case types.CustomType(cls=cls):
            if isinstance(value, cls):
                return value
            if issubclass(cls, PurePath) and isinstance(value, str):
                return Path(value)
        case _ if (native := _NATIVE.get(type(kind))) is not None:
            try:
                return msgspec.convert(value, native, strict=False)
            except msgspec.ValidationError:
                pass
    raise Mismatch


def check(value: Any, extra: Mapping[str, Any]) -> None:
    """Run the `check` of `Meta(extra={"expected": ..., "check": ...})`. Raises `Mismatch`."""
    try:
        extra.get("check", _accept)(value)
    except ValueError:
        raise Mismatch from None


def _accept(value: Any) -> None:
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bounded(value: Any, kind: types.IntType | types.FloatType) -> Any:
    inside = (
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
    )
    if not inside:
        raise Mismatch(f"at most {kind.le:g}" if kind.le is not None and value > kind.le >= FAR else "")
    return value


def _text(value: Any, kind: types.StrType) -> str:
    if not isinstance(value, str):
        # Only a scalar can have been meant as text; `true` and 600519 are what YAML makes of words people write.
        if isinstance(value, bool):
            raise Mismatch(f'write "{str(value).lower()}" in quotes?')
        raise Mismatch(f'write "{value}" in quotes?' if isinstance(value, int | float) else "")
    fits = (
        (kind.min_length is None or len(value) >= kind.min_length)
        and (kind.max_length is None or len(value) <= kind.max_length)
        and (kind.pattern is None or re.search(kind.pattern, value) is not None)
    )
    if not fits:
        raise Mismatch
    return value


def _choice(value: Any, allowed: Any) -> Any:
    """The allowed value equal to `value`; `True` is not 1, and capitals do not hide a suggestion."""
    for choice in allowed:
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    if isinstance(value, bool):
        # A choice such as `off` is a word here, whatever YAML 1.1 made of it.
        raise Mismatch
    near = suggestion(str(value), [str(choice) for choice in allowed])
    raise Mismatch(near)


def suggestion(word: str, known: list[str]) -> str:
    """`did you mean 'x'?`, or nothing."""
    lowered = {name.lower(): name for name in known}
    word = word.lower()[:100].strip("*?_-")
    near = difflib.get_close_matches(word, list(lowered), n=1)
    if not near and len(word) >= 3:
        near = [name for name in lowered if word in name or (len(name) >= 3 and name in word)]
    if not near:
        # Half of a name, misspelt: `memry` for `memory_limit_mb`.
        parts = {part: name for name in reversed(lowered) for part in name.split("_")}
        near = [parts[part] for part in difflib.get_close_matches(word, list(parts), n=1, cutoff=0.8)]
    return f"did you mean '{lowered[near[0]]}'?" if near else ""

"""Says in words what a field's type expects: 'a positive number', 'one of memory, file'."""

from __future__ import annotations

import enum
from typing import Any, Final

from msgspec import inspect as types

from pipeline.stage import Recipe

_NOUNS: dict[type[types.Type], str] = {
    types.AnyType: "any value",
    types.NoneType: "nothing",
    types.BoolType: "true or false",
    types.BytesType: "text in base64",
    types.DateTimeType: "a time such as '2024-05-01T12:00:00Z'",
    types.DateType: "a date such as '2024-05-01'",
    types.TimeType: "a time of day such as '09:30:00'",
    types.DecimalType: "a decimal number",
    types.UUIDType: "a UUID",
    types.ListType: "a list",
    types.SetType: "a list",
    types.FrozenSetType: "a list",
    types.VarTupleType: "a list",
    types.DictType: "a mapping",
}

FAR: Final = 1e9
"""A limit so far away that it is told only to who has gone beyond it."""


def describe(kind: types.Type) -> str:
    """What this type expects, without the word 'expected'."""
    match kind:
        case types.Metadata(type=inner, extra=extra):
            return str(extra["expected"]) if extra and "expected" in extra else describe(inner)
        case types.IntType():
            return _number(kind, "a whole number", "a positive whole number")
        case types.FloatType():
            return _number(kind, "a number", "a positive number")
        case types.StrType(min_length=shortest, max_length=longest, pattern=pattern):
            limits = f" of at least {shortest} characters" if shortest else ""
            limits += f" of at most {longest} characters" if longest is not None else ""
            limits += f" matching {pattern}" if pattern else ""
            return "text" + limits
        case types.LiteralType(values=values):
            return choices(values)
        case types.EnumType(cls=cls):
            return choices(member.value for member in cls)
        case types.TupleType(item_types=items):
            return f"a list of {len(items)}: {', '.join(describe(item) for item in items)}"
        case types.StructType(cls=cls) if issubclass(cls, Recipe):
            return f"a {cls.__name__.lower()}, named by 'type'"
        case types.StructType(fields=fields):
            names = [field.encode_name for field in fields]
            return f"a mapping of {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        case types.UnionType(types=options):
            words = [describe(option) for option in options if not isinstance(option, types.NoneType)]
            return " or ".join(dict.fromkeys(words))
        case types.CustomType(cls=cls):
            return "a path" if cls.__name__.endswith("Path") else f"a {cls.__name__}"
    return _NOUNS.get(type(kind), type(kind).__name__.removesuffix("Type").lower())


def choices(values: Any) -> str:
    shown = [str(value.value if isinstance(value, enum.Enum) else value) for value in values]
    return shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"


def _number(kind: types.IntType | types.FloatType, noun: str, positive: str) -> str:
    most = None if kind.le is not None and kind.le >= FAR else kind.le
    if kind.gt == 0 and kind.lt is None and most is None and kind.multiple_of is None:
        return positive
    limits = [
        f"{words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}"
        for words, limit in (
            ("above", kind.gt),
            ("of at least", kind.ge),
            ("below", kind.lt),
            ("of at most", most),
            ("in multiples of", kind.multiple_of),
        )
        if limit is not None
    ]
    return " and ".join([f"{noun} {limits[0]}", *limits[1:]]) if limits else noun

"""Settings made in Python, held against what they declare: msgspec checks what it converts, not what it makes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect as types

from ..errors import ConfigError, InvalidKey, Problem
from .base import key_bytes
from .policy import LARGEST, MB, DataFlow


def checked(flow: DataFlow, path: str) -> DataFlow:
    """The same; raises `ConfigError` with every problem of it."""
    problems = problems_of(flow, path)
    if problems:
        raise ConfigError(problems)
    return flow


def problems_of(flow: DataFlow, path: str) -> list[Problem]:
    """What is wrong with it, each thing with its dotted path."""
    return list(_problems(flow, _type_of(DataFlow), path))


def checked_name(name: Any) -> str:
    """The name of a store; raises `InvalidKey`."""
    if not isinstance(name, str) or not name:
        raise InvalidKey(f"expected a store's name, some text, found {name!r}")
    key_bytes(name)
    return name


def megabytes(value: Any, path: str) -> int:
    """Megabytes in bytes; raises `ConfigError` where they are none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 < value <= LARGEST and value * MB >= 1:
        return int(value * MB)
    hint = f"at most {LARGEST:g}" if number and value > LARGEST else ""
    raise ConfigError([Problem(path, "expected a positive number of megabytes", repr(value), hint)])


@lru_cache(maxsize=16)
def _type_of(cls: type[msgspec.Struct]) -> types.StructType:
    found = types.type_info(cls)
    assert isinstance(found, types.StructType)
    return found


def _problems(value: Any, kind: types.Type, path: str) -> Iterator[Problem]:
    match kind:
        case types.Metadata(type=inner):
            yield from _problems(value, inner, path)
        case types.UnionType(types=options):
            if value is not None:
                yield from _problems(value, next(o for o in options if not isinstance(o, types.NoneType)), path)
        case types.StructType(cls=cls):
            if not isinstance(value, cls):
                yield _problem(path, f"expected a {cls.__name__}", value)
                return
            for field in _type_of(cls).fields:
                yield from _problems(getattr(value, field.name), field.type, f"{path}.{field.name}")
        case types.LiteralType(values=words):
            if not isinstance(value, str) or value not in words:
                near = difflib.get_close_matches(str(value).lower(), [str(word) for word in words], n=1)
                hint = f"did you mean '{near[0]}'?" if near else ""
                yield _problem(path, f"expected one of {', '.join(map(str, words))}", value, hint)
        case types.BoolType():
            if not isinstance(value, bool):
                yield _problem(path, "expected True or False", value)
        case types.IntType() | types.FloatType():
            yield from _number(value, kind, path)


def _number(value: Any, kind: types.IntType | types.FloatType, path: str) -> Iterator[Problem]:
    whole = isinstance(kind, types.IntType)
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    hint = ""
    if right:
        right = (kind.gt is None or value > kind.gt) and (kind.ge is None or value >= kind.ge)
        if right and kind.le is not None and value > kind.le:
            right, hint = False, f"at most {kind.le:g}"
    if not right:
        noun = "whole number" if whole else "number"
        text = f"expected a {'positive ' if kind.gt == 0 else ''}{noun}"
        yield _problem(path, text + (f" of at least {kind.ge:g}" if kind.ge is not None else ""), value, hint)


def _problem(path: str, expected: str, value: Any, suggestion: str = "") -> Problem:
    return Problem(path, expected, repr(value), suggestion)

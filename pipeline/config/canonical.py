"""Checked structs as plain data again: for hashing, and as one row per setting for people."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as types

from pipeline.registry import Registry
from pipeline.stage import Recipe

from .convert import fields_of
from .located import Located, is_secret

USER_MODULE = "penstock_user_"
"""How the modules begin that a registry makes of `./file.py:Class`."""


class Setting(NamedTuple):
    """One effective setting, and where it was written."""

    setting: str
    value: Any
    where: str


def recipe_name(recipe: Recipe, registry: Registry) -> str:
    """The name a recipe's class is registered under, `module:Class`, or `file.py:Class`, whatever the folder."""
    cls = type(recipe)
    for name, registered in registry.recipes.items():
        if registered is cls:
            return name
    if cls.__module__.startswith(USER_MODULE):
        return f"{Path(inspect.getfile(cls)).name}:{cls.__qualname__}"
    return f"{cls.__module__}:{cls.__qualname__}"


def canonical(value: Any, registry: Registry) -> Any:
    """Plain data that two equal values share: 50 and 50.0 are one number, sets are sorted, secrets are `***`."""
    if isinstance(value, msgspec.Struct):
        made: dict[str, Any] = {"type": recipe_name(value, registry)} if isinstance(value, Recipe) else {}
        for key, item, declared in _items(value):
            plain = "***" if is_secret(key) and item is not None else canonical(item, registry)
            if isinstance(item, Recipe) and not _is_choice(item, declared, registry) and isinstance(plain, dict):
                del plain["type"]
            made[key] = plain
        return made
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return {
            str(key): "***" if is_secret(str(key)) and item is not None else canonical(item, registry)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [canonical(item, registry) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((canonical(item, registry) for item in value), key=repr)
    if isinstance(value, Enum):
        return canonical(value.value, registry)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, PurePath | Decimal):
        return str(value)
    return value if value is None or isinstance(value, str | int) else str(value)


def settings_in(struct: msgspec.Struct, written: Located | None, registry: Registry, prefix: str = "") -> list[Setting]:
    """One row per field, nested ones under dotted names; what nobody wrote is a built-in default."""
    rows = []
    for key, value, declared in _items(struct):
        name = f"{prefix}.{key}" if prefix else key
        source = written.get(key) if written is not None else None
        if isinstance(value, msgspec.Struct):
            if isinstance(value, Recipe) and _is_choice(value, declared, registry):
                named = (source.get("type") or source) if source is not None else None
                rows.append(Setting(f"{name}.type", recipe_name(value, registry), _where(named)))
            rows += settings_in(value, source, registry, name)
        else:
            rows.append(Setting(name, canonical(value, registry), _where(source)))
    return rows


def _where(source: Located | None) -> str:
    return str(source.place) if source is not None else "built-in default"


def _items(struct: msgspec.Struct) -> Iterator[tuple[str, Any, types.Type]]:
    """Fields under the names a file gives them, with their values and declared types."""
    for key, item in fields_of(type(struct)).items():
        yield key, getattr(struct, item.name), item.type


def _is_choice(recipe: Recipe, declared: types.Type, registry: Registry) -> bool:
    """Whether `type:` chose this recipe, rather than the field having room for no other."""
    options = declared.types if isinstance(declared, types.UnionType) else (declared,)
    only = any(isinstance(option, types.StructType) and option.cls is type(recipe) for option in options)
    return not only or type(recipe) in registry.recipes.values()

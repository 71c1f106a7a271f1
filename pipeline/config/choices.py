"""What a block of the parameter space chooses for its members, laid over what the containers' entries say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import inspect as types

from pipeline.stage import Recipe

from .convert import fields_of
from .layers import Entry, stage_fields
from .located import Located
from .patterns import covers


def with_choices(
    entries: Sequence[Entry], pattern: str, choices: Mapping[str, Located], cls: type[msgspec.Struct]
) -> tuple[Entry, ...]:
    """The entries of a member, with one more that chooses: over those for the whole group, under those of fewer.

    A recipe of another type than the group's replaces it, but for the fields that every recipe of the family has:
    a `quantity` written for the group holds for each of its strategies.
    """
    common = [place for place, entry in enumerate(entries) if covers(entry.pattern, pattern)]
    at = common[-1] + 1 if common else 0
    before = stage_fields(entries[:at])
    settings = {key: _chosen(item, before, key, cls) for key, item in choices.items()}
    place = next(iter(choices.values())).place
    return (*entries[:at], Entry(pattern, Located(settings, place)), *entries[at:])


def _chosen(item: Located, before: Located | None, key: str, cls: type[msgspec.Struct]) -> Located:
    if isinstance(item.value, str) and _family(cls, key) is not None:
        item = Located({"type": item}, item.place)
    family, under = _family(cls, key), before.get(key) if before is not None else None
    if family is None or under is None or not isinstance(item.value, dict) or not isinstance(under.value, dict):
        return item
    shared = {name: setting for name, setting in under if name in fields_of(family)}
    return Located(shared | item.value, item.place)


def _family(cls: type[msgspec.Struct], key: str) -> type[Recipe] | None:
    """The family of recipes a field has room for."""
    declared = fields_of(cls).get(key)
    options = declared.type if declared is not None else None
    for option in options.types if isinstance(options, types.UnionType) else (options,):
        if isinstance(option, types.StructType) and issubclass(option.cls, Recipe):
            return option.cls
    return None

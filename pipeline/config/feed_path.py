"""What is given beside the file: `--data PATH` or a table for the one feed, and settings for whoever has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pipeline.errors import Problem
from pipeline.handed import HandedTable
from pipeline.stage import Stage

from .convert import Converter, fields_of
from .layers import Entry, Layer, final_type
from .leaf import suggestion
from .located import Located, Place, lift
from .resolve import Config
from .schema import ConfigFile

REPLAY = "replay"
FROM_COMMAND_LINE = "--data"
GIVEN = 2
"""The layer of what is given beside the file: above the file's, below that of `--set`."""


def with_data(config: Config, data: str | HandedTable, problems: list[Problem]) -> Config:
    """`config` with a path or table set on the one feed whose stage takes one; a lone feed without becomes a replay."""
    key, file = ("path", FROM_COMMAND_LINE) if isinstance(data, str) else ("table", "")
    feeds = [name for name in config.declared if not _reads(config, name)]
    takers = [name for name in feeds if key in _fields(config, name)]
    chosen = takers or feeds
    if len(chosen) != 1:
        found = ", ".join(chosen) or "none"
        hint = f"--set containers.{chosen[0]}.path={data}" if chosen and isinstance(data, str) else ""
        problems.append(Problem("", f"expected one feed to give the {key} to", found, hint, file))
        return config
    place = Place(f"containers.{chosen[0]}", file)
    settings = {key: Located(data, place.child(key))}
    if not takers:
        settings["type"] = Located(REPLAY, place.child("type"))
    if key == "table":
        settings["path"] = Located(None, place.child("path"))
    return _with_entry(config, Entry(chosen[0], Located(settings, place)))


def with_settings(config: Config, settings: Mapping[str, Any], problems: list[Problem]) -> Config:
    """`config` with each setting given to the first container whose stage has it, feeds before what reads from them."""
    order = sorted(config.declared, key=lambda name: _reads(config, name))
    known = {name: _fields(config, name) for name in order}
    for key, value in settings.items():
        chosen = next((name for name in order if key in known[name]), None)
        if chosen is None and key in fields_of(ConfigFile):
            hint = f"""write `overrides=["{key}=..."]`, or set it in the configuration"""
            problems.append(Problem(key, "a setting of the whole, not of a container", suggestion=hint))
            continue
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            hint = f"write {value.__name__}(...)"
            problems.append(Problem(key, "expected an object", f"the class {value.__name__}", hint))
            continue
        if chosen is None:
            names = list(dict.fromkeys(name for fields in known.values() for name in fields))
            hint = suggestion(key, names) or f"known: {', '.join(names)}"
            problems.append(Problem(key, "no container has this setting", suggestion=hint))
            continue
        place = Place(f"containers.{chosen}.{key}")
        entry = Entry(chosen, Located({key: lift(value, place, problems)}, Place(f"containers.{chosen}")))
        config = _with_entry(config, entry)
    return config


def owners_of(config: Config, setting: str) -> list[str]:
    """Containers whose stage has a setting."""
    return [name for name in config.declared if setting in _fields(config, name)]


def owner_of(config: Config, setting: str) -> str | None:
    """The first container whose stage has a setting, None where none has."""
    return next((name for name in config.declared if setting in _fields(config, name)), None)


def _with_entry(config: Config, entry: Entry) -> Config:
    layers = list(config.layers)
    layers[GIVEN] = Layer([*layers[GIVEN].entries, entry])
    return replace(config, layers=tuple(layers), _stages={}, _data_flows={})


def _reads(config: Config, name: str) -> bool:
    return bool(config.convert_inputs(name, Converter(config.registry, config.root)))


def _fields(config: Config, name: str) -> tuple[str, ...]:
    """The fields of a container's stage by the names a file gives them."""
    named = final_type(config.entries_of(name))
    cls = Converter(config.registry, config.root).stage_class(named, Stage) if named is not None else None
    return tuple(fields_of(cls)) if cls is not None else ()

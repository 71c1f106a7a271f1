"""`--data PATH`: gives the path to the one feed that wants it."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import Problem
from pipeline.stage import Stage

from .convert import Converter, fields_of
from .layers import Entry, Layer, final_type
from .located import Located, Place
from .resolve import Config

REPLAY = "replay"
FROM_COMMAND_LINE = "--data"


def with_data(config: Config, path: str, problems: list[Problem]) -> Config:
    """`config` with `path` set on the one feed whose stage has a `path`; a lone feed without one becomes a replay."""
    feeds = [name for name in config.declared if not _reads(config, name)]
    takers = [name for name in feeds if _takes_path(config, name)]
    chosen = takers or feeds
    if len(chosen) != 1:
        found = ", ".join(chosen) or "none"
        hint = f"--set containers.{chosen[0]}.path={path}" if chosen else ""
        problems.append(Problem("", "expected one feed to give the path to", found, hint, FROM_COMMAND_LINE))
        return config
    place = Place(f"containers.{chosen[0]}", FROM_COMMAND_LINE)
    settings = {"path": Located(path, place.child("path"))}
    if not takers:
        settings["type"] = Located(REPLAY, place.child("type"))
    layers = list(config.layers)
    layers[2] = Layer([Entry(chosen[0], Located(settings, place))])
    return replace(config, layers=tuple(layers), _stages={}, _data_flows={})


def _reads(config: Config, name: str) -> bool:
    return bool(config.convert_inputs(name, Converter(config.registry, config.root)))


def _takes_path(config: Config, name: str) -> bool:
    named = final_type(config.entries_of(name))
    cls = Converter(config.registry, config.root).stage_class(named, Stage) if named is not None else None
    return cls is not None and "path" in fields_of(cls)

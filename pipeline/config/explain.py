"""Explains a configuration: every effective value of a container and the line that set it."""

from __future__ import annotations

from .canonical import Setting as Row
from .canonical import settings_in
from .located import Located, is_secret
from .resolve import Config
from .schema import ConfigFile
from .space.read import place_of

_GENERAL = ("name", "topology", "output", "process_memory_mb", "seed", "limit", "until", "max_portfolios")

__all__ = ["Row", "explain"]


def explain(config: Config, name: str | None = None) -> list[Row]:
    """Rows for one container or member, or, under their full dotted names, for everything.

    Raises `ConfigError` with a suggestion where no container or member is called `name`.
    """
    if name is not None:
        return config.settings_of(name)
    rows = [_general(config, key) for key in _GENERAL]
    rows += settings_in(config.checkpoint, config.source.get("checkpoint"), config.registry, "checkpoint")
    for block in config.parameter_space.blocks:
        for setting, value in config.block_mapping(block, short=False).items():
            place = place_of(config.source, block, setting)
            told = "***" if is_secret(setting) else value
            rows.append(Row(f"{block.path}.{setting}", told, str(place) if place else "built-in default"))
    phases = [phase.name for phase in config.phases]
    rows.append(Row("phases", phases, _where(config, "phases")))
    rows += _phases(config)
    for container in config.declared:
        prefix = f"containers.{container}"
        rows += [Row(f"{prefix}.{row.setting}", row.value, row.where) for row in config.settings_of(container)]
    return rows


def _phases(config: Config) -> list[Row]:
    """What was written about phases beyond their names."""
    listed = config.source.get("phases")
    places = listed.value if listed is not None and isinstance(listed.value, list) else []
    rows = []
    for number, (phase, place) in enumerate(zip(config.phases, places, strict=False)):
        settings = settings_in(phase, place, config.registry, f"phases.{number}")
        rows += [row for row in settings if row.where != "built-in default" and row.setting != f"phases.{number}.name"]
    rows += [Row(f"split.{name}", end, _where(config, "split", name)) for name, end in config.split.items()]
    if config.walk_forward is not None:
        rows += settings_in(config.walk_forward, config.source.get("walk_forward"), config.registry, "walk_forward")
    return rows


def _general(config: Config, key: str) -> Row:
    value = getattr(config, key)
    where = _where(config, key)
    if where == "built-in default" and value != getattr(ConfigFile(), key):
        where = "from the file's name" if key == "name" else "topology default"
    return Row(key, "***" if is_secret(key) else value, where)


def _where(config: Config, *keys: str) -> str:
    source: Located | None = config.source
    for key in keys:
        source = source.get(key) if source is not None else None
    return str(source.place) if source is not None and source.value is not None else "built-in default"

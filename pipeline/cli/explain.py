"""`penstock explain CONFIG [NAME]`: every effective value, and the line that set it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec

from pipeline.composing import compose
from pipeline.config import Config
from pipeline.config import explain as rows_of
from pipeline.config.leaf import suggestion
from pipeline.edges.edge import LOSSLESS
from pipeline.errors import ConfigError, Problem
from pipeline.phasing import lossless_notes

from .options import CONFIG, ReadingOptions, reading
from .reading import read
from .tables import text_table


@click.command()
@CONFIG
@click.argument("name", required=False)
@click.option("--phase", metavar="PHASE", help="As it applies in this phase.")
@click.option("--mermaid", is_flag=True, help="Print the graph as Mermaid text instead.")
@reading
def explain(
    config: Path, name: str | None, phase: str | None, mermaid: bool, **options: Unpack[ReadingOptions]
) -> None:
    """Show where each setting of a container, a member or everything comes from."""
    loaded = read(config, options)
    if phase is not None:
        loaded = in_phase(loaded, phase)
    if mermaid:
        click.echo(compose(loaded).to_mermaid())
        return
    rows = [(row.setting, value_said(row.value), row.where) for row in rows_of(loaded, name)]
    click.echo(text_table(["setting", "value", "set by"], rows))
    for note in _notes(loaded, name):
        click.echo(f"note: {note}")


def _notes(config: Config, name: str | None) -> list[str]:
    """What is in effect other than it is set."""
    names = config.declared if name is None else [name]
    if all(entry.when_full in LOSSLESS for each in names for entry in config.inputs_of(each)):
        return []  # so that a graph that does not fit is explained as well
    notes = lossless_notes(compose(config))
    group = config.group_of(name) if name is not None else None
    owner = group.pattern if group is not None else name
    return [note for note in notes if owner is None or note.startswith(f"containers.{owner}.inputs:")]


def in_phase(config: Config, phase: str) -> Config:
    """The configuration as it applies in a phase; raises `ConfigError` where there is none of this name."""
    names = [declared.name for declared in config.phases]
    if config.walk_forward is None and phase not in names:
        hint = suggestion(phase, names) or f"there are {', '.join(names)}"
        raise ConfigError([Problem("phases", "no phase has this name", f"'{phase}'", hint, config.file)])
    return config.for_phase(phase)


def value_said(value: Any) -> str:
    """A value as YAML has it, on one line; an input that is nothing but a name is that name."""
    if value is None:
        return "-"
    if isinstance(value, list) and value and all(isinstance(item, dict) and "from" in item for item in value):
        return ", ".join(_input_said(item) for item in value)
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _input_said(given: Mapping[str, Any]) -> str:
    declared = {key: item for key, item in given.items() if key != "from" and item not in (None, "block", [])}
    declared = {key: item for key, item in declared.items() if item != {"rows": None, "mb": None}}
    name = str(given["from"])
    return f"{name} {msgspec.json.encode(declared, enc_hook=str).decode()}" if declared else name

"""`penstock explain CONFIG [NAME]`: every effective value, and the line that set it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec

from pipeline.compose import compose
from pipeline.config import explain as rows_of

from .options import CONFIG, ReadingOptions, reading
from .reading import read
from .tables import text_table


@click.command()
@CONFIG
@click.argument("name", required=False)
@click.option("--mermaid", is_flag=True, help="Print the graph as Mermaid text instead.")
@reading
def explain(config: Path, name: str | None, mermaid: bool, **options: Unpack[ReadingOptions]) -> None:
    """Show where each setting of a container, a member or everything comes from."""
    loaded = read(config, options)
    if mermaid:
        click.echo(compose(loaded).to_mermaid())
        return
    rows = [(row.setting, value_said(row.value), row.where) for row in rows_of(loaded, name)]
    click.echo(text_table(["setting", "value", "set by"], rows))


def value_said(value: Any) -> str:
    """A value as YAML has it, on one line; an input that is nothing but a name is that name."""
    if value is None:
        return "-"
    if isinstance(value, list) and value and all(isinstance(item, dict) and "from" in item for item in value):
        return ", ".join(_input_said(item) for item in value)
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _input_said(given: Mapping[str, Any]) -> str:
    declared = {key: item for key, item in given.items() if key != "from" and item not in (None, "block")}
    declared = {key: item for key, item in declared.items() if item != {"rows": None, "mb": None}}
    name = str(given["from"])
    return f"{name} {msgspec.json.encode(declared, enc_hook=str).decode()}" if declared else name

"""`penstock schema`: writes the JSON Schema of configurations, by which editors complete and check them."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from pipeline.config import json_schema
from pipeline.registry import Registry


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it to a file.")
def schema(output: Path | None) -> None:
    """Print the JSON Schema of configurations, with every stage and strategy that is installed.

    An editor that knows YAML uses it where a file begins with
    `# yaml-language-server: $schema=penstock.schema.json`.
    """
    text = msgspec.json.format(msgspec.json.encode(json_schema(Registry.installed()), enc_hook=str), indent=2).decode()
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {output}")

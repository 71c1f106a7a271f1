"""`penstock schema`: the JSON Schema of configurations, by which editors check them, and the columns of records."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import pyarrow as pa

from pipeline.config import json_schema
from pipeline.registry import Registry

from .tables import text_table


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND ...]")
@click.option("--data", is_flag=True, help="Print the columns of records instead: of each KIND, or of all.")
@click.option("--json", "as_json", is_flag=True, help="With --data: print them as JSON.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it to a file.")
def schema(kinds: tuple[str, ...], data: bool, as_json: bool, output: Path | None) -> None:
    """Print the JSON Schema of configurations, with every stage and strategy that is installed.

    An editor that knows YAML uses it where a file begins with
    `# yaml-language-server: $schema=penstock.schema.json`.

    With --data, print what records are made of: each column's type, unit and meaning.
    """
    if not data and (kinds or as_json):
        raise click.UsageError(f"expected --data before {kinds[0] if kinds else '--json'}, found none; add --data")
    registry = Registry.installed()
    if not data:
        text = _json(json_schema(registry))
    elif as_json:
        text = _json([_told(kind, registry.records[kind]) for kind in _chosen(kinds, registry.records)])
    else:
        text = "\n\n".join(_table(kind, registry.records[kind]) for kind in _chosen(kinds, registry.records))
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {output}")


def _chosen(kinds: Sequence[str], known: dict[str, pa.Schema]) -> Sequence[str]:
    for kind in kinds:
        if kind not in known:
            near = difflib.get_close_matches(kind, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise click.UsageError(f"no kind of record is called '{kind}'; {hint}")
    return kinds or list(known)


def _table(kind: str, told: pa.Schema) -> str:
    meaning = _word(told.metadata, "meaning")
    rows = [
        (field.name, _type_said(field.type) + ("?" if field.nullable else ""), _word(field.metadata, "unit"),
         _word(field.metadata, "meaning"))
        for field in told
    ]  # fmt: skip
    table = text_table(("column", "type (? may be null)", "unit", "meaning"), rows)
    return f"{kind}: {meaning}\n{table}" if meaning else f"{kind}\n{table}"


def _told(kind: str, told: pa.Schema) -> dict[str, Any]:
    columns = [
        {
            "name": field.name,
            "type": _type_said(field.type),
            "nullable": field.nullable,
            "unit": _word(field.metadata, "unit"),
            "meaning": _word(field.metadata, "meaning"),
        }
        for field in told
    ]
    return {"kind": kind, "meaning": _word(told.metadata, "meaning"), "columns": columns}


def _type_said(kind: pa.DataType) -> str:
    """`dictionary<int32, string>` rather than all that Arrow says of it."""
    if pa.types.is_dictionary(kind):
        return f"dictionary<{kind.index_type}, {kind.value_type}>"
    if pa.types.is_list(kind):
        return f"list<{_type_said(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_type_said(field.type)}' for field in kind)}>"
    return str(kind)


def _word(metadata: dict[bytes, bytes] | None, key: str) -> str:
    return (metadata or {}).get(key.encode(), b"").decode()


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()

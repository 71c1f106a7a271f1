"""`--set a.b=c`: one setting given on the command line, laid over what the file says."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.errors import Problem

from .located import Located, Place
from .reader import read_yaml

NOT_YAML = ("%", "@", "`")
"""What begins so is no YAML, but may well be a text: `%d/%m/%Y`. Nobody writes quotes within those of the shell."""


def read_override(text: str, problems: list[Problem]) -> tuple[list[str], Located] | None:
    """The keys and the value, read as YAML, of `a.b=c`."""
    path, equals, value = text.partition("=")
    path = path.strip()
    keys = path.split(".")
    if not equals or not all(keys):
        problems.append(Problem("", "expected --set a.b=c", repr(path), file="--set"))
        return None
    if value.lstrip().startswith(NOT_YAML):
        value = f"'{value.strip().replace(chr(39), chr(39) * 2)}'"
    found: list[Problem] = []
    made = read_yaml(value, f"--set {path}", os.environ, found, path)
    # One command line has no lines.
    problems += [Problem(item.path, item.expected, item.found, item.suggestion, "--set") for item in found]
    return (keys, without_lines(made)) if made is not None else None


def without_lines(located: Located) -> Located:
    place = Place(located.place.path, located.place.file)
    if isinstance(located.value, dict):
        return Located({key: without_lines(item) for key, item in located.value.items()}, place)
    if isinstance(located.value, list):
        return Located([without_lines(item) for item in located.value], place)
    return Located(located.value, place)


def put(source: Located, keys: Sequence[str], value: Located) -> Located:
    """`source` with the setting at `keys` replaced, mappings on the way made where there are none."""
    if not keys:
        return value
    if isinstance(source.value, list) and keys[0].isdecimal() and int(keys[0]) < len(source.value):
        items = list(source.value)
        items[int(keys[0])] = put(items[int(keys[0])], keys[1:], value)
        return Located(items, source.place)
    entries = dict(source.value) if isinstance(source.value, dict) else {}
    under = entries.get(keys[0]) or Located({}, _parent(value.place, len(keys) - 1))
    entries[keys[0]] = put(under, keys[1:], value)
    return Located(entries, source.place)


def _parent(place: Place, levels: int) -> Place:
    """The place `levels` above."""
    return Place(".".join(place.path.split(".")[: -levels or None]), place.file, place.line)

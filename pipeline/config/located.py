"""Values that remember where they were written."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import msgspec

from pipeline.errors import Problem

MAX_DEPTH = 64
"""Nesting deeper than this is a mistake or an attack; both are refused before anything recurses over it."""
_SECRET_WORDS = ("secret", "password", "token", "api_key", "apikey")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a setting was written: its dotted path there, and the file and line, or a word such as `--set a.b`."""

    path: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """Short, for one column of a table: `backtest.yaml:14`, `--set a.b`, `python`."""
        if self.line is None:
            return self.file or "python"
        return f"{Path(self.file).name}:{self.line}"

    def child(self, key: str | int) -> Place:
        return Place(f"{self.path}.{key}" if self.path else str(key), self.file, self.line)


class Broken:
    """Stands for a value whose problem has been reported, so that nothing complains about it again."""


BROKEN = Broken()


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """A value and its place. Mappings hold `Located` values under text keys, lists hold `Located` items."""

    value: Any
    place: Place

    def __iter__(self) -> Iterator[tuple[str, Located]]:
        """Entries of a mapping; nothing for anything else."""
        return iter(self.value.items() if isinstance(self.value, dict) else ())

    def get(self, key: str) -> Located | None:
        found = self.value.get(key) if isinstance(self.value, dict) else None
        return found if isinstance(found, Located) else None

    def problem(self, expected: str, *, found: str = "", suggestion: str = "", key: str = "") -> Problem:
        """A problem here, or at the missing or unknown `key` of this mapping."""
        place = self.place.child(key) if key else self.place
        # `--set a.b` names the setting a second time; the path beside it is enough.
        file = "--set" if place.file.startswith("--set ") else place.file
        return Problem(place.path, expected, found, suggestion, file, place.line)


def plain(located: Located) -> Any:
    """The value without its places."""
    value = located.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value is BROKEN else value


def walk(located: Located) -> Iterator[Located]:
    """The value and everything inside it, in the order it was written."""
    yield located
    value = located.value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def lift(value: Any, place: Place, problems: list[Problem], depth: int = 0) -> Located:
    """A Python value as a located one, everything inside it at `place`'s file; what is not plain data is a problem."""
    if depth > MAX_DEPTH:
        problems.append(Located(None, place).problem(f"expected at most {MAX_DEPTH} levels of nesting"))
        return Located(BROKEN, place)
    if isinstance(value, Mapping):
        items = {str(key): lift(item, place.child(str(key)), problems, depth + 1) for key, item in value.items()}
        return Located(items, place)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Located([lift(item, place.child(n), problems, depth + 1) for n, item in enumerate(value)], place)
    if isinstance(value, PurePath):
        return Located(str(value), place)
    if isinstance(value, datetime.date):
        return Located(value.isoformat(), place)
    if value is None or isinstance(value, str | int | float | msgspec.Struct):
        return Located(value, place)
    problems.append(Located(None, place).problem("expected plain data", found=type(value).__name__))
    return Located(BROKEN, place)


def is_secret(path: str) -> bool:
    """Whether a part of a dotted path looks like something that must never be printed."""
    return any(word in part for part in path.lower().replace("-", "_").split(".") for word in _SECRET_WORDS)


def shown(value: Any, path: str, limit: int = 80) -> str:
    """How a value appears in a message: quoted, cut short, and `***` where its setting is a secret."""
    if is_secret(path):
        return "***"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

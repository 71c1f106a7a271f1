"""Finds the captures that paths name, by what is in them, and sorts their files into sources."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import InputError

from .counts import Note
from .cryptofeed import Cryptofeed
from .format import Format
from .hftbacktest import Hftbacktest
from .source import Source, begins_ns
from .unpacked import packed_as, unpacked

FORMATS: tuple[Format, ...] = (Hftbacktest(), Cryptofeed())

NO_CAPTURE = "a file without a message"

HEAD_BYTES = 1 << 16
HEAD_LINES = 20
"""How much of a file is looked at to tell its format: that of most of these lines."""

_PACKED = re.compile(r"\.(gz|gzip)$")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Found:
    """The sources of a capture, in the order of their names, and files beside them that are none."""

    sources: tuple[Source, ...]
    passed_over: tuple[Path, ...]
    notes: tuple[Note, ...]


def find_captures(paths: str | Path | Iterable[str | Path]) -> Found:
    """The captures at a file, folder or glob, or several of them. Raises `InputError`.

    In a folder, files of other content are passed over; one that is named itself must be a capture, or empty beside
    others. Files of one folder whose names differ in a date, or in cryptofeed's last number, are one source, in order
    of when they begin.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    named, found = _files(given)
    groups: dict[tuple[Path, str, str], list[tuple[int, list[object], Path]]] = {}
    passed_over, notes = [], []
    for file in found:
        format, wrong = _format_of(file)
        begins = None if format is None else begins_ns(file, format)
        if format is None or begins is None:
            wrong = wrong or "no message with a time is in it"
            if file in named and (file.stat().st_size or len(found) == 1):
                raise InputError(f"{file}: expected a capture ({looked_for()}), found otherwise: {wrong}")
            if format is not None or file in named:
                notes.append(Note(file, 0, NO_CAPTURE, wrong))
            else:
                passed_over.append(file)
            continue
        key = (file.parent, format.source_of(_PACKED.sub("", file.name)), format.name)
        groups.setdefault(key, []).append((begins, _natural(file.name), file))
    if not groups:
        others = ", ".join(sorted(file.name for file in found)[:5]) or "no file"
        raise InputError(f"{_said(given)}: expected a capture ({looked_for()}), found {others}")
    formats = {format.name: format for format in FORMATS}
    names = _distinct([(folder, name) for folder, name, _ in groups])
    sources = []
    for (folder, name, format_name), files in groups.items():
        files.sort(key=lambda entry: (entry[0], entry[1]))
        in_order = tuple(file for _, _, file in files)
        sources.append(Source(names[folder, name], formats[format_name], in_order, files[0][0]))
    sources.sort(key=lambda source: (_natural(source.name), source.format.name))
    return Found(tuple(sources), tuple(passed_over), tuple(notes))


def is_capture(file: Path) -> bool:
    """Whether a file is of one of the formats, by its first lines."""
    return _format_of(file)[0] is not None


def why_no_capture(file: Path) -> str:
    """What keeps a file from being read as a capture; empty where it is one."""
    return _format_of(file)[1]


def _files(given: Sequence[str | Path]) -> tuple[set[Path], list[Path]]:
    """Files named outright, and all files, each once, in order of their paths."""
    named: set[Path] = set()
    found: set[Path] = set()
    for one in given:
        path = Path(one).expanduser()
        if path.is_file():
            named.add(path)
        elif path.is_dir():
            found |= {file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_"))}
        else:
            matched = [Path(name) for name in glob.glob(str(path), recursive=True)]
            if not matched:
                raise InputError(f"{path}: expected a file, folder or glob of captures, found none; check the path")
            found |= {file for file in matched if file.is_file()}
    return named, sorted(found | named, key=lambda file: _natural(str(file)))


def _format_of(file: Path) -> tuple[Format | None, str]:
    """The format of a file, or what is wrong with it."""
    damage: list[str] = []
    head = b""
    for piece in unpacked(file, HEAD_BYTES, damage.append):
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    if packed := packed_as(head):
        return None, f"it is packed by {packed}"
    lines = [line for line in head.split(b"\n") if line.strip()][:HEAD_LINES]
    if not lines:
        return None, damage[0] if damage else "it is empty"
    scores = [sum(format.recognises(line) for line in lines) for format in FORMATS]
    best = max(scores)
    if not best:
        return None, f"it begins with {lines[0][:60]!r}"
    return FORMATS[scores.index(best)], ""


def _distinct(names: Sequence[tuple[Path, str]]) -> dict[tuple[Path, str], str]:
    """Names of sources with as many folders in front as tell them apart."""
    told = {}
    for folder, name in names:
        rivals = {other for other, same in names if same == name and other != folder}
        parts = folder.parts
        depth = 0
        while depth < len(parts) and any(
            other.parts[len(other.parts) - depth :] == parts[len(parts) - depth :] for other in rivals
        ):
            depth += 1
        told[folder, name] = "/".join([*parts[len(parts) - depth :], name])
    return told


def _natural(name: str) -> list[object]:
    """An order in which `ws.9` comes before `ws.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)]


def _said(given: Sequence[str | Path]) -> str:
    return ", ".join(str(one) for one in given[:3]) or "no path"


def looked_for() -> str:
    return " or ".join(f"{format.name}: {format.looks_like}" for format in FORMATS)

"""Finds what lies in our own layout: `<type>/venue=<v>/instrument=<id>/date=<day>/<first>_<last>_<session>.parquet`.

Of a recording the files count that its manifest lists, in the order of their commits; where files lie so without a
manifest, all of them, by their names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import InputError, RecordedFile, StorageFailed, recorded_files

_FOLDERS = ("venue=", "instrument=", "date=")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class OwnFile:
    """A file of ours; first and last time of receipt (ns) where a manifest tells them."""

    path: Path
    begins_ns: int | None = None
    ends_ns: int | None = None


@dataclass(frozen=True)
class Series:
    """What one session, or one recording, has of one instrument as one kind of record, file after file in time."""

    kind: str
    rank: int
    """Its place among others at equal times: those of one session share it, since `ingest_seq` orders them."""
    files: tuple[OwnFile, ...]


def find_series(paths: Sequence[Path]) -> list[Series]:
    """The series below the paths: ranks by the order of the paths, then of venues and sessions.

    Empty where a file lies otherwise: then it is no folder of ours. Raises `InputError` for a recording whose manifest
    cannot be read, or lists what is not there.
    """
    ranks: dict[tuple[object, ...], int] = {}
    found: dict[tuple[object, ...], tuple[str, int, dict[Path, OwnFile]]] = {}
    for path in paths:
        if not path.is_dir():
            return []
        told = _told_by_manifest(path.resolve())
        if told is None:
            placed = _unlisted(path)
        else:
            root, files = told
            placed = [((root,), _place_of(file.path), _own(file)) for file in files]
        for session, place, file in placed:
            if place is None:
                return []
            kind, venue, instrument = place
            rank = ranks.setdefault(session, len(ranks))
            series = found.setdefault((rank, kind, venue, instrument), (kind, rank, {}))
            series[2].setdefault(file.path.resolve(), file)
    in_order = sorted(found.items(), key=lambda item: tuple(map(str, item[0][1:])))
    in_order.sort(key=lambda item: item[1][1])
    return [Series(kind, rank, tuple(files.values())) for _, (kind, rank, files) in in_order]


def _told_by_manifest(path: Path) -> tuple[Path, list[RecordedFile]] | None:
    """The recording that a folder is, or is a part of, and its files there; None where there is no manifest of one."""
    for root in (path, *path.parents[:4]):
        if next(root.glob("MANIFEST-*"), None) is None:
            continue
        try:
            files = recorded_files(root)
        except StorageFailed as error:
            raise InputError(f"{root}: {error}") from error
        if files is None:
            return None
        below = [file for file in files if file.path.is_relative_to(path)]
        for file in below:
            if not file.path.is_file():
                raise InputError(
                    f"{file.path}: expected a file, since the recording's manifest lists it, found none; "
                    f"see `penstock verify {root}`"
                )
        return root, below
    return None


def _own(file: RecordedFile) -> OwnFile:
    return OwnFile(file.path, file.min_ts, file.max_ts)


def _unlisted(path: Path) -> list[tuple[tuple[object, ...], tuple[str, str, str] | None, OwnFile]]:
    """All files below, by venue and session, then in order of time."""
    placed = []
    for file in path.rglob("*.parquet"):
        if file.name.startswith((".", "_")):
            continue
        place = _place_of(file)
        session, _, commit = file.stem.rpartition("_")[2].partition("-")
        key = (_natural(session), file.parent.name, _natural(commit), file.name)
        placed.append(((place[1] if place else "", session), place, key, OwnFile(file)))
    placed.sort(key=lambda each: (each[0][0], *each[2]))
    return [(session, place, file) for session, place, _, file in placed]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(text)]


def _place_of(file: Path) -> tuple[str, str, str] | None:
    """Kind, venue and instrument by where a file lies; the instrument is empty where those of all lie together."""
    folders = file.resolve().parts[-5:-1]
    if len(folders) == 4 and all(name.startswith(sign) for name, sign in zip(folders[1:], _FOLDERS, strict=True)):
        venue, instrument, _ = (name.partition("=")[2] for name in folders[1:])
        return folders[0], venue, instrument
    if len(folders) > 2 and folders[-2].startswith(_FOLDERS[0]) and folders[-1].startswith(_FOLDERS[2]):
        return folders[-3], folders[-2].partition("=")[2], ""
    return None

"""Finds what lies in our own layout: `<type>/venue=<v>/instrument=<id>/date=<day>/<first>_<last>_<session>.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDERS = ("venue=", "instrument=", "date=")


@dataclass(frozen=True, order=True)
class Series:
    """What one session recorded of one instrument, as one kind of record, day after day."""

    venue: str
    session: str
    kind: str
    instrument: str


def find_series(paths: Sequence[Path]) -> dict[Series, list[Path]]:
    """The series below the paths, in order of their names, with the files of each in order of time.

    Empty where a file lies otherwise: then it is no folder of ours.
    """
    found: dict[Series, list[Path]] = {}
    for path in paths:
        if not path.is_dir():
            return {}
        for file in path.rglob("*.parquet"):
            if file.name.startswith((".", "_")):
                continue
            series = _series_of(file)
            if series is None:
                return {}
            found.setdefault(series, []).append(file)
    return {series: sorted(found[series], key=lambda file: (file.parent.name, file.name)) for series in sorted(found)}


def _series_of(file: Path) -> Series | None:
    folders = file.resolve().parts[-5:-1]
    if len(folders) < 4 or not all(name.startswith(sign) for name, sign in zip(folders[1:], _FOLDERS, strict=True)):
        return None
    venue, instrument, _ = (name.partition("=")[2] for name in folders[1:])
    return Series(venue, file.stem.rpartition("_")[2], folders[0], instrument)

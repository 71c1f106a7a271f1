"""Finds out what a path holds, and opens it with the reader that is made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from stages.messages.captures import is_recording

from .captured import holds_captures
from .dbn_layout import is_dbn
from .declaration import Declaration
from .lean_layout import is_lean
from .recording import Recording
from .tables import find_tables

Format: TypeAlias = Literal["auto", "parquet", "csv", "lean", "tardis", "dbn", "capture"]


def is_of_captures(paths: tuple[Path, ...], format: Format) -> bool:
    """Whether messages as received lie there; told by content unless declared.

    Of a recording files of records are read, and its messages where there are none yet.
    """
    if format != "auto":
        return format == "capture"
    if len(paths) == 1 and is_recording(paths[0]) and next(paths[0].rglob("*.parquet"), None) is None:
        return True
    return not any(is_lean(path) or is_dbn(path) for path in paths) and holds_captures(paths)


def open_recording(path: Path, format: Format, declared: Declaration) -> Recording:
    """The recording of one kind of record at a file, folder or glob, found but not read. Raises `InputError`."""
    if format == "lean" or (format == "auto" and is_lean(path)):
        from .lean import open_lean

        return open_lean(path, declared)
    if format == "dbn" or (format == "auto" and is_dbn(path)):
        from .dbn import open_dbn

        return open_dbn(path, declared)
    kind, files = find_tables(path, "csv" if format == "tardis" else format)
    instrument = declared.instrument or f"{files[0].name.split('.')[0]}.FILE".upper()
    if kind == "parquet":
        from .nautilus import is_nautilus, open_nautilus
        from .parquet import open_parquet

        if is_nautilus(files[0]):
            return open_nautilus(files, declared)
        return open_parquet(files, instrument, declared)
    from .csv import open_csv
    from .tardis import is_tardis, open_tardis

    if format == "tardis" or (format == "auto" and is_tardis(files[0], declared)):
        return open_tardis(files, declared)
    return open_csv(files, instrument, declared)

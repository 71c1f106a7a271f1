"""Finding and reading the one table in a zip archive."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Protocol, Self, cast

from pipeline import InputError

TEXT_TABLES = (".csv", ".tsv", ".txt")
BROKEN = (EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)
"""What reading a damaged archive raises."""


class ByteStream(Protocol):
    """What a file, plain or packed, is read through."""

    def read(self, size: int, /) -> bytes: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


def table_inside(path: Path) -> str:
    """The name of the one table in an archive: its only file, or the only .csv, .tsv or .txt beside others.

    What archivers of some systems add (`__MACOSX`, hidden files) does not count. Raises `InputError`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _table(path, archive).filename
    except BROKEN as error:
        raise _damaged(path, error) from error


def open_table(path: Path) -> ByteStream:
    """The bytes of `table_inside(path)`; closing it closes the archive. Raises `InputError`."""
    try:
        archive = zipfile.ZipFile(path)
        try:
            return _Member(archive, cast(zipfile.ZipExtFile, archive.open(_table(path, archive))))
        except BaseException:
            archive.close()
            raise
    except BROKEN as error:
        raise _damaged(path, error) from error


def _table(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_litter(entry.filename)]
    for endings in (TEXT_TABLES[:2], TEXT_TABLES):
        tables = [entry for entry in members if entry.filename.lower().endswith(endings)]
        if len(tables) == 1:
            return tables[0]
    if len(members) != 1:
        names = ", ".join(entry.filename for entry in members[:5]) or "none"
        hint = "; unpack it into a folder and read that" if members else ""
        raise InputError(f"{path}: expected one table in the archive, found {len(members)} files ({names}){hint}")
    return members[0]


def _is_litter(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path}: expected a complete zip archive, found damage ({error}); fetch the file again")


class _Member:
    """A member of an archive that closes the archive with itself."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipExtFile) -> None:
        self._archive, self._member = archive, member

    def read(self, size: int, /) -> bytes:
        return self._member.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._member.close()
        self._archive.close()

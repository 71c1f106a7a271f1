"""Where Databento's files are: told by how they are called, without their library."""

from __future__ import annotations

import glob
from pathlib import Path

ENDINGS = (".dbn", ".dbn.zst")


def is_dbn(path: Path) -> bool:
    """Whether a file, or any file in a folder or glob, is called as DBN files are."""
    return any(file.name.lower().endswith(ENDINGS) for file in _files(path))


def dbn_files(path: Path) -> list[Path]:
    """The DBN files at `path` in order of their names; a file named outright may be called anything."""
    return [file for file in _files(path) if file == path or file.name.lower().endswith(ENDINGS)]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
    return sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())

"""Finding the table files that a path names: a file, a folder or a glob; parquet or text."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal

from pipeline import InputError
from stages.messages.captures import looked_for, why_no_capture

from .archives import TEXT_TABLES, table_inside
from .lean_layout import LAYOUT

ENDINGS: dict[str, tuple[str, ...]] = {
    "parquet": (".parquet", ".pq"),
    "csv": tuple(f"{name}{packed}" for name in TEXT_TABLES for packed in ("", ".gz", ".zip")),
}
ARCHIVE = ".zip"
"""A file called so, with no table's ending before it, is looked into."""


def find_tables(path: Path, declared: str) -> tuple[Literal["parquet", "csv"], list[Path]]:
    """The format and the files at `path`, in order of their names; hidden files are passed over.

    A file named outright may end in anything if its format is declared. Raises `InputError`.
    """
    if path.is_file():
        return _format_of(path, declared), [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_"))]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
        if not found and not glob.has_magic(str(path)):
            raise InputError(f"{path}: expected a file or folder, found none; check the path")
    by_format = {
        name: sorted(file for file in found if file.name.lower().endswith(endings))
        for name, endings in ENDINGS.items()
        if declared in ("auto", name)
    }
    if "csv" in by_format and not by_format.get("parquet"):
        by_format["csv"] = sorted({*by_format["csv"], *(file for file in found if _holds_table(file))})
    formats = [name for name, files in by_format.items() if files]
    if len(formats) > 1:
        counted = ", ".join(f"{len(by_format[name])} of {name}" for name in formats)
        raise InputError(f"{path}: expected files of one format, found {counted}; declare `format`")
    if not formats:
        others = ", ".join(sorted(file.name for file in found)[:5]) or "nothing"
        raise InputError(f"{path}: expected {_looked_for(declared)}, found {others}")
    return ("parquet" if formats[0] == "parquet" else "csv"), by_format[formats[0]]


def _format_of(file: Path, declared: str) -> Literal["parquet", "csv"]:
    if declared in ("parquet", "csv"):
        return "parquet" if declared == "parquet" else "csv"
    name = file.name.lower()
    if name.endswith(ENDINGS["parquet"]):
        return "parquet"
    if name.endswith(ENDINGS["csv"]):
        return "csv"
    if name.endswith(ARCHIVE):
        if (inside := table_inside(file)).lower().endswith(TEXT_TABLES):
            return "csv"
        raise InputError(
            f"{file}: expected a table ({' '.join(TEXT_TABLES)}) in the archive, found {inside}; {_unpacking(inside)}"
        )
    wrong = f", and no capture: {why_no_capture(file)}" if declared == "auto" else ""
    raise InputError(f"{file}: expected {_looked_for(declared)}, found another ending{wrong}; declare `format`")


def _holds_table(file: Path) -> bool:
    """Whether a file is an archive with a text table in it; a damaged one is taken along, to be told when read."""
    if not file.name.lower().endswith(ARCHIVE):
        return False
    try:
        return table_inside(file).lower().endswith(TEXT_TABLES)
    except InputError:
        return True


def _unpacking(inside: str) -> str:
    return "unpack it" if inside.lower().endswith(ENDINGS["parquet"]) else "declare `format: csv` if it is a table"


def _looked_for(declared: str) -> str:
    tables = [f"{name} ({' '.join(endings)})" for name, endings in ENDINGS.items() if declared in ("auto", name)]
    if declared != "parquet":
        tables.append("a .zip with one csv in it")
    others = [f"LEAN data ({LAYOUT})", f"a capture of messages ({looked_for()})"] if declared == "auto" else []
    return " or ".join([*tables, *others])

"""Which folder is meant by a path that somebody gives, for commands that look at folders and change nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import InputError
from ..folder import RUN, SUMMARY, no_folder, read_record
from ..storage.entries import Entry
from ..storage.lock import LOCK
from ..storage.manifest import CHECKPOINTS, QUARANTINE, SPILL, WAL, Committed, manifest_numbers, read_manifest

STORE: Final = "store"
OWN: Final = (WAL, CHECKPOINTS, SPILL, QUARANTINE, STORE)
"""Folders in a root that are the program's."""
_OF_PHASES: Final = (SUMMARY, RUN, "containers", "dead_letters", STORE)
"""One of them at least is in the folder of a phase that has begun to leave something."""
_NAMED: Final = 8
"""Folders that are listed by name where one of them has to be given."""


class Place(NamedTuple):
    """A folder that one process holds at a time, and the phase in it that is meant; None: all of it."""

    root: Path
    phase: str | None = None
    why: str = ""
    """Where another folder was given than this one or its `<output>/<name>`: how it leads here."""


def locate(folder: Path) -> Place:
    """A run's folder, `<output>/<name>` (its latest run), a phase's folder, or one of `open_stores`.

    A folder in which one such folder lies stands for that one. Raises `InputError` for anything else, and where
    several lie there, `StorageFailed` for a newer format.
    """
    if not folder.is_dir():
        raise no_folder(folder)
    if _is_root(folder):
        return Place(folder)
    absolute = Path(os.path.abspath(folder))
    if _is_root(absolute.parent):
        return _within(absolute.parent, absolute.name)
    if _is_root(folder / "latest"):
        return Place(folder / "latest")
    within = sorted(path for path in folder.iterdir() if path.name[:1] != "." and not path.is_symlink())
    runs = [path for path in within if _is_root(path)]
    if len(runs) == 1:
        return Place(runs[0], why=f"the only folder of Penstock's in {folder}")
    latest = [path / "latest" for path in within if _is_root(path / "latest")]
    if runs or latest:
        raise which_one(folder, [*runs, *latest])
    if (folder / SUMMARY).is_file():
        return Place(absolute.parent, absolute.name)
    for base in (folder, folder / "latest"):
        if any(base.glob(f"*/{SUMMARY}")):
            return Place(base)
    raise InputError(
        f"{folder} is no folder of Penstock: it has no manifest, no lock and no phase's {SUMMARY}; expected a run's "
        "folder such as results/<name>/latest, a phase's, or one of open_stores"
    )


def which_one(folder: Path, found: Sequence[Path]) -> InputError:
    """What to say of a folder that may stand for several others."""
    named = ", ".join(map(str, found[:_NAMED])) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    return InputError(f"{folder} is no folder of Penstock's itself, and has {len(found)} in it; give one: {named}")


def _is_root(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:  # it is none, or somebody else's
        return False
    return LOCK in names or bool(manifest_numbers(names)) or (WAL in names and CHECKPOINTS in names)


def _within(root: Path, name: str) -> Place:
    """The phase of this name; the program's own folders stand for all of the root."""
    if name in OWN:
        return Place(root)
    committed = read_manifest(root).committed
    listed = {entry.phase for entry in committed.files.values() if entry.phase is not None}
    known = {*committed.phases, *committed.checkpoints, *listed, *(path.name for path in phase_folders(root))}
    if name not in known:
        raise InputError(f"{root / name} holds nothing of a phase; {root} has {', '.join(sorted(known)) or 'none'}")
    return Place(root, name)


def phase_folders(root: Path) -> list[Path]:
    """Folders of phases that have left something, whether it is committed or not."""
    found = [path for path in root.iterdir() if path.is_dir() and path.name not in OWN and path.name[:1] != "."]
    return sorted(path for path in found if any((path / name).exists() for name in _OF_PHASES))


def lies_in(root: Path, entry: Entry, committed: Committed) -> Path:
    """Where a listed file is now: the complete result of a phase that is being run again waits under another name."""
    assert entry.file is not None
    phase = committed.phases.get(entry.phase or "")
    if phase is not None and entry.file.startswith(f"{entry.phase}/"):
        aside = root / f".{entry.phase}.complete-{phase.seq}"
        if aside.is_dir():
            return aside / entry.file.removeprefix(f"{entry.phase}/")
    return root / entry.file


def recorded_sizes(phase: Path) -> Iterator[tuple[str, int]]:
    """Files that a phase from before the manifest says it left, and their bytes."""
    sizes = read_record(phase).get("files")
    for file, num_bytes in (sizes if isinstance(sizes, dict) else {}).items():
        if isinstance(num_bytes, int) and ".." not in Path(file).parts and not Path(file).is_absolute():
            yield file, num_bytes

"""Reads a whole run: all the phases it has completed, in the order they ran."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError
from .folder import SUMMARY, damaged_summary, no_folder, published_phases, read_summary
from .results import PhaseResults


def open_run(path: str | Path, phase: str | None = None) -> Sequence[PhaseResults]:
    """The phases in a run's folder or `<output>/<name>` (its latest run), oldest first; at least one.

    With `phase` the run is read up to that one, which is then the last; a phase's own folder says the same. Raises
    `InputError` where there is no summary to read or no such phase, or where its summary is damaged. Blocks.
    """
    root = Path(path)
    if not root.exists():
        raise no_folder(root)
    if (root / SUMMARY).is_file():
        return open_run(root.absolute().parent, phase or root.absolute().name)
    for base in (root, root / "latest"):
        found = _phases(base, phase)
        if found:
            return found if phase is None else _up_to(found, phase, base)
    raise InputError(f"{root} holds no phase summary; expected a run's folder such as results/<name>/latest")


def _phases(base: Path, wanted: str | None) -> list[PhaseResults]:
    """Phases in the order they ran; raises `InputError` where the one that is wanted, the last or by name, is damaged.

    One before it that is damaged is left out.
    """
    folders = published_phases(base)
    read = [(folder, read_summary(folder)) for folder in folders]
    for folder, summary in read:
        if summary is None and folder.name == (wanted or folders[-1].name):
            raise damaged_summary(folder)
    return [PhaseResults(folder, summary) for folder, summary in read if summary is not None]


def _up_to(found: Sequence[PhaseResults], phase: str, base: Path) -> Sequence[PhaseResults]:
    names = [results.folder.name for results in found]
    if phase not in names:
        raise InputError(f"{base} holds no complete phase '{phase}'; it has {', '.join(names)}")
    return found[: names.index(phase) + 1]

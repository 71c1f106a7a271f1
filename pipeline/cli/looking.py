"""What commands share that look at a folder: which one is meant, and what is said where it cannot be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pipeline.errors import InputError, StorageFailed
from pipeline.examination.places import Place, locate
from pipeline.storage.manifest import read_manifest

from .figures import LINES, printable
from .trouble import BAD_CONFIGURATION


def place_of(folder: Path) -> Place:
    """Ends the program with exit code 2 where there is no such folder, or where it is of a newer format."""
    try:
        place = locate(folder)
        read_manifest(place.root)
    except (InputError, StorageFailed, OSError) as error:
        click.echo(printable(f"error: {error}", LINES), err=True)
        click.get_current_context().exit(BAD_CONFIGURATION)
    return place


def named(folder: str, phase: str | None, why: str) -> str:
    """Which folder was looked at, and why that one where another was given."""
    return folder + (f", phase {phase}" if phase is not None else "") + (f" ({why})" if why else "")


def labelled(lines: Sequence[tuple[str, str]]) -> str:
    """Labels, and what is to be said of each."""
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:<{width}}  {printable(words)}" for label, words in lines)

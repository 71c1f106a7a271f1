"""What a report is: a page for people, and a few words of it for the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa


@dataclass(frozen=True)
class Report:
    """What one run has to show."""

    html: str
    """One whole page that needs nothing else."""
    table: pa.Table
    """Its most telling rows."""
    title: str = ""
    """Stands above the table."""
    words: Sequence[tuple[str, str]] = ()
    """Label and words of lines below it."""


Inspector: TypeAlias = Callable[[Path, int | None, bool], Report | None]
"""Makes a report on the quality of what a folder holds, by windows of so many nanoseconds (None: of all of it).

`html` is drawn where the last argument says so, and else empty. None where the folder holds nothing it knows. Blocks.
Registered by `Registry.add_quality`.
"""
Reporter: TypeAlias = Callable[[Sequence[Any]], Report | None]
"""Makes a report of a run's phases (`PhaseResults`, oldest first; the last is what it is about).

None where the run is none of its kind. Blocks. Registered by `Registry.add_report`.
"""


@dataclass(frozen=True)
class WorkDone:
    """What a work of a package came to: lines for people (label and words), and figures for programs."""

    words: Sequence[tuple[str, str]]
    figures: Mapping[str, Any]


class UnderWay(Protocol):
    """Whoever asked for a work: hears how far it is, and may ask that it ends."""

    stop: asyncio.Event
    """Set: it is to end soon, with everything it has done kept."""

    def tell(self, said: Callable[[], str]) -> None:
        """How far it is now; `said` is called only where somebody looks."""


Work: TypeAlias = Callable[..., Awaitable[WorkDone]]
"""What a command of the program does that only a package can, such as `record`: awaited with an `UnderWay` first and
the command's options by name. Registered by `Registry.add_work`."""

"""A run as a progress line or a health check sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from .container import ContainerStats
from .data import DataStats
from .edge import EdgeStats


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a run."""

    phase: str | None
    state: str
    """waiting, running, paused, draining or ended."""
    phase_number: int = 0
    """Of the phase that runs, from 1; 0 before the first."""
    phases: int = 1
    """How many there are."""
    containers: Sequence[ContainerStats] = ()
    stores: Mapping[str, DataStats] = {}
    edges: Sequence[EdgeStats] = ()

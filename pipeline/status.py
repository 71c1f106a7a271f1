"""A run as a progress line or a health check sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from .containers.container import ContainerStats
from .data import DataStats
from .edges.edge import EdgeStats
from .pool import Pool


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The memory all containers of the phase share."""

    limit_bytes: int
    charged_bytes: int
    pressure: str
    """`spilling`, `throttled`, or empty when nothing is short."""

    @staticmethod
    def of(pool: Pool) -> PoolStatus:
        return PoolStatus(limit_bytes=pool.limit, charged_bytes=pool.charged, pressure=pool.pressure.said)


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
    pool: PoolStatus | None = None

"""The one call that makes data managers."""

from __future__ import annotations

from ..clock import Clock, SystemClock
from ..storage.workspace import Workspace
from .base import DataManager
from .file import FileManager
from .hybrid import HybridManager
from .memory import MemoryManager
from .policy import DataFlow
from .streaming import FlushCallback, StreamingManager


def build_manager(
    name: str,
    policy: DataFlow,
    workspace: Workspace,
    *,
    flush: FlushCallback | None = None,
    clock: Clock | None = None,
) -> DataManager:
    """The data manager a policy asks for; it costs nothing until something is stored. The caller closes it.

    `flush` is where a `streaming` manager hands its items; without it they go to files of the container's own.
    """
    clock = clock or SystemClock()
    match policy.mode:
        case "memory":
            return MemoryManager(name, policy, clock=clock, pool=workspace.pool)
        case "streaming":
            return StreamingManager(name, policy, workspace, flush=flush, clock=clock)
        case "file":
            return FileManager(name, policy, workspace, clock=clock)
        case "hybrid":
            return HybridManager(name, policy, workspace, clock=clock)

"""The four data managers, and the one call that makes them."""

from __future__ import annotations

from typing import Any

from ..clock import Clock, SystemClock
from ..storage.workspace import Workspace
from .base import DataManager, DataStats
from .hybrid import HybridManager
from .memory import MemoryManager
from .policy import DataFlow

__all__ = ["DataFlow", "DataManager", "DataStats", "build_manager"]


def build_manager(
    name: str,
    policy: DataFlow,
    workspace: Workspace,
    *,
    flush: Any = None,
    clock: Clock | None = None,
) -> DataManager:
    """The data manager a policy asks for; it costs nothing until something is stored. The caller closes it."""
    clock = clock or SystemClock()
    match policy.mode:
        case "memory":
            return MemoryManager(name, policy, clock=clock)
        case "hybrid":
            return HybridManager(name, policy, workspace, clock=clock)
    raise NotImplementedError(policy.mode)

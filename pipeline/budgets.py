"""What memory a run may have, and what its containers might want of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .machine import MB, Allowance, default_pool, process_limit
from .topology import Topology

log = logging.getLogger("penstock.engine")


@dataclass(frozen=True)
class Memory:
    """What a run may have."""

    pool_bytes: int
    """For all containers together."""
    process_bytes: int | None
    """For the whole process, where that is the run's own."""

    @staticmethod
    def of(declared: int | None, owns_process: bool, topology: Topology) -> Memory:
        """As declared, or the default; logs which, and by how much the budgets exceed it together. Blocking."""
        pool = default_pool(owns_process=owns_process) if declared is None else Allowance(declared, "process_memory_mb")
        log.info("all containers share %s MB of memory: %s", f"{pool.bytes / MB:,.1f}", pool.said)
        budgets = [
            flow.memory_limit_bytes
            for node in topology.nodes
            for flow in ([node.flow_of(name) for name in node.members] or [node.data_flow])
        ]
        if sum(budgets) > pool.bytes:
            log.info(
                "%s budgets add up to %s MB, more than these: each is a ceiling, not a reservation",
                f"{len(budgets):,}", f"{sum(budgets) / MB:,.0f}",
            )  # fmt: skip
        return Memory(pool.bytes, process_limit().bytes if owns_process else None)

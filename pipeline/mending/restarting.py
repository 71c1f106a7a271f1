"""Whether a phase that failed is run again: each container has a budget for it, spent over the whole phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..containers.pushing import Push
from ..topology import Topology
from .mender import backoff_ns


@dataclass
class Restarts:
    """Restarts a phase has taken, and the decision about the next one."""

    topology: Topology
    seed: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    """By container, restarts that were taken because of it."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """For `run.json`: each restart's containers and what they failed of."""

    def wait_ns(self, failures: Mapping[str, BaseException]) -> int | None:
        """How long to wait before the phase runs again; None where it does not.

        It does when every container that failed has restarts left; each of them then has one less. Rows that a program
        pushed are gone, so a phase with such a feed is never run from its beginning again.
        """
        if not failures or any(isinstance(feed.stage, Push) for feed in self.topology.feeds):
            return None
        policies = {name: self.topology[name].errors for name in failures if name in self.topology}
        if len(policies) < len(failures) or any(self.left(name) <= 0 for name in policies):
            return None
        waits = []
        for name, policy in policies.items():
            self.spent[name] = self.spent.get(name, 0) + 1
            generator = np.random.default_rng([self.seed, self.spent[name], *name.encode()])
            waits.append(backoff_ns(policy, self.spent[name], generator))
        self.history.append({name: str(error) for name, error in failures.items()})
        return max(waits)

    def left(self, name: str) -> int:
        """Restarts this container still has."""
        return self.topology[name].errors.restarts - self.spent.get(name, 0)

    @property
    def exhausted(self) -> Sequence[str]:
        """Containers that have none left: a failure of theirs is their last."""
        return [node.name for node in self.topology.nodes if self.left(node.name) <= 0]

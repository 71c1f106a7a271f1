"""What a run and its phases are made of, before any of it is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import CheckpointConfig, SelectConfig
from .topology import Topology
from .windows import ALL, Limits, WarmUp, Window


@dataclass(frozen=True)
class PhasePlan:
    """One phase to run: its name, the phases it needs, its graph, and what of the data and of the members it takes."""

    name: str
    topology: Topology
    """The graph with all members, whoever will be selected."""
    needs: Sequence[str] = ()
    """Earlier phases, the one it selects from among them."""
    window: Window = ALL
    warmup: str = "0s"
    """As it was declared."""
    warmup_of: Callable[[Topology], WarmUp] | None = None
    """What the warm-up comes to for a graph; may block."""
    select: SelectConfig | None = None
    narrowed: Callable[[Sequence[str]], Topology] | None = None
    """The graph with these members alone."""

    def described(self) -> dict[str, Any]:
        """What beside the graph makes this phase what it is."""
        select = self.select and [self.select.source, self.select.top, self.select.by]
        return {
            "name": self.name, "needs": list(self.needs), "window": [self.window.from_ns, self.window.until_ns],
            "warmup": self.warmup, "select": select,
        }  # fmt: skip


@dataclass(frozen=True)
class RunPlan:
    """Everything a run is made of, before it is started."""

    name: str
    phases: Sequence[PhasePlan]
    output: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """How often it is written down what going on from there needs."""
    memory_bytes: int | None = None
    """What all containers of a phase may hold in memory together; None: as much as the machine allows by default."""

    @property
    def settings(self) -> dict[str, Any]:
        """What beside the graph changes the result."""
        return {"seed": self.seed, "limit": self.limits.rows, "until": self.limits.until_ns}

"""The settings of a configuration file outside of its stages: schema, defaults and documentation at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from pipeline.data.policy import DataFlow, Mode, Positive, Settings
from pipeline.mending.tolerance import ErrorPolicy

from .phase import IsoTime, Name, PhaseConfig, WalkForward


class GlobalDataFlow(DataFlow, frozen=True):
    """`data_flow:` at the top of the file: the default of every container; any of its keys, and two with a prefix."""

    default_mode: Mode | None = None
    """The mode of containers that name none."""
    default_memory_limit_mb: Positive | None = None
    """The ceiling of containers that name none."""


class Bound(Settings, frozen=True):
    """What an edge may hold; None is the engine's default for the run's clock."""

    rows: Annotated[int, msgspec.Meta(gt=0)] | None = None
    mb: Positive | None = None


class InputConfig(Settings, frozen=True, rename={"source": "from"}):
    """One entry of a container's `inputs:`; a bare name stands for `{from: name}`."""

    source: str
    """`from:` a container, or a pattern that several match."""
    when_full: Literal["block", "conflate", "drop_oldest", "drop_newest", "spill"] = "block"
    """Wait for room; lose rows, counted: all but the latest per key, the oldest, the newest; or go on through the disk,
    in order and losing nothing (`spill`), with `bound` as what is held in memory."""
    bound: Bound = Bound()
    key: str | None = None
    """The column whose latest row survives `conflate`."""
    records: str | tuple[str, ...] = ()
    """Kinds of record this input takes from a container that sends several: `trade`, or a list of kinds. Left out: the
    kind its stage is made for, else all."""

    def __post_init__(self) -> None:
        if self.key is not None and self.when_full != "conflate":
            raise ValueError("'key' belongs to 'when_full: conflate'")

    @property
    def kinds(self) -> tuple[str, ...]:
        """`records` as a list, each once."""
        return tuple(dict.fromkeys((self.records,) if isinstance(self.records, str) else self.records))


class ContainerConfig(Settings, frozen=True):
    """Settings every container has; all other keys of an entry are fields of its stage."""

    type: str | None = None
    """The stage: a registered name, `module:Class` or `./file.py:Class`. An entry with a type declares a container."""
    inputs: tuple[InputConfig, ...] = ()
    """Containers whose output this one reads; a single name stands for a list of one."""
    data_flow: DataFlow = DataFlow()
    """How the container keeps its results."""
    errors: ErrorPolicy = ErrorPolicy()
    """What happens when its logic fails."""


class CheckpointConfig(Settings, frozen=True):
    """`checkpoint:` whether a run that was stopped, by whatever, can go on from there; see `penstock run --resume`."""

    every_seconds: Positive | None = None
    """How often what is needed for it is written down; None: never, and a run that was stopped begins anew."""
    align_timeout_seconds: Positive = 10
    """A checkpoint that has not come to all containers by then is given up, and the next one tried."""


class ConfigFile(Settings, frozen=True):
    """The top level of a file."""

    name: Name = "run"
    """Names the folder of the results; by default the file's own name."""
    topology: str | None = None
    """A ready-made topology; by default `backtest` where no container declares a type."""
    output: str = "results"
    """Runs live in `<output>/<name>/<fingerprint>/`."""
    process_memory_mb: Positive | None = None
    """The pool all containers share, in megabytes."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """All randomness comes from it."""
    limit: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """Rows each feed gives before it ends."""
    until: IsoTime | None = None
    """Feeds end before this time."""
    data_flow: GlobalDataFlow = GlobalDataFlow()
    errors: ErrorPolicy = ErrorPolicy()
    """The default of every container's `errors:`."""
    containers: Mapping[str, Any] = {}
    """Name or pattern -> `ContainerConfig` and the fields of its stage; `*` and `?` configure many."""
    parameter_space: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {}
    """Parameter -> values (a list, `space.Range`, `space.Spaced` or `space.Distribution`), beside `where` (constraints)
    and `sample` (`space.Sample`); one member of each group per combination. A list of such blocks, each with a
    `strategy` of its own, is numbered through."""
    max_portfolios: Annotated[int, msgspec.Meta(gt=0, le=1_000_000)] = 100_000
    """Combinations the parameter space may have; each is checked before anything runs, so there is an end to them."""
    phases: Sequence[PhaseConfig] | None = None
    """What is run, in order; None: the phases that `split` or `walk_forward` make, or one called `run`."""
    split: Mapping[str, float | str] = {}
    """Phase -> its share of the data's span, in order, or where it ends (the last: `end`): their windows."""
    walk_forward: WalkForward | None = None
    """Phases that train on one window and test on the next, again and again; instead of `phases`."""


CONTAINER_KEYS = ("type", "inputs", "data_flow", "errors")
"""Keys of a container's entry that are not its stage's."""

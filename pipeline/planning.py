"""What a configuration will take, told before anything runs: combinations, containers, memory, disk and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

from .composing import too_many
from .config import Block, Config, recipe_name
from .data.policy import MB
from .edges.in_flight import POOL_PARTS
from .errors import InputError
from .phasing import lossless_notes, plan_phases
from .plans import PhasePlan
from .stage import Footprint
from .storage.sizing import ENTRY_BYTES
from .topology import Node, Topology
from .windows import ALL

BYTES_OF_TEXT = 24
"""Of a value of no fixed width: its characters and its place."""
MAX_FILES_LISTED = 20
"""Input files that are told by name; others are counted."""


class PlannedBlock(msgspec.Struct, frozen=True, kw_only=True):
    """One block of the parameter space."""

    path: str
    chosen: Mapping[str, str]
    """Fields the block chooses, such as `strategy`, with the type it names."""
    parameters: Sequence[str]
    grid: int | None
    """Combinations before constraints; None where a parameter is continuous."""
    excluded: int | None
    """Of those, how many constraints leave out; None where they are not looked through because a sample is drawn."""
    sampled: str | None
    """The method, where a sample is drawn."""
    combinations: int


class PlannedContainer(msgspec.Struct, frozen=True, kw_only=True):
    """One container or group."""

    name: str
    stage: str
    inputs: Sequence[str]
    members: int
    """0: it is no group."""
    rows: int | None
    """Rows it sends at most, None where nobody knows."""
    mode: str
    """How it keeps its results; `mixed` where members differ."""
    ceiling_bytes: int
    """What it may keep in memory: its `memory_limit_mb`, of a group the sum of its members'."""
    state_bytes: int | None
    """Estimate: what its logic works on."""
    least_bytes: int
    """Of that, what it takes whatever the data."""
    batch_bytes: int | None
    """Estimate: its largest batch, where it makes batches of its own; None where nobody knows."""
    least_batch_bytes: int
    """What so many rows take in any case."""
    results: Mapping[str, int | None]
    """Estimate: key -> bytes on disk at the end, uncompressed; None where nobody knows. Nothing where none is left."""
    spill: bool
    """Whether values move to disk when its memory is full."""
    spill_bytes: int | None
    """Ceiling of what spills, None where none is declared."""
    facts: Mapping[str, str]
    notes: Sequence[str]


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True):
    """One file that will be read."""

    container: str
    path: str
    bytes: int


class PlannedPhase(msgspec.Struct, frozen=True, kw_only=True):
    """One phase; what a selection will choose is not known yet."""

    name: str
    needs: Sequence[str]
    window: str = ""
    """Its part of the data in words, empty where it is all of it."""
    select: str = ""
    """Whom of an earlier phase it runs, in words, empty where it is everybody."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan; `refusals` are why it will not run, `warnings` what may not fit."""

    name: str
    phases: Sequence[PlannedPhase]
    combinations: int
    max_portfolios: int
    blocks: Sequence[PlannedBlock]
    containers: Sequence[PlannedContainer] = ()
    inputs: Sequence[PlannedInput] = ()
    files: int = 0
    """Input files in all, of which `inputs` lists the first."""
    input_bytes: int = 0
    edges_bytes: int = 0
    """Ceiling of what is under way between containers: the sum of the edges' bounds."""
    pool_bytes: int | None = None
    """`process_memory_mb`, None where no pool is declared."""
    warnings: Sequence[str] = ()
    refusals: Sequence[str] = ()

    @property
    def ceiling_bytes(self) -> int:
        """All that containers and edges may keep in memory at one time."""
        return self.edges_bytes + sum(container.ceiling_bytes for container in self.containers)

    @property
    def state_bytes(self) -> int:
        """Estimate: what all logics work on, as far as anybody knows."""
        return sum(container.state_bytes or 0 for container in self.containers)

    @property
    def result_bytes(self) -> int:
        """Estimate: what is left on disk, as far as anybody knows."""
        return sum(size or 0 for container in self.containers for size in container.results.values())


def plan_of(config: Config, phases: Sequence[PhasePlan] | None = None) -> Plan:
    """The plan of a configuration, of its first phase where they differ.

    Reads headers of input files and makes recipes, but runs nothing; where phases are shares of the data, that is read
    once to learn where it begins and ends.

    A space of more combinations than `max_portfolios` is counted and refused, not made. Raises `ConfigError` with every
    problem `check` would tell. `phases` are those of the configuration, where somebody has them already.
    """
    plan = Plan(
        name=config.name,
        phases=[PlannedPhase(name=phase.name, needs=list(phase.needs)) for phase in config.phases],
        combinations=config.parameter_space.size if config.parameter_space else 0,
        max_portfolios=config.max_portfolios,
        blocks=[_block(config, block) for block in config.parameter_space.blocks] if config.parameter_space else [],
        pool_bytes=None if config.process_memory_mb is None else int(config.process_memory_mb * MB),
    )
    if wrong := too_many(config):
        return msgspec.structs.replace(plan, refusals=[str(wrong)])
    phases = plan_phases(config) if phases is None else phases
    topology = phases[0].topology
    containers = _containers(config, topology)
    inputs, missing = _inputs(topology)
    plan = msgspec.structs.replace(
        plan,
        phases=[_phase(phase) for phase in phases],
        containers=containers,
        inputs=inputs[:MAX_FILES_LISTED],
        files=len(inputs),
        input_bytes=sum(file.bytes for file in inputs),
        edges_bytes=sum(
            topology.edge_policy(node, entry).max_bytes for node in topology.nodes for entry in node.inputs
        ),
    )
    whole = config.until is None and all(phase.window == ALL for phase in phases)
    warnings, refusals = fitting(plan, whole=whole)
    return msgspec.structs.replace(plan, warnings=[*missing, *lossless_notes(topology), *warnings], refusals=refusals)


def fitting(plan: Plan, *, whole: bool = True) -> tuple[list[str], list[str]]:
    """What may not fit into the pool, and what certainly does not; `whole` says that no batch is cut to a window."""
    pool = plan.pool_bytes
    if pool is None:
        return [], []
    warnings, refusals = [], []
    least = sum(container.least_bytes for container in plan.containers)
    shares = 2 * sum(max(1, container.members) for container in plan.containers)
    if least > pool:
        refusals.append(
            f"process_memory_mb: the state of the containers alone takes {_mb(least)}, whatever the data, and the pool "
            f"is {_mb(pool)}; raise `process_memory_mb` or run fewer portfolios"
        )
    elif shares * ENTRY_BYTES > pool:
        refusals.append(
            f"process_memory_mb: the pool is {_mb(pool)}, of which half is guaranteed to {shares // 2:,} accounts, and "
            f"not one entry fits into the share of one; expected at least {_mb(shares * ENTRY_BYTES)}, and as a rule "
            "hundreds: it is in megabytes"
        )
    elif plan.state_bytes > pool:
        warnings.append(
            f"the state of the containers is estimated at {_mb(plan.state_bytes)}, more than the pool of {_mb(pool)}; "
            "raise `process_memory_mb` or run fewer portfolios"
        )
    large = max(plan.containers, key=lambda container: container.batch_bytes or 0, default=None)
    if large is not None and large.batch_bytes and POOL_PARTS * large.batch_bytes > pool:
        told = (
            f"a batch of '{large.name}' is estimated at {_mb(large.batch_bytes)}, and what is between containers may "
            f"take a {POOL_PARTS}th of the pool of {_mb(pool)}"
        )
        advice = (
            f"raise `process_memory_mb` to {_mb(POOL_PARTS * large.batch_bytes)} or more, or lower its `batch_rows`"
        )
        if whole and large.least_batch_bytes > pool:
            refusals.append(
                f"process_memory_mb: the pool is {_mb(pool)}, and a batch of '{large.name}' alone takes at least "
                f"{_mb(large.least_batch_bytes)}; {advice}"
            )
        else:
            warnings.append(f"{told}: containers will wait for one another, or fail; {advice}")
    if plan.ceiling_bytes > pool:
        warnings.append(
            f"the ceilings of all containers add up to {_mb(plan.ceiling_bytes)}, more than the pool of {_mb(pool)}; "
            "they are no reservations, but what is kept may have to leave memory before its own ceiling is reached"
        )
    return warnings, refusals


def row_bytes(schema: pa.Schema) -> int:
    """Bytes of one row: fixed widths as they are, the codes of a dictionary, `BYTES_OF_TEXT` for anything else."""
    return sum(_width(field.type) for field in schema)


def least_row_bytes(schema: pa.Schema) -> int:
    """Bytes one row takes at least: columns of one width may share their memory, as a time that stands twice."""
    return sum({_fixed(kind) or 0 for kind in schema.types})


def _fixed(kind: pa.DataType) -> int | None:
    """Whole bytes of a value of this type; None where values differ."""
    if pa.types.is_dictionary(kind):
        return _fixed(kind.index_type)
    try:
        return int(kind.bit_width) // 8
    except ValueError:
        return None


def _width(kind: pa.DataType) -> int:
    fixed = _fixed(kind)
    return BYTES_OF_TEXT if fixed is None else max(1, fixed)


def _phase(phase: PhasePlan) -> PlannedPhase:
    chosen = "" if phase.select is None else f"top {phase.select.top} of {phase.select.source}"
    return PlannedPhase(name=phase.name, needs=list(phase.needs), window=phase.window.said(), select=chosen)


def _block(config: Config, block: Block) -> PlannedBlock:
    mapping = config.block_mapping(block, short=False)
    return PlannedBlock(
        path=block.path,
        chosen={name: str(mapping[name].get("type", "")) for name in block.choices if isinstance(mapping[name], dict)},
        parameters=list(block.axes),
        grid=block.whole,
        excluded=None if block.sample is not None or block.whole is None else block.whole - block.size,
        sampled=block.sample.method if block.sample is not None else None,
        combinations=block.size,
    )


def _containers(config: Config, topology: Topology) -> list[PlannedContainer]:
    """In topological order, so that each knows how many rows come to it."""
    rows: dict[str, int | None] = {}
    made = []
    for node in topology.nodes:
        coming = [rows[entry.source] for entry in node.inputs] if node.inputs else [config.limit]
        known = [count for count in coming if count is not None]
        found = node.stage.footprint(max(1, len(node.members)), sum(known) if len(known) == len(coming) else None)
        rows[node.name] = found.rows
        made.append(_container(config, node, found))
    return made


def _container(config: Config, node: Node, found: Footprint) -> PlannedContainer:
    flows = [node.flow_of(name) for name in node.members]
    flows = flows or [node.data_flow]
    modes = {flow.mode for flow in flows}
    spilling = [flow for flow in flows if flow.mode == "hybrid"]
    quotas = [flow.disk_limit_mb for flow in spilling if flow.disk_limit_mb is not None]
    return PlannedContainer(
        name=node.name,
        stage=recipe_name(node.stage, config.registry),
        inputs=[entry.source for entry in node.inputs],
        members=len(node.members),
        rows=found.rows,
        mode=modes.pop() if len(modes) == 1 else "mixed",
        ceiling_bytes=sum(flow.memory_limit_bytes for flow in flows),
        state_bytes=found.memory_bytes,
        least_bytes=found.least_bytes,
        batch_bytes=None
        if found.batch_rows is None or node.schema is None
        else found.batch_rows * row_bytes(node.schema),
        least_batch_bytes=(found.batch_rows or 0) * (0 if node.schema is None else least_row_bytes(node.schema)),
        results=_left(node, found),
        spill=bool(spilling),
        spill_bytes=int(sum(quotas) * MB) if spilling and len(quotas) == len(spilling) else None,
        facts=found.facts,
        notes=list(found.notes),
    )


def _left(node: Node, found: Footprint) -> dict[str, int | None]:
    """Bytes on disk at the end: results by key, as the policy of the whole group says, and output kept whole."""
    written = node.data_flow.persistence.on_completion or node.data_flow.mode == "file"
    left: dict[str, int | None] = dict(found.results) if written else {}
    if node.keep_output == "all":
        known = found.rows is not None and node.schema is not None
        left["output"] = found.rows * row_bytes(node.schema) if known and found.rows is not None else None
    return left


def _inputs(topology: Topology) -> tuple[list[PlannedInput], list[str]]:
    """The files of all feeds; and what is missing."""
    files, missing = [], []
    for node in topology.feeds:
        try:
            paths = node.stage.input_files()
            files += [PlannedInput(container=node.name, path=str(path), bytes=path.stat().st_size) for path in paths]
        except (InputError, OSError) as error:
            missing.append(f"{node.name}: {error}")
    return files, missing


def _mb(size: int) -> str:
    return (
        f"{size / MB:,.0f} MB" if size >= 10 * MB else f"{size / MB:,.1f} MB" if size >= MB else f"{size / MB:.2g} MB"
    )

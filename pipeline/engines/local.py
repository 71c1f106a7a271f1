"""One event loop plus worker threads: builds the containers of a topology and runs them to their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction
from pathlib import Path
from typing import Any

import anyio

from ..checkpoints.cuts import Checkpoint
from ..checkpoints.taking import Checkpointer, Checkpoints
from ..clock import Clock, SystemClock
from ..containers.calling import Caller
from ..containers.container import TransformContainer
from ..containers.feeding import Container, FeedContainer, Gate
from ..containers.keeping import Keeper
from ..data import DataManager, FlushCallback, MemberStores, build_manager, build_members
from ..edges.edge import Edge, EdgePolicy
from ..edges.in_flight import EdgesAccount
from ..edges.inbox import Inbox
from ..edges.joint import Joint
from ..edges.outlet import Outlet
from ..edges.spilling import SpillingEdge, open_edge
from ..errors import ContainerFailed, EdgeClosed, PenstockError
from ..lag import LagProbe
from ..machine import Resident
from ..mending.dead_letters import DeadLetterFile
from ..mending.mender import Mender
from ..phases import PhaseOutcome
from ..pool import Pool
from ..stage import Context, Feed, Logic, Transform
from ..storage.names import file_part
from ..storage.root import StorageRoot
from ..storage.workspace import Workspace
from ..threads import Workers, settled
from ..topology import Node, Topology
from ..windows import UNLIMITED, Limits
from .outcome import outcome_of
from .resident import ResidentWatch, memory_figures
from .resumable import take_part
from .steering import Steering

MAX_JOINTS = 16
"""Stages in a row that share one task; their calls nest, and Python's stack is finite."""
log = logging.getLogger("penstock.engine")


class LocalEngine:
    """Runs one topology once. Everything it starts has ended when `run` returns or raises."""

    def __init__(
        self,
        topology: Topology,
        folder: Path,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        limits: Limits = UNLIMITED,
        earlier: Mapping[str, Any] | None = None,
        flush: Mapping[str, FlushCallback] | None = None,
        memory_bytes: int | None = None,
        checkpoints: Checkpoints | None = None,
        resume: Checkpoint | None = None,
        process_bytes: int | None = None,
        on_ready: Callable[[LocalEngine], None] = lambda engine: None,
        root: StorageRoot | None = None,
        last_chance: Collection[str] | None = None,
        watched: bool = True,
    ) -> None:
        self.topology, self.folder, self.seed, self.limits = topology, folder, seed, limits
        self.clock: Clock = clock or SystemClock()
        self.gate = Gate()
        self._resident = Resident()
        self.pool = None if memory_bytes is None else Pool(memory_bytes, self.clock)
        """What all data managers and edges may hold together, `process_memory_mb`."""
        self.account = EdgesAccount(self.pool, self.clock)
        self.edges: list[Edge] = []
        self.containers: dict[str, Container] = {}
        self.steering = Steering(self.clock, self.gate, self.containers)
        self.workspace = Workspace(folder, pool=self.pool, root=root)
        self.workspace.checkpointed, self.workspace.scope = checkpoints is not None, f"{folder.name}/"
        self.watch: ResidentWatch | None = None
        """On the memory of the process, where that is the run's own: `process_bytes` is what it may have."""
        if process_bytes is not None and self.pool is not None:
            self.watch = ResidentWatch(
                process_bytes, self.pool, self.gate, self.clock,
                resident=self._resident, release=self.workspace.release, largest=self._largest,
            )  # fmt: skip
        self.workers = Workers(max(2, Workers().slots) + len(topology.feeds))
        self.interrupted, self.lag = False, LagProbe()
        self.leftovers: dict[tuple[str, Any], Any] = {}
        self.checkpointer: Checkpointer | None = None
        self._checkpoints, self._resume = checkpoints, resume
        self._earlier, self._flush = earlier or {}, flush or {}
        self._on_ready, self._watched = on_ready, watched
        self._last_chance = last_chance
        """Containers for which the phase is not run again; None: all."""
        self._joints: dict[str, int] = {}
        self.subscribers: list[Edge] = []
        self._dropped_for_subscribers: dict[str, int] = {}

    async def run(self) -> PhaseOutcome:
        """Build, warm, run and close. Raises the `ContainerFailed` of what failed, or a group of several."""
        failed = True
        try:
            await self._build()
            if self._checkpoints is not None:
                self.checkpointer = await take_part(
                    self.topology, self.containers, self.edges, self.workspace, self.workers, self.clock,
                    self._checkpoints, self._resume,
                )  # fmt: skip
            self._on_ready(self)
            await self._run_containers()
            outcome = outcome_of(self)
            failed = False
        except BaseExceptionGroup as group:
            failures = list(_failures(group))
            if not failures:
                raise
            failure = failures[0] if len(failures) == 1 else ExceptionGroup("several containers failed", failures)
            raise failure from failure.__cause__
        finally:
            closing = asyncio.ensure_future(self._close())
            await settled(closing)
            errors = closing.result()
            for error in errors if failed else ():
                log.warning("while closing a run that has failed: %s", error)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("closing the run failed", errors)
        return outcome

    # -- while it runs -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Feeds stop where they are; what they have sent flows on to the end."""
        self.interrupted = True
        if self.checkpointer is not None:
            self.checkpointer.stop()
        if self.watch is not None:
            self.watch.drain()
        for container in self.containers.values():
            if isinstance(container, FeedContainer):
                container.drain()

    def attach(self, name: str, policy: EdgePolicy) -> Edge:
        """A further edge from a running container, for somebody outside who reads its output."""
        edge = Edge(name, "subscriber", policy, self.account)
        edge.outside = True
        container = self.containers[name]
        if container.ended:
            edge.detach()
        else:
            container.outlet.attach(edge)
            self.subscribers.append(edge)
        return edge

    def detach(self, edge: Edge) -> None:
        """Take back an edge given by `attach`."""
        edge.detach()
        if edge in self.subscribers:
            self.subscribers.remove(edge)
            self.containers[edge.source].outlet.detach(edge)
            dropped = edge.stats().dropped_rows
            self._dropped_for_subscribers[edge.source] = self._dropped_for_subscribers.get(edge.source, 0) + dropped

    def resumed_rows(self, name: str) -> int:
        """Rows of a feed that were in when this run went on from a checkpoint; 0 where it began anew. KeyError."""
        if name not in self.feeds():
            raise KeyError(f"'{name}' is no feed; there are {', '.join(self.feeds())}")
        if self._resume is None:
            return 0
        cut = self._resume.containers[name]
        return cut.given_rows if self.topology[name].stage.live else cut.sent_rows

    def keeper_of(self, name: str) -> Keeper | None:
        """The keeper of a container, or of the group `name` is a member of."""
        node = self.topology.owner_of(name)
        container = self.containers.get(node.name) if node is not None else None
        return container.keeper if container is not None else None

    # -- building ----------------------------------------------------------------------------------------------

    async def _build(self) -> None:
        outlets = {node.name: Outlet(node.name, several=bool(node.records)) for node in self.topology.nodes}
        for node in self.topology.nodes:
            keeper = self._keeper(node)
            logic = await self._logic(node, keeper)
            caller: Caller | Mender = Caller(node.name, logic, self.workers)
            if isinstance(logic, Transform) and node.errors.mends:
                caller = self._mender(node, logic, keeper)
            edges = []
            joint = self._can_join(node, logic)
            self._joints[node.name] = 1 + self._joints[node.inputs[0].source] if joint else 0
            for entry in node.inputs:
                policy = self.topology.edge_policy(node, entry)
                edge = (
                    Joint(entry.source, node.name, self.account)
                    if joint
                    else open_edge(entry.source, node.name, policy, self.account, self.workspace)
                )
                edge.records = frozenset(entry.records)
                outlets[entry.source].attach(edge)
                edges.append(edge)
            self.edges.extend(edges)
            if isinstance(logic, Feed):
                if edges:
                    raise ContainerFailed(node.name, PenstockError("a feed takes no inputs; remove `inputs`"))
                self.containers[node.name] = feed = FeedContainer(
                    node.name, logic, caller, outlets[node.name], keeper, gate=self.gate, workers=self.workers,
                    clock=self.clock, limits=self.limits, account=self.account,
                )  # fmt: skip
                self.steering.add(feed)
            else:
                if not edges:
                    raise ContainerFailed(node.name, PenstockError("expected `inputs`: only a feed has none"))
                container = TransformContainer(node.name, logic, caller, Inbox(edges), outlets[node.name], keeper)
                if node.members:
                    container.kind = "group"
                if isinstance(edges[0], Joint):
                    container.join(edges[0])
                self.containers[node.name] = container
            self.containers[node.name].records_failure = self._records(node)

    def _mender(self, node: Node, logic: Transform, keeper: Keeper) -> Mender:
        """A caller that answers for calls that fail."""
        letters = DeadLetterFile(self.folder, node.name, self.workspace.io)

        def replaced(fresh: Transform) -> None:
            container = self.containers[node.name]
            assert isinstance(container, TransformContainer)
            container.replace_logic(fresh)

        return Mender(
            node.errors, Caller(node.name, logic, self.workers), logic, clock=self.clock, seed=self.seed,
            letters=letters, rebuild=partial(self._logic, node, keeper), replaced=replaced, account=self.account,
        )  # fmt: skip

    def _records(self, node: Node) -> bool:
        """Whether a failure of this container is noted, and no more."""
        return node.errors.on_failure == "record" and (self._last_chance is None or node.name in self._last_chance)

    def _can_join(self, node: Node, logic: Logic) -> bool:
        """Whether a container's work may be done in its producer's task: one input, plain logic on the loop.

        Not after a feed, which gathers rows while its consumer works, and not where an edge was declared.
        """
        return (
            isinstance(logic, Transform)
            and logic.runs_in == "loop"
            and len(node.inputs) == 1
            and node.inputs[0].policy is None
            and bool(self.topology[node.inputs[0].source].inputs)
            and self._joints[node.inputs[0].source] < MAX_JOINTS
            and not any(_is_async(method) for method in (logic.on_batch, logic.on_watermark, logic.on_end))
        )

    def _keeper(self, node: Node) -> Keeper:
        store: DataManager | MemberStores
        if node.members:
            store = build_members(node.name, node.data_flow, node.flow_of, self.workspace, clock=self.clock)
        else:
            flush = self._flush.get(node.name)
            store = build_manager(node.name, node.data_flow, self.workspace, flush=flush, clock=self.clock)
        folder = self.folder / "containers" / file_part(node.name)
        return Keeper(
            node.name, store, node.data_flow, self.workspace, folder, node.keep_output, by_record=bool(node.records)
        )

    async def _logic(self, node: Node, keeper: Keeper) -> Feed | Transform:
        """Built and warmed in a thread: importing and compiling kernels takes its time."""
        context = Context(
            name=node.name,
            store=keeper.store if isinstance(keeper.store, DataManager) else None,
            clock=self.clock,
            folder=self.folder,
            seed=self.seed,
            active_from_ns=self.limits.from_ns,
            earlier=self._earlier,
            columns=None if self._watched or node.inputs else self.topology.columns_taken(node),
        )

        def build() -> Feed | Transform:
            logic = node.stage.build_group(node.members, context) if node.members else node.stage.build(context)
            if not isinstance(logic, Feed | Transform):
                raise TypeError(f"expected build() to make a Feed, Transform or Sink, found {type(logic).__name__}")
            logic.warm()
            return logic

        try:
            return await self.workers.run(build)
        except Exception as error:
            raise ContainerFailed(node.name, error) from error

    # -- running and closing -----------------------------------------------------------------------------------

    async def _run_containers(self) -> None:
        async with anyio.create_task_group() as probing:
            probing.start_soon(self.lag.run)
            if self.watch is not None:
                probing.start_soon(self.watch.run)
            async with anyio.create_task_group() as beside:
                if self.checkpointer is not None:
                    beside.start_soon(self._take_checkpoints, self.checkpointer)
                async with anyio.create_task_group() as tasks:
                    for container in self.containers.values():
                        tasks.start_soon(container.run, name=f"penstock:{container.name}")
                if self.checkpointer is not None:
                    self.checkpointer.stop()
            probing.cancel_scope.cancel()

    async def _take_checkpoints(self, checkpointer: Checkpointer) -> None:
        await self.gate.wait()
        await checkpointer.run()

    async def _close(self) -> list[Exception]:
        """Release everything, each step though the one before it failed; what failed."""
        self.steering.over = True
        errors: list[Exception] = []
        for name, container in self.containers.items():
            container.outlet.fail(EdgeClosed("the run has ended"))
            self.leftovers.update(container.keeper.leftovers)
            logic = container.logic
            closing: list[Callable[[], Awaitable[None]]] = [container.keeper.close]
            if type(logic).close is not Logic.close and not container.caller.left_behind:
                closing.insert(0, partial(self.workers.run, logic.close))
            for close in closing:
                try:
                    await close()
                except Exception as error:
                    errors.append(ContainerFailed(name, error))
        spilling = [edge.close for edge in self.edges if isinstance(edge, SpillingEdge)]
        for close in (*spilling, self.workspace.close, self.workers.close):
            try:
                await close()
            except Exception as error:
                errors.append(error)
        self._resident.close()
        return errors

    def feeds(self) -> dict[str, FeedContainer]:
        """Containers without inputs, by name."""
        containers = self.containers.items()
        return {name: container for name, container in containers if isinstance(container, FeedContainer)}

    def _largest(self) -> tuple[str, int] | None:
        """The container that keeps most of what is not durable, and how much."""
        held = {
            name: container.keeper.store.stats().charged_bytes
            for name, container in self.containers.items()
            if getattr(container.keeper.policy, "durability", "ephemeral") != "durable"
        }
        return max(held.items(), key=lambda found: found[1], default=None)

    def pool_figures(self) -> dict[str, Any] | None:
        """Of `process_memory_mb`, for `run.json`; None without a pool."""
        return None if self.pool is None else memory_figures(self.pool, self.workspace, self.watch)

    def losses_of_subscribers(self) -> dict[str, int]:
        """Rows that lossy subscriptions have lost, by container: no part of the result, but never silent."""
        losses = dict(self._dropped_for_subscribers)
        for edge in self.subscribers:
            losses[edge.source] = losses.get(edge.source, 0) + edge.stats().dropped_rows
        return {name: rows for name, rows in losses.items() if rows}


def _is_async(method: Callable[..., Any]) -> bool:
    return iscoroutinefunction(method) or isasyncgenfunction(method)


def _failures(group: BaseExceptionGroup[BaseException]) -> Iterator[Exception]:
    """What went wrong at its root: errors that only say that a neighbour failed are left out."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _failures(error)
        elif isinstance(error, Exception) and not isinstance(error, EdgeClosed):
            yield error

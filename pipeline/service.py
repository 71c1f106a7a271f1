"""The embedded API: a `Pipeline` is a recipe, a `Run` is running in the caller's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from .clock import Clock, SystemClock
from .config import CheckpointConfig, Config, load_config
from .containers.pushing import PushFeed
from .control import Control
from .data import FlushCallback
from .data.base import Key
from .data.checked import megabytes
from .edges.edge import Edge, EdgePolicy
from .engines.local import LocalEngine
from .errors import EdgeClosed, Interrupted, PenstockError
from .handed import HandedTable
from .phasing import plan_phases
from .plans import PhasePlan, RunPlan
from .registry import Registry
from .retrieval import retrieve
from .sequencer import Sequencer
from .status import PoolStatus, RunStatus
from .subscription import Subscription
from .summary import PhaseSummary
from .threads import settled
from .topology import Node, Topology
from .windows import Limits, nanoseconds

NOT_IN_THE_FINGERPRINT = ("name", "output", "process_memory_mb", "checkpoint")
"""Settings that say where a run lives and how much it may take, not what it does."""


class Pipeline:
    """What to run: built once, started as often as wanted. Building reads files and blocks; starting does not."""

    def __init__(self, plan: RunPlan, clock: Clock | None = None) -> None:
        self.plan = plan
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def from_yaml(
        cls,
        source: str | Path | Mapping[str, Any],
        *,
        data: str | Path | HandedTable | None = None,
        overrides: Sequence[str] = (),
        output: str | Path | None = None,
        limit: int | None = None,
        until: str | None = None,
        registry: Registry | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """A pipeline from a YAML file, YAML text or a mapping in the same words; raises `ConfigError`.

        `data` is a path for the feed (`--data`), `overrides` are `a.b=c` (`--set`), `limit` rows per feed and `until`
        an ISO time at which feeds end; `settings` as in `from_table`.
        """
        stops = [f"{name}={value}" for name, value in (("limit", limit), ("until", until)) if value is not None]
        config = load_config(
            source,
            registry=registry or Registry.installed(),
            overrides=[*overrides, *stops],
            data=str(data) if isinstance(data, Path) else data,
            settings=settings,
        )
        return cls.from_config(config, output=output)

    @classmethod
    def from_table(
        cls,
        table: Any,
        config: str | Path | Mapping[str, Any] | None = None,
        *,
        parameter_space: Mapping[str, Any] | None = None,
        overrides: Sequence[str] = (),
        output: str | Path | None = None,
        limit: int | None = None,
        until: str | None = None,
        registry: Registry | None = None,
        **settings: Any,
    ) -> Self:
        """A pipeline over rows you have: the one feed of `config` (None: the ready-made backtest) reads `table`.

            Pipeline.from_table(frame, strategy={"type": "sma_cross"}, parameter_space={"fast": [5, 10]}, limit=5000)
            Pipeline.from_table(trades, "configs/backtest.yaml", columns={"px": "price"}, instrument="BTCUSD.BITMEX")

        `table` is a pyarrow Table or RecordBatch, a polars or pandas DataFrame (a DatetimeIndex is its time), or a dict
        of columns, of trades, quotes or bars as a parquet file would hold them; memory is shared, not copied. Times
        without a zone are UTC unless `time_zone` says otherwise. Its content counts in the data hash and the
        fingerprint. Each of the `settings` goes to the first container whose stage has a field of that name, the feed
        first, then in the order of the graph; `parameter_space` replaces the configuration's. Other arguments are as in
        `from_yaml`. Raises `ConfigError`, or `InputError` listing what was found and how to declare the rest.
        """
        space = [] if parameter_space is None else [f"parameter_space={msgspec.json.encode(parameter_space).decode()}"]
        return cls.from_yaml(
            {"name": "table"} if config is None else config, data=HandedTable.of(table), output=output, limit=limit,
            until=until, registry=registry, overrides=[*space, *overrides], settings=settings,
        )  # fmt: skip

    @classmethod
    def from_config(cls, config: Config, *, output: str | Path | None = None) -> Self:
        return cls(
            RunPlan(
                name=config.name,
                phases=plan_phases(config),
                output=Path(output if output is not None else config.output),
                configuration={
                    key: value for key, value in config.to_mapping().items() if key not in NOT_IN_THE_FINGERPRINT
                },
                seed=config.seed,
                limits=Limits(rows=config.limit, until_ns=None if config.until is None else nanoseconds(config.until)),
                memory_bytes=_bytes(config.process_memory_mb),
                checkpoint=config.checkpoint,
            )
        )

    @classmethod
    def from_topology(
        cls,
        topology: Topology,
        *,
        name: str = "run",
        output: str | Path = "results",
        seed: int = 0,
        limit: int | None = None,
        until: str | None = None,
        process_memory_mb: float | None = None,
        checkpoint_seconds: float | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """A pipeline of one phase from a topology built in Python."""
        limits = Limits(rows=limit, until_ns=None if until is None else nanoseconds(until))
        plan = RunPlan(
            name=name, phases=[PhasePlan("run", topology)], output=Path(output), seed=seed, limits=limits,
            memory_bytes=_bytes(process_memory_mb), checkpoint=CheckpointConfig(every_seconds=checkpoint_seconds),
        )  # fmt: skip
        return cls(plan, clock)

    @property
    def topology(self) -> Topology:
        return self.plan.phases[0].topology

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The containers of all phases by name, as the first phase that has them declares them."""
        found: dict[str, Node] = {}
        for graph in {id(phase.topology): phase.topology for phase in self.plan.phases}.values():
            for node in graph.nodes:
                found.setdefault(node.name, node)
        return found

    def start(
        self,
        *,
        force: bool = True,
        resume: bool = False,
        repair: bool = False,
        flush: Mapping[str, FlushCallback] | None = None,
        owns_process: bool = False,
        watched: bool = True,
    ) -> Run:
        """A run, to be entered with `async with`. Without `force`, phases found complete are not run again.

        With `resume` they are not either, and the phase that was under way when a run like this was stopped, by
        whatever, goes on from its last checkpoint (`checkpoint:`), or begins anew where there is none. Subscriptions
        begin with what is sent from there on. Who pushes rows asks `resumed_rows` where to go on. A folder whose
        manifest is damaged is opened with `repair` only: what can still be read of it counts, the rest is told as lost.

        `flush` names async callbacks for containers in mode `streaming`: `await flush(batch, batch_id)` is handed what
        the container keeps, in order, one call at a time; `batch_id` is (container, first row, last row). What it was
        handed is its own from then on, and is not among the run's results.

        `owns_process` is the command line's: the run may take most of the machine's memory instead of a quarter of what
        is available, and acts where the memory of the whole process becomes too much.

        Where it is not `watched`, nobody may subscribe, so that feeds read only what their consumers look at.
        """
        streaming = {name for name, node in self.nodes.items() if node.data_flow.mode == "streaming"}
        for name in flush or ():
            if name not in streaming:
                raise KeyError(
                    f"'{name}' is no container in mode streaming; there are {', '.join(sorted(streaming)) or 'none'}"
                )
        return Run(
            self, force=force, resume=resume, repair=repair, flush=flush, owns_process=owns_process, watched=watched
        )

    async def run(self) -> PhaseSummary:
        """Run to the end and return the last phase's summary."""
        async with self.start(watched=False) as run:
            return await run.finished()


class Run(Control):
    """A pipeline at work. One supervisor task owns every other task; entering and leaving only signal it.

    It may be entered and left in different tasks of one loop. After it, no task, thread or descriptor is left.
    Leaving the block before `finished()` has returned stops the run at once, without a summary.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        force: bool = True,
        resume: bool = False,
        repair: bool = False,
        flush: Mapping[str, FlushCallback] | None = None,
        owns_process: bool = False,
        watched: bool = True,
    ) -> None:
        super().__init__()
        self.pipeline, self._watched = pipeline, watched
        self._scope = anyio.CancelScope()
        self._ready = asyncio.Event()
        self._done = asyncio.Event()
        self._draining = False
        self._error: BaseException | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._subscriptions: list[Subscription] = []
        self._sequencer = Sequencer(
            pipeline.plan, pipeline.clock, force=force, resume=resume, repair=repair, flush=flush,
            owns_process=owns_process, watched=watched, on_engine=self._engine_is_ready,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        if self._supervisor is not None:
            raise PenstockError("a run is entered once; call pipeline.start() again for another")
        self._supervisor = asyncio.create_task(self._supervise(), name="penstock:supervisor")
        try:
            await self._ready.wait()
        except BaseException:
            await self.abort()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.abort()

    # -- control -----------------------------------------------------------------------------------------------

    def drain(self, deadline_seconds: float | None = None) -> None:
        """Stop the feeds; what they have given flows on and is persisted. `finished()` raises `Interrupted`.

        With a deadline, what has not come to its end by then is stopped, without a summary.
        """
        if self._done.is_set():
            return
        self._draining = True
        self._sequencer.drain()
        if deadline_seconds is not None:
            self._deadline = asyncio.get_running_loop().call_later(deadline_seconds, self._scope.cancel)

    async def push(self, name: str, rows: Any) -> None:
        """Hand rows to a feed of type `push`; begins the run, and waits while the feed still has what came before.

        Rows are a Batch, RecordBatch, Table, dict of columns, `Row` or list of `Row`s. Raises `EdgeClosed` when the
        feed has ended, KeyError when there is no such feed.
        """
        self.begin()
        await self._push_feed(name).push(rows)

    def push_end(self, name: str) -> None:
        """Nothing more will be pushed into this feed."""
        self._push_feed(name).end()

    def resumed_rows(self, name: str) -> int:
        """Rows of a feed that were in when the phase went on from a checkpoint; 0 where it began anew.

        Of a feed of type push these are the rows that need not be pushed again: the next one is row `resumed_rows`,
        counted from 0. KeyError where the phase has no such feed.
        """
        return 0 if self._engine is None else self._engine.resumed_rows(name)

    def _push_feed(self, name: str) -> PushFeed:
        container = self._engine.containers.get(name) if self._engine is not None else None
        if container is None and self._done.is_set():
            raise EdgeClosed("the run has ended; nothing can be pushed into it") from self._error
        logic = container.logic if container is not None else None
        if not isinstance(logic, PushFeed):
            raise KeyError(f"'{name}' is not a feed of type push")
        return logic

    def expect_entered(self) -> None:
        """Raise `PenstockError` where nothing of the run would ever come, since nobody has entered it."""
        if self._supervisor is None:
            raise PenstockError("expected a run that was entered, found one that was not; use `async with run:`")

    async def abort(self) -> None:
        """Stop everything now and return when nothing is left of the run. Idempotent."""
        for subscription in list(self._subscriptions):
            subscription.detach()
        if self._supervisor is None:
            return
        self._scope.cancel()
        await settled(self._supervisor)

    async def finished(self) -> PhaseSummary:
        """Begin, await every container and its data, and return the last phase's summary.

        Raises `PhaseFailed` when a container failed, `Interrupted` when the run was drained or aborted, `PenstockError`
        where nobody has entered the run.
        """
        self.expect_entered()
        self.begin()
        await self._done.wait()
        if self._error is not None:
            raise self._error
        if self._draining:
            raise Interrupted(f"the run was stopped before its feeds ended; what was processed is in {self.folder}")
        return self.summary

    # -- looking -----------------------------------------------------------------------------------------------

    @property
    def summary(self) -> PhaseSummary:
        """The last phase's summary; raises `Interrupted` when there is none."""
        if not self._sequencer.summaries:
            raise Interrupted("the run has published no summary")
        return list(self._sequencer.summaries.values())[-1]

    @property
    def summaries(self) -> Mapping[str, PhaseSummary]:
        return dict(self._sequencer.summaries)

    @property
    def skipped(self) -> Sequence[str]:
        """Phases found complete and not run again."""
        return tuple(self._sequencer.skipped)

    @property
    def folder(self) -> Path | None:
        """The run's folder, None before it is known."""
        return self._sequencer.folder.path if self._sequencer.folder is not None else None

    def status(self) -> RunStatus:
        """A snapshot for a progress line or a health check."""
        engine = self._engine
        state = "running" if self._begun else "waiting"
        if self._paused:
            state = "paused"
        if self._draining:
            state = "draining"
        if self._done.is_set():
            state = "ended"
        number, phases = self._sequencer.number, len(self.pipeline.plan.phases)
        if engine is None:
            return RunStatus(phase=None, state=state, phase_number=number, phases=phases)
        return RunStatus(
            phase=engine.folder.name,
            state=state,
            phase_number=number,
            phases=phases,
            containers=[container.stats() for container in engine.containers.values()],
            stores={name: container.keeper.store.stats() for name, container in engine.containers.items()},
            edges=[edge.stats() for edge in (*engine.edges, *engine.subscribers)],
            pool=None if engine.pool is None else PoolStatus.of(engine.pool),
        )

    def subscribe(self, name: str, *, policy: EdgePolicy | None = None) -> Subscription:
        """Read a container's output from outside: `async with run.subscribe("features") as batches: ...`.

        A slow reader holds the container up unless `policy` declares a lossy edge. Raises KeyError.
        """
        nodes = self.pipeline.nodes
        node = next((node for node in nodes.values() if name in (node.name, node.pattern)), None)
        if node is None:
            raise KeyError(f"no container is called '{name}'; there are {', '.join(nodes)}")
        if not self._watched:
            raise PenstockError(f"'{name}' cannot be subscribed to in a run with watched=False; start it without")
        return Subscription(self, node.name, policy or EdgePolicy())

    def admit(self, subscription: Subscription) -> None:
        """A subscription has been entered."""
        self._subscriptions.append(subscription)
        if self._engine is not None:
            subscription.attach(self._engine)

    def forget(self, subscription: Subscription, edge: Edge | None) -> None:
        """A subscriber has left: neither it nor its edge is kept."""
        if edge is not None:
            edge.detach()
            if self._engine is not None:
                self._engine.detach(edge)
        self._subscriptions = [other for other in self._subscriptions if other is not subscription]

    async def retrieve(self, container: str, key: Key, *, phase: str | None = None) -> Any:
        """A value of a container or member: from its data manager while it runs, from what it left afterwards.

        Of several phases it is of the one that runs, else of the last that has it, unless `phase` says of which.
        """
        return await retrieve(self._sequencer, self._engine, container, key, phase)

    # -- the supervisor ----------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        try:
            with self._scope:
                await self._sequencer.run()
            if self._scope.cancelled_caught:
                self._error = Interrupted("the run was stopped before it had finished")
        except Exception as error:
            self._error = error
        finally:
            self._engine = None
            if self._deadline is not None:
                self._deadline.cancel()
            self._done.set()
            self._ready.set()
            self._engine_came.set()
            for subscription in self._subscriptions:
                subscription.run_has_ended()

    def _engine_is_ready(self, engine: LocalEngine) -> None:
        for subscription in self._subscriptions:
            subscription.attach(engine)
        self._steer(engine)
        if self._draining:
            engine.drain()
        self._ready.set()

    @property
    def is_over(self) -> bool:
        return self._done.is_set()

    @property
    def error(self) -> BaseException | None:
        """What the run failed with."""
        return self._error


def _bytes(process_memory_mb: float | None) -> int | None:
    return None if process_memory_mb is None else megabytes(process_memory_mb, "process_memory_mb")

"""Walks a topology through its phases: awaits every container and its data, checks the books, publishes the summary."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from .budgets import Memory
from .checkpoints.phase import Begun, PhaseCheckpoints
from .clock import Clock
from .data import FlushCallback
from .earlier import EarlierPhase
from .engines.local import LocalEngine
from .errors import CannotResume, ContainerFailed, DataError, PenstockError, PhaseFailed
from .folder import RunFolder
from .hashing import hash_plain
from .identity import fingerprint, result_identity
from .machine import peak_rss_bytes
from .mending.restarting import Restarts
from .phases import PhaseOutcome, Selection, check_ledger, check_needs, choose
from .plans import PhasePlan, RunPlan
from .summary import PhaseSummary, containers_table, run_record, summarise
from .threads import Workers
from .topology import Topology
from .version import code_version
from .windows import ALL, Limits, WarmUp

log = logging.getLogger("penstock.sequencer")


@dataclass(frozen=True)
class _Prepared:
    """A phase as it will run, now that those it needs have completed."""

    topology: Topology
    limits: Limits
    selection: Selection | None
    earlier: Mapping[str, EarlierPhase]


class Sequencer:
    """Runs the phases of one plan, in order, each once."""

    def __init__(
        self,
        plan: RunPlan,
        clock: Clock,
        *,
        force: bool = True,
        resume: bool = False,
        repair: bool = False,
        flush: Mapping[str, FlushCallback] | None = None,
        owns_process: bool = False,
        watched: bool = True,
        on_engine: Callable[[LocalEngine], None],
    ) -> None:
        self.plan, self.clock, self.force, self.resume = plan, clock, force and not resume, resume
        self.summaries: dict[str, PhaseSummary] = {}
        self.folder: RunFolder | None = None
        self.leftovers: dict[str, dict[tuple[str, Any], Any]] = {}
        """By phase, what its containers held that is in no file."""
        self.topologies: dict[str, Topology] = {}
        """By phase, the graph it ran."""
        self.number = 0
        """Of the phase that runs, from 1."""
        self.engine: LocalEngine | None = None
        self.skipped: list[str] = []
        """Phases found complete and not run again."""
        self.interrupted = False
        self._on_engine = on_engine
        self._repair = repair
        self._flush = flush
        self._owns_process, self._watched = owns_process, watched
        self._memory: Memory | None = None
        self._blocking = Workers(3)

    async def run(self) -> Mapping[str, PhaseSummary]:
        """Every phase's summary by name; raises `PhaseFailed` at the first that does not complete."""
        try:
            for number, plan in enumerate(self.plan.phases, 1):
                self.number = number
                check_needs(plan.name, plan.needs, self.summaries)
                await self._run_phase(plan)
                if self.interrupted:
                    break
            return self.summaries
        finally:
            with anyio.CancelScope(shield=True):
                if self.folder is not None:
                    await self._blocking.run(self.folder.close)
                await self._blocking.close()

    def drain(self) -> None:
        """Stop the feeds; the phase that runs ends with what it has, later ones do not start."""
        self.interrupted = True
        if self.engine is not None:
            self.engine.drain()

    async def _run_phase(self, plan: PhasePlan) -> None:
        try:
            folder = await self._open_folder()
            done = None if self.force else await self._blocking.run(folder.completed, plan.name)
            wrong = "" if done is None else await self._blocking.run(folder.damage, plan.name)
            if wrong:
                log.warning("phase '%s' has been complete, but %s; it runs again", plan.name, wrong)
            elif done is not None and set(plan.needs) <= set(self.skipped):
                self.summaries[plan.name] = done
                self.topologies[plan.name] = plan.topology
                self.skipped.append(plan.name)
                return
            prepared = await self._blocking.run(self._prepare, plan, folder)
            checkpoints = PhaseCheckpoints(
                folder, plan.name, self._blocking, self._told(plan, prepared), self.plan.checkpoint
            )
            begun = await checkpoints.begin(self.resume)
        except PhaseFailed:
            raise
        except (PenstockError, OSError) as error:
            raise PhaseFailed(plan.name, {}, str(error)) from error
        wanted = [True]
        # Reading large inputs for their hash takes its time: beside the run, not before it.
        hashes = partial(
            result_identity, prepared.topology, self._settings(plan, prepared), lambda: wanted[0],
            with_data=not prepared.limits.windowed,
        )  # fmt: skip
        identity = self._blocking.submit(hashes)
        try:
            await self._run_engine(plan, prepared, folder, checkpoints, begun, identity)
        except BaseException:
            wanted[0] = False
            with anyio.CancelScope(shield=True):
                await asyncio.wait([identity])
                if not identity.cancelled():
                    identity.exception()  # what failed first is what is raised
            raise
        finally:
            await self._blocking.run(folder.end_phase, plan.name)

    def _prepare(self, plan: PhasePlan, folder: RunFolder) -> _Prepared:
        """Choose who runs, and see what the window and its warm-up come to. Blocking."""
        earlier = {
            name: EarlierPhase(folder.phase(name), self.summaries[name], self.leftovers.get(name, {}))
            for name in plan.needs
        }
        topology, selection = plan.topology, None
        if plan.select is not None and plan.narrowed is not None:
            source = plan.select.source
            ran = self.topologies[source]
            selection = choose(plan.name, source, ran, earlier[source], plan.select.top, plan.select.by)
            unknown = [name for name in selection.names if plan.topology.owner_of(name) is None]
            if unknown:
                raise PhaseFailed(plan.name, {}, f"it selects '{unknown[0]}', which is no container of its own")
            topology = plan.narrowed(selection.names)
            if len(selection.names) < selection.top:
                log.warning(
                    "phase '%s' runs %s of the %s it would take from phase '%s': no more have the objective '%s'",
                    plan.name, len(selection.names), selection.top, source, selection.by,
                )  # fmt: skip
        self.topologies[plan.name] = topology
        warmup = WarmUp()
        if plan.window.from_ns is not None and plan.warmup_of is not None:
            warmup = plan.warmup_of(topology)
        limits = self.plan.limits
        ends = [end for end in (limits.until_ns, plan.window.until_ns) if end is not None]
        return _Prepared(
            topology,
            Limits(
                rows=limits.rows,
                until_ns=min(ends) if ends else None,
                from_ns=plan.window.from_ns,
                warmup=warmup,
                windowed=plan.window != ALL,
            ),
            selection,
            earlier,
        )

    def _told(self, plan: PhasePlan, prepared: _Prepared) -> dict[str, Any]:
        """What must be equal where a checkpoint of this phase is gone on from; the folder's name says the rest."""
        return {"version": code_version(), "settings": hash_plain(self._settings(plan, prepared))}

    def _settings(self, plan: PhasePlan, prepared: _Prepared) -> dict[str, Any]:
        """What beside the graph changes this phase's result."""
        if plan.window == ALL and prepared.selection is None and not plan.needs:
            return self.plan.settings
        selection = prepared.selection
        return {
            **self.plan.settings,
            "window": [plan.window.from_ns, plan.window.until_ns, prepared.limits.warmup.said()],
            "needs": list(plan.needs),
            "selection": selection and [selection.phase, selection.by, selection.top, list(selection.names)],
        }

    async def _run_engine(
        self,
        plan: PhasePlan,
        prepared: _Prepared,
        folder: RunFolder,
        checkpoints: PhaseCheckpoints,
        begun: Begun,
        identity: asyncio.Future[dict[str, str]],
    ) -> None:
        began = _Measure(self.clock)
        restarts = Restarts(prepared.topology, self.plan.seed)
        while (outcome := await self._try_engine(plan, prepared, folder, checkpoints, begun, began, restarts)) is None:
            begun = await checkpoints.begin(True, again=True)
        if restarts.history:
            outcome = replace(outcome, measured={**outcome.measured, "restarts": restarts.history})
        hashes = await identity
        try:
            await self._publish(plan, prepared, folder, outcome, hashes, began)
        except (DataError, OSError) as error:
            why = f"its summary cannot be written: {error}"
            raise PhaseFailed(plan.name, {}, why, advice=checkpoints.advice(error)) from error

    async def _try_engine(
        self,
        plan: PhasePlan,
        prepared: _Prepared,
        folder: RunFolder,
        checkpoints: PhaseCheckpoints,
        begun: Begun,
        began: _Measure,
        restarts: Restarts,
    ) -> PhaseOutcome | None:
        """What the phase came to; None where it is to be run again. Raises `PhaseFailed`."""
        if self._memory is None:
            self._memory = await self._blocking.run(
                Memory.of, self.plan.memory_bytes, self._owns_process, prepared.topology
            )
        engine = LocalEngine(
            prepared.topology, begun.path, clock=self.clock, seed=self.plan.seed, limits=prepared.limits,
            earlier=prepared.earlier, flush=self._flush, memory_bytes=self._memory.pool_bytes,
            process_bytes=self._memory.process_bytes, on_ready=self._on_engine, root=folder.root,
            checkpoints=checkpoints.settings(begun.checkpoint), resume=begun.checkpoint,
            last_chance=restarts.exhausted, watched=self._watched,
        )  # fmt: skip
        self.engine = engine
        try:
            return await engine.run()
        except CannotResume as error:
            checkpoints.refuse(error)
            return None
        except Exception as error:
            failures = _failures(error)
            advice = "" if self.interrupted else checkpoints.advice(error)
            failure = PhaseFailed(plan.name, failures, f"{type(error).__name__}: {error}", advice=advice)
            wait_ns = None if self.interrupted else restarts.wait_ns(failures)
            if wait_ns is None:
                record = {
                    "status": "failed",
                    "error": str(failure),
                    "restarts": restarts.history,
                    "pool": engine.pool_figures(),
                }
                await self._record(folder, plan.name, {**record, **await self._blocking.run(began.measured)})
                raise failure from error
            log.warning("%s; it goes on, or begins again, in %.2f s", failure, wait_ns / 1e9)
        finally:
            self.engine = None
            self.leftovers[plan.name] = engine.leftovers
        await self.clock.sleep_until(self.clock.monotonic_ns() + wait_ns)
        return None

    async def _publish(
        self,
        plan: PhasePlan,
        prepared: _Prepared,
        folder: RunFolder,
        outcome: PhaseOutcome,
        identity: Mapping[str, str],
        began: _Measure,
    ) -> None:
        wrong = check_ledger(outcome)
        taken = await self._blocking.run(began.measured)
        measured = {"status": "complete", "version": code_version(), **taken}
        if wrong:
            await self._record(
                folder, plan.name, run_record(outcome, {**measured, "status": "failed", "error": "; ".join(wrong)})
            )
            raise PhaseFailed(plan.name, {}, "the ledger does not balance: " + "; ".join(wrong))
        summary = summarise(
            self.plan.name, plan.name, outcome, identity, window=plan.window, selection=prepared.selection
        )
        record = run_record(outcome, {**measured, "status": summary.status})
        await self._blocking.run(folder.publish, plan.name, summary, record, containers_table(outcome))
        self.summaries[plan.name] = summary

    async def _record(self, folder: RunFolder, phase: str, record: Mapping[str, Any]) -> None:
        """Leave `run.json` of a failed phase; a disk that does not take it must not hide why the phase failed."""
        try:
            await self._blocking.run(folder.write_record, phase, dict(record))
        except (DataError, OSError) as error:
            log.warning("run.json of phase '%s' cannot be written: %s", phase, error)

    async def _open_folder(self) -> RunFolder:
        if self.folder is None:
            name = await self._blocking.run(_fingerprint, self.plan)
            folder = RunFolder(self.plan.output, self.plan.name, name)
            await self._blocking.run(partial(folder.open, repair=self._repair, anew=self.force))
            self.folder = folder
            self._blocking.submit(folder.sweep)  # beside the run
        return self.folder


def _fingerprint(plan: RunPlan) -> str:
    """Of all phases: each one's own settings, and each graph once. Blocking."""
    graphs: list[Topology] = []
    for phase in plan.phases:
        if not any(phase.topology is graph for graph in graphs):
            graphs.append(phase.topology)
    others = [fingerprint(graph, None, {}) for graph in graphs[1:]]
    phases = [phase.described() for phase in plan.phases]
    return fingerprint(graphs[0], plan.configuration, {**plan.settings, "phases": phases, "graphs": others})


class _Measure:
    """Wall and processor time since it was made, and the process's peak memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.started_ns = clock.now_ns()
        self._wall = clock.monotonic_ns()
        self._cpu = time.process_time_ns()

    def measured(self) -> dict[str, Any]:
        """What it took so far; reads a file of the kernel's."""
        return {
            "started_ns": self.started_ns,
            "wall_seconds": (self.clock.monotonic_ns() - self._wall) / 1e9,
            "cpu_seconds": (time.process_time_ns() - self._cpu) / 1e9,
            "process_peak_rss_bytes": peak_rss_bytes(),
        }


def _failures(error: BaseException) -> dict[str, BaseException]:
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    return {found.container: found for found in errors if isinstance(found, ContainerFailed)}

"""Walks a topology through its phases: awaits every container and its data, checks the books, publishes the summary."""

from __future__ import annotations

import asyncio
import logging
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from .clock import Clock
from .data import FlushCallback
from .engines.local import Limits, LocalEngine
from .errors import ContainerFailed, PenstockError, PhaseFailed
from .folder import RunFolder
from .identity import code_version, fingerprint, result_identity
from .phases import PhaseOutcome, check_ledger, check_needs
from .summary import PhaseSummary, containers_table, run_record, summarise
from .threads import Workers
from .topology import Topology

log = logging.getLogger("penstock.sequencer")


@dataclass(frozen=True)
class PhasePlan:
    """One phase to run: its name, the phases it needs, its graph."""

    name: str
    topology: Topology
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class RunPlan:
    """Everything a run is made of, before it is started."""

    name: str
    phases: Sequence[PhasePlan]
    output: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    @property
    def settings(self) -> dict[str, Any]:
        """What beside the graph changes the result."""
        return {"seed": self.seed, "limit": self.limits.rows, "until": self.limits.until_ns}


class Sequencer:
    """Runs the phases of one plan, in order, each once."""

    def __init__(
        self,
        plan: RunPlan,
        clock: Clock,
        *,
        force: bool = True,
        flush: Mapping[str, FlushCallback] | None = None,
        on_engine: Callable[[LocalEngine], None],
    ) -> None:
        self.plan, self.clock, self.force = plan, clock, force
        self.summaries: dict[str, PhaseSummary] = {}
        self.folder: RunFolder | None = None
        self.leftovers: dict[tuple[str, Any], Any] = {}
        self.engine: LocalEngine | None = None
        self.skipped: list[str] = []
        """Phases found complete and not run again."""
        self.interrupted = False
        self._on_engine = on_engine
        self._flush = flush
        self._blocking = Workers(2)

    async def run(self) -> Mapping[str, PhaseSummary]:
        """Every phase's summary by name; raises `PhaseFailed` at the first that does not complete."""
        try:
            for plan in self.plan.phases:
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
            if not self.force and (done := await self._blocking.run(folder.completed, plan.name)) is not None:
                self.summaries[plan.name] = done
                self.skipped.append(plan.name)
                return
            path = await self._blocking.run(folder.begin_phase, plan.name)
        except (PenstockError, OSError) as error:
            raise PhaseFailed(plan.name, {}, str(error)) from error
        wanted = [True]
        # Reading large inputs for their hash takes its time: beside the run, not before it.
        identity = self._blocking.submit(result_identity, plan.topology, self.plan.settings, lambda: wanted[0])
        try:
            await self._run_engine(plan, folder, path, identity)
        except BaseException:
            wanted[0] = False
            with anyio.CancelScope(shield=True):
                await asyncio.wait([identity])
                if not identity.cancelled():
                    identity.exception()  # what failed first is what is raised
            raise
        finally:
            await self._blocking.run(folder.end_phase, plan.name)

    async def _run_engine(
        self, plan: PhasePlan, folder: RunFolder, path: Path, identity: asyncio.Future[dict[str, str]]
    ) -> None:
        began = _Measure(self.clock)
        engine = LocalEngine(
            plan.topology, path, clock=self.clock, seed=self.plan.seed, limits=self.plan.limits,
            flush=self._flush, on_ready=self._on_engine,
        )  # fmt: skip
        self.engine = engine
        try:
            outcome = await engine.run()
        except Exception as error:
            failure = PhaseFailed(plan.name, _failures(error), f"{type(error).__name__}: {error}")
            await self._record(folder, plan.name, {"status": "failed", "error": str(failure), **began.measured()})
            raise failure from error
        finally:
            self.engine = None
            self.leftovers.update(engine.leftovers)
        await self._publish(plan, folder, outcome, await identity, began)

    async def _publish(
        self, plan: PhasePlan, folder: RunFolder, outcome: PhaseOutcome, identity: Mapping[str, str], began: _Measure
    ) -> None:
        wrong = check_ledger(outcome)
        measured = {"status": "complete", "version": code_version(), **began.measured()}
        if wrong:
            await self._record(
                folder, plan.name, run_record(outcome, {**measured, "status": "failed", "error": "; ".join(wrong)})
            )
            raise PhaseFailed(plan.name, {}, "the ledger does not balance: " + "; ".join(wrong))
        summary = summarise(self.plan.name, plan.name, outcome, identity)
        record = run_record(outcome, {**measured, "status": summary.status})
        try:
            await self._blocking.run(folder.publish, plan.name, summary, record, containers_table(outcome))
        except OSError as error:
            raise PhaseFailed(plan.name, {}, f"its summary cannot be written: {error}") from error
        self.summaries[plan.name] = summary

    async def _record(self, folder: RunFolder, phase: str, record: Mapping[str, Any]) -> None:
        """Leave `run.json` of a failed phase; a disk that does not take it must not hide why the phase failed."""
        try:
            await self._blocking.run(folder.write_record, phase, dict(record))
        except OSError as error:
            log.warning("run.json of phase '%s' cannot be written: %s", phase, error)

    async def _open_folder(self) -> RunFolder:
        if self.folder is None:
            name = await self._blocking.run(
                fingerprint, self.plan.phases[0].topology, self.plan.configuration, self.plan.settings
            )
            folder = RunFolder(self.plan.output, self.plan.name, name)
            await self._blocking.run(folder.open)
            self.folder = folder
        return self.folder


class _Measure:
    """Wall and processor time since it was made, and the process's peak memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.started_ns = clock.now_ns()
        self._wall = clock.monotonic_ns()
        self._cpu = time.process_time_ns()

    def measured(self) -> dict[str, Any]:
        scale = 1 if platform.system() == "Darwin" else 1024
        return {
            "started_ns": self.started_ns,
            "wall_seconds": (self.clock.monotonic_ns() - self._wall) / 1e9,
            "cpu_seconds": (time.process_time_ns() - self._cpu) / 1e9,
            "process_peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
        }


def _failures(error: BaseException) -> dict[str, BaseException]:
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    return {found.container: found for found in errors if isinstance(found, ContainerFailed)}

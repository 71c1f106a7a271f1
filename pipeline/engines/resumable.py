"""Gives the containers of an engine their part in checkpoints, and brings them to the one a run goes on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ..checkpoints.cuts import Checkpoint
from ..checkpoints.cutting import Cutter
from ..checkpoints.resuming import go_on
from ..checkpoints.taking import Checkpointer, Checkpoints
from ..clock import Clock
from ..containers.feeding import Container
from ..edges.edge import LOSSLESS, Edge
from ..errors import CannotResume, CorruptEntry, PenstockError, StateMismatch
from ..mending.mender import Mender
from ..storage.workspace import Workspace
from ..threads import Workers
from ..topology import Topology


async def take_part(
    topology: Topology,
    containers: Mapping[str, Container],
    edges: Sequence[Edge],
    workspace: Workspace,
    workers: Workers,
    clock: Clock,
    settings: Checkpoints,
    resume: Checkpoint | None,
) -> Checkpointer:
    """Who takes the checkpoints of containers that were just built. Raises `CannotResume` where `resume` does not fit;
    they are then to be thrown away."""
    _refuse_losses(edges)
    journal = workspace.journal
    assert journal is not None, "checkpoints are taken where there is a root"
    checkpointer = Checkpointer(workspace.folder.name, containers, settings, journal, clock)
    for node in topology.nodes:
        container = containers[node.name]
        container.cutter = cutter = Cutter(
            node.name, container.logic, live=node.stage.live, journal=journal,
            journaled_as=f"{workspace.scope}{node.name}/noted", kept=container.keeper, workers=workers,
            told=checkpointer.told,
        )  # fmt: skip
        container.on_end, container.on_failure = checkpointer.container_ended, checkpointer.stop
        if isinstance(container.caller, Mender):
            cutter.extras["mending"] = container.caller.snapshot
        if cutter.kind in ("feed", "replayed"):
            container.keeper.regenerate()
        else:
            container.keeper.note_output(cutter.note_output)
        cutter.begin()
    if resume is not None:
        await _go_on(resume, containers, workspace, workers, settings)
        checkpointer.figures.resumed_from_rows = resume.rows
    return checkpointer


async def _go_on(
    resume: Checkpoint,
    containers: Mapping[str, Container],
    workspace: Workspace,
    workers: Workers,
    settings: Checkpoints,
) -> None:
    try:
        await go_on(resume, containers, partial(settings.read_back, resume.mark), workers, workspace.io)
    except (StateMismatch, CorruptEntry) as error:
        raise CannotResume(str(error)) from error
    for name, container in containers.items():
        if isinstance(container.caller, Mender):
            await workers.run(container.caller.restore, resume.containers[name].extra.get("mending"))


def _refuse_losses(edges: Sequence[Edge]) -> None:
    """What an edge loses on purpose would be another loss the next time."""
    for edge in edges:
        if edge.policy.when_full not in LOSSLESS:
            raise PenstockError(
                f"containers.{edge.target}.inputs: expected an input that loses nothing in a run with checkpoints, "
                f"found 'when_full: {edge.policy.when_full}' from '{edge.source}', whose losses would be others when "
                "the run goes on; use 'block' (the producer waits) or 'spill' (it goes on through the disk), or run "
                "without checkpoints"
            )

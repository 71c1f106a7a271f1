"""Brings the containers of a graph to where a checkpoint left them: states, results from the journal, input again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import msgspec

from ..containers.feeding import Container, FeedContainer
from ..data.replay import restore_journal
from ..edges.spilling import SpillingEdge
from ..errors import StateMismatch
from ..frames import Batch, End
from ..stage import Logic
from ..storage.executor import IoExecutor
from ..threads import Workers
from .cuts import Checkpoint, ContainerCut
from .cutting import INPUT, OUTPUT, kind_of
from .records import decode_frame

RECORDS_A_HOP = 64
"""Journal records read in one call of a thread."""


class JournalRecord(Protocol):
    """What is read back of a journal."""

    @property
    def container(self) -> str: ...

    @property
    def kind(self) -> int: ...

    @property
    def gen(self) -> int: ...

    @property
    def payload(self) -> Any: ...


async def go_on(
    checkpoint: Checkpoint,
    containers: Mapping[str, Container],
    read_back: Callable[[], Iterable[Any]],
    workers: Workers,
    io: IoExecutor,
) -> None:
    """Bring containers that were just built to a checkpoint of an equal graph; their logics are warm.

    `read_back` gives the records of the journal up to the checkpoint's mark, as often as it is called. Raises
    `StateMismatch` where the graph is another, or a logic does not take its state back. What was half brought back is
    then to be thrown away.
    """
    _check(checkpoint, containers)
    cuts = checkpoint.containers
    for name, container in containers.items():
        container.outlet.mute(True)
        if cuts[name].kind == "state":
            await _restore(name, container.logic, cuts[name].state, workers)
        container.go_on(await _brought_back(container, cuts[name]))
        assert container.cutter is not None, "a container that goes on takes part in checkpoints"
        container.cutter.begin(cuts[name].gens)
    counting = Counting(
        {name: cuts[container.name] for container in containers.values() for name in _names_of(container)}
    )
    await _results(containers, lambda: filter(counting.of_results, read_back()), io)
    await _input(containers, filter(counting.of_input, read_back()), workers)
    for name, container in containers.items():
        cut = cuts[name]
        output = _output(_journaled_as(container), filter(counting.of_output, read_back()), workers)
        if container.keeper.notes_output and cut.kind not in ("feed", "replayed"):
            await container.keeper.go_on(cut.extra["kept"], output)
        if cut.kind == "replayed" and cut.ended:
            await container.replay(End())
        if cut.kind != "feed":
            _compare(name, container, cut.received_rows, cut.sent_rows)
        container.outlet.mute(False)


async def _brought_back(container: Container, cut: ContainerCut) -> ContainerCut:
    """The cut, with what was under way on a disk on the disk of the edge it was under way on."""
    if cut.inbox is None or isinstance(container, FeedContainer):
        return cut
    lanes = [
        msgspec.structs.replace(lane, frames=await edge.bring_back(lane.frames))
        if isinstance(edge, SpillingEdge) else lane
        for edge, lane in zip(container.inbox.edges, cut.inbox.lanes, strict=True)
    ]  # fmt: skip
    return msgspec.structs.replace(cut, inbox=msgspec.structs.replace(cut.inbox, lanes=lanes))


async def _restore(name: str, logic: Logic, state: Any, workers: Workers) -> None:
    try:
        if logic.runs_in == "loop":
            logic.restore(state)
        else:
            await workers.run(logic.restore, state)
    except Exception as error:
        raise StateMismatch(
            f"restore() of '{name}' did not take what its snapshot() gave: {type(error).__name__}: {error}"
        ) from error


class Counting:
    """Which records of a journal count: those that led to the cut of their container, and no others."""

    def __init__(self, cuts: Mapping[str, ContainerCut]) -> None:
        self._gens = {name: [tuple(each) for each in cut.gens] for name, cut in cuts.items()}
        self._regenerated = {name for name, cut in cuts.items() if cut.kind in ("feed", "replayed")}

    def of_results(self, record: JournalRecord) -> bool:
        """Whether it is a change of results that do not come again by themselves."""
        return record.kind < INPUT and record.container not in self._regenerated and self._counts(record)

    def of_input(self, record: JournalRecord) -> bool:
        """Whether it is a frame that is given again."""
        return record.kind == INPUT and self._counts(record)

    def of_output(self, record: JournalRecord) -> bool:
        """Whether it is output of which a window is kept, and which does not come again by itself."""
        return record.kind == OUTPUT and record.container not in self._regenerated and self._counts(record)

    def _counts(self, record: JournalRecord) -> bool:
        return any(first < record.gen <= last for first, last in self._gens.get(record.container, ()))


async def _results(containers: Mapping[str, Container], read: Callable[[], Iterable[Any]], io: IoExecutor) -> None:
    journaled = [container.keeper.journaled for container in containers.values()]
    targets = {found.container: found for found in journaled if found is not None}
    if targets:
        await restore_journal(read, targets, io)


async def _input(containers: Mapping[str, Container], records: Iterator[Any], workers: Workers) -> None:
    named = {_journaled_as(container): container for container in containers.values()}
    if not any(container.cutter is not None and container.cutter.notes for container in containers.values()):
        return
    while some := await workers.run(_some, records):
        for record in some:
            container, frame = named[record.container], decode_frame(record.payload)
            if container.cutter is not None:
                container.cutter.given_again(frame)
            await container.replay(frame)


async def _output(name: str, records: Iterator[Any], workers: Workers) -> AsyncIterator[Batch]:
    while some := await workers.run(_some, records):
        for record in some:
            if record.container == name:
                frame = decode_frame(record.payload)
                assert isinstance(frame, Batch)
                yield frame


def _names_of(container: Container) -> Iterator[str]:
    """Names under which the journal knows it: what it notes, and its results, which are trimmed apart."""
    yield _journaled_as(container)
    if container.keeper.journaled is not None:
        yield container.keeper.journaled.container


def _journaled_as(container: Container) -> str:
    assert container.cutter is not None
    return container.cutter.journaled_as


def _check(checkpoint: Checkpoint, containers: Mapping[str, Container]) -> None:
    if list(checkpoint.containers) != list(containers):
        raise StateMismatch(
            f"expected a checkpoint of {', '.join(containers)}, found one of {', '.join(checkpoint.containers)}"
        )
    for name, container in containers.items():
        found, kind = checkpoint.containers[name].kind, kind_of(container.logic)
        if found != kind:
            raise StateMismatch(f"expected '{name}' to be brought back as '{kind}', found it was cut as '{found}'")


def _compare(name: str, container: Container, received_rows: int, sent_rows: int) -> None:
    found = (container.received_rows, container.outlet.sent_rows)
    if found != (received_rows, sent_rows):
        raise StateMismatch(
            f"expected '{name}' to have received {received_rows:,} rows and sent {sent_rows:,} when it was given its "
            f"input again, found {found[0]:,} and {found[1]:,}: its results depend on something else, or the journal "
            "lacks some of them"
        )


def _some(records: Iterator[Any]) -> list[Any]:
    return list(islice(records, RECORDS_A_HOP))

"""Brings the containers of a graph to where a checkpoint left them: states, results from the journal, input again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from .checkpoint import decode_frame
from .checkpointing import Checkpoints
from .cuts import Checkpoint
from .cutting import BEGUN, CUT, INPUT, attempt_key, begin, kind_of
from .errors import StateMismatch
from .feeding import Container
from .frames import End
from .mending import Mender
from .threads import Workers

RECORDS_A_HOP = 64
"""Journal records read in one call of a thread."""


class JournalRecord(Protocol):
    """What is read back of a journal."""

    container: str
    kind: int
    key: bytes
    payload: Any


async def go_on(
    checkpoint: Checkpoint,
    containers: Mapping[str, Container],
    settings: Checkpoints,
    journaled_as: Mapping[str, str],
    workers: Workers,
) -> tuple[int, int]:
    """Bring containers that were just built to a checkpoint of an equal graph; their logics are warm.

    Gives this attempt, as the checkpoints that follow have to tell it.

    Raises `StateMismatch` where the graph is another, or a logic does not take its state back. What was half brought
    back is then to be thrown away.
    """
    _check(checkpoint, containers)
    for name, container in containers.items():
        cut = checkpoint.containers[name]
        container.outlet.mute(True)
        if cut.kind == "state":
            if container.logic.runs_in == "loop":
                container.logic.restore(cut.state)
            else:
                await workers.run(container.logic.restore, cut.state)
        container.go_on(cut)
        if isinstance(container.caller, Mender):
            await workers.run(container.caller.restore, cut.extra["mending"])
    names = {journaled_as[name]: name for name in containers}
    counting = Counting(checkpoint)
    records = iter(settings.read_back(checkpoint.mark))
    while some := await workers.run(_some, records):
        for record in some:
            if (record.container in names or record.kind == BEGUN) and counting.counts(record):
                await _again(containers[names[record.container]], record)
    for name, container in containers.items():
        cut = checkpoint.containers[name]
        if cut.kind == "replayed" and cut.ended:
            await container.replay(End())
        if cut.kind != "feed":
            _compare(name, container, cut.received_rows, cut.sent_rows)
        container.outlet.mute(False)
    return begin(settings.journal, checkpoint.phase, checkpoint.number)


class Counting:
    """Which records of a journal count: those of the attempts the checkpoint descends from, each up to the cut from
    which the next one went on.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._cuts = {str(number).encode() for number, _ in checkpoint.attempts} | {str(checkpoint.number).encode()}
        self._attempts = set(map(attempt_key, checkpoint.attempts))
        self._begun = False
        self._behind: set[str] = set()
        """Containers whose records do not count now."""

    def counts(self, record: JournalRecord) -> bool:
        """Whether this one, the next in order, does."""
        if record.kind == BEGUN:
            if record.key in self._attempts:
                self._begun = True
                self._behind.clear()
            return False
        if not self._begun or record.container in self._behind:
            return False
        if record.kind == CUT:
            if record.key in self._cuts:
                self._behind.add(record.container)
            return False
        return True


async def _again(container: Container, record: JournalRecord) -> None:
    if record.kind == INPUT:
        frame = decode_frame(record.payload)
        if container.cutter is not None:
            container.cutter.given_again(frame)
        await container.replay(frame)


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

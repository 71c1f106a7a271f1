"""A container's part in a checkpoint: what it notes of its input meanwhile, and the cut it takes at a barrier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from .checkpoint import encode_frame
from .cuts import ContainerCut, InboxCut, Kind
from .frames import Barrier, Batch, Watermark
from .stage import Feed, Logic, Transform
from .threads import Workers
from .under_way import Recording

INPUT: Final = 16
"""Kind of journal records that hold a frame of a container's input; those from 16 on belong to the engine."""
CUT: Final = 18
"""... that stand where a container took a cut, the checkpoint's number for a key."""
BEGUN: Final = 19
"""... that stand where a phase begins, or goes on from a checkpoint: what containers wrote behind their cut before it
does not count. The key is the attempt."""
COUNTED: Final = ("late_rows", "committed_rows", "rejected_rows", "duplicate_rows")
"""What a logic counts for the ledger, if it has it."""
HELD_BYTES: Final = 8 << 20
"""Input that waits to be written to the journal before a container waits for it."""

Durability: TypeAlias = Literal["ephemeral", "process", "durable"]
Encode: TypeAlias = Callable[[], Sequence[Any]]


class Journal(Protocol):
    """What a container asks of the run's journal."""

    generations: Iterator[int]

    @property
    def held_bytes(self) -> int:
        """Of what waits to be written."""

    def append(
        self,
        container: str,
        kind: int,
        key: bytes,
        gen: int,
        encode: Encode,
        durability: Durability,
        *,
        num_bytes: int = 0,
    ) -> asyncio.Future[Any]:
        """Write one record, in the order of the calls."""

    def trim(self, container: str, gen: int) -> None:
        """The container's records up to this generation are dead."""


def write_sign(journal: Journal, container: str, kind: int, key: bytes) -> None:
    """A record that says no more than where it stands."""
    journal.append(container, kind, key, next(journal.generations), lambda: (b"",), "ephemeral")


def begin(journal: Journal, phase: str, number: int) -> tuple[int, int]:
    """A new attempt of a phase, from the checkpoint of that number or from none (0)."""
    attempt = (number, next(journal.generations))
    write_sign(journal, f"{phase}/", BEGUN, attempt_key(attempt))
    return attempt


def attempt_key(attempt: tuple[int, int]) -> bytes:
    return b"%d/%d" % tuple(attempt)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a container has come."""

    received_rows: int
    processed_rows: int
    sent_rows: int
    sent_batches: int
    watermark: int | None
    ended: bool
    """Whether all its input has come and its logic has been told, though perhaps before it was resumed."""


class Cutter:
    """One container's share in checkpoints. `told` hears of each cut, as soon as its state is taken."""

    def __init__(
        self,
        name: str,
        logic: Logic,
        *,
        live: bool,
        journal: Journal | None,
        journaled_as: str,
        workers: Workers,
        told: Callable[[Cut], None],
    ) -> None:
        self.name, self.logic, self.workers = name, logic, workers
        self.kind: Kind = kind_of(logic)
        self.notes = self.kind == "replayed" or (self.kind == "feed" and live)
        """Whether its input is written to the journal, so that it can be given again."""
        self.given_rows = 0
        self.extras: dict[str, Callable[[], Any]] = {}
        """By name, what else belongs into this container's cut; see `ContainerCut.extra`."""
        self._journal, self._as = journal, journaled_as
        self._told = told

    async def note(self, frame: Batch | Watermark) -> None:
        """Write one frame of input to the journal; waits only while much is to be written already."""
        if isinstance(frame, Batch):
            self.given_rows += frame.num_rows
        if self._journal is None:
            return
        num_bytes = frame.num_bytes if isinstance(frame, Batch) else 0
        written = self._journal.append(
            self._as, INPUT, b"", next(self._journal.generations), lambda: (encode_frame(frame),), "ephemeral",
            num_bytes=num_bytes,
        )  # fmt: skip
        if self._journal.held_bytes > HELD_BYTES:
            await asyncio.shield(written)

    def given_again(self, frame: Batch | Watermark) -> None:
        """One frame of the journal: it counts as given, and is not written again."""
        if isinstance(frame, Batch):
            self.given_rows += frame.num_rows

    async def cut(self, barrier: Barrier, recording: Recording | None, counts: Callable[[], Counts]) -> None:
        """Take the container's state between two frames of its input, and tell of it."""
        await self._take(barrier.id, recording, counts(), None)

    async def cut_at_end(self, number: int, counts: Counts, inbox: InboxCut | None) -> None:
        """The same for a container that has ended, and that no barrier will reach."""
        await self._take(number, None, counts, inbox)

    async def _take(self, number: int, recording: Recording | None, counts: Counts, inbox: InboxCut | None) -> None:
        began = perf_counter_ns()
        if self._journal is not None:
            write_sign(self._journal, self._as, CUT, str(number).encode())
        state = None
        if self.kind == "state":
            if self.logic.runs_in == "loop":
                state = self.logic.snapshot()
            else:
                state = await self.workers.run(self.logic.snapshot)
        taken = ContainerCut(
            kind=self.kind,
            ended=counts.ended,
            received_rows=counts.received_rows,
            processed_rows=counts.processed_rows,
            sent_rows=counts.sent_rows,
            sent_batches=counts.sent_batches,
            given_rows=self.given_rows,
            watermark=counts.watermark,
            counted=counted(self.logic),
            state=state,
            inbox=inbox,
            extra={name: extra() for name, extra in self.extras.items()},
        )
        self._told(Cut(self.name, number, taken, recording, perf_counter_ns() - began))


class Cut:
    """What one container gives for one checkpoint; its inputs may still be recorded."""

    def __init__(self, name: str, number: int, taken: ContainerCut, recording: Recording | None, pause_ns: int) -> None:
        self.name, self.number, self.taken, self.recording, self.pause_ns = name, number, taken, recording, pause_ns

    @property
    def is_complete(self) -> bool:
        return self.recording is None or self.recording.is_complete

    def whole(self) -> ContainerCut:
        """With what was under way."""
        if self.recording is None:
            return self.taken
        return msgspec.structs.replace(self.taken, inbox=self.recording.cut())

    def close(self, failure: str = "") -> None:
        if self.recording is not None:
            self.recording.close(failure)


def kind_of(logic: Logic) -> Kind:
    """How this logic is brought back from a checkpoint."""
    if isinstance(logic, Feed):
        return "feed"
    if logic.can_snapshot:
        return "state"
    return "stateless" if isinstance(logic, Transform) and logic.stateless else "replayed"


def counted(logic: Logic) -> dict[str, int]:
    """What the logic counts for the ledger."""
    return {name: int(getattr(logic, name)) for name in COUNTED if hasattr(logic, name)}


def count_on(logic: Logic, found: Mapping[str, int]) -> None:
    """Let the logic count on from there; where a count follows from its state it is right already."""
    for name, value in found.items():
        if getattr(logic, name, value) != value:
            setattr(logic, name, value)

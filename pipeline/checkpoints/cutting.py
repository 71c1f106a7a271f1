"""A container's part in a checkpoint: what it notes of its input meanwhile, and the cut it takes at a barrier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, Final, Protocol

import msgspec

from ..edges.under_way import Recording
from ..frames import Barrier, Batch, Watermark
from ..stage import Feed, Logic, Transform
from ..storage.journal import Journal
from ..threads import Workers
from .cuts import ContainerCut, InboxCut, Kind
from .records import encode_frame

INPUT: Final = 16
"""Kind of journal records that hold a frame of a container's input; those from 16 on belong to the engine."""
OUTPUT: Final = 17
"""... a batch of its output, where a window of the newest is kept."""
COUNTED: Final = ("late_rows", "committed_rows", "rejected_rows", "duplicate_rows")
"""What a logic counts for the ledger, if it has it."""
HELD_BYTES: Final = 8 << 20
"""Input that waits to be written to the journal before a container waits for it."""


class Kept(Protocol):
    """A container's results, as far as a checkpoint goes."""

    def cut(self) -> int | None:
        """The number of the last change; None where changes are not in the journal."""

    def state(self) -> Any:
        """What of the results is not in the journal, as plain values."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a container has come."""

    received_rows: int
    processed_rows: int
    sent_rows: int
    sent_batches: int
    sent_records: Mapping[str, int]
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
        journal: Journal,
        journaled_as: str,
        kept: Kept,
        workers: Workers,
        told: Callable[[Cut], None],
    ) -> None:
        self.name, self.logic, self.kept, self.workers = name, logic, kept, workers
        self.kind: Kind = kind_of(logic)
        self.notes = self.kind == "replayed" or (self.kind == "feed" and live)
        """Whether its input is written to the journal, so that it can be given again."""
        self.given_rows = 0
        self.failed: BaseException | None = None
        """Why something it noted is not in the journal; no checkpoint can stand on it then."""
        self.extras: dict[str, Callable[[], Any]] = {}
        """By name, what else belongs into this container's cut; see `ContainerCut.extra`."""
        self.journaled_as = journaled_as
        """The name under which the journal knows what it notes; not that of its results, which are trimmed apart."""
        self._journal = journal
        self._told = told
        self._gens: tuple[tuple[int, int], ...] = ()
        self._begun = 0

    def begin(self, gens: Sequence[tuple[int, int]] = ()) -> None:
        """A new attempt begins; `gens` are those of the cut it goes on from. What others have left does not count.

        Its numbers lie above all of these: a journal counts on from the last record it has, and a cut before may have
        had a higher number.
        """
        self._gens = tuple((first, last) for first, last in gens)
        highest = max((last for _, last in self._gens), default=0)
        self._begun = next(self._journal.generations)
        while self._begun < highest:
            self._begun = next(self._journal.generations)

    async def note(self, frame: Batch | Watermark) -> None:
        """Write one frame of input to the journal; waits only while much is to be written already."""
        if isinstance(frame, Batch):
            self.given_rows += frame.num_rows
        await self._write(INPUT, frame)

    async def note_output(self, batch: Batch) -> None:
        """Write a batch of output to the journal, for the window that is kept of it."""
        await self._write(OUTPUT, batch)

    async def _write(self, kind: int, frame: Batch | Watermark) -> None:
        num_bytes = frame.num_bytes if isinstance(frame, Batch) else 0
        written = self._journal.append(
            self.journaled_as, kind, b"", next(self._journal.generations), lambda: (encode_frame(frame),), "ephemeral",
            num_bytes=num_bytes,
        )  # fmt: skip
        written.add_done_callback(self._look)
        if self._journal.held_bytes > HELD_BYTES:
            await asyncio.wait((written,))

    def _look(self, written: asyncio.Future[Any]) -> None:
        error = None if written.cancelled() else written.exception()
        if error is not None and self.failed is None:
            self.failed = error

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
        kept, last = self.kept.cut(), next(self._journal.generations)
        state, failure = None, ""
        if self.kind == "state":
            try:
                if self.logic.runs_in == "loop":
                    state = self.logic.snapshot()
                else:
                    state = await self.workers.run(self.logic.snapshot)
            except Exception as error:  # what fails with it is the checkpoint, not the work
                failure = f"snapshot() of '{self.name}' raised {type(error).__name__}: {error}"
        taken = ContainerCut(
            kind=self.kind,
            ended=counts.ended,
            received_rows=counts.received_rows,
            processed_rows=counts.processed_rows,
            sent_rows=counts.sent_rows,
            sent_batches=counts.sent_batches,
            sent_records=counts.sent_records,
            given_rows=self.given_rows,
            watermark=counts.watermark,
            counted=counted(self.logic),
            state=state,
            inbox=inbox,
            gens=(*self._gens, (self._begun, last)),
            extra={"kept": self.kept.state(), **{name: extra() for name, extra in self.extras.items()}},
        )
        self._told(Cut(self.name, number, taken, recording, kept, perf_counter_ns() - began, failure))


class Cut:
    """What one container gives for one checkpoint; its inputs may still be recorded."""

    def __init__(
        self,
        name: str,
        number: int,
        taken: ContainerCut,
        recording: Recording | None,
        kept: int | None,
        pause_ns: int,
        lacks: str = "",
    ) -> None:
        self.name, self.number, self.taken, self.recording = name, number, taken, recording
        self._lacks = lacks
        self.kept = kept
        """Of the results: the number of the last change."""
        self.pause_ns = pause_ns

    @property
    def failure(self) -> str:
        """Why no checkpoint can be made of it, or nothing."""
        return self._lacks or ("" if self.recording is None else self.recording.failure)

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

"""A consistent cut through a running graph as plain data: what each container had done, and what was under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from ..frames import Batch, Stored, Watermark

FORMATS = (1, 2, 3)
"""Versions of a checkpoint's layout: plain, with batches in records of their own, and with large arrays in such too; no
other is resumed from."""
Kind = Literal["feed", "state", "stateless", "replayed"]
"""How a container is brought back: reading again, taking back its state, not at all, or being given its input again."""


class LaneCut(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a container at its cut."""

    source: str
    records: Sequence[str] = ()
    """Kinds of record it carries; empty: whatever its producer sends."""
    finished_rows: int
    """Rows its consumer had done its work on."""
    head: Batch | None = None
    """Rows of a batch the consumer had begun to hand on, those that were left of it."""
    order: Any = None
    """Time by which each row of `head` is merged, int64 ns; None where it has no time."""
    newest: int | None = None
    """Time by which the last row is merged that the consumer has taken from its edge, ns."""
    frames: Sequence[Batch | Watermark | Stored] = ()
    """What was behind it, up to the producer's own cut."""
    watermark: int | None = None
    idle: bool = False
    timeless: bool = False
    ended: bool = False

    @property
    def rows_under_way(self) -> int:
        queued = sum(frame.num_rows for frame in self.frames if not isinstance(frame, Watermark))
        return queued + (0 if self.head is None else self.head.num_rows)


class InboxCut(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs of a container at its cut, and how far their merge had come."""

    lanes: Sequence[LaneCut] = ()
    watermark: int | None = None
    idle: bool = False


class ContainerCut(msgspec.Struct, frozen=True, kw_only=True):
    """One container at its cut; one that had ended before is here as it was after its end."""

    kind: Kind
    ended: bool = False
    received_rows: int = 0
    processed_rows: int = 0
    sent_rows: int = 0
    sent_batches: int = 0
    sent_records: Mapping[str, int] = {}
    """Rows sent by their kind of record, where somebody takes only some kinds."""
    given_rows: int = 0
    """Rows a feed that cannot be read again has been given; where its giver goes on."""
    watermark: int | None = None
    counted: Mapping[str, int] = {}
    """What the logic counts for the ledger, by attribute."""
    state: Any = None
    """What the logic's `snapshot` gave, where it gives one."""
    inbox: InboxCut | None = None
    """None for feeds."""
    gens: Sequence[tuple[int, int]] = ()
    """Records of the journal that led here: those above the first number and up to the second, of each attempt."""
    extra: Mapping[str, Any] = {}
    """What belongs to the container and not to its logic, by whom it belongs to."""

    def sent_of(self, records: Sequence[str]) -> int:
        """Rows sent to who takes these kinds of record; all where it takes whatever is sent."""
        return sum(self.sent_records.get(record, 0) for record in records) if records else self.sent_rows


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A consistent cut of a running phase, from which the same phase goes on."""

    phase: str
    number: int
    """Larger than of any checkpoint of the folder before it."""
    containers: Mapping[str, ContainerCut]
    every_seconds: float | None = None
    """How often they were taken."""
    mark: Any = None
    """How far the journal was written when all containers had taken their cut."""

    @property
    def rows(self) -> int:
        """Rows all feeds had sent."""
        return sum(cut.sent_rows for cut in self.containers.values() if cut.kind == "feed")

    def faults(self) -> list[str]:
        """Every sentence about rows that were sent and are nowhere, or twice; empty when it is whole."""
        wrong = []
        for name, cut in self.containers.items():
            if cut.inbox is None and cut.kind != "feed":
                wrong.append(f"{name}: nothing is known of its inputs")
            for lane in () if cut.inbox is None else cut.inbox.lanes:
                sent = self.containers[lane.source].sent_of(lane.records) if lane.source in self.containers else -1
                if sent != lane.finished_rows + lane.rows_under_way:
                    wrong.append(
                        f"{lane.source} -> {name}: sent {sent}, but finished {lane.finished_rows} + under way "
                        f"{lane.rows_under_way}"
                    )
        return wrong


class Saved(NamedTuple):
    """What it took to write a checkpoint."""

    num_bytes: int
    cpu_ns: int
    """Of the thread that wrote it, without what it waited for the disk."""

"""Reads the journal back: first what of it still counts, then that alone, applied to data managers made anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from ..storage.executor import IoExecutor
from ..storage.journal_records import Gap, JournalRecord
from . import records
from .base import Key
from .live import Filed, LiveRecords
from .records import APPEND, BASE, CLEAR, DELETE, FILED, FLUSHED, FLUSHING, ROWS, STORE

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1 << 20
"""Of records are read in a thread before they are applied on the loop."""
CHUNK_RECORDS: Final = 256
NOTES: Final = frozenset({DELETE, FLUSHED, CLEAR, FLUSHING})
"""Kinds that only say what others are worth."""
Records = Iterable[JournalRecord | Gap]
Read = Callable[[], Records]
"""Begins to read from the start; called twice."""


class Change(NamedTuple):
    """A record of the journal, opened."""

    container: str
    kind: int
    key: Key
    gen: int
    head: records.Head
    value: Any
    """What was stored, or batches."""

    @property
    def series(self) -> bool:
        return self.kind == APPEND or (
            self.kind in (BASE, FILED) and bool(self.head.numbers[2 if self.kind == BASE else 0])
        )


class Restorable(Protocol):
    """Takes back what the journal holds of one container."""

    def index(self) -> Index:
        """An empty index of its kind."""

    async def indexed(self, index: Index) -> None:
        """The journal has been looked through."""

    async def restore_change(self, change: Change) -> None: ...

    async def restored(self, index: Index) -> None:
        """That was all."""


@dataclass
class Replayed:
    """What was found in the journal."""

    changes: int = 0
    """Applied."""
    gaps: list[Gap] = field(default_factory=list)
    """Places where records were lost; whose they were is not known."""
    unknown: set[str] = field(default_factory=set)
    """Containers that nobody asked for; their records stay."""

    @property
    def lost_bytes(self) -> int:
        return sum(gap.num_bytes for gap in self.gaps)


class Index:
    """Which records of a container count: by key, from which generation on, and without which."""

    def __init__(self, *, passing: bool = False) -> None:
        self.passing = passing
        self.last_gen = 0
        self.in_order = True
        """Whether records lie in the order of their changes: one for which there was no room comes later."""
        self.live = LiveRecords()
        self.births: dict[Hashable, int] = {}
        self.series: set[Hashable] = set()
        self.flushed: tuple[int, int, int] | None = None
        """First and last row of the last batch that was flushed, and its last generation."""
        self.flushing: tuple[int, int, int] | None = None
        self._since: dict[Hashable, int] = {}
        self._cleared = 0
        self._filed: dict[Hashable, tuple[int, int]] = {}
        """By name the record of files from which on they count, and the change up to which files hold the series."""
        self._bases: dict[Hashable, tuple[int, int]] = {}
        """By name the run of pieces in force, and the generation of its last."""
        self.tells_of_files = False
        """Whether there are records of files of an earlier process."""
        self._unended: dict[Hashable, int] = {}
        """Places of pieces whose last has not come, and their runs."""

    def note(self, record: JournalRecord) -> None:
        """In the order of the journal."""
        head, _ = records.opened(record.payload, record.key, "the journal")
        kind, gen = record.kind, record.gen
        self.in_order = self.in_order and gen > self.last_gen
        self.last_gen = max(self.last_gen, gen)
        name: Hashable = (head.member, records.key_of(record.key, head))
        num_bytes = records.RECORD_BYTES + len(record.payload)
        if kind == FLUSHED:
            self.flushed = max(self.flushed or (0, 0, 0), _three(head), key=lambda found: found[2])
            self.live.count(kind, self.flushed[2], gen, num_bytes, passing=self.passing)
            return
        if kind == FLUSHING:
            self.flushing = max(self.flushing or (0, 0, 0), _three(head), key=lambda found: found[2])
        elif kind == CLEAR:
            self._cleared = max(self._cleared, gen)
            self.births.clear()
            self.series.clear()
        elif kind == DELETE or (kind == STORE and not self.passing):
            self._since[name] = max(self._since.get(name, 0), gen)
            self.series.discard(name)
        elif kind == APPEND:
            self.series.add(name)
        if kind == BASE:
            self._note_piece(name, head, gen, num_bytes)
        elif kind == FILED:
            self._note_files(name, head, gen, num_bytes)
        else:
            self.live.count(kind, record.key if kind == ROWS else name, gen, num_bytes, passing=self.passing)
        if kind == DELETE:
            self.births.pop(name, None)
        elif kind in (STORE, APPEND, FILED) or (kind == BASE and head.numbers[1]):
            self.births[name] = head.birth

    def _note_files(self, name: Hashable, head: records.Head, gen: int, num_bytes: int) -> None:
        series, up_to, whole, tail = head.numbers
        self.tells_of_files = True
        if series:
            since, held = self._filed.get(name, (0, 0))
            self._filed[name] = (max(since, gen) if whole else since, max(held, up_to))
            self.series.add(name)
        else:
            self._since[name] = max(self._since.get(name, 0), gen)
            self.series.discard(name)
        self.live.count(FILED, Filed(name, bool(whole) or not series, tail, 0), gen, num_bytes)

    def _note_piece(self, name: Hashable, head: records.Head, gen: int, num_bytes: int) -> None:
        run, ends, series = head.numbers
        place = ("rewritten", run, name)
        self.live.note(gen, num_bytes)
        self.live.extended(place, run, num_bytes)
        if not ends:
            self._unended[place] = run
            return
        self._unended.pop(place, None)
        self._bases[name] = max(self._bases.get(name, (0, 0)), (run, gen))
        (self.series.add if series else self.series.discard)(name)
        held = self.live.keys.get(name)
        if held is None:
            run_held = self.live.keys[place]
            self.live.forgotten(place, run)
            self.live.replaced(name, run, run_held.num_bytes)
        elif held.first_gen < run:
            self.live.shrunk(name, held.num_bytes)  # all of it is in the pieces
            self.live.moved(name, place)
        else:
            self.live.forgotten(place, run)

    def ended(self) -> None:
        """That was the journal's last record: pieces without their last count for nothing, and none will come."""
        for place, run in self._unended.items():
            self.live.forgotten(place, run)
        self._unended.clear()

    def counts(self, record: JournalRecord, head: records.Head) -> bool:
        """Whether a record is to be applied."""
        gen, kind = record.gen, record.kind
        if kind in NOTES or gen <= max(self._cleared, self.flushed[2] if self.flushed else 0):
            return False
        name = (head.member, records.key_of(record.key, head))
        since = self._since.get(name, 0)
        if self.passing:
            return gen > since
        if kind == ROWS:
            return True
        run, last = self._bases.get(name, (0, 0))
        files_since, filed_up_to = self._filed.get(name, (0, 0))
        if kind == BASE:
            return head.numbers[0] == run and last > since and (not head.numbers[2] or gen > filed_up_to)
        if gen < since or (gen <= last and last > since):
            return False
        if kind == FILED:
            return gen >= files_since
        return kind != APPEND or gen > filed_up_to

    def counts_of(self, member: str, key: Key, gen: int) -> bool:
        """Whether a member's share of rows of many is to be applied."""
        return gen > self._since.get((member, key), 0)


def _three(head: records.Head) -> tuple[int, int, int]:
    first, last, gen = head.numbers
    return first, last, gen


async def restore_journal(read: Read, targets: Mapping[str, Restorable], io: IoExecutor) -> Replayed:
    """Give each target what the journal holds of its container; `read` gives records from the journal's beginning.

    Only what still counts is applied, a megabyte of it in memory at a time. Raises what a target raises; nothing in the
    journal has changed then, and it may be tried again with new managers.
    """
    owner = object()
    replayed = Replayed()
    indexes = {name: target.index() for name, target in targets.items()}
    await asyncio.shield(io.submit(owner, _index, read, indexes, replayed))
    if any(indexes[name].last_gen for name in targets):
        for name, target in targets.items():
            await target.indexed(indexes[name])
        changes = _changes(read, indexes)
        late: dict[str, list[Change]] = {}
        try:
            while chunk := await asyncio.shield(io.submit(owner, _chunk, changes)):
                for change in chunk:
                    if not indexes[change.container].in_order:
                        late.setdefault(change.container, []).append(change)
                        continue
                    await targets[change.container].restore_change(change)
                    replayed.changes += 1
        finally:
            await asyncio.shield(io.submit(owner, changes.close))  # type: ignore[attr-defined]
        for name, found in late.items():
            for change in sorted(found, key=lambda change: change.gen):
                await targets[name].restore_change(change)
                replayed.changes += 1
    for name, target in targets.items():
        await target.restored(indexes[name])
    if replayed.gaps:
        log.error(
            "%d bytes of the journal in %d places are damaged, and what they held is lost: %s",
            replayed.lost_bytes, len(replayed.gaps), ", ".join(map(str, replayed.gaps[:5])),
        )  # fmt: skip
    return replayed


def _index(read: Read, indexes: Mapping[str, Index], replayed: Replayed) -> None:
    for record in read():
        if isinstance(record, Gap):
            replayed.gaps.append(record)
        elif record.container in indexes:
            indexes[record.container].note(record)
        else:
            replayed.unknown.add(record.container)
    for index in indexes.values():
        index.ended()


def _changes(read: Read, indexes: Mapping[str, Index]) -> Iterator[tuple[Change, int]]:
    """What counts, and the bytes of each."""
    for record in read():
        if isinstance(record, Gap) or record.container not in indexes:
            continue
        head, rest = records.opened(record.payload, record.key, "the journal")
        if indexes[record.container].counts(record, head):
            value = records.value_of(head, rest)
            key = records.key_of(record.key, head)
            change = Change(record.container, record.kind, key, record.gen, head, value)
            if (change.series or record.kind == ROWS) and record.kind != FILED and not isinstance(value, list):
                change = change._replace(value=[value])
            yield change, len(record.payload)


def _chunk(changes: Iterator[tuple[Change, int]]) -> list[Change]:
    chunk: list[Change] = []
    num_bytes = 0
    for change, size in changes:
        chunk.append(change)
        num_bytes += size
        if num_bytes >= CHUNK_BYTES or len(chunk) >= CHUNK_RECORDS:
            break
    return chunk

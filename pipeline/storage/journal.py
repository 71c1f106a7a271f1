"""The process's one write-ahead log: all containers' records in one file, sharing writes and syncs."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from ..errors import DataError, ManagerClosed
from .codecs import Buffer
from .disk import DISK, Disk
from .entries import Entry, Mark
from .executor import IoExecutor
from .journal_records import GROUP, Gap, JournalRecord, Placed, walk
from .journal_writer import Ask, JournalWriter
from .manifest import Committed, read_manifest, segment_file
from .root import StorageRoot
from .segments import SEGMENT_BYTES

Durability = Literal["ephemeral", "process", "durable"]
GATHER_SECONDS: Final = 0.005
"""How long records that nobody needs on disk wait for others."""
GROUP_BYTES: Final = 1 << 20
"""So many bytes that wait are written at once."""
MAX_GROUP_BYTES: Final = 16 << 20
log = logging.getLogger("penstock.storage")


class Journal:
    """Append records on the loop; a thread writes them in order. Costs nothing until the first `append`.

    What was appended belongs to the journal: a cancelled caller changes nothing. `generations` gives numbers above all
    that the journal has ever seen; of one container they must not fall.
    """

    def __init__(self, root: StorageRoot, io: IoExecutor, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.held_bytes = 0
        """Bytes of what waits to be written, as the callers declared them."""
        self.groups = 0
        """Writes so far."""
        self._root, self._io = root, io
        self._writer = JournalWriter(root, segment_bytes)
        self._waiting: list[tuple[Ask, int, asyncio.Future[Mark]]] = []
        self._waiting_bytes = 0
        self._urgent = self._busy = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._live = _Live(root.manifest)
        self._trimmed: dict[str, int] = {}
        self._removing: set[asyncio.Future[None]] = set()
        self.generations = itertools.count(highest_generation(root.manifest) + 1)

    def append(
        self,
        container: str,
        kind: int,
        key: bytes,
        gen: int,
        encode: Callable[[], Sequence[Buffer]],
        durability: Durability,
        *,
        num_bytes: int = 0,
    ) -> asyncio.Future[Mark]:
        """Write a record behind all that were appended before; `encode` makes its payload in the thread.

        The future resolves when it is written (`ephemeral`, `process`) or on disk (`durable`), with the place behind
        it. It raises `DiskFull` (nothing was written, may be tried again), `StorageFailed`, `ManagerClosed`, or what
        `encode` raised; nobody needs to await it. `num_bytes` is what `encode` holds until then. Kinds are 0 to 254.
        """
        assert 0 <= kind < GROUP
        ask = Ask(container, kind, key, gen, encode, durable=durability == "durable")
        return self._ask(ask, num_bytes, urgent=durability != "ephemeral")

    async def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes would find room on the disk."""
        free = await asyncio.shield(self._io.submit(self, self._root.disk.free_bytes, self._root.path))
        return free >= num_bytes

    async def mark(self) -> Mark:
        """The place behind everything appended so far, which is on disk when this returns."""
        return await asyncio.shield(self._ask(Ask(), 0, urgent=True))

    def trim(self, container: str, gen: int) -> None:
        """The container's records up to this generation are dead; segments of dead records are removed in a thread.

        Told to the manifest when a segment goes: after a crash some of the dead may be found again. A record that
        lives keeps its whole segment.
        """
        if gen <= self._live.trims.get(container, -1):
            return
        self._trimmed[container] = gen
        dead = self._live.trim(container, gen)
        if dead and not self._closed:
            trims, self._trimmed = self._trimmed, {}
            job = self._io.submit(self, self._remove, trims, dead)
            self._removing.add(job)
            job.add_done_callback(self._removed)

    async def removals(self) -> None:
        """Return once segments that `trim` has found dead so far are removed, or are left until the next start."""
        if self._removing:
            await asyncio.wait(self._removing)

    def containers(self) -> set[str]:
        """Those with records that live, as far as is known."""
        return self._live.containers()

    async def close(self) -> None:
        """Write and sync what waits, and list the last segment as ended; idempotent, and may be called concurrently.

        Raises `DiskFull` or `StorageFailed` when that fails.
        """
        first, self._closed = not self._closed, True
        while self._busy or self._waiting:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            self._start()
            await asyncio.shield(self._idle)
        if self._removing:
            await asyncio.wait(self._removing)
        if first:
            trims, self._trimmed = self._trimmed, {}
            await asyncio.shield(self._io.submit(self, self._end, trims))

    # -- gathering ---------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask, num_bytes: int, urgent: bool) -> asyncio.Future[Mark]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Mark] = loop.create_future()
        done.add_done_callback(_retrieved)
        if self._closed:
            done.set_exception(ManagerClosed("the journal is closed"))
            return done
        self._waiting.append((ask, num_bytes, done))
        self.held_bytes += num_bytes
        self._waiting_bytes += num_bytes
        if urgent or self._waiting_bytes >= GROUP_BYTES:
            if not self._urgent:
                self._urgent = True
                loop.call_soon(self._start)  # what is appended in the same step of the loop comes along
        elif self._timer is None:
            self._timer = loop.call_later(GATHER_SECONDS, self._waited)
        return done

    def _waited(self) -> None:
        self._urgent = True
        self._start()

    def _start(self) -> None:
        """Hand what waits to a thread, unless one is at it; then its end starts the next."""
        if self._busy or not self._waiting:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        group = self._waiting
        if self._waiting_bytes > MAX_GROUP_BYTES:
            group = _up_to(group, MAX_GROUP_BYTES)
        self._waiting = self._waiting[len(group) :]
        self._waiting_bytes -= sum(num_bytes for _, num_bytes, _ in group)
        self._urgent = bool(self._waiting)
        try:
            job = self._io.submit(self, self._writer.write, [ask for ask, _, _ in group])
        except DataError as error:
            self._finish(group, [error] * len(group))
            self._go_on()
            return
        self._busy = True
        job.add_done_callback(lambda job: self._written(group, job))

    def _written(
        self, group: Sequence[tuple[Ask, int, asyncio.Future[Mark]]], job: asyncio.Future[list[Mark | Exception]]
    ) -> None:
        self._busy = False
        self.groups += 1
        moved, self._writer.moved = self._writer.moved, []
        for segment, container, gen in moved:
            self._live.note(segment, container, gen)
        failed = job.exception()
        if failed is None:
            self._finish(group, job.result())
        else:
            assert isinstance(failed, Exception)
            self._finish(group, [failed] * len(group))
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and (self._urgent or self._closed):
            self._start()
        elif self._idle is not None and not self._waiting:
            self._idle.set_result(None)
            self._idle = None

    def _finish(self, group: Sequence[tuple[Ask, int, asyncio.Future[Mark]]], ends: Sequence[Mark | Exception]) -> None:
        for (ask, num_bytes, done), end in zip(group, ends, strict=True):
            self.held_bytes -= num_bytes
            if isinstance(end, Exception):
                if not done.done():
                    done.set_exception(end)
                continue
            if ask.encode is not None:
                self._live.note(end.segment, ask.container, ask.gen)
            if not done.done():
                done.set_result(end)

    def _removed(self, job: asyncio.Future[None]) -> None:
        self._removing.discard(job)
        error = job.exception()
        if error is not None:
            log.warning("dead journal segments stay until the next start: %s", error)

    # -- in a thread -------------------------------------------------------------------------------------------

    def _remove(self, trims: dict[str, int], dead: Sequence[int]) -> None:
        """First the manifest, then the files: what goes is not looked for any more."""
        entries = [Entry(kind="trim", container=container, gen=gen) for container, gen in trims.items()]
        self._root.commit([*entries, *(Entry(kind="remove", file=segment_file(number)) for number in dead)])
        for number in dead:
            self._root.disk.unlink(self._root.path / segment_file(number))

    def _end(self, trims: dict[str, int]) -> None:
        try:
            self._writer.end()
            if trims:
                self._root.commit([Entry(kind="trim", container=name, gen=gen) for name, gen in trims.items()])
        finally:
            self._writer.close()


class _Live:
    """Which segments hold records that live, of which containers."""

    def __init__(self, committed: Committed) -> None:
        self.trims = dict(committed.trims)
        self._gens: dict[int, dict[str, int]] = {}
        """Segment -> container -> its highest generation there, of containers with records that live."""
        self._held: dict[str, set[int]] = {}
        """Container -> segments."""
        self._last = committed.next_segment
        for number, entry in committed.segments().items():
            self._gens[number] = {}
            for container, gen in (entry.offsets or {}).items():
                self.note(number, container, gen)

    def note(self, segment: int, container: str, gen: int) -> None:
        gens = self._gens.setdefault(segment, {})
        self._last = max(self._last, segment)
        if gen > self.trims.get(container, -1) and gen >= gens.get(container, 0):
            gens[container] = gen
            self._held.setdefault(container, set()).add(segment)

    def containers(self) -> set[str]:
        return {container for container, segments in self._held.items() if segments}

    def trim(self, container: str, gen: int) -> list[int]:
        """Segments that are dead now. The last one is not among them: it is written, or not yet listed as ended."""
        self.trims[container] = gen
        held = self._held.get(container, set())
        for segment in [segment for segment in held if self._gens[segment][container] <= gen]:
            held.discard(segment)
            del self._gens[segment][container]
        dead = [segment for segment, gens in self._gens.items() if not gens and segment < self._last]
        for segment in dead:
            del self._gens[segment]
        return dead


def read_journal(folder: Path, disk: Disk = DISK, until: Mark | None = None) -> Iterator[JournalRecord | Gap]:
    """Records that live, in the order in which they were appended, each verified; up to a mark. Blocking.

    `folder` is `wal/`. A gap stands for bytes that had been written and are no whole record: what they held is lost.
    Takes no lock. Raises `StorageFailed` for a newer format, and OSError.
    """
    root = folder.parent
    committed = read_manifest(root, disk).committed
    for number, entry in committed.segments().items():
        if until is not None and number > until.segment:
            return
        try:
            fd = disk.open(root / segment_file(number))
        except FileNotFoundError:
            yield Gap(number, 0, entry.bytes or 0)
            continue
        try:
            end = disk.size(fd) if entry.bytes is None else entry.bytes
            if until is not None and number == until.segment:
                end = min(end, until.offset)
            reached = 0
            for item in walk(disk, fd, number, entry.gen or 0, end):
                reached = item.end if isinstance(item, Placed) else item.offset + item.num_bytes
                if isinstance(item, Gap):
                    yield item
                elif item.record.kind != GROUP and item.record.gen > committed.trims.get(item.record.container, -1):
                    yield item.record
            if reached < end and entry.bytes is not None:
                yield Gap(number, reached, end - reached)
        finally:
            disk.close(fd)


def cut_journal(root: StorageRoot, mark: Mark) -> None:
    """Drop everything behind the mark, for good; one commit, so that a crash leaves all of it or none. Blocking.

    To be called before a `Journal` of this root is made.
    """
    entries = []
    gone = []
    for number, entry in root.manifest.segments().items():
        file = segment_file(number)
        if number > mark.segment or (number == mark.segment and mark.offset == 0):
            entries.append(Entry(kind="remove", file=file))
            gone.append(root.path / file)
        elif number == mark.segment and (entry.bytes is None or entry.bytes > mark.offset):
            entries.append(Entry(kind="add", file=file, bytes=mark.offset, offsets=entry.offsets, gen=entry.gen))
    root.commit(entries)
    for path in gone:
        root.disk.unlink(path)


def highest_generation(committed: Committed) -> int:
    """No record of the journal, and no trim, has a higher one."""
    gens = [gen for entry in committed.segments().values() for gen in (entry.offsets or {}).values()]
    return max([0, *gens, *committed.trims.values()])


def _up_to(
    group: list[tuple[Ask, int, asyncio.Future[Mark]]], limit: int
) -> list[tuple[Ask, int, asyncio.Future[Mark]]]:
    """The first of them up to so many bytes, one at least."""
    total = 0
    for count, (_, num_bytes, _) in enumerate(group):
        total += num_bytes
        if total > limit:
            return group[: max(1, count)]
    return group


def _retrieved(future: asyncio.Future[Mark]) -> None:
    if not future.cancelled():
        future.exception()

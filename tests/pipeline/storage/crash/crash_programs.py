"""What is done to a folder while the disk records: programs of the real journal, manifest and root."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import xxhash
from crash_disk import MemoryDisk

from pipeline.errors import DataError
from pipeline.storage.entries import Entry, Mark
from pipeline.storage.executor import IoExecutor
from pipeline.storage.group import GroupCommit
from pipeline.storage.journal import Journal, cut_journal
from pipeline.storage.log import storage_error
from pipeline.storage.root import StorageRoot

SEGMENT_BYTES = 700
"""So that a program of some twenty records fills several."""


class Promise(NamedTuple):
    """Something that may not be undone any more, and what it survives."""

    what: str
    """`record`, `trim`, `file`, `removed`, `checkpoint`, `phase` or `cut`; `seen`: what a recovery has shown."""
    about: tuple[Any, ...]
    survives: str = "power"
    """`kill` or `power`, which includes it."""


class InlineIo(IoExecutor):
    """Runs every job in the loop's next round, so that all that happens to the disk happens in one order."""

    def submit(self, owner: Hashable, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(lambda future: future.cancelled() or future.exception())

        def run() -> None:
            try:
                result = call(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        loop.call_soon(run)
        return future


class Office:
    """A journal and a manifest on a disk, which write down what they promise."""

    def __init__(self, folder: Path, disk: MemoryDisk) -> None:
        self.disk = disk
        self.root = StorageRoot.open(folder, disk=disk)
        self.io = InlineIo()
        self.journal = Journal(self.root, self.io, segment_bytes=SEGMENT_BYTES)
        self.commits = GroupCommit(self.root, self.io)
        self.refused: list[DataError] = []
        self.asked: set[tuple[str, int, int]] = set()
        """Container, generation and length of every record that was asked for."""

    def append(self, container: str, gen: int, durability: str = "durable", size: int = 40) -> asyncio.Future[Mark]:
        survives = "power" if durability == "durable" else "kill"
        done = self.journal.append(
            container,
            1,
            f"key {gen}".encode(),
            gen,
            lambda: [payload(container, gen, size)],
            durability,  # type: ignore[arg-type]
        )
        self.asked.add((container, gen, size))
        promise = Promise("record", (container, gen, size), survives)
        done.add_done_callback(lambda done: done.exception() or self.disk.ack(promise))
        return done

    def put(self, name: str, content: bytes) -> Entry:
        """A file as it is published: a temporary name, a sync, a rename, a sync of the folder; not yet committed."""
        path = self.root.path / "data" / name
        self.disk.make_folder(path.parent)
        self.disk.sync_folder(self.root.path)
        temporary = path.with_name(f".{path.name}.tmp")
        fd = self.disk.open(temporary, create=True)
        self.disk.write(fd, [content], 0)
        self.disk.sync(fd)
        self.disk.close(fd)
        self.disk.rename(temporary, path)
        self.disk.sync_folder(path.parent)
        digest = f"{xxhash.xxh3_64_intdigest(content):016x}"
        return Entry(kind="add", file=f"data/{name}", bytes=len(content), xxh3=digest, phase="train")

    def put_all(self, contents: dict[str, bytes]) -> list[Entry]:
        """Several files, or none of them where the disk refuses one: what is then left of the others nobody lists."""
        try:
            return [self.put(name, content) for name, content in contents.items()]
        except OSError as error:
            self.refused.append(storage_error(error, "write", "data"))
            return []

    async def commit(self, *entries: Entry, sync: bool = True) -> None:
        if sync:
            await self.commits.commit(entries)
        else:
            self.root.commit(entries, sync=False)
        self.disk.ack(Promise("commit", tuple(_name(entry) for entry in entries), "power" if sync else "kill"))

    async def tried(self, *calls: Awaitable[Any]) -> None:
        """Await; what is refused with a typed error was not promised."""
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, DataError):
                self.refused.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        await self.tried(self.journal.close())
        self.root.close()


def _name(entry: Entry) -> tuple[str, str | None, str | None]:
    return entry.kind, entry.file, entry.phase


def payload(container: str, gen: int, size: int) -> bytes:
    return (f"{container}:{gen}:".encode() * (size // 4 + 1))[:size]


Program: TypeAlias = Callable[[Office], Awaitable[None]]


async def appends(office: Office) -> None:
    """Records of three containers and all durabilities, in groups and alone, over several segments."""
    gen = 0
    for size in (1, 40, 300, 0, 90):
        gen += 3
        await office.tried(
            office.append("a", gen, "durable", size),
            office.append("b", gen + 1, "process", size + 1),
            office.append("c", gen + 2, "durable", 2 * size),
        )
        await office.tried(office.append("b", gen + 2, "process", 7))
    await office.tried(office.journal.mark())
    await office.tried(office.append("a", 90), office.append("c", 91, "process", 500))
    await office.tried(office.append("a", 92, "process"), office.append("a", 93, "process"))


async def trims(office: Office) -> None:
    """Containers that let go of what they wrote, so that segments leave; others that do not."""
    for gen in range(1, 16):
        await office.tried(office.append("a", gen, "durable", 120), office.append("b", gen, "process", 60))
        if gen % 4 == 0:
            office.disk.ack(Promise("trim", ("a", gen - 1), "never"))
            office.journal.trim("a", gen - 1)
        if gen == 9:
            office.disk.ack(Promise("trim", ("b", gen), "never"))
            office.journal.trim("b", gen)
    await office.tried(office.journal.mark())


async def files(office: Office) -> None:
    """Files, checkpoints and phases, some committed with others in one commit and some without a sync."""
    for number in range(4):
        adds = office.put_all({f"{number}-{part}.parquet": f"{number}{part}".encode() * 90 for part in "xy"})
        if adds:
            await office.tried(office.commit(*adds))
        await office.tried(office.append("a", number + 1))
        for checkpoint in office.put_all({f"{number}.seg": b"state" * number}):
            await office.tried(
                office.commit(
                    Entry(
                        kind="checkpoint",
                        phase="train",
                        file=checkpoint.file,
                        bytes=checkpoint.bytes,
                        xxh3=checkpoint.xxh3,
                    )
                )
            )
    await office.tried(office.commit(Entry(kind="remove", file="data/1-x.parquet"), sync=False))
    await office.tried(office.commit(Entry(kind="trim", container="q", gen=7), Entry(kind="phase", phase="first")))
    await office.tried(office.commit(Entry(kind="phase", phase="train")))


async def cuts(office: Office) -> None:
    """The journal cut back to a mark, as a resume does it, and gone on with."""
    for gen in range(1, 8):
        await office.tried(office.append("a", gen, "durable", 90))
    try:
        mark = await office.journal.mark()
    except DataError as error:
        office.refused.append(error)
        return
    for gen in range(8, 14):
        await office.tried(office.append("b", gen, "durable", 150))
    await office.tried(office.journal.close())
    office.disk.ack(Promise("cut begun", ("a", 7), "never"))
    try:
        cut_journal(office.root, mark)
    except (DataError, OSError) as error:
        office.refused.append(error if isinstance(error, DataError) else storage_error(error, "cut", "wal"))
    else:
        office.disk.ack(Promise("cut", ("a", 7)))
    office.journal = Journal(office.root, office.io, segment_bytes=SEGMENT_BYTES)
    for gen in range(20, 24):
        await office.tried(office.append("a", gen, "process" if gen % 2 else "durable", 200))


PROGRAMS: dict[str, Program] = {"appends": appends, "trims": trims, "files": files, "cuts": cuts}


def perform(program: Program, folder: Path, disk: MemoryDisk, *, close: bool = True) -> Office:
    """Run a program to its end; the disk has the recording."""
    made: list[Office] = []

    async def run() -> None:
        office = Office(folder, disk)
        made.append(office)
        await program(office)
        if close:
            await office.close()
        else:
            office.root.close()

    asyncio.run(run())
    return made[0]

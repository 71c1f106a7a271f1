"""A process that has imported everything and forks children which write until they are killed.

Told by lines on its standard input: a folder, a file for acknowledgements, and where to die: `strace` (the child waits
until a tracer has it and it is told to go), or the number of an operation on the disk and `before`, `after` or `half`.
Answers with the child's number, and with how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.storage.disk import DISK, RealDisk
from pipeline.storage.entries import Entry
from pipeline.storage.executor import IoExecutor
from pipeline.storage.group import GroupCommit
from pipeline.storage.journal import Journal
from pipeline.storage.publish import publish_bytes
from pipeline.storage.root import StorageRoot

ROUNDS = 12
SEGMENT_BYTES = 3000


def payload(container: str, gen: int) -> bytes:
    return f"{container}-{gen};".encode() * (gen * 7 % 90 + 1)


class MortalDisk(RealDisk):
    """Kills its process before or after its so many-th operation, or in the middle of a write."""

    def __init__(self, number: int, moment: str) -> None:
        self.number, self.moment, self.done = number, moment, 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("open", "close", "write", "truncate", "sync", "sync_folder", "rename", "unlink", "make_folder"):
            return found

        def step(*args: Any, **words: Any) -> Any:
            self.done += 1
            if self.done != self.number:
                return found(*args, **words)
            if self.moment == "half" and name == "write":
                whole = b"".join(bytes(piece) for piece in args[1])
                found(args[0], [whole[: len(whole) // 2]], args[2])
            elif self.moment == "after":
                with contextlib.suppress(OSError):
                    found(*args, **words)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("still alive")

        return step


async def write(folder: Path, acks: int, disk: RealDisk) -> None:
    """Records of two durabilities and files in commits, each acknowledged by a line."""

    def acked(*words: object) -> None:
        os.write(acks, (" ".join(map(str, words)) + "\n").encode())

    io = IoExecutor(2)
    root = StorageRoot.open(folder, disk=disk)
    journal = Journal(root, io, segment_bytes=SEGMENT_BYTES)
    commits = GroupCommit(root, io)

    async def append(container: str, gen: int, durability: Any) -> None:
        await journal.append(container, 1, b"", gen, lambda: [payload(container, gen)], durability)
        acked("record", container, gen)

    async def commit(number: int) -> None:
        content = payload("file", number)
        written = await asyncio.shield(io.submit("files", publish_bytes, folder / "data", f"{number}", [content]))
        entry = Entry(kind="add", file=f"data/{number}", bytes=written.num_bytes, xxh3=f"{written.digest:016x}")
        await commits.commit([entry, Entry(kind="phase", phase=f"phase {number}")])
        acked("phase", number)

    first = journal.generations.__next__()
    for gen in range(first, first + ROUNDS):
        await asyncio.gather(append("a", gen, "durable"), append("b", gen, "process"), append("c", gen, "process"))
        if gen % 4 == 0:
            await commit(gen)
        if gen % 5 == 0:
            acked("trim", "c", gen - 2)
            journal.trim("c", gen - 2)
    await journal.close()
    root.close()
    await io.close()


def child(folder: Path, acks: Path, where: Sequence[str], go: int) -> None:
    if where[0] == "strace":
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # anybody may trace it: PR_SET_PTRACER
        os.read(go, 1)
        disk: RealDisk = DISK
    else:
        disk = MortalDisk(int(where[0]), where[1])
    fd = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asyncio.run(write(folder, fd, disk))


def main() -> None:
    for line in sys.stdin:
        folder, acks, *where = line.rstrip("\n").split("\t")
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                child(Path(folder), Path(acks), where, ready)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
        os.close(ready)
        print(pid, flush=True)
        if where[0] == "strace":
            sys.stdin.readline()  # the tracer has it
            os.write(go, b"g")
        os.close(go)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

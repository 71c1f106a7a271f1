"""Thirty-two containers each make 100 kB durable at the same moment: one log and one sync, against a file for each."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

from bench.harness import arguments, on_disk, race, ratio, row, show
from pipeline.storage.disk import DISK
from pipeline.storage.entries import Entry
from pipeline.storage.executor import IoExecutor
from pipeline.storage.group import GroupCommit
from pipeline.storage.journal import Journal
from pipeline.storage.publish import publish_bytes
from pipeline.storage.root import StorageRoot

CONTAINERS = 32
VALUE = os.urandom(100_000)


def replaced(folder: Path) -> None:
    """What everybody writes by hand: a temporary file, a sync, a rename, a sync of the folder; one by one."""
    for number in range(CONTAINERS):
        path = folder / f"value-{number}"
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb", buffering=0) as file:
            file.write(VALUE)
            DISK.sync(file.fileno())
        os.replace(temporary, path)
        DISK.sync_folder(folder)


class OneByOne:
    """The same through a root: each value a published file, each file a commit."""

    def __init__(self, folder: Path) -> None:
        self.root = StorageRoot.open(folder)
        self._numbers = itertools.count()

    def run(self) -> None:
        for _ in range(CONTAINERS):
            done = publish_bytes(self.root.path / "data", f"{next(self._numbers)}", [VALUE])
            self.root.commit([Entry(kind="add", file=f"data/{done.path.name}", bytes=done.num_bytes)])


class Grouped:
    """A loop on which all containers append at once, and one on which they commit files that lie there already."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.root, self.io = StorageRoot.open(folder), IoExecutor()
        self.journal, self.commits = Journal(self.root, self.io), GroupCommit(self.root, self.io)

    def append(self) -> None:
        self.loop.run_until_complete(self._append())

    async def _append(self) -> None:
        gens = self.journal.generations
        await asyncio.gather(
            *(
                self.journal.append(f"c{number}", 1, b"key", next(gens), lambda: [VALUE], "durable", num_bytes=100_000)
                for number in range(CONTAINERS)
            )
        )

    def commit(self) -> None:
        self.loop.run_until_complete(self._commit())

    async def _commit(self) -> None:
        entries = [Entry(kind="add", file=f"data/{number}", bytes=1) for number in range(CONTAINERS)]
        await asyncio.gather(*(self.commits.commit([entry]) for entry in entries))

    def close(self) -> None:
        self.loop.run_until_complete(self.journal.close())
        self.loop.run_until_complete(self.io.close())
        self.loop.close()
        self.root.close()


def main() -> dict[str, Any]:
    options = arguments(__doc__ or "")
    rounds = options.rounds or (3 if options.quick else 20)
    with on_disk() as folder:
        one, grouped = OneByOne(folder / "one"), Grouped(folder / "grouped")
        times = race(
            {
                "files": lambda: replaced(folder),
                "one": one.run,
                "log": grouped.append,
                "commits": grouped.commit,
            },
            rounds,
            warm=2,
        )
        one.root.close()
        grouped.close()
    figures = [
        row("a synced file for each", [spent * 1e3 for spent in times["files"]], "ms"),
        row("one log, one sync", [spent * 1e3 for spent in times["log"]], "ms"),
        ratio("one log over a synced file for each", times["log"], times["files"], ">= 5x"),
        ratio("one log over a committed file for each", times["log"], times["one"]),
        row("32 manifest commits in a group", [spent * 1e3 for spent in times["commits"]], "ms"),
    ]
    return show(f"{CONTAINERS} containers make 100 kB durable", figures)


if __name__ == "__main__":
    main()

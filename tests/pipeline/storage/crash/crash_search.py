"""The search itself: perform a program, crash it everywhere, recover, crash the recovery, and check after each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from crash_checks import Shown, Violation, check, recovered, show
from crash_disk import Fault, MemoryDisk, State
from crash_programs import Office, Program, Promise, perform
from crash_states import Crash, crashes

DiskMaker: TypeAlias = Callable[[State], MemoryDisk]


class Found(Exception):
    """A violation and how to have it again."""

    def __init__(self, program: str, level: int, crash: Crash, violation: BaseException) -> None:
        super().__init__(
            f"{program}, {level} crashes, {crash.kind} {crash.how} before operation {crash.position}: {violation}"
        )


class Search:
    """Counts the distinct states it has looked at; raises `Found` at the first in which a promise is broken."""

    def __init__(
        self, folder: Path, *, mixes: int, again: int, seed: int = 0, disk: DiskMaker = MemoryDisk,
        during_recovery: DiskMaker | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.mixes, self.again, self.seed = folder, mixes, again, seed
        self.disk, self.during_recovery = disk, during_recovery or disk
        self.states = 0
        self._seen: set[int] = set()

    def run(self, name: str, program: Program, fault: Fault | None = None) -> None:
        begin = State(self.folder.parent)  # the folder itself is yet to be made, and to last
        disk = self.disk(begin.copy())
        disk.fault = fault
        office = perform(program, self.folder, disk)
        assert fault is not None or not office.refused, office.refused
        self.look(name, begin, disk, office)

    def look(self, name: str, begin: State, disk: MemoryDisk, office: Office) -> None:
        asked = frozenset(office.asked)
        chance = random.Random(self.seed)
        for crash in self._distinct(crashes(begin, disk.log, mixes=self.mixes, seed=self.seed)):
            try:
                after, shown = self._recover(crash, asked)
            except Violation as violation:
                raise Found(name, 1, crash, violation) from violation
            if self.again and chance.random() * self.again < 1:
                self._crash_again(name, crash, after, shown, asked)

    def _distinct(self, found: Iterator[Crash]) -> Iterator[Crash]:
        for crash in found:
            digest = crash.digest
            if digest not in self._seen:
                self._seen.add(digest)
                self.states += 1
                yield crash

    def _recover(self, crash: Crash, asked: frozenset[tuple[str, int, int]]) -> tuple[MemoryDisk, Shown]:
        disk = self.during_recovery(crash.state.copy())
        shown = recovered(disk, self.folder)
        check(crash, shown, asked)
        if disk.open_files > 1:
            raise Violation(f"{disk.open_files} files are open after recovery")
        return disk, shown

    def _crash_again(
        self, name: str, crash: Crash, after: MemoryDisk, shown: Shown, asked: frozenset[tuple[str, int, int]]
    ) -> None:
        """The recovery was recorded: it is crashed as well, and what it has shown must stay (R-7)."""
        after.ack(Promise("seen", (shown,)))
        promised = [
            each for each in crash.acked if crash.kind == "kill" or each.survives == "power" or each.survives == "never"
        ]
        for second in self._distinct(
            crashes(crash.state, after.log, mixes=self.mixes, seed=self.seed + crash.position, acked=promised)
        ):
            try:
                disk, twice = self._recover(second, asked)
                if any(promise.what == "seen" for promise in second.acked) and second.kind == "kill":
                    _same(shown, twice)
                if recovered(self.disk(disk.state.copy()), self.folder) != twice:
                    raise Violation("a second recovery shows something else than the first")
            except Violation as violation:
                raise Found(name, 2, second, violation) from violation


def _same(shown: Shown, twice: Shown) -> None:
    if shown != twice:
        raise Violation(f"what a recovery had shown has changed: {shown} became {twice}")


__all__ = ["Found", "Search", "Violation", "show"]

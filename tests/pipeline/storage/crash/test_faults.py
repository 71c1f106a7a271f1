"""T4: a disk that is full, broken, out of descriptors or stops short, at any operation of journal and manifest."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from crash_checks import Violation, check, recovered
from crash_disk import Fault, MemoryDisk, State
from crash_programs import PROGRAMS, Office, Program
from crash_states import crashes

from pipeline.errors import DataError
from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
FOLDER = Path("/root-of-a-disk-in-memory")
CHANGING = {"open", "write", "truncate", "sync", "sync_folder", "rename", "unlink", "make_folder"}
KINDS: dict[str, dict[str, int]] = {
    "no room": dict.fromkeys(("open", "write", "sync", "sync_folder", "rename", "make_folder"), errno.ENOSPC),
    "broken": dict.fromkeys((*CHANGING, "read", "names"), errno.EIO),
    "no descriptor left": dict.fromkeys(("open", "sync_folder"), errno.EMFILE),
    "stops short": {"write": 0},
}
EACH = 12
"""Operations of each program that are disturbed in each way in `make test`, spread over all of them."""


def faulty(kind: str, at: int, times: int, hits: list[str]) -> Fault:
    """The operation of this number fails, and so many after it that the kind has to do with."""
    left = times

    def fault(call: int, what: str, path: Path) -> OSError | int | None:
        nonlocal left
        if call < at or not left or what not in KINDS[kind]:
            return None
        left -= 1
        hits.append(f"{what} {path.name}")
        code = KINDS[kind][what]
        return OSError(code, os.strerror(code), str(path)) if code else 3

    return fault


def disturbed(program: Program, disk: MemoryDisk) -> tuple[Office | None, bool]:
    """Run the program; once the disk is well again, whether a durable record is taken."""
    made: list[Office] = []

    async def run() -> bool:
        try:
            office = Office(FOLDER, disk)
        except DataError:
            return False
        made.append(office)
        await program(office)
        disk.fault = None
        before = len(office.refused)
        await office.tried(office.append("z", 1000))
        await office.tried(office.commit())
        await office.close()
        return len(office.refused) == before

    taken = asyncio.run(run())
    return (made[0] if made else None), taken


def examine(name: str, kind: str, at: int, times: int) -> bool:
    """One fault; whether the program came to it at all."""
    hits: list[str] = []
    begin = State(FOLDER)
    disk = MemoryDisk(begin.copy(), faulty(kind, at, times, hits))
    office, taken = disturbed(PROGRAMS[name], disk)
    where = f"{name}, {kind} at operation {at}, {times} times: {hits}"
    assert disk.synced_again == [], f"{where}: a failed sync was tried again on {disk.synced_again}"
    if office is None:
        return bool(hits)
    assert taken, f"{where}: the disk is well again and a record is refused: {office.refused[-1]!r}"
    asked = frozenset(office.asked)
    chance = random.Random(at)
    every = list(crashes(begin, disk.log, mixes=1, seed=at))
    for crash in every[-8:] + chance.sample(every, min(len(every), 12)):
        try:
            check(crash, recovered(MemoryDisk(crash.state.copy()), FOLDER, clean=False), asked)
        except Violation as violation:
            raise AssertionError(
                f"{where}; {crash.kind} {crash.how} before {crash.position}: {violation}"
            ) from violation
    return bool(hits)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_t4_a_fault_at_any_operation_breaks_no_promise_and_is_over_when_the_disk_is_well(
    name: str, kind: str, times: int
) -> None:
    """R-1, R-2, E12: nothing acknowledged is lost, no sync is tried again, errors are typed, and writing goes on."""
    quiet = MemoryDisk(State(FOLDER))
    disturbed(PROGRAMS[name], quiet)
    numbers = range(1, quiet.calls + 1, 1 if SOAK else max(1, quiet.calls // EACH))
    hit = sum(examine(name, kind, at, times) for at in numbers)
    count("faults", hit)
    assert hit > 0

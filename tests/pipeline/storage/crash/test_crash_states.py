"""T1: every state a crash can leave the disk in, and what the real code makes of it."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest
from crash_disk import Fault
from crash_mutants import MUTANTS, Mutant
from crash_programs import PROGRAMS
from crash_search import Found, Search

from tests.counted import count

SOAK = "PENSTOCK_SOAK" in os.environ
FOLDER = Path("/root-of-a-disk-in-memory/run")


@pytest.mark.parametrize("lines", [3, 10_000], ids=["short manifests", "one manifest"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_t1_what_was_acknowledged_is_there_after_any_crash_and_nothing_else(
    name: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-1, R-3, R-4, R-5, R-7: recovery is crashed too, is idempotent, and syncs before it shows anything."""
    monkeypatch.setattr("pipeline.storage.manifest_writer.ROTATE_LINES", lines)
    search = Search(FOLDER, mixes=60 if SOAK else 6, again=60 if SOAK else 8)
    try:
        search.run(name, PROGRAMS[name])
    finally:
        count("crash states", search.states)
    assert search.states > 500


@pytest.mark.parametrize("name", MUTANTS)
def test_t1_a_protocol_with_one_step_broken_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    if mutant.patch is not None:
        mutant.patch(monkeypatch)
    search = Search(FOLDER, mixes=5, again=4, disk=mutant.disk, during_recovery=mutant.recovery_disk)
    with pytest.raises(Found) as caught:
        search_all(search, mutant)
    count("protocol mutants caught")
    print(f"{name}: found in the {search.states}th state: {caught.value}")


def search_all(search: Search, mutant: Mutant) -> None:
    for program in mutant.programs:
        for fault in map(failing, range(1, 12)) if mutant.failing_syncs else [None]:
            search.run(program, PROGRAMS[program], fault)


def failing(number: int) -> Fault:
    """The so many-th sync fails, once."""
    asked = itertools.count(1)

    def fault(call: int, what: str, path: Path) -> OSError | None:
        if what == "sync" and next(asked) == number:
            return OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return None

    return fault

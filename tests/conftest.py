"""What every test is held to: no task, thread or descriptor may outlive it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import blocking, counted

# The same examples in every run, so that a red run can be had again; `HYPOTHESIS_PROFILE=explore` tries new ones.
settings.register_profile("steady", derandomize=True, database=None)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands over what it has tried."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tried"] = dict(counted.COUNTS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    counted.COUNTS.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much was tried; tests/README.md has the table."""
    if counted.COUNTS:
        tried = ", ".join(f"{times:,} {what}" for what, times in sorted(counted.COUNTS.items()))
        terminalreporter.write_line(f"tried: {tried}")


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    """T12: a call of this project that would hold the event loop up raises, in every test."""
    watching = blocking.watch()
    yield
    watching.deactivate()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fail the test that leaked a thread or a descriptor."""
    threads = set(threading.enumerate())
    descriptors = _descriptors()
    yield
    gc.collect()
    gc.freeze()  # what is alive now is looked through no more: modules, tests and captures took most of the time
    started = [thread for thread in threading.enumerate() if thread not in threads]
    started = [thread for thread in started if not thread.name.startswith(("asyncio_", "pytest_timeout"))]
    for thread in started:
        thread.join(10)  # one that has given its answer ends a moment later
    left = [thread.name for thread in started if thread.is_alive()]
    assert not left, f"threads left behind: {left}"
    if descriptors is not None:
        opened = _opened_since(descriptors)
        for _ in range(100):  # Arrow's own threads let go of a file a moment after it was read
            if not opened:
                break
            time.sleep(0.01)
            opened = _opened_since(descriptors)
        assert not opened, f"descriptors left open: {opened}"


def _opened_since(descriptors: set[str]) -> set[str]:
    """Files that are open and were not, but for pytest's own, devices and compiled kernels."""
    now = _descriptors() or set()
    opened = {link for link in now - descriptors if "pytest" not in link and "/dev/" not in link}
    return {link for link in opened if link.startswith("/") and not link.endswith((".nbi", ".nbc", ".so"))}


def _descriptors() -> set[str] | None:
    """What open descriptors point to; None where the system does not tell."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return None
    found = set()
    for entry in os.listdir(folder):
        try:
            found.add(os.readlink(folder / entry))
        except OSError:
            continue
    return found


@pytest.fixture
def recordings() -> Path:
    """The folder of real recordings; they lie beside the project, never in it."""
    if not DATA.is_dir():
        pytest.skip(f"the recordings are not there: {DATA}")
    return DATA


@pytest.fixture
def lean() -> Path:
    """The LEAN recordings; they lie beside the project, never in it."""
    folder = DATA / "lean" / "Data"
    if not folder.is_dir():
        pytest.skip(f"the recordings are not there: {folder}")
    return folder


async def tasks_left() -> set[asyncio.Task[object]]:
    """Tasks of this loop other than the caller's."""
    await asyncio.sleep(0)
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

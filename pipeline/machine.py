"""How much memory this machine has, what of it a process may use, and how much it uses."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

OWN_SHARE: Final = 0.70
"""Share of the memory a process may have that the pool is by default, where the process is the run's own."""
EMBEDDED_SHARE: Final = 0.25
"""Share of the memory still available that it is in somebody else's process."""
MB: Final = 1 << 20
ROOT: Final = Path("/")


class Allowance(NamedTuple):
    """So many bytes, and where they come from."""

    bytes: int
    said: str


def default_pool(*, owns_process: bool, root: Path = ROOT) -> Allowance:
    """What `process_memory_mb` is where nobody has said it. Blocking: reads a few small files of the kernel's."""
    whole = process_limit(root) if owns_process else available(root)
    share = OWN_SHARE if owns_process else EMBEDDED_SHARE
    return Allowance(int(share * whole.bytes), f"{share:.2f} of {whole.said}")


def process_limit(root: Path = ROOT) -> Allowance:
    """What a process may have at most: the memory of the machine, or less where its cgroup allows less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit for limit, _ in _cgroup(root)]
    if limits and min(limits) < physical:
        return Allowance(min(limits), f"the {min(limits) // MB:,} MB its cgroup allows")
    return Allowance(physical, f"the {physical // MB:,} MB of this machine")


def available(root: Path = ROOT) -> Allowance:
    """What can be had without anybody swapping: of the machine, or less where the cgroup has less left."""
    free = _available(root)
    left = min((limit - used for limit, used in _cgroup(root)), default=free)
    if left < free:
        return Allowance(max(left, 0), f"the {max(left, 0) // MB:,} MB its cgroup has left")
    return Allowance(free, f"the {free // MB:,} MB available")


class Resident:
    """Bytes of the process that are resident, as the kernel knows them: no disk, a few microseconds.

    Nothing is opened before the first look. Where the system does not tell, it is 0.
    """

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._statm: int | None = None

    def __call__(self) -> int:
        try:
            if self._statm is None:
                self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._statm, 100, 0).split()[1]) * self._page
        except OSError:
            return 0

    def close(self) -> None:
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None


def peak_rss_bytes() -> int:
    """The most memory this process has had resident.

    Of the kernel's word for it rather than `ru_maxrss`, which a program takes over from the process that started it.
    """
    try:
        status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            told = os.pread(status, 4096, 0)
        finally:
            os.close(status)
        return int(told.partition(b"VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _available(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not told on this system
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _cgroup(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of the process's cgroup and of each above it that has a limit, of version 1 or 2.

    Cached pages of files that nobody has used of late count as free. In a container the path may be the host's, of
    which only the end is there to be seen: then the mounted root is the container's own.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file ")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
        else:
            continue
        folder = top / path.strip().lstrip("/")
        for place in (folder, *folder.parents):
            limit = _number(place / names[0])
            if limit is not None:
                cached = next((line for line in _lines(place / "memory.stat") if line.startswith(names[2])), "")
                used = (_number(place / names[1]) or 0) - (int(cached.split()[1]) if cached else 0)
                yield limit, max(used, 0)
            if place == top:
                break


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []

"""Who holds a folder, learned without touching its lock: what the kernel lists, and what the holder wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from .lock import LOCK, Owner, boot_id, read_owner

_LOCKS: Final = Path("/proc/locks")


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that has the folder, or, where `holds` is false, the one that had it last."""

    pid: int
    since_ns: int
    epoch: int
    holds: bool
    here: bool
    """Whether it took the lock on this machine since that was started."""

    def __str__(self) -> str:
        who = Owner(pid=self.pid, since_ns=self.since_ns)
        if self.holds:
            return f"process {who}"
        return (
            f"nobody; last process {who}{'' if self.here else ', on another machine or before a restart of this one'}"
        )


def holder_of(folder: Path) -> Holder | None:
    """None for a folder without a lock. Opens nothing for writing; a lock on another machine is not seen."""
    path = folder / LOCK
    owner = read_owner(path)
    if owner is None:
        return None
    return Holder(
        pid=owner.pid, since_ns=owner.since_ns, epoch=owner.epoch, holds=_is_locked(path, owner),
        here=not owner.boot_id or owner.boot_id == boot_id(),
    )  # fmt: skip


def is_held(folder: Path) -> bool:
    """Whether a process of this machine has it now."""
    holder = holder_of(folder)
    return holder is not None and holder.holds


def _is_locked(path: Path, owner: Owner) -> bool:
    """Taking the lock to find out would turn away a process that begins at that moment."""
    try:
        found = path.stat()
        lines = _LOCKS.read_text().splitlines()
    except FileNotFoundError:
        return _is_alive(owner)
    except OSError:
        return False
    for line in lines:
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        major, minor, inode = words[5].split(":")
        if inode == str(found.st_ino):
            device = (int(major, 16), int(minor, 16))
            # Some file systems show programs another device than the kernel its own lists.
            if device == (os.major(found.st_dev), os.minor(found.st_dev)) or words[4] == str(owner.pid):
                return True
    return False


def _is_alive(owner: Owner) -> bool:
    """Where the kernel does not list its locks."""
    if owner.boot_id and owner.boot_id != boot_id():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True

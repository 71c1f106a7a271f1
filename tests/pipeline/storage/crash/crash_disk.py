"""A disk in memory that knows what is on it for certain, what is only in the page cache, and what led there.

The model is the one of `pipeline.storage.disk.Disk`, which is stricter than any file system: bytes and length of a file
are certain after `sync`, names in a folder after `sync_folder`; until then a power loss keeps any part of either.
A sync that fails has lost what it was to write for good, though it stays readable until the power goes: that is what
Linux does, and why a failed sync must not be tried again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias


class Written(NamedTuple):
    offset: int
    piece: bytes


class Cut(NamedTuple):
    """A file truncated, or lengthened with zeros."""

    num_bytes: int


Change: TypeAlias = Written | Cut


def changed(content: bytes, change: Change) -> bytes:
    if isinstance(change, Cut):
        return content[: change.num_bytes].ljust(change.num_bytes, b"\0")
    head = content[: change.offset].ljust(change.offset, b"\0")
    return head + change.piece + content[change.offset + len(change.piece) :]


@dataclass
class File:
    number: int
    certain: bytes = b""
    """What a power loss leaves for sure."""
    now: bytes = b""
    """What is read."""
    unsure: list[Change] = field(default_factory=list)
    """What led from the one to the other, and what a power loss may keep of."""


class Step(NamedTuple):
    """A change of the names in a folder: those that go, and those that come with what they name."""

    gone: tuple[str, ...]
    new: tuple[tuple[str, int], ...]


@dataclass
class Folder:
    number: int
    certain: dict[str, int] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)
    unsure: list[Step] = field(default_factory=list)


class Operation(NamedTuple):
    """Something that was asked of the disk, or (`ack`) promised by who asked."""

    what: str
    arguments: tuple[Any, ...]


def stepped(names: dict[str, int], step: Step) -> dict[str, int]:
    kept = {name: number for name, number in names.items() if name not in step.gone}
    kept.update(step.new)
    return kept


class State:
    """Files and folders below a root that is there from the beginning."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.nodes: dict[int, File | Folder] = {0: Folder(0)}
        self.next_number = 1

    def copy(self) -> State:
        other = State(self.root)
        other.next_number = self.next_number
        for number, node in self.nodes.items():
            if isinstance(node, File):
                other.nodes[number] = File(number, node.certain, node.now, list(node.unsure))
            else:
                other.nodes[number] = Folder(number, dict(node.certain), dict(node.now), list(node.unsure))
        return other

    def find(self, path: Path) -> File | Folder | None:
        node: File | Folder | None = self.nodes[0]
        for part in Path(os.path.normpath(path)).relative_to(self.root).parts:
            if not isinstance(node, Folder) or part not in node.now:
                return None
            node = self.nodes[node.now[part]]
        return node

    def folder(self, path: Path) -> Folder:
        node = self.find(path)
        if not isinstance(node, Folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return node

    def file(self, number: int) -> File:
        node = self.nodes[number]
        assert isinstance(node, File)
        return node

    def apply(self, operation: Operation) -> None:
        """Make the change that was recorded; numbers of files are those of the recording."""
        getattr(self, f"_{operation.what}", _nothing)(*operation.arguments)

    def _create(self, path: Path, number: int) -> None:
        self.nodes[number] = File(number)
        self.next_number = number + 1
        self._step(path.parent, Step((), ((path.name, number),)))

    def _make(self, path: Path, number: int) -> None:
        self.nodes[number] = Folder(number)
        self.next_number = number + 1
        self._step(path.parent, Step((), ((path.name, number),)))

    def _rename(self, source: Path, target: Path) -> None:
        number = self.folder(source.parent).now[source.name]
        if source.parent == target.parent:
            self._step(source.parent, Step((source.name,), ((target.name, number),)))
        else:
            self._step(target.parent, Step((), ((target.name, number),)))
            self._step(source.parent, Step((source.name,), ()))

    def _unlink(self, path: Path) -> None:
        self._step(path.parent, Step((path.name,), ()))

    def _step(self, path: Path, step: Step) -> None:
        folder = self.folder(path)
        folder.now = stepped(folder.now, step)
        folder.unsure.append(step)

    def _write(self, number: int, offset: int, piece: bytes) -> None:
        self._change(number, Written(offset, piece))

    def _truncate(self, number: int, num_bytes: int) -> None:
        self._change(number, Cut(num_bytes))

    def _change(self, number: int, change: Change) -> None:
        file = self.file(number)
        file.now = changed(file.now, change)
        file.unsure.append(change)

    def _sync(self, number: int) -> None:
        file = self.file(number)
        for change in file.unsure:
            file.certain = changed(file.certain, change)
        file.unsure.clear()

    def _fail_sync(self, number: int) -> None:
        """What was unsure will never be on disk, though the page cache has it."""
        self.file(number).unsure.clear()

    def _sync_folder(self, path: Path) -> None:
        folder = self.folder(path)
        folder.certain = dict(folder.now)
        folder.unsure.clear()

    def tree(self) -> dict[str, bytes | None]:
        """Path below the root -> bytes, None for a folder."""
        found: dict[str, bytes | None] = {}

        def walk(folder: Folder, prefix: str) -> None:
            for name, number in sorted(folder.now.items()):
                node = self.nodes[number]
                if isinstance(node, File):
                    found[prefix + name] = node.now
                else:
                    found[prefix + name] = None
                    walk(node, f"{prefix}{name}/")

        root = self.nodes[0]
        assert isinstance(root, Folder)
        walk(root, "")
        return found


def _nothing(*arguments: Any) -> None:
    pass


Fault: TypeAlias = Callable[[int, str, Path], OSError | int | None]
"""Asked before each operation, by number, name and path: an error to raise, bytes a write is cut after, or None."""


class MemoryDisk:
    """Implements `Disk` on a `State` and records every change in `log`, promises included (`ack`)."""

    def __init__(self, state: State, fault: Fault | None = None) -> None:
        self.state = state
        self.log: list[Operation] = []
        self.fault = fault
        self.calls = 0
        self.failed_syncs: set[int] = set()
        self.synced_again: list[str] = []
        """Files whose sync was tried again after it had failed."""
        self._open: dict[int, tuple[int, Path, bool]] = {}
        self._next_fd = 1000

    def ack(self, token: Any) -> None:
        """Somebody was promised something."""
        self.log.append(Operation("ack", (token,)))

    @property
    def open_files(self) -> int:
        return len(self._open)

    def open(self, path: Path, *, write: bool = False, create: bool = False) -> int:
        path = Path(path)
        self._ask("open", path)
        node = self.state.find(path)
        if create:
            if node is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            self.state.folder(path.parent)
            node = self._do("create", path, self.state.next_number) or self.state.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._next_fd += 1
        self._open[self._next_fd] = (node.number, path, write or create)
        return self._next_fd

    def close(self, fd: int) -> None:
        if self._open.pop(fd, None) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def read(self, fd: int, num_bytes: int, offset: int) -> bytes:
        number, path, _ = self._file(fd)
        self._ask("read", path)
        return self.state.file(number).now[offset : offset + num_bytes]

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int) -> int:
        """As `RealDisk.write`, which goes on after a short write: a fault there leaves what had been written."""
        number, path, writable = self._file(fd)
        if not writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        whole = b"".join(bytes(piece) for piece in pieces)
        try:
            short = self._ask("write", path)
        except OSError as error:
            if error.errno == errno.ENOSPC and len(whole) > 1:
                self._do("write", number, offset, whole[: len(whole) // 2])
            raise
        if short and short < len(whole):
            self._do("write", number, offset, whole[:short])
            self._do("write", number, offset + short, whole[short:])
        else:
            self._do("write", number, offset, whole)
        return offset + len(whole)

    def size(self, fd: int) -> int:
        return len(self.state.file(self._file(fd)[0]).now)

    def truncate(self, fd: int, num_bytes: int) -> None:
        number, path, _ = self._file(fd)
        self._ask("truncate", path)
        self._do("truncate", number, num_bytes)

    def sync(self, fd: int) -> None:
        number, path, _ = self._file(fd)
        if number in self.failed_syncs:
            self.synced_again.append(str(path))
        try:
            self._ask("sync", path)
        except OSError:
            self.failed_syncs.add(number)
            self._do("fail_sync", number)
            raise
        self._do("sync", number)

    def forget(self, fd: int, num_bytes: int) -> None:
        """Advice: nothing can be seen of it."""

    def sync_folder(self, path: Path) -> None:
        self._ask("sync_folder", Path(path))
        self._do("sync_folder", Path(path))

    def rename(self, source: Path, target: Path) -> None:
        source, target = Path(source), Path(target)
        self._ask("rename", source)
        if self.state.find(source) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        self.state.folder(target.parent)
        self._do("rename", source, target)

    def unlink(self, path: Path) -> None:
        path = Path(path)
        self._ask("unlink", path)
        node = self.state.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if isinstance(node, Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._do("unlink", path)

    def make_folder(self, path: Path) -> None:
        path = Path(path)
        self._ask("make_folder", path)
        for parent in reversed([path, *path.parents]):
            if parent.is_relative_to(self.state.root) and self.state.find(parent) is None:
                self._do("make", parent, self.state.next_number)
        self.state.folder(path)

    def names(self, path: Path) -> list[str]:
        path = Path(path)
        self._ask("names", path)
        if not path.is_relative_to(self.state.root):
            return [self.state.root.relative_to(path).parts[0]]  # where the disk itself hangs, on another
        node = self.state.find(path)
        return sorted(node.now) if isinstance(node, Folder) else []

    def free_bytes(self, path: Path) -> int:
        return 1 << 40

    def file_bytes(self, path: Path) -> int | None:
        node = self.state.find(Path(path))
        return len(node.now) if isinstance(node, File) else None

    def _file(self, fd: int) -> tuple[int, Path, bool]:
        try:
            return self._open[fd]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def _ask(self, what: str, path: Path) -> int:
        self.calls += 1
        answer = self.fault(self.calls, what, path) if self.fault is not None else None
        if isinstance(answer, OSError):
            raise answer
        return answer or 0

    def _do(self, what: str, *arguments: Any) -> None:
        operation = Operation(what, arguments)
        self.state.apply(operation)
        self.log.append(operation)

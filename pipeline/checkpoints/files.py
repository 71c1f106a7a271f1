"""Where checkpoints lie: written whole beside the journal, committed by one line of the manifest. Everything blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import thread_time_ns
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import CorruptEntry, StateMismatch, StorageFailed
from ..frames import Batch, Stored
from ..storage.disk import Disk
from ..storage.entries import Entry, Mark
from ..storage.journal import read_journal
from ..storage.journal_records import Gap, JournalRecord
from ..storage.manifest import CHECKPOINTS, WAL
from ..storage.room import storage_error
from ..storage.root import StorageRoot
from ..storage.segments import Record
from .cuts import Checkpoint, Saved
from .records import decode_checkpoint, decode_frame, encode_checkpoint, encode_frame
from .streaming import Lying, digest_of, lying, payload_of, write_whole

STORED: Final = 1
"""Kind of a record that holds one batch, which was under way on a disk; its key is how many rows that has."""
ROWS: Final = struct.Struct("<Q")


class Filed(NamedTuple):
    """A batch in the file of a checkpoint."""

    num_rows: int
    disk: Disk
    path: Path
    record: Lying

    @classmethod
    def of(cls, disk: Disk, path: Path, record: Lying) -> Filed:
        return cls(ROWS.unpack(record.key)[0], disk, path, record)

    def read(self) -> Batch:
        try:
            fd = self.disk.open(self.path)
            try:
                frame = decode_frame(payload_of(self.disk, fd, self.path, self.record))
            finally:
                self.disk.close(fd)
        except OSError as error:
            raise StorageFailed(f"{self.path} cannot be read: {error.strerror or error}") from error
        assert isinstance(frame, Batch)
        return frame


class CheckpointFiles:
    """The checkpoint of one phase, the last one only, in the folder of its run.

    `told` says for what a checkpoint is good: one of another version of the program is not.
    """

    def __init__(self, root: StorageRoot, phase: str, told: Mapping[str, Any]) -> None:
        self.root, self.phase, self.told = root, phase, told

    def save(self, checkpoint: Checkpoint) -> Saved:
        """Write the file, commit it, and remove the one before; what it took.

        Raises `DiskFull`, `StorageFailed` or `UnsupportedType`; the one before then stays.
        """
        began = thread_time_ns()
        file = f"{CHECKPOINTS}/{checkpoint.number:06d}.seg"
        path = self.root.path / file
        before = self.entry
        try:
            num_bytes, digest = write_whole(self.root.disk, path, self._groups(checkpoint))
            self.root.disk.sync_folder(self.root.path)
        except OSError as error:
            raise storage_error(error, "write", str(path)) from error
        assert isinstance(checkpoint.mark, Mark)
        entry = Entry(
            kind="checkpoint", phase=self.phase, file=file, bytes=num_bytes, xxh3=digest,
            mark=checkpoint.mark, rows=checkpoint.rows,
            offsets={name: cut.sent_rows for name, cut in checkpoint.containers.items() if cut.kind == "feed"},
        )  # fmt: skip
        self.root.commit([entry])
        if before is not None and before.file is not None and before.file != file:
            with suppress(OSError):  # what is not listed is removed when the folder is opened next
                self.root.disk.unlink(self.root.path / before.file)
        return Saved(num_bytes, thread_time_ns() - began)

    @property
    def entry(self) -> Entry | None:
        """What the manifest says of it, None where there is none."""
        return self.root.manifest.checkpoints.get(self.phase)

    def load(self) -> Checkpoint | None:
        """The checkpoint to go on from, None where there is none.

        Raises `StateMismatch` for one that does not fit this program, `CorruptEntry` for one that is not as it was
        written, `StorageFailed` where it cannot be read.
        """
        entry = self.entry
        if entry is None or entry.file is None:
            return None
        path = self.root.path / entry.file
        disk = self.root.disk
        try:
            fd = disk.open(path)
            try:
                if disk.size(fd) != entry.bytes or digest_of(disk, fd) != entry.xxh3:
                    raise CorruptEntry(self.phase, str(path), "the file is not as it was committed")
                records = list(lying(disk, fd, path))
                stored = [Filed.of(disk, path, record) for record in records if record.kind == STORED]
                found = decode_checkpoint(
                    [(record.key, payload_of(disk, fd, path, record)) for record in records if record.kind != STORED],
                    self.told, stored,
                )  # fmt: skip
            finally:
                disk.close(fd)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be read: {error.strerror or error}") from error
        return msgspec.structs.replace(found, mark=entry.mark)

    def read_back(self, mark: Mark) -> Iterator[JournalRecord]:
        """Records of the journal up to a mark. Raises `StateMismatch` where some are lost."""
        for item in read_journal(self.root.path / WAL, self.root.disk, mark):
            if isinstance(item, Gap):
                raise StateMismatch(
                    f"expected the whole journal, found {item.num_bytes:,} bytes of segment {item.segment} lost"
                )
            yield item

    def drop(self) -> None:
        """There is nothing to go on from any more. Raises `DataError`."""
        entry = self.entry
        if entry is not None and entry.file is not None:
            self.root.commit([Entry(kind="remove", file=entry.file)])
            with suppress(OSError):
                self.root.disk.unlink(self.root.path / entry.file)

    def _groups(self, checkpoint: Checkpoint) -> Iterator[list[Record]]:
        """Records, those of batches on a disk one by one."""
        stored: list[Stored] = []
        records = encode_checkpoint(checkpoint, self.told, stored)
        yield [Record(0, 0, key, checkpoint.number, pieces) for key, pieces in records]
        for batch in stored:
            key = ROWS.pack(batch.num_rows)
            yield [Record(STORED, 0, key, checkpoint.number, (encode_frame(batch.read()),))]

"""Where checkpoints lie: written whole beside the journal, committed by one line of the manifest. Everything blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from ..errors import CorruptEntry, StateMismatch, StorageFailed
from ..storage.entries import Entry, Mark
from ..storage.journal import read_journal
from ..storage.journal_records import Gap, JournalRecord
from ..storage.manifest import CHECKPOINTS, WAL
from ..storage.room import storage_error
from ..storage.root import StorageRoot
from ..storage.segments import CHECKSUM, HEAD_BYTES, HEADER, MAGIC, Record, pack_records, record_bytes
from .cuts import Checkpoint
from .records import decode_checkpoint, encode_checkpoint


class CheckpointFiles:
    """The checkpoint of one phase, the last one only, in the folder of its run.

    `told` says for what a checkpoint is good: one of another version of the program is not.
    """

    def __init__(self, root: StorageRoot, phase: str, told: Mapping[str, Any]) -> None:
        self.root, self.phase, self.told = root, phase, told

    def save(self, checkpoint: Checkpoint) -> int:
        """Write the file, commit it, and remove the one before; bytes written.

        Raises `DiskFull`, `StorageFailed` or `UnsupportedType`; the one before then stays.
        """
        records = [Record(0, 0, key, checkpoint.number, (payload,)) for key, payload in self._encoded(checkpoint)]
        pieces, _ = pack_records(records)
        file = f"{CHECKPOINTS}/{checkpoint.number:06d}.seg"
        path = self.root.path / file
        before = self.entry
        try:
            self._write(path, pieces)
        except OSError as error:
            raise storage_error(error, "write", str(path)) from error
        digest = xxhash.xxh3_64()
        for piece in pieces:
            digest.update(piece)
        num_bytes = sum(len(piece) for piece in pieces)
        assert isinstance(checkpoint.mark, Mark)
        entry = Entry(
            kind="checkpoint", phase=self.phase, file=file, bytes=num_bytes, xxh3=digest.hexdigest(),
            mark=checkpoint.mark, rows=checkpoint.rows,
            offsets={name: cut.sent_rows for name, cut in checkpoint.containers.items() if cut.kind == "feed"},
        )  # fmt: skip
        self.root.commit([entry])
        if before is not None and before.file is not None and before.file != file:
            with suppress(OSError):  # what is not listed is removed when the folder is opened next
                self.root.disk.unlink(self.root.path / before.file)
        return num_bytes

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
        try:
            raw = self._read(path)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be read: {error.strerror or error}") from error
        if len(raw) != entry.bytes or xxhash.xxh3_64(raw).hexdigest() != entry.xxh3:
            raise CorruptEntry(self.phase, str(path), "the file is not as it was committed")
        found = decode_checkpoint(_records(raw, path), self.told)
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

    def _encoded(self, checkpoint: Checkpoint) -> Iterable[tuple[bytes, bytes]]:
        return encode_checkpoint(checkpoint, self.told)

    def _write(self, path: Path, pieces: list[memoryview]) -> None:
        disk = self.root.disk
        disk.make_folder(path.parent)
        temporary = path.with_name(f"{path.name}.tmp")
        with suppress(FileNotFoundError):
            disk.unlink(temporary)
        fd = disk.open(temporary, create=True)
        try:
            disk.write(fd, pieces, 0)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, path)
        disk.sync_folder(path.parent)
        disk.sync_folder(self.root.path)

    def _read(self, path: Path) -> bytes:
        disk = self.root.disk
        fd = disk.open(path)
        try:
            return disk.read(fd, disk.size(fd), 0)
        finally:
            disk.close(fd)


def _records(raw: bytes, path: Path) -> Iterator[tuple[bytes, Any]]:
    """Keys and payloads, each verified, though the file is as it was committed: so that others can read it alone."""
    offset = 0
    whole = pa.py_buffer(raw)
    while offset < len(raw):
        if offset + HEAD_BYTES > len(raw):
            raise CorruptEntry(b"", str(path), f"a record is cut off at byte {offset}")
        magic, _, _, key_len, length, _ = HEADER.unpack_from(raw, offset)
        end = offset + record_bytes(key_len, length)
        if magic != MAGIC or end > len(raw):
            raise CorruptEntry(b"", str(path), f"there is no record at byte {offset}")
        body = memoryview(raw)[offset + HEAD_BYTES : end]
        digest = xxhash.xxh3_64(memoryview(raw)[offset : offset + HEADER.size])
        digest.update(body)
        if digest.intdigest() != CHECKSUM.unpack_from(raw, offset + HEADER.size)[0]:
            raise CorruptEntry(b"", str(path), f"checksum mismatch at byte {offset}")
        yield bytes(body[:key_len]), whole.slice(offset + HEAD_BYTES + key_len, length)
        offset = end

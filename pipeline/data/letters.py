"""Dead letters of a streaming manager: the rows of a flush that nobody took, in a file of their own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import InputError
from ..storage import codecs, segments
from ..storage.names import file_part
from ..storage.publish import WholeFile
from . import records
from .buffer import BatchId, Item, StreamItem
from .records import APPEND, STORE

FOLDER: Final = "dead_letters"
SUFFIX: Final = ".flush"
_HEAD: Final = 0


class FlushLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Why rows lie here."""

    container: str
    first_seq: int
    last_seq: int
    error: str
    attempts: int

    @property
    def batch_id(self) -> BatchId:
        return BatchId(self.container, self.first_seq, self.last_seq)


class ReadLetter(NamedTuple):
    """A dead letter and what it holds, in order."""

    letter: FlushLetter
    items: Sequence[StreamItem]


def write_letter(folder: Path, letter: FlushLetter, items: Sequence[Item]) -> Path:
    """Write the items into a file that appears whole; blocking. Raises `DiskFull` or `StorageFailed`."""
    with WholeFile(folder / FOLDER) as file:
        with file.errors("write"):
            fd = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                segments.write_records(fd, 0, list(_records(letter, items)))
            finally:
                os.close(fd)
        stem = f"{file_part(letter.container)}-{letter.first_seq}-{letter.last_seq}"
        for number in itertools.count():
            try:
                return file.publish(f"{stem}{f'-{number}' if number else ''}{SUFFIX}").path
            except FileExistsError:
                continue
    raise AssertionError("numbers do not end")


def read_letter(path: Path) -> ReadLetter:
    """A dead letter read back; blocking. Raises `InputError` where the file is damaged or none of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = list(segments.scan(fd))
        end = found[-1].offset + segments.record_bytes(len(found[-1].key), found[-1].length) if found else 0
        if not found or found[0].kind != _HEAD or end != os.fstat(fd).st_size:
            raise InputError(f"{path} is damaged behind byte {end}, or is no file of dead letters")
        letter: FlushLetter | None = None
        items: list[StreamItem] = []
        for each in found:
            payload = segments.read_record(fd, each.offset, each.key, each.length, each.gen, str(path))
            assert payload is not None
            if letter is None:
                letter = msgspec.json.decode(memoryview(payload), type=FlushLetter)
                continue
            head, rest = records.opened(payload, each.key, str(path))
            append = each.kind == APPEND
            values = records.rows_of(head, rest) if append else [records.value_of(head, rest)]
            items.extend(StreamItem(records.key_of(each.key, head), value, append) for value in values)
    finally:
        os.close(fd)
    assert letter is not None
    return ReadLetter(letter, items)


def _records(letter: FlushLetter, items: Sequence[Item]) -> Iterator[segments.Record]:
    yield segments.Record(_HEAD, 0, b"", 0, [msgspec.json.encode(letter)])
    for number, item in enumerate(items, 1):
        payload: Sequence[Any]
        if item.append:
            payload = records.of_rows(item.key, [item.admitted.value])
        else:
            kind = item.admitted.kind or codecs.kind_of(item.admitted.value)
            payload = records.of_value(item.key, item.admitted.value, kind, item.admitted.size)
        yield segments.Record(APPEND if item.append else STORE, 0, records.raw_key(item.key), number, payload)

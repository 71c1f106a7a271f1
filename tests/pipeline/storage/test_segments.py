"""Segments: what was written comes back, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CorruptEntry
from pipeline.storage import segments
from pipeline.storage.segments import Record, read_record, record_bytes, scan, write_records

RECORDS = [
    Record(1, 0, b"a", 1, [b"hello ", b"world"]),
    Record(2, 3, b"", 2, []),
    Record(1, 0, b"key", 9, [b"x" * 5000]),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.seg"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert write_records(fd, 0, RECORDS) == [11, 0, 5000]
    os.close(fd)
    return path


def read_all(path: Path) -> list[bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [
            bytes(read_record(fd, found.offset, found.key, found.length, found.gen, "") or b"") for found in scan(fd)
        ]
    finally:
        os.close(fd)


def test_records_come_back_as_they_were_written(path: Path) -> None:
    assert read_all(path) == [b"hello world", b"", b"x" * 5000]


def test_every_flipped_bit_is_found(path: Path) -> None:
    raw = path.read_bytes()
    ends = [record_bytes(1, 11), record_bytes(1, 11) + record_bytes(0, 0)]
    for at in range(len(raw) - 4900):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        found = read_all(path)
        intact = sum(at >= end for end in ends)
        assert found == [b"hello world", b"", b"x" * 5000][:intact], f"a flipped bit in byte {at} went unnoticed"


def test_every_truncation_ends_the_scan_before_the_torn_record(path: Path) -> None:
    raw = path.read_bytes()
    for length in [*range(0, len(raw), 7), len(raw) - 1]:
        path.write_bytes(raw[:length])
        assert read_all(path) == [b"hello world", b"", b"x" * 5000][: len(read_all(path))]
        assert len(read_all(path)) < 3


def test_a_tail_of_zeros_is_no_record(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(bytes(10_000))
    assert len(read_all(path)) == 3


@pytest.mark.parametrize(("key", "gen"), [(b"b", 1), (b"a", 2)])
def test_a_record_of_another_key_or_generation_is_corrupt(path: Path, key: bytes, gen: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(CorruptEntry, match="another record"):
            read_record(fd, 0, key, 11, gen, "s.seg:0")
    finally:
        os.close(fd)


@given(st.lists(st.binary(max_size=50), max_size=30), st.integers(1, 40))
def test_short_writes_are_carried_on(pieces: list[bytes], at_once: int) -> None:
    written = bytearray()
    original = os.pwritev

    def short(fd: int, views: list[memoryview], offset: int) -> int:
        assert offset == len(written)
        taken = b"".join(views)[:at_once]
        written.extend(taken)
        return len(taken)

    os.pwritev = short
    try:
        segments.write_all(0, 0, [memoryview(piece) for piece in pieces])
    finally:
        os.pwritev = original
    assert bytes(written) == b"".join(pieces)


def test_a_short_read_is_carried_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.preadv

    def short(fd: int, views: list[object], offset: int, flags: int = 0) -> int:
        first = next(view for view in map(memoryview, views) if len(view))
        return original(fd, [first.cast("B")[:100]], offset, flags)

    monkeypatch.setattr(os, "preadv", short)
    assert read_all(path) == [b"hello world", b"", b"x" * 5000]

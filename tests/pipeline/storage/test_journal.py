"""The write-ahead log: what was acknowledged comes back in order, whatever failed."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faulty_disk import FaultyDisk

from pipeline.errors import DiskFull, ManagerClosed, StorageFailed
from pipeline.storage.entries import Mark
from pipeline.storage.executor import IoExecutor
from pipeline.storage.journal import Durability, Journal, cut_journal, read_journal
from pipeline.storage.journal_records import Gap, JournalRecord
from pipeline.storage.root import StorageRoot


@asynccontextmanager
async def journal(
    folder: Path, disk: FaultyDisk | None = None, *, clean: bool = True, **words: int
) -> AsyncIterator[Journal]:
    """A journal in a folder; without `clean` it is left as a process leaves it that is killed."""
    io = IoExecutor(2)
    root = StorageRoot.open(folder, disk=disk or FaultyDisk())
    made = Journal(root, io, **words)
    try:
        yield made
        if clean:
            await made.close()
    finally:
        if not clean:
            made._writer.close()
        root.close()
        await io.close()


def put(
    to: Journal, gen: int, payload: bytes = b"", container: str = "a", durability: str = "durable"
) -> asyncio.Future[Mark]:
    return to.append(container, 1, b"key", gen, lambda: [b"<", payload, b">"], durability, num_bytes=len(payload))  # type: ignore[arg-type]


def read(folder: Path, until: Mark | None = None) -> list[JournalRecord | Gap]:
    return list(read_journal(folder / "wal", until=until))


def gens(folder: Path, until: Mark | None = None) -> list[int]:
    return [item.gen for item in read(folder, until) if isinstance(item, JournalRecord)]


def reopened(folder: Path) -> StorageRoot:
    root = StorageRoot.open(folder)
    root.close()
    return root


@pytest.mark.parametrize("clean", [True, False])
async def test_records_of_all_containers_come_back_in_the_order_of_the_calls(clean: bool, tmp_path: Path) -> None:
    async with journal(tmp_path, clean=clean) as log:
        async with asyncio.TaskGroup() as tasks:
            for gen in range(1, 101):
                mode: Durability = ("ephemeral", "process", "durable")[gen % 3]
                tasks.create_task(_awaited(put(log, gen, b"x" * gen, f"c{gen % 7}", mode)))
        assert log.groups < 10, "they share writes"
        assert log.held_bytes == 0
    reopened(tmp_path)
    found = read(tmp_path)
    assert [(item.container, item.gen) for item in found if isinstance(item, JournalRecord)] == [
        (f"c{gen % 7}", gen) for gen in range(1, 101)
    ]
    assert found[4] == JournalRecord("c5", 1, b"key", 5, b"<xxxxx>")


async def _awaited(future: asyncio.Future[Mark]) -> None:
    await future


async def test_r1_durable_is_acknowledged_after_the_sync_and_process_after_the_write(tmp_path: Path) -> None:
    """R-1, S-6."""
    disk = FaultyDisk()
    async with journal(tmp_path, disk) as log:
        await put(log, 1, durability="process")
        assert ("sync", str(tmp_path / "wal/000001.seg")) not in disk.steps
        assert gens(tmp_path) == [1], "written: whoever reads the file sees it"
        await put(log, 2)
        assert disk.steps[-1] == ("sync", str(tmp_path / "wal/000001.seg"))


async def test_nothing_exists_before_the_first_record(tmp_path: Path) -> None:
    async with journal(tmp_path) as log:
        assert await log.mark() == Mark(1, 0)
    assert not (tmp_path / "wal").exists()


async def test_c3_a_cancelled_caller_changes_nothing(tmp_path: Path) -> None:
    """C-3."""
    async with journal(tmp_path) as log:
        waiting = asyncio.create_task(_awaited(put(log, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await put(log, 2)
    assert gens(tmp_path) == [1, 2]


async def test_a_payload_that_cannot_be_encoded_fails_alone(tmp_path: Path) -> None:
    def broken() -> Sequence[bytes]:
        raise TypeError("no codec")

    async with journal(tmp_path) as log:
        one, wrong, two = put(log, 1), log.append("a", 1, b"", 2, broken, "durable"), put(log, 3)
        await one
        with pytest.raises(TypeError, match="no codec"):
            await wrong
        await two
    assert gens(tmp_path) == [1, 3]


async def test_a_mark_divides_what_came_before_from_what_came_after(tmp_path: Path) -> None:
    """R-6."""
    async with journal(tmp_path) as log:
        before = [put(log, gen, durability="process") for gen in (1, 2)]
        mark = asyncio.ensure_future(log.mark())
        await asyncio.sleep(0)
        after = put(log, 3)
        assert gens(tmp_path, await mark) == [1, 2]
        await asyncio.gather(*before, after)
    assert gens(tmp_path) == [1, 2, 3]
    with StorageRoot.open(tmp_path) as root:
        cut_journal(root, mark.result())
        assert gens(tmp_path) == [1, 2]
    async with journal(tmp_path) as log:
        assert next(log.generations) == 4
        await put(log, 4)
    assert gens(tmp_path) == [1, 2, 4]


async def test_what_is_behind_a_mark_at_the_beginning_goes_with_its_segments(tmp_path: Path) -> None:
    async with journal(tmp_path, segment_bytes=100) as log:
        mark = await log.mark()
        for gen in range(1, 5):
            await put(log, gen)
    with StorageRoot.open(tmp_path) as root:
        cut_journal(root, mark)
        assert gens(tmp_path) == [] and not os.listdir(tmp_path / "wal")
        assert root.manifest.next_segment == 5, "and no number is given twice"


@pytest.mark.parametrize("clean", [True, False])
async def test_r2_a_failed_sync_is_not_tried_again_on_that_file(clean: bool, tmp_path: Path) -> None:
    """R-2: the group goes to a new file, and what was written before it without a sync comes along."""
    disk = FaultyDisk()
    async with journal(tmp_path, disk, clean=clean) as log:
        await put(log, 1)
        await put(log, 2, durability="process")
        disk.fail("sync", "000001.seg")
        await asyncio.gather(put(log, 3), put(log, 4, durability="process"))
        assert [path for call, path in disk.steps if call == "sync" and "seg" in path] == [
            str(tmp_path / f"wal/{number:06d}.seg") for number in (1, 1, 2)
        ]
        await put(log, 5)
        assert gens(tmp_path) == [1, 2, 3, 4, 5]
    assert reopened(tmp_path).recovered.is_clean
    assert gens(tmp_path) == [1, 2, 3, 4, 5]


async def test_r2_a_second_failed_sync_fails_the_group_and_later_ones_go_on(tmp_path: Path) -> None:
    """R-2."""
    disk = FaultyDisk()
    async with journal(tmp_path, disk) as log:
        await put(log, 1)
        disk.fail("sync", ".seg", times=2)
        failed = [put(log, 2), put(log, 3)]
        for future in failed:
            with pytest.raises(StorageFailed, match=r"000002.seg: it failed on two files in a row"):
                await future
        await put(log, 4)
    found = gens(tmp_path)
    assert found[0] == 1 and found[-1] == 4 and set(found) <= {1, 2, 3, 4}
    assert reopened(tmp_path).recovered.is_clean


async def test_t4_a_full_disk_cuts_back_to_the_last_record_and_may_be_tried_again(tmp_path: Path) -> None:
    """T4, R-2."""
    disk = FaultyDisk()
    async with journal(tmp_path, disk) as log:
        await put(log, 1)
        size = (tmp_path / "wal/000001.seg").stat().st_size
        disk.fail("write", ".seg", errno.ENOSPC, short=70)
        with pytest.raises(DiskFull, match="no room"):
            await put(log, 2, b"x" * 1000)
        assert (tmp_path / "wal/000001.seg").stat().st_size == size
        assert log.held_bytes == 0
        await put(log, 2, b"x" * 1000)
    assert gens(tmp_path) == [1, 2]


async def test_a_segment_that_cannot_be_cut_back_is_left(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with journal(tmp_path, disk) as log:
        await put(log, 1)
        disk.fail("write", ".seg", errno.ENOSPC, short=70)
        disk.fail("truncate", ".seg")
        with pytest.raises(DiskFull):
            await put(log, 2)
        await put(log, 2)
    assert reopened(tmp_path).recovered.is_clean
    assert gens(tmp_path) == [1, 2] and len(os.listdir(tmp_path / "wal")) == 2


async def test_h7_segments_of_dead_records_are_removed(tmp_path: Path) -> None:
    """H-7: one live record keeps its segment, and no other."""
    async with journal(tmp_path, segment_bytes=2000) as log:
        await put(log, 1, container="slow")
        for gen in range(2, 200):
            await put(log, gen, b"x" * 500, container="quick")
            log.trim("quick", gen)
        await log.mark()
        assert len(os.listdir(tmp_path / "wal")) <= 4
        assert gens(tmp_path)[0] == 1
    async with journal(tmp_path, segment_bytes=2000) as log:
        assert gens(tmp_path) == [1]
        log.trim("slow", 1)
        await log.mark()
    reopened(tmp_path)
    assert gens(tmp_path) == [] and os.listdir(tmp_path / "wal") == []


async def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    async with journal(tmp_path) as log:
        pending = put(log, 1)
        await asyncio.gather(log.close(), log.close())
        assert pending.done() and not pending.exception()
        with pytest.raises(ManagerClosed, match="closed"):
            await put(log, 2)


async def segment(folder: Path, count: int = 5, clean: bool = True) -> tuple[Path, list[int]]:
    """A segment of so many durable records, a group each, and where each group ends."""
    async with journal(folder, clean=clean) as log:
        ends = [(await put(log, gen, bytes([gen]) * 50)).offset for gen in range(1, count + 1)]
    return folder / "wal/000001.seg", ends


async def test_every_truncation_of_a_segment_that_was_not_ended_leaves_its_whole_records(tmp_path: Path) -> None:
    """R-3."""
    path, ends = await segment(tmp_path / "root", 3, clean=False)
    raw = path.read_bytes()
    for length in range(len(raw) + 1):
        path.write_bytes(raw[:length])
        expected = [gen for gen, end in enumerate(ends, 1) if end <= length]
        assert gens(tmp_path / "root") == expected, "for a reader beside a writer too"
    path.write_bytes(raw[: ends[1] + 30])
    root = reopened(tmp_path / "root")
    assert root.recovered.is_clean and root.recovered.journal_cut_bytes == 30
    assert path.stat().st_size == ends[1]
    assert gens(tmp_path / "root") == [1, 2]


async def test_r4_damage_in_the_middle_is_passed_over_counted_and_put_aside(tmp_path: Path) -> None:
    """R-4, T9: later groups show that it had been on disk."""
    path, ends = await segment(tmp_path, clean=False)
    raw = bytearray(path.read_bytes())
    raw[ends[1] - 10] ^= 1
    path.write_bytes(raw)
    root = reopened(tmp_path)
    [loss] = root.recovered.lost
    damaged = raw[ends[0] : ends[1]]
    kept = (tmp_path / loss.kept).read_bytes()
    assert damaged.endswith(kept) and loss.num_bytes == len(kept)
    assert gens(tmp_path) == [1, 3, 4, 5]
    assert [item.num_bytes for item in read(tmp_path) if isinstance(item, Gap)] == [len(kept)]


async def test_a_hole_in_what_was_never_synced_ends_the_segment(tmp_path: Path) -> None:
    """R-3: nothing behind it had been acknowledged as durable, and the order of records has no holes."""
    async with journal(tmp_path, clean=False) as log:
        await put(log, 1)
        ends = [(await put(log, gen, b"x" * 50, durability="process")).offset for gen in (2, 3, 4)]
    path = tmp_path / "wal/000001.seg"
    raw = bytearray(path.read_bytes())
    raw[ends[0] + 5 : ends[1]] = bytes(ends[1] - ends[0] - 5)
    path.write_bytes(raw)
    root = reopened(tmp_path)
    assert root.recovered.is_clean and root.recovered.journal_cut_records == 1
    assert gens(tmp_path) == [1, 2]


async def test_every_flipped_bit_of_an_ended_segment_costs_its_record_alone(tmp_path: Path) -> None:
    """T9, R-4: no wrong byte is ever served."""
    path, ends = await segment(tmp_path, 3)
    raw = path.read_bytes()
    whole = [item for item in read(tmp_path) if isinstance(item, JournalRecord)]
    for at in range(len(raw)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        found = read(tmp_path)
        hit = next(number for number, end in enumerate(ends) if at < end)
        records = [item for item in found if isinstance(item, JournalRecord)]
        assert [record for record in whole if record not in records] in ([], [whole[hit]])
        assert any(isinstance(item, Gap) for item in found), f"a flipped bit in byte {at} went unnoticed"


async def test_t9_a_record_copied_to_another_place_is_none(tmp_path: Path) -> None:
    """T9: spliced segments, and journals within payloads."""
    path, ends = await segment(tmp_path / "one", 3)
    raw = path.read_bytes()
    path.write_bytes(raw[: ends[0]] + raw[: ends[0]] + raw[2 * ends[0] :])
    assert 1 not in gens(tmp_path / "one")[1:]
    async with journal(tmp_path / "two") as log:
        await put(log, 7, raw)
    assert gens(tmp_path / "two") == [7]
    other = tmp_path / "two/wal/000001.seg"
    damaged = bytearray(other.read_bytes())
    damaged[-1] ^= 1
    other.write_bytes(damaged)
    assert gens(tmp_path / "two") == []


async def test_a_segment_that_is_gone_is_a_loss_with_its_bytes(tmp_path: Path) -> None:
    """R-3."""
    path, ends = await segment(tmp_path)
    path.unlink()
    assert read(tmp_path) == [Gap(1, 0, ends[-1])]
    [loss] = reopened(tmp_path).recovered.lost
    assert (loss.file, loss.num_bytes) == ("wal/000001.seg", ends[-1])

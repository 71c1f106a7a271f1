"""Makes the golden folder of the format this version writes: `python -m tests.golden.make`. Those before it stay."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.storage.entries import FORMAT, Entry, encode_line
from pipeline.storage.executor import IoExecutor
from pipeline.storage.journal import Journal, read_journal
from pipeline.storage.journal_records import JournalRecord
from pipeline.storage.manifest import read_manifest
from pipeline.storage.publish import publish_bytes
from pipeline.storage.root import StorageRoot

HERE = Path(__file__).parent


async def make(folder: Path) -> None:
    """A process that leaves a phase, a checkpoint, and a journal that was not closed."""
    root = StorageRoot.open(folder)
    root.commit([listed(folder, "train/rows.txt", b"one\ntwo\n"), Entry(kind="phase", phase="train")])
    io = IoExecutor(1)
    journal = Journal(root, io, segment_bytes=300)
    for gen in range(1, 7):
        name = f"container {gen % 2}"
        await journal.append(name, gen, b"\x00key", gen, lambda gen=gen: [b"payload " * gen], "durable")  # type: ignore[misc]
    mark = await journal.mark()
    at = listed(folder, "checkpoints/000001.seg", b"state")
    checkpoint = Entry(
        kind="checkpoint", phase="run", file=at.file, bytes=at.bytes, xxh3=at.xxh3, mark=mark, offsets={"feed": 1000}
    )
    root.commit([checkpoint, Entry(kind="trim", container="container 1", gen=3)])
    batch = ("container 1", 5, 9)
    root.commit([Entry(kind="add", file="gone", bytes=0, min_ts=-1, max_ts=7, schema_fp="fp", batch_id=batch)])
    root.commit([Entry(kind="remove", file="gone")])
    await asyncio.shield(io.submit(io, journal._writer.close))
    root.close()
    await io.close()
    (folder / "LOCK").unlink()


def listed(folder: Path, file: str, raw: bytes) -> Entry:
    path = folder / file
    done = publish_bytes(path.parent, path.name, [raw])
    return Entry(kind="add", phase="train", file=file, bytes=done.num_bytes, rows=2, xxh3=f"{done.digest:016x}")


def told(folder: Path) -> dict[str, Any]:
    """What a folder says, as plain values."""
    found = read_manifest(folder).committed
    return {
        "files": sorted(found.files),
        "phases": sorted(found.phases),
        "checkpoints": {
            phase: [entry.file, entry.xxh3, dict(entry.offsets or {}), [entry.mark.segment, entry.mark.offset]]
            for phase, entry in found.checkpoints.items()
            if entry.mark is not None
        },
        "trims": found.trims,
        "journal": [
            [item.container, item.kind, item.key.decode(), item.gen, item.payload.decode()]
            if isinstance(item, JournalRecord)
            else list(item)
            for item in read_journal(folder / "wal")
        ],
    }


def main() -> None:
    folder = HERE / f"format-{FORMAT}"
    shutil.rmtree(folder, ignore_errors=True)
    asyncio.run(make(folder))
    (HERE / f"format-{FORMAT}.json").write_text(json.dumps(told(folder), indent=1) + "\n")
    newer = HERE / "newer"
    shutil.rmtree(newer, ignore_errors=True)
    newer.mkdir()
    line = encode_line(Entry(v=FORMAT + 1, seq=1, epoch=1, kind="snap", next_segment=1))
    (newer / "MANIFEST-000001").write_bytes(line)


if __name__ == "__main__":
    main()

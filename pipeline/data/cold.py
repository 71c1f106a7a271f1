"""The disk tier: one manager's blocks in the segment log its run shares."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Final

import pyarrow as pa
import xxhash

from ..errors import CorruptEntry, DiskFull
from ..storage import codecs, segments
from ..storage.codecs import Encoded
from ..storage.extents import Extent
from ..storage.workspace import Workspace
from .block import ABSENT, Block
from .series import Piece

log = logging.getLogger(__name__)

INLINE_BYTES: Final = (1 << 20) + (64 << 10)
"""Payloads up to this size are read on the loop if the page cache has them: a hop would take several times as long."""
_QUICK: Final = frozenset({codecs.RAW, codecs.BATCH, codecs.ARRAY, codecs.BATCHES})
"""Kinds decoded in microseconds, whatever their size."""


class SegmentTier:
    """Blocks on disk, within a quota. Knows nothing of what is in memory."""

    def __init__(self, name: str, workspace: Workspace, limit_bytes: int | None) -> None:
        self.disk_bytes = 0
        """Live bytes of this manager."""
        self.lost_bytes = 0
        """Of values that did not come back as they were written."""
        self._lost: set[int] = set()
        self._name = name
        self._workspace = workspace
        self._limit = limit_bytes

    @property
    def lost(self) -> int:
        """Values that did not come back."""
        return len(self._lost)

    @property
    def has_places(self) -> bool:
        """Whether there are places of dead records, which take no new room."""
        return self._workspace.spill.has_places

    async def check_free(self, num_bytes: int) -> None:
        """Raises `DiskFull` if so many bytes would leave too few on the disk; nothing is written."""
        await asyncio.shield(self._workspace.spill.check_free(self, num_bytes))

    def check_room(self, num_bytes: int) -> None:
        """Raises `DiskFull` if so many bytes do not fit into `disk_limit_mb` any more; nothing is written."""
        if self._limit is not None and self.disk_bytes + num_bytes > self._limit:
            raise DiskFull(
                f"{self._name}: {num_bytes} bytes do not fit beside the {self.disk_bytes} that are spilled; "
                f"disk_limit_mb allows {self._limit} bytes"
            )

    def write(self, blocks: Sequence[Block]) -> asyncio.Future[list[tuple[Extent, tuple[Any, ...]]]]:
        """Write values as one group; the extent and decoding context of each. The blocks are not changed."""
        written = write_blocks(self._workspace, self, blocks)

        def count(done: asyncio.Future[list[tuple[Extent, tuple[Any, ...]]]]) -> None:
            if done.exception() is None:
                self.count(done.result())

        written.add_done_callback(count)
        return written

    def count(self, written: Sequence[tuple[Extent, tuple[Any, ...]]]) -> None:
        """These are on disk for this manager."""
        self.disk_bytes += sum(extent.num_bytes for extent, _ in written)

    def read(self, block: Block) -> asyncio.Future[Any]:
        """The value, read, verified and decoded in a thread; raises `CorruptEntry`."""
        assert block.extent is not None
        extent = block.extent
        job = self._workspace.spill.read(self, extent, partial(_decode, block))

        def note(job: asyncio.Future[Any]) -> None:
            error = job.exception()
            if isinstance(error, CorruptEntry) and extent.gen not in self._lost:
                self._lost.add(extent.gen)
                self.lost_bytes += extent.length
                log.error("%s: %d bytes are lost: %s", self._name, extent.length, error)

        job.add_done_callback(note)
        return job

    def read_nowait(self, block: Block) -> Any:
        """The value if that takes microseconds and no waiting, else `ABSENT`."""
        extent = block.extent
        if extent is None or block.kind not in _QUICK or extent.length > INLINE_BYTES:
            return ABSENT
        if block.kind == codecs.RAW:
            glance = self._workspace.spill.glance(extent)
            return ABSENT if glance is None else bytes(glance)
        payload = self._workspace.spill.read_nowait(extent)
        return ABSENT if payload is None else _decode(block, payload)

    def release(self, block: Block) -> None:
        """Free the extent of a block that no key means and nobody reads any more."""
        if block.forgotten and block.extent is not None and not block.pins and block.restoring is None:
            extent, block.extent = block.extent, None
            self.free(extent)

    def free(self, extent: Extent) -> None:
        self.disk_bytes -= extent.num_bytes
        self._workspace.spill.free(extent)


def write_blocks(
    workspace: Workspace, owner: Hashable, blocks: Sequence[Block]
) -> asyncio.Future[list[tuple[Extent, tuple[Any, ...]]]]:
    """Write values, of one manager or of many, in one hop; the extent and decoding context of each."""
    generations = [next(workspace.generations) for _ in blocks]
    sources = [
        (block.kind, block.record_key, gen, _source(block)) for block, gen in zip(blocks, generations, strict=True)
    ]
    contexts: list[tuple[Any, ...]] = []
    seals: list[int] = []
    written = workspace.spill.append(owner, partial(_encode_all, sources, contexts, seals, workspace.check_values))
    done: asyncio.Future[list[tuple[Extent, tuple[Any, ...]]]] = asyncio.get_running_loop().create_future()
    done.add_done_callback(lambda future: future.cancelled() or future.exception())

    def settle(future: asyncio.Future[list[Extent]]) -> None:
        error = future.exception()
        for block, seal in zip(blocks, seals, strict=False):
            if block.seal not in (None, seal):
                workspace.changed_values += 1
                log.error(
                    "%r, %d bytes, was changed by its owner after it was stored; set copy: true, or store a copy",
                    block.slot, block.size,
                )  # fmt: skip
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(list(zip(future.result(), contexts, strict=True)))

    written.add_done_callback(settle)
    return done


def copied_bytes(blocks: Sequence[Block]) -> int:
    """Bytes that exist twice while these blocks are written: what is not written from where it lies."""
    return sum(
        block.size
        for block in blocks
        if block.kind in codecs.COPYING or (block.kind == codecs.BATCH and block.size <= codecs.GATHER_BYTES)
    )


def _source(block: Block) -> Any:
    return tuple(block.value.batches) if block.kind == codecs.BATCHES else block.value


def seal_of(encoded: Encoded) -> int:
    """Tells whether a value is what it was."""
    digest = xxhash.xxh3_64()
    for piece in encoded.pieces:
        digest.update(memoryview(piece).cast("B") if len(piece) else b"")
    return digest.intdigest()


def _encode_all(
    sources: Sequence[tuple[int, bytes, int, Any]], contexts: list[tuple[Any, ...]], seals: list[int], sealing: bool
) -> list[segments.Record]:
    """In a worker thread."""
    encoded: list[Encoded] = [codecs.encode(value, kind) for kind, _, _, value in sources]
    if sealing:
        seals.extend(map(seal_of, encoded))
    contexts.extend(each.context for each in encoded)
    return [
        segments.Record(kind, 0, key, gen, each.pieces)
        for (kind, key, gen, _), each in zip(sources, encoded, strict=True)
    ]


def _decode(block: Block, payload: pa.Buffer) -> Any:
    value = codecs.decode(block.kind, payload, block.context)
    return Piece(value, block.restored_size) if block.kind == codecs.BATCHES else value

"""What a checkpoint keeps of an edge that spills, without bringing it into memory, and how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from ...frames import Batch, Stored, Watermark
from ...storage.extents import Extent, Held
from ...storage.workspace import Workspace
from ..in_flight import EdgesAccount
from ..kept import Kept
from .place import Form, Place, as_batch, decode

HOP_BYTES: Final = 1 << 20
"""Brought back in one go, or one batch where that is more."""
Append = Callable[[Sequence[Place], list[Form]], asyncio.Future[list[Extent]]]


class Spilled:
    """A batch that stays readable on disk, whatever its edge does."""

    def __init__(self, place: Place, held: Held) -> None:
        self.num_rows = place.num_rows
        self._kind, self._context, self._origin, self._held = place.kind, place.context, place.origin, held

    def read(self) -> Batch:
        return as_batch(decode(self._kind, self._context, self._held.read()), self._origin)


def keep(place: Place, account: EdgesAccount, workspace: Workspace) -> Kept:
    """Its bytes are held as the edge holds them: charged, on loan, or on disk."""
    if place.batch is None:
        return Kept(*_on_disk(place, workspace))
    claim, num_bytes = place.claim, place.num_bytes
    if claim is None:
        workspace.lend(num_bytes)
        place.kept = Kept(place.batch, partial(workspace.give_back, num_bytes))
    else:
        account.charge(claim)
        place.kept = Kept(place.batch, partial(account.release, claim), num_bytes)
    return place.kept


def move_kept(place: Place, workspace: Workspace) -> None:
    """The edge has written it: no checkpoint needs it in memory any more."""
    kept, place.kept = place.kept, None
    if kept is not None and kept.is_open and not kept.stays:
        kept.move(*_on_disk(place, workspace))


def _on_disk(place: Place, workspace: Workspace) -> tuple[Spilled, Callable[[], None]]:
    assert place.extent is not None, "what is not in memory is on disk"
    held = workspace.spill.hold(place.extent)
    return Spilled(place, held), held.let_go


async def bring_back(
    frames: Sequence[Batch | Stored | Watermark], rows: int, num_bytes: int, append: Append, workspace: Workspace
) -> list[Any]:
    """The frames, those in the place of which a batch on disk is to be; so many rows and bytes may stay in memory.

    Raises `DiskFull`, `StorageFailed`, `CorruptEntry`.
    """
    brought: list[Any] = list(frames)
    away: list[int] = []
    for number, frame in enumerate(frames):
        if isinstance(frame, Watermark):
            continue
        if isinstance(frame, Batch) and frame.num_rows <= rows and frame.num_bytes <= num_bytes:
            rows -= frame.num_rows
            num_bytes -= frame.num_bytes
        else:
            away.append(number)
    while away:
        group: dict[int, Place] = {}
        lent = 0
        try:
            while away and (not group or lent < HOP_BYTES):
                batch = await _batch(frames[away[0]], workspace)
                workspace.lend(batch.num_bytes)
                lent += batch.num_bytes
                group[away.pop(0)] = Place(batch, 0)
            await _write(list(group.values()), append)
        finally:
            workspace.give_back(lent)
        for number, place in group.items():
            brought[number] = place
    return brought


async def _batch(frame: Any, workspace: Workspace) -> Batch:
    return frame if isinstance(frame, Batch) else await asyncio.shield(workspace.io.submit(frame, frame.read))


async def _write(places: Sequence[Place], append: Append) -> None:
    forms: list[Form] = []
    extents = await asyncio.shield(append(places, forms))
    for place, extent, form in zip(places, extents, forms, strict=True):
        place.lies(extent, form)
        place.is_away()
